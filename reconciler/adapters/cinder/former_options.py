"""Options that Cinder has renamed or removed so long ago that its drivers no longer tell: from its release notes. Plain data.

What a driver still accepts under its former name (`deprecated_opts`) needs no mention here.
"""

from __future__ import annotations

from collections.abc import Collection

_RENAMED = {
    "eqlx_chap_login": "chap_username",
    "eqlx_chap_password": "chap_password",
    "eqlx_use_chap": "use_chap_auth",
    "hitachi_pool_id": "hitachi_pools",
    "iscsi_target_prefix": "target_prefix",
    "lvm_max_over_subscription_ratio": "max_over_subscription_ratio",
    "nas_ip": "nas_host",
    "nfs_oversub_ratio": "max_over_subscription_ratio",
    "num_iscsi_scan_tries": "num_volume_device_scan_tries",
    "num_iser_scan_tries": "num_volume_device_scan_tries",
    "sio_verify_server_certificate": "driver_ssl_cert_verify",
    "sio_server_certificate_path": "driver_ssl_cert_path",
    "storage_vnx_pool_name": "storage_vnx_pool_names",
}
_PREFIXES = (
    ("iscsi_", "target_"),  # Queens: what is said of targets holds for NVMe, too
    ("sio_", "powerflex_"),
    ("vxflexos_", "powerflex_"),
    ("vmax_", "powermax_"),
    ("hp3par_", "hpe3par_"),
)
_REMOVED = {
    "cinder_dell_emc_config_file": "PowerMax is set up by san_ip, powermax_array, powermax_srp and powermax_port_groups",
    "cinder_emc_config_file": "PowerMax is set up by san_ip, powermax_array, powermax_srp and powermax_port_groups",
    "netapp_controller_ips": "Cinder has no driver for NetApp's E-series any more",
    "netapp_eseries_host_type": "Cinder has no driver for NetApp's E-series any more",
    "netapp_sa_password": "Cinder has no driver for NetApp's E-series any more",
    "netapp_webservice_path": "Cinder has no driver for NetApp's E-series any more",
    "nfs_used_ratio": "reserved_percentage says how much stays free, in percent",
    "zadara_password": "zadara_access_key has taken its place",
    "zadara_user": "zadara_access_key has taken its place",
}


def hint(name: str, known: Collection[str]) -> str:
    """What became of an option, where it is known and the driver has what took its place; else empty."""
    renamed = [_RENAMED.get(name, "")]
    renamed += [new + name.removeprefix(old) for old, new in _PREFIXES if name.startswith(old)]
    for candidate in renamed:
        if candidate in known:
            return f"Cinder calls it {candidate} now"
    return f"Cinder has removed it: {_REMOVED[name]}" if name in _REMOVED else ""
