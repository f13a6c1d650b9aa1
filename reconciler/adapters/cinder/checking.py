"""What keeps a backend from being used on this host, as far as its array need not be asked: programs and files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from reconciler.adapters.cinder import options

_TOOLS = {
    "cinder.volume.drivers.lvm.LVMVolumeDriver": (("lvs", "lvm2"),),
    "cinder.volume.drivers.ibm.gpfs.GPFSDriver": (("mmgetstate", "Spectrum Scale"),),
}
"""By class, with those that inherit from it: programs, and what brings them."""
_TOOLS_OF_SHARES = {"nfs": (("mount.nfs", "nfs-common"), ("qemu-img", "qemu-utils"))}
"""By the protocol of drivers whose volumes are files."""
_TOOLS_OF_HELPERS = {"tgtadm": (("tgtadm", "tgt"),), "scstadmin": (("scstadmin", "scstadmin"),)}
"""By LVM's `target_helper`."""
_FILE = re.compile(r"(_file|_conf|_config|_key|_keyring|_cert|_cert_path)$")
"""Options that name a file, when their value is an absolute path."""
_FOUND_IN = ("/usr/sbin", "/sbin")


def hindrances(driver: Any) -> list[str]:
    """One line for each program and file that a constructed driver lacks here."""
    config = driver.configuration
    lacking = [
        f"the program {program} is missing: install {package}"
        for program, package in _tools(driver)
        if shutil.which(program) is None and not any(Path(folder, program).exists() for folder in _FOUND_IN)
    ]
    for name, option in options.declared(type(driver)).items():
        value = config.safe_get(name)
        named = isinstance(value, str) and value.startswith("/") and _FILE.search(name)
        if named and not _is_default(option, value) and not Path(value).exists():
            lacking.append(f"option {name}: {value} does not exist")
    return lacking


def _is_default(option: Any, value: str) -> bool:
    """What nobody has given, a driver may do without. Some defaults refer to other options."""
    return value == option.default or "$" in str(option.default)


def _tools(driver: Any) -> list[tuple[str, str]]:
    classes = [f"{each.__module__}.{each.__qualname__}" for each in type(driver).__mro__]
    found = [tool for name in classes for tool in _TOOLS.get(name, ())]
    found += _TOOLS_OF_SHARES.get(getattr(driver, "driver_volume_type", None) or "", ())
    if "cinder.volume.drivers.lvm.LVMVolumeDriver" in classes:
        found += _TOOLS_OF_HELPERS.get(driver.configuration.safe_get("target_helper") or "", ())
    return found
