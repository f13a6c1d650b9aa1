"""From a class path, as in Cinder's `volume_driver`, to the class that is constructed, and the one that then serves.

These differ for proxies: NetApp's documented class only chooses one of four drivers, by its options, and has none of its own.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.adapters.cinder import catalog
from reconciler.runtime.ports import Terminal


@dataclass(frozen=True, slots=True)
class DriverClass:
    """`made` is called with Cinder's arguments. `serving`: whose options, SDK and support count."""

    made: Any
    serving: Any


def load(path: str, values: Mapping[str, Any]) -> DriverClass:
    """Raises Terminal: missing SDK, no such class, a class that is no driver, a proxy that can't tell what it stands for.

    Args:
        values: the options that are given, for proxies.
    """
    made = _import(path)
    choose = _PROXIES.get(name_of(made))
    serving = _import(choose(values)) if choose else made
    _need_sdk(serving)
    return DriverClass(made, serving)


def name_of(driver: Any) -> str:
    """Its class path, under whatever name it was loaded."""
    return f"{driver.__module__}.{driver.__qualname__}"


def _import(path: str) -> Any:
    from cinder.volume import driver

    path = catalog.DOCUMENTED_AS.get(path, path)
    _need_sdk_of(path)
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        from cinder.volume import manager  # for its table of renamed drivers

        if path in manager.MAPPING:
            return _import(manager.MAPPING[path])
        close = difflib.get_close_matches(path, catalog.DRIVERS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise Terminal(f"driver {path} cannot be imported: {error}{hint}") from error
    if not (isinstance(found, type) and issubclass(found, driver.ProxyVD | driver.BaseVD)):
        raise Terminal(f"{path} is no volume driver: `driver` has to name the class of one")
    return found


def _need_sdk(driver: Any) -> None:
    _need_sdk_of(name_of(driver))


def _need_sdk_of(path: str) -> None:
    known = catalog.DRIVERS.get(path)
    if known and known.sdk and (missing := [module for module in known.sdk.modules if not _is_installed(module)]):
        named = ", ".join(missing)
        raise Terminal(f"driver {known.name} needs {named}, which Brickwork's environment lacks: {known.sdk.remedy}")


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent is missing
        return False


def _netapp(values: Mapping[str, Any]) -> str:
    """As NetApp's own class chooses, from its own table."""
    from cinder.volume.drivers.netapp import common

    registry = common.NETAPP_UNIFIED_DRIVER_REGISTRY
    family = str(values.get("netapp_storage_family", "ontap_cluster")).lower()
    if family not in registry:
        raise Terminal(f"option netapp_storage_family is {family!r}, but must be one of {', '.join(registry)}")
    protocol = values.get("netapp_storage_protocol")
    if str(protocol).lower() not in registry[family]:
        given = "is not given" if protocol is None else f"is {protocol!r}"
        raise Terminal(f"option netapp_storage_protocol {given}, but must be one of {', '.join(registry[family])}")
    return str(registry[family][str(protocol).lower()])


_PROXIES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {catalog.NETAPP_PROXY: _netapp}
