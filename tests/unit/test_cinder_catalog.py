"""What the catalogue says of drivers."""

from __future__ import annotations

import pytest

from reconciler.adapters.cinder.catalog import ROOT, cuts_access


@pytest.mark.parametrize(
    ("driver", "protocol", "helper", "cuts"),
    [
        (f"{ROOT}pure.PureISCSIDriver", "iscsi", None, True),
        (f"{ROOT}pure.PureFCDriver", "fibre_channel", None, True),
        (f"{ROOT}pure.PureNVMEDriver", "nvmeof", None, True),
        (f"{ROOT}lvm.LVMVolumeDriver", "iscsi", "LioAdm", True),
        (f"{ROOT}lvm.LVMVolumeDriver", "iscsi", "TgtAdm", False),
        (f"{ROOT}lvm.LVMVolumeDriver", "nvmeof", "NVMET", False),
        (f"{ROOT}solidfire.SolidFireDriver", "iscsi", None, False),
        (f"{ROOT}nfs.NfsDriver", "nfs", None, False),
        (f"{ROOT}rbd.RBDDriver", "rbd", None, False),
        ("somebody.elses.Driver", "iscsi", None, False),
    ],
)
def test_whose_terminate_cuts_access(driver: str, protocol: str, helper: str | None, cuts: bool) -> None:
    """Where a host that still has the device is refused afterwards; on doubt it is not."""
    assert cuts_access(driver, protocol, helper) is cuts
