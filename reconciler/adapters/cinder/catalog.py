"""What each of Cinder's drivers needs that `pip install cinder` does not bring. Plain data: imports nothing.

Cinder registers 103 of them; four more and a proxy are documented, or just there.

A missing SDK otherwise shows itself as an AttributeError on None somewhere in the driver's set-up. The list was read from the
drivers of Cinder 29 (their guarded imports), not from `cinder`'s extras, which name packages that drivers have ceased to use.
"""

from __future__ import annotations

from dataclasses import dataclass

ROOT = "cinder.volume.drivers."


@dataclass(frozen=True, slots=True)
class Sdk:
    """`modules`: what the driver imports. `remedy`: how to get them."""

    modules: tuple[str, ...]
    remedy: str


@dataclass(frozen=True, slots=True)
class Driver:
    """`name`: the class path without `ROOT`. `protocols`: os-brick's connector types that the driver can ask for; the options
    choose one."""

    name: str
    protocols: tuple[str, ...]
    sdk: Sdk | None = None
    note: str = ""
    keeps_access: bool = False
    """Its `terminate_connection` changes nothing on the array, although others of this protocol do."""


def _pip(package: str, *modules: str) -> Sdk:
    return Sdk(modules, f"pip install {package}")


_CEPH = Sdk(("rados", "rbd"), "install your distribution's python3-rados and python3-rbd (they are not on PyPI)")
_CEPH_ISCSI = Sdk(("rados", "rbd", "rbd_iscsi_client"), f"pip install rbd-iscsi-client; {_CEPH.remedy}")
_PURE = _pip("py-pure-client", "pypureclient")
_3PAR = _pip("python-3parclient", "hpe3parclient")
_FLOWKIT = _pip("hpe-storage-flowkit-py", "hpe_storage_flowkit_py")
_STOROPS = _pip("storops", "storops")
_DATACORE = _pip("websocket-client", "websocket")
_LINSTOR = _pip("python-linstor", "linstor")
_FUJITSU = _pip("pywbem", "pywbem")
_RSD = _pip("rsd-lib sushy", "rsd_lib", "sushy")

_ISCSI, _FC, _NVME, _NFS = ("iscsi",), ("fibre_channel",), ("nvmeof",), ("nfs",)
NETAPP_PROXY = f"{ROOT}netapp.common.NetAppDriver"
"""Becomes the driver of the family and protocol in its options; Cinder's documentation names no other class of NetApp's."""

_IBM_NOTE = "option proxy must name XIVProxy (needs pyxcli) or DS8KProxy (needs pyOpenSSL)"

_TABLE = (
    Driver("ceph.rbd_iscsi.RBDISCSIDriver", _ISCSI, _CEPH_ISCSI),
    Driver("datacore.driver.DataCoreVolumeDriver", (), _DATACORE, "base class of the two others"),
    Driver("datacore.fc.FibreChannelVolumeDriver", _FC, _DATACORE),
    Driver("datacore.iscsi.ISCSIVolumeDriver", _ISCSI, _DATACORE),
    Driver(
        "datera.datera_iscsi.DateraDriver",
        _ISCSI,
        _pip("dfs-sdk", "dfs_sdk"),
        "dfs-sdk 1.2.27 is broken on Python 3.11",
    ),
    Driver("dell_emc.powerflex.driver.PowerFlexBaseDriver", (), None, "base class of the two others"),
    Driver("dell_emc.powerflex.driver.PowerFlexDriver", ("scaleio",), None, "nodes need the scini kernel module"),
    Driver("dell_emc.powerflex.driver.PowerFlexNVMeDriver", _NVME),
    Driver("dell_emc.powermax.fc.PowerMaxFCDriver", _FC),
    Driver("dell_emc.powermax.iscsi.PowerMaxISCSIDriver", _ISCSI),
    Driver("dell_emc.powermax.nvme_tcp.PowerMaxNVMETCPDriver", _NVME),
    Driver("dell_emc.powerstore.driver.PowerStoreDriver", (*_ISCSI, *_FC, *_NVME)),
    Driver("dell_emc.powerstore.nfs.PowerStoreNFSDriver", _NFS),
    Driver("dell_emc.powervault.fc.PVMEFCDriver", _FC),
    Driver("dell_emc.powervault.iscsi.PVMEISCSIDriver", _ISCSI),
    Driver("dell_emc.sc.storagecenter_fc.SCFCDriver", _FC),
    Driver("dell_emc.sc.storagecenter_iscsi.SCISCSIDriver", _ISCSI),
    Driver("dell_emc.unity.driver.UnityDriver", (*_ISCSI, *_FC), _STOROPS),
    Driver("dell_emc.vnx.driver.VNXDriver", (*_ISCSI, *_FC), _STOROPS, "storops 1.2.12 breaks it"),
    Driver("dell_emc.xtremio.XtremIOFCDriver", _FC),
    Driver("dell_emc.xtremio.XtremIOISCSIDriver", _ISCSI),
    Driver("fujitsu.eternus_dx.eternus_dx_fc.FJDXFCDriver", _FC, _FUJITSU),
    Driver("fujitsu.eternus_dx.eternus_dx_iscsi.FJDXISCSIDriver", _ISCSI, _FUJITSU),
    Driver("fungible.driver.FungibleDriver", _NVME),
    Driver("fusionstorage.dsware.DSWAREDriver", ("local",), None, "a vbs agent on each node attaches"),
    Driver("hedvig.hedvig_cinder.HedvigISCSIDriver", _ISCSI),
    Driver("hitachi.hbsd_fc.HBSDFCDriver", _FC),
    Driver("hitachi.hbsd_iscsi.HBSDISCSIDriver", _ISCSI),
    Driver("hpe.alletramp_driver.HPEAlletraMPFCDriver", _FC, _FLOWKIT),
    Driver("hpe.alletramp_driver.HPEAlletraMPISCSIDriver", _ISCSI, _FLOWKIT),
    Driver("hpe.alletramp_driver.HPEAlletraMPNVMETCPDriver", _NVME, _FLOWKIT),
    Driver("hpe.hpe_3par_fc.HPE3PARFCDriver", _FC, _3PAR),
    Driver("hpe.hpe_3par_iscsi.HPE3PARISCSIDriver", _ISCSI, _3PAR),
    Driver("hpe.nimble.NimbleFCDriver", _FC),
    Driver("hpe.nimble.NimbleISCSIDriver", _ISCSI),
    Driver("hpe.xp.hpe_xp_fc.HPEXPFCDriver", _FC),
    Driver("hpe.xp.hpe_xp_iscsi.HPEXPISCSIDriver", _ISCSI),
    Driver("huawei.huawei_driver.HuaweiFCDriver", _FC, None, "settings in an XML file"),
    Driver("huawei.huawei_driver.HuaweiISCSIDriver", _ISCSI, None, "settings in an XML file"),
    Driver("ibm.gpfs.GPFSDriver", ("gpfs",), None, "needs Spectrum Scale's commands"),
    Driver("ibm.gpfs.GPFSNFSDriver", _NFS, None, "needs Spectrum Scale's commands"),
    Driver("ibm.gpfs.GPFSRemoteDriver", ("gpfs",)),
    Driver("ibm.ibm_storage.ibm_storage.IBMStorageDriver", (*_ISCSI, *_FC), None, _IBM_NOTE),
    Driver("ibm.storwize_svc.storwize_svc_fc.StorwizeSVCFCDriver", _FC),
    Driver("ibm.storwize_svc.storwize_svc_iscsi.StorwizeSVCISCSIDriver", _ISCSI),
    Driver(
        "infinidat.InfiniboxVolumeDriver", (*_ISCSI, *_FC), _pip("infinisdk", "infinisdk", "capacity", "infi.dtypes")
    ),
    Driver("infortrend.infortrend_fc_cli.InfortrendCLIFCDriver", _FC, None, "needs the vendor's CLI and Java"),
    Driver("infortrend.infortrend_iscsi_cli.InfortrendCLIISCSIDriver", _ISCSI, None, "needs the vendor's CLI and Java"),
    Driver("inspur.as13000.as13000_driver.AS13000Driver", _ISCSI),
    Driver("inspur.instorage.instorage_fc.InStorageMCSFCDriver", _FC),
    Driver("inspur.instorage.instorage_iscsi.InStorageMCSISCSIDriver", _ISCSI),
    Driver("kaminario.kaminario_fc.KaminarioFCDriver", _FC, _pip("krest", "krest")),
    Driver("kaminario.kaminario_iscsi.KaminarioISCSIDriver", _ISCSI, _pip("krest", "krest")),
    Driver("kioxia.kumoscale.KumoScaleBaseVolumeDriver", _NVME),
    Driver("lenovo.lenovo_fc.LenovoFCDriver", _FC),
    Driver("lenovo.lenovo_iscsi.LenovoISCSIDriver", _ISCSI),
    Driver("lightos.LightOSVolumeDriver", ("lightos",)),
    Driver("linstordrv.LinstorDrbdDriver", ("local",), _LINSTOR),
    Driver("linstordrv.LinstorIscsiDriver", _ISCSI, _LINSTOR),
    Driver("lvm.LVMVolumeDriver", (*_ISCSI, *_NVME), None, "needs lvm2, and targetcli, tgt or nvmet on the controller"),
    Driver("macrosan.driver.MacroSANFCDriver", _FC),
    Driver("macrosan.driver.MacroSANISCSIDriver", _ISCSI),
    Driver("nec.v.nec_v_fc.VStorageFCDriver", _FC),
    Driver("nec.v.nec_v_iscsi.VStorageISCSIDriver", _ISCSI),
    Driver("nec.volume.MStorageFCDriver", _FC),
    Driver("nec.volume.MStorageISCSIDriver", _ISCSI),
    Driver("netapp.common.NetAppDriver", (), None, "becomes the driver that netapp_storage_protocol names"),
    Driver("netapp.dataontap.fc_cmode.NetAppCmodeFibreChannelDriver", _FC),
    Driver("netapp.dataontap.iscsi_cmode.NetAppCmodeISCSIDriver", _ISCSI),
    Driver("netapp.dataontap.nfs_cmode.NetAppCmodeNfsDriver", _NFS, None, "needs nfs-common"),
    Driver("netapp.dataontap.nvme_cmode.NetAppCmodeNVMeDriver", _NVME),
    Driver("nexenta.iscsi.NexentaISCSIDriver", _ISCSI),
    Driver("nexenta.nfs.NexentaNfsDriver", _NFS),
    Driver("nexenta.ns5.iscsi.NexentaISCSIDriver", _ISCSI),
    Driver("nexenta.ns5.nfs.NexentaNfsDriver", _NFS),
    Driver("nfs.NfsDriver", _NFS, None, "needs nfs-common and qemu-utils"),
    Driver("open_e.iscsi.JovianISCSIDriver", _ISCSI, keeps_access=True),
    Driver("prophetstor.dpl_fc.DPLFCDriver", _FC),
    Driver("prophetstor.dpl_iscsi.DPLISCSIDriver", _ISCSI),
    Driver("pure.PureFCDriver", _FC, _PURE),
    Driver("pure.PureISCSIDriver", _ISCSI, _PURE),
    Driver("pure.PureNVMEDriver", _NVME, _PURE),
    Driver("qnap.QnapISCSIDriver", _ISCSI),
    Driver("quobyte.QuobyteDriver", ("quobyte",), None, "needs Quobyte's client"),
    Driver("rbd.RBDDriver", ("rbd",), _CEPH),
    Driver("rsd.RSDDriver", _NVME, _RSD),
    Driver("san.hp.hpmsa_fc.HPMSAFCDriver", _FC),
    Driver("san.hp.hpmsa_iscsi.HPMSAISCSIDriver", _ISCSI),
    Driver("sandstone.sds_driver.SdsISCSIDriver", _ISCSI),
    Driver("solidfire.SolidFireDriver", _ISCSI, keeps_access=True),
    Driver(
        "spdk.SPDKDriver",
        _NVME,
        None,
        "set target_helper = spdk-nvmeof and an nvmet target_protocol",
        keeps_access=True,
    ),
    Driver("storpool.StorPoolDriver", ("storpool",)),
    Driver("stx.fc.STXFCDriver", _FC),
    Driver("stx.iscsi.STXISCSIDriver", _ISCSI),
    Driver("synology.synology_iscsi.SynoISCSIDriver", _ISCSI, keeps_access=True),
    Driver("toyou.acs5000.acs5000_fc.Acs5000FCDriver", _FC),
    Driver("toyou.acs5000.acs5000_iscsi.Acs5000ISCSIDriver", _ISCSI),
    Driver("toyou.tyds.tyds.TYDSDriver", _ISCSI),
    Driver("vastdata.driver.VASTVolumeDriver", _NVME),
    Driver("veritas_access.veritas_iscsi.ACCESSIscsiDriver", _ISCSI, keeps_access=True),
    Driver("veritas_cnfs.VeritasCNFSDriver", _NFS),
    Driver("vmstore.nfs.VmstoreNfsDriver", _NFS),
    Driver("vmware.fcd.VMwareVStorageObjectDriver", ("vstorageobject",), None, "os-brick has no connector for it"),
    Driver("vmware.vmdk.VMwareVcVmdkDriver", ("vmdk",), None, "needs vCenter"),
    Driver("vzstorage.VZStorageDriver", ("vzstorage",), None, "needs Virtuozzo's tools"),
    Driver("yadro.tatlin_fc.TatlinFCVolumeDriver", _FC),
    Driver("yadro.tatlin_iscsi.TatlinISCSIVolumeDriver", _ISCSI),
    Driver("zadara.zadara.ZadaraVPSAISCSIDriver", ("iscsi", "iser")),
)

DRIVERS = {f"{ROOT}{driver.name}": driver for driver in _TABLE}
"""By class path, as in `volume_driver`."""

DOCUMENTED_AS = {
    f"{ROOT}LVMVolumeDriver": f"{ROOT}lvm.LVMVolumeDriver",
    f"{ROOT}dell_emc.xtremio.XtremIOFibreChannelDriver": f"{ROOT}dell_emc.xtremio.XtremIOFCDriver",
    f"{ROOT}emc.emc_smis_fc.EMCSMISFCDriver": f"{ROOT}dell_emc.powermax.fc.PowerMaxFCDriver",
    f"{ROOT}ibm.ibm_storage.IBMStorageDriver": f"{ROOT}ibm.ibm_storage.ibm_storage.IBMStorageDriver",
    f"{ROOT}macrosan.driver.MacroSANISCSIDriver.": f"{ROOT}macrosan.driver.MacroSANISCSIDriver",
}
"""Class paths of Cinder's documentation that Cinder itself no longer finds, or never did -> where the class is."""

CUTTING = frozenset({"iscsi", "fibre_channel", "nvmeof"})
"""Protocols with a list of hosts at the array, from which `terminate_connection` takes one."""
CUTTING_HELPERS = frozenset({"LioAdm"})
"""Cinder's target helpers that keep such a list. The others let in whoever knows the target."""


def cuts_access(path: str, protocol: str, helper: str | None) -> bool:
    """Whether a host that still has the device is cut off by `terminate_connection`. A driver that is not known: no.

    Args:
        path: the driver's class path.
        protocol: os-brick's name of it.
        helper: class of Cinder's target helper, for drivers whose target is the controller's own host.
    """
    known = DRIVERS.get(path)
    keeps = known is None or known.keeps_access or (helper is not None and helper not in CUTTING_HELPERS)
    return protocol in CUTTING and not keeps
