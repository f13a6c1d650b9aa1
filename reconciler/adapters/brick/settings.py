"""The settings of the host's side, shared by the daemon and the worker. No secrets: they travel on a command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, IPvAnyNetwork

Seconds = Annotated[float, Field(gt=0)]
Protocol = Literal[
    "iscsi", "iser", "fibre_channel", "nvmeof", "nvme", "rbd", "nfs", "glusterfs", "quobyte", "local", "gpfs"
]
LOCAL = ("local", "gpfs")
"""Files of this host itself."""


def _no_number(value: object) -> object:
    if isinstance(value, int):
        raise ValueError("write a network, as in 10.1.0.0/24")
    return value


Network = Annotated[IPvAnyNetwork, BeforeValidator(_no_number)]
"""pydantic takes numbers, too: 10 is 0.0.0.10/32."""


class Deadlines(BaseModel):
    """How long one call may take before the worker is killed and the outcome is unknown, in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: Seconds = 60
    """Start of the worker: 0.2 s on an idle machine."""
    properties: Seconds = 60
    connect: Seconds = 300
    """os-brick tries an iSCSI login three times, each up to two minutes when a portal is silent."""
    inspect: Seconds = 60
    extend: Seconds = 120
    disconnect: Seconds = 600
    """Includes writing out what the host has in memory, which for a slow array takes its time."""


class ConnectorSettings(BaseModel):
    """What this node's connector needs to know.

    Two node daemons on one host need different values of `node`, `state_folder` and `link_folder`; the others may be shared.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    node: Annotated[str, Field(min_length=1)]
    """This node's id, and the ``host`` of its connector properties."""
    state_folder: Path
    """For the record by which a restarted daemon ends the worker that it left behind. The connector's own."""
    temporary_folder: Path | None = None
    """What os-brick leaves behind goes there and not to /tmp: keyrings of RBD, for which nobody else should have to be trusted."""
    my_ip: str
    """This host's address in the storage network, as arrays may want to know it."""
    storage_networks: tuple[Network, ...] = ()
    """The networks through which this host reaches storage, as in ``10.1.0.0/24``. Portals elsewhere are not for this host: nobody
    logs in to them, and no path is missed there. None named: all networks are."""
    multipath: bool = False
    """Use all portals of a volume. Needs multipathd for iSCSI and Fibre Channel."""
    enforce_multipath: bool = False
    """Refuse to work, instead of using one path, when multipathd does not run."""
    link_folder: Path = Path("/dev/brickwork")
    """Where the stable links are. Under /dev, so that a reboot takes them along with the devices."""
    mount_link_folder: Path | None = None
    """Where the same links are once more, for mount units: systemd mounts no link under /dev that udev did not make."""
    lock_path: Path = Path("/run/brickwork/locks")
    """os-brick's locks. Root's, and not for everybody to write to. Nova and Cinder on the same host must be given the same folder:
    they share sessions with us."""
    mount_point_base: Path = Path("/var/lib/brickwork/mounts")
    """Under which shares (NFS and its like) are mounted. Only what is mounted there is ever unmounted."""
    protocols: tuple[Protocol, ...] = tuple(each for each in get_args(Protocol) if each not in LOCAL)
    """Which kinds of connections this node makes. `local` and `gpfs` are files of this host itself, and have to be asked for."""
    local_folders: tuple[Path, ...] = ()
    """For `local` and `gpfs`: where the files of volumes may lie. Of any other file no volume is made, whoever asks for it."""
    concurrency: Annotated[int, Field(ge=1, le=64)] = 8
    """How many calls the worker does at once. os-brick itself does one connect or disconnect of iSCSI, FC and NVMe at a time."""
    deadlines_s: Deadlines = Deadlines()
    allow_noop: bool = False
    """For benchmarks only: accept connections of type ``noop``, for which a device is made up."""

    @property
    def owner(self) -> str:
        """Who this is among all that may make devices and links on this host. A host name alone could be a node of two clusters."""
        return f"{self.node} ({self.state_folder.resolve()})"
