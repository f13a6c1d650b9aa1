"""Every class name that Cinder's documentation gives as `volume_driver` opens as far as it can without its array (F-B1)."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from reconciler.adapters.cinder import catalog
from reconciler.runtime.ports import PortError
from tests.integration.cinder_backends import Backends, backends

__all__ = ["backends"]

ROOT = catalog.ROOT
NETAPP = f"{ROOT}netapp.common.NetAppDriver"
DOCUMENTED = (
    NETAPP,
    f"{ROOT}dell_emc.powermax.nvme_tcp.PowerMaxNVMETCPDriver",
    f"{ROOT}LVMVolumeDriver",
    f"{ROOT}dell_emc.unity.Driver",
    f"{ROOT}dell_emc.xtremio.XtremIOFibreChannelDriver",
    f"{ROOT}emc.emc_smis_fc.EMCSMISFCDriver",
    f"{ROOT}ibm.ibm_storage.IBMStorageDriver",
    f"{ROOT}kaminario.kaminario_fc.KaminarioFCDriver",
    f"{ROOT}macrosan.driver.MacroSANISCSIDriver.",
    f"{ROOT}stx.fc.STXFCDriver",
    f"{ROOT}stx.iscsi.STXISCSIDriver",
)
"""Names in Cinder's documentation that are no registered drivers: proxies, aliases, drivers that forgot to register, and mistakes.
All of them, of Cinder 29: each value of `volume_driver` in the `doc` and `releasenotes` of its source archive (which the package
lacks) that no table below has, but for placeholders in capitals."""

# In a process of its own: importing all of Cinder's drivers takes 20 s, and is nothing for a test's process.
PROBE = """
import json, os, sys, warnings
os.environ["OS_CINDER_DISABLE_EVENTLET_PATCHING"] = "1"
warnings.simplefilter("ignore")
from reconciler.adapters.cinder import library
library.prepare()
import contextlib, importlib, pkgutil
from cinder.interface import _volume_register
from cinder.volume import drivers, manager
from reconciler.adapters.cinder import catalog, classes, options
for module in pkgutil.walk_packages(drivers.__path__, catalog.ROOT):
    with contextlib.suppress(Exception):
        importlib.import_module(module.name)
registered = [classes.name_of(each) for each in _volume_register]
names = [*json.loads(sys.argv[1]), *registered, *manager.MAPPING, *catalog.DRIVERS]
told = {}
for name in dict.fromkeys(names):
    try:
        driver = classes.load(name, {"netapp_storage_protocol": "iscsi"})
        known = options.declared(driver.serving)
        told[name] = "" if "volume_backend_name" in known else "its section has no options"
    except Exception as error:
        told[name] = f"{type(error).__name__}: {error}"
print(json.dumps(told))
"""


def test_f_b1_every_documented_name_is_a_driver_with_options() -> None:
    """Cinder's own registry, its table of renamed drivers, our catalogue, and the names that only the documentation has. What may
    be missing is an SDK, which is named."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(DOCUMENTED)], check=True, capture_output=True, text=True
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert len(told) > 110
    wrong = {name: says for name, says in told.items() if says and "Brickwork's environment lacks" not in says}
    assert not wrong


@pytest.mark.parametrize(
    ("protocol", "served"),
    [("iscsi", "NetAppCmodeISCSIDriver"), ("nfs", "NetAppCmodeNfsDriver"), ("nvme", "NetAppCmodeNVMeDriver")],
)
def test_f_b1_netapps_documented_class_becomes_the_driver_of_its_protocol(
    backends: Backends, protocol: str, served: str
) -> None:
    """Its options are those of the driver that it stands for, and what is missing is told in that driver's words."""
    options = {"netapp_storage_protocol": protocol, "netapp_pool_name_search_pattern": ".*", "netapp_login": "admin"}
    with pytest.raises(PortError) as caught:
        backends.make(NETAPP, {**options, "netapp_logn": "admin"}).open([])
    assert f"unknown option netapp_logn; did you mean netapp_login? {served} has" in str(caught.value)
    with pytest.raises(PortError) as caught:
        backends.make(NETAPP, options).open([])
    assert "do_setup failed" in str(caught.value)
    assert "netapp_password is not set" in str(caught.value) or "nfs_shares" in str(caught.value)


@pytest.mark.parametrize(
    ("driver", "options", "words"),
    [
        (NETAPP, {}, "netapp_storage_protocol.*one of iscsi, nfs, fc, nvme"),
        (NETAPP, {"netapp_storage_protocol": "smb"}, "netapp_storage_protocol.*one of iscsi, nfs, fc, nvme"),
        ("cinder.volume.configuration.Configuration", {}, "no volume driver"),
        (f"{ROOT}lvm.LOG", {}, "no volume driver"),
        (f"{ROOT}kaminario.kaminario_fc.KaminarioFCDriver", {}, "krest"),
    ],
)
def test_f_b1_what_is_wrong_with_a_class_is_told_as_that(
    backends: Backends, driver: str, options: dict[str, str], words: str
) -> None:
    with pytest.raises(PortError, match=words) as caught:
        backends.make(driver, options).open([])
    assert "for want of an option, or of the array" not in str(caught.value)
