"""`make drivers`: every Cinder driver, what it can speak, and what it needs that this environment lacks.

Says what is known without asking any array: a driver listed as *ready* still has to be set up with its options, which the
controller does at start and reports in `backends/<backend>`.
"""

from __future__ import annotations

import importlib.util

from rich.console import Console
from rich.table import Table

from reconciler.adapters.cinder.catalog import DRIVERS, Driver


def main() -> None:
    table = Table("driver (after cinder.volume.drivers.)", "protocols", "here", "remark", box=None, pad_edge=False)
    for driver in sorted(DRIVERS.values(), key=lambda each: each.name):
        table.add_row(driver.name, ", ".join(driver.protocols) or "-", _state(driver), driver.note)
    Console(width=None if Console().is_terminal else 200).print(table)


def _state(driver: Driver) -> str:
    missing = [module for module in driver.sdk.modules if not _installed(module)] if driver.sdk else []
    return f"lacks {', '.join(missing)}: {driver.sdk.remedy}" if driver.sdk and missing else "ready"


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False


if __name__ == "__main__":
    main()
