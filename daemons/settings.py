"""The daemons' settings: one typed, frozen object each, from one YAML file and the environment.

    settings           what there is to set, and why the defaults are what they are; `load`
    settings_parts     the sections that both daemons have
    settings_source    the file (with line numbers) and the environment, as one mapping
    settings_faults    what is wrong with it, all at once, in words that say what to write instead

Secrets are never settings: they are in files of their own, named here. What looks like one nevertheless (an option of a driver) is
hidden wherever settings are shown.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, overload

from pydantic import AfterValidator, Field, ValidationError, model_validator

from daemons.process import Refused
from daemons.redaction import holds_secret
from daemons.settings_faults import SettingsError, explain
from daemons.settings_parts import AbsolutePath, Etcd, Http, Log, Mass, Seconds, Section, exposure
from daemons.settings_source import Kind, Source, read
from reconciler.adapters.brick.settings import ConnectorSettings, Network, Protocol
from reconciler.adapters.brick.settings import Deadlines as HostDeadlines
from reconciler.adapters.cinder.backend import BackendSettings
from reconciler.adapters.cinder.backend import Deadlines as BackendDeadlines
from schema.keys import DEFAULT_PREFIX, NAME_PATTERN, Keyspace
from schema.models import Name

__all__ = [
    "CommonSettings",
    "ControllerSettings",
    "FenceAgentSettings",
    "Kind",
    "NodeSettings",
    "SettingsError",
    "load",
]


def _absolute_files(backend: BackendSettings) -> BackendSettings:
    for name in ("cinder_conf", "secrets_file"):
        path = getattr(backend, name)
        if path is not None and not path.is_absolute():
            raise ValueError(f"{name}: write an absolute path: a daemon's working folder is not where you are")
    return backend


def _prefix(text: str) -> str:
    return Keyspace(text).prefix


class CommonSettings(Section):
    """What both daemons have."""

    etcd: Etcd = Etcd()
    """The store."""
    prefix: Annotated[str, AfterValidator(_prefix)] = DEFAULT_PREFIX
    """Where Brickwork's keys are in etcd: the same for all daemons and clients. One etcd can serve several Brickworks."""
    state_folder: AbsolutePath
    """What must outlive a reboot: the node id, notes on devices (with secrets, so it is mode 0700). One daemon per folder."""
    run_folder: AbsolutePath
    """What must not outlive a reboot: the boot id. Must outlive a restart of the daemon, or each would count as a reboot."""
    http: Http
    """Metrics and health."""
    log: Log = Log()
    """Logging."""
    workers: Annotated[int, Field(ge=1, le=256)] = 8
    """How many volumes are worked on at once. Workers mostly wait for drivers or os-brick, which have limits of their own."""
    lease_ttl_s: Annotated[int, Field(ge=2, le=60)] = 3
    """How soon a dead daemon is noticed. The same for all controllers. etcd grants no less than 2; a network with pauses of
    seconds needs more, and then a takeover takes longer: about three times this."""
    resync_s: Seconds = 600.0
    """How often everything is listed anew. Insurance only: changes are seen at once by watching."""
    retry_base_s: Seconds = 1.0
    """First pause after a failure; it doubles with each further one."""
    retry_cap_s: Seconds = 300.0
    """Longest pause between tries. Also how long a repaired array may stay unnoticed at worst."""
    allow_failpoints: bool = False
    """Lets `failpoint` work. For tests only."""
    failpoint: Annotated[str, Field(pattern=r"^[A-Z_]+:[a-z_]+$")] | None = None
    """Crash tests: the numbered point, as in `GRANT:before` or `CONNECT:called`, at which the process kills itself."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.retry_base_s > self.retry_cap_s:
            raise ValueError("retry_base_s must not be longer than retry_cap_s")
        if self.failpoint is not None and not self.allow_failpoints:
            raise ValueError(
                "failpoint makes the daemon kill itself: take it out, or for a test set allow_failpoints: true"
            )
        return self


class ControllerSettings(CommonSettings):
    """`brickwork-controller`: which backends this controller can lead."""

    name: Name
    """This controller's name, shown in `leaders/` and `backends/`. Default: the host name. Different for each controller."""
    http: Http = Http(listen="127.0.0.1:9752")
    backends: Annotated[Mapping[Name, Annotated[BackendSettings, AfterValidator(_absolute_files)]], Field(min_length=1)]
    """Every backend under the name that users write: `{driver, options, secrets_file}`, or `{cinder_conf, section}` to take a
    section of a cinder.conf that exists. All controllers that share a backend need the same settings for it."""
    mass_delete: Mass = Mass()
    """When wishes for volumes with `on_delete: delete` vanish: from where on no data is deleted for that. The same for all
    controllers."""
    my_ip: str | None = None
    """This host's address in the storage network, for drivers that export from this host. Default: that of the default route."""
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    """How many calls one backend's driver does at once, unless the backend says otherwise. Drivers were written for few."""
    audit_s: Seconds = 300.0
    """How often a driver that can list its exports is asked to, and what it says compared with the records."""
    deadlines_s: BackendDeadlines = BackendDeadlines()
    """How long each kind of driver call may take, unless the backend says otherwise. A call that takes longer is killed."""

    def shown(self) -> dict[str | None, Any]:
        """Without the names inside the backends, which users do not write."""
        shown = super().shown()
        for backend in shown["backends"].values():
            del backend["name"]
        return shown

    def with_inherited(self) -> ControllerSettings:
        """The same, with what a backend leaves open taken from here."""
        return self.model_copy(update={"backends": {name: self._filled(each) for name, each in self.backends.items()}})

    def _filled(self, backend: BackendSettings) -> BackendSettings:
        open_ones = {"my_ip", "concurrency"} - backend.model_fields_set
        update: dict[str, Any] = {name: getattr(self, name) for name in open_ones}
        own = backend.deadlines_s
        update["deadlines_s"] = self.deadlines_s.model_copy(
            update={name: getattr(own, name) for name in own.model_fields_set}
        )
        return backend.model_copy(update=update)


def _connectors(name: str) -> Any:
    """The default that the connector itself has."""
    return ConnectorSettings.model_fields[name].get_default()


class NodeSettings(CommonSettings):
    """`brickwork-node`: who this host is, and how it reaches storage."""

    node: Name | None = None
    """This host's id in etcd. Default: the host name at first start. Kept in the state folder from then on, so a changed host
    name does not change it."""
    host_identity: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")] | None = None
    """What tells this host from a copy of it, where product uuid and machine id do not: in containers, and for several nodes on
    one kernel. No two hosts may be given the same. Default: made of those two; a host without them is refused."""
    http: Http = Http(listen="127.0.0.1:9753")
    my_ip: str | None = None
    """This host's address in the storage network: some arrays grant access by it. Default: that of the default route."""
    storage_networks: tuple[Network, ...] = _connectors("storage_networks")
    """The networks through which this host reaches storage, as in `10.1.0.0/24`. An array names portals of all networks that it is
    in; those elsewhere are not for this host: nobody logs in to them, and no path is missed there. Default: all are."""
    multipath: bool = _connectors("multipath")
    """Use all portals of a volume. Needs multipathd for iSCSI and Fibre Channel."""
    enforce_multipath: bool = _connectors("enforce_multipath")
    """Refuse to work, instead of using one path, when multipathd does not run."""
    link_folder: AbsolutePath = _connectors("link_folder")
    """Where the stable links are that users use. Under /dev, so that a reboot takes them along with the devices."""
    mount_link_folder: AbsolutePath | None = Path("/run/brickwork/volumes")
    """Where the same links are once more, for mount units: systemd waits in vain for a link under /dev that udev did not make.
    Several nodes on one host need one folder each; `null`: none."""
    lock_path: AbsolutePath = _connectors("lock_path")
    """os-brick's locks. Root's, and not for everybody to write to. Nova and Cinder on the same host must be given the same folder:
    they share sessions with us."""
    mount_point_base: AbsolutePath = _connectors("mount_point_base")
    """Under which shares (NFS and its like) are mounted. Only what is mounted there is ever unmounted."""
    protocols: tuple[Protocol, ...] = _connectors("protocols")
    """Which kinds of connections this node makes: iscsi, iser, fibre_channel, nvmeof, nvme, rbd, nfs, glusterfs, quobyte; and local
    and gpfs, which are files of this host itself, and have to be asked for."""
    local_folders: tuple[AbsolutePath, ...] = _connectors("local_folders")
    """For `local` and `gpfs`: where the files of volumes may lie. Of any other file no volume is made, whoever asks for it."""
    concurrency: Annotated[int, Field(ge=1, le=64)] = _connectors("concurrency")
    """How many calls os-brick does at once. It does one connect or disconnect of iSCSI, FC and NVMe at a time by itself."""
    deadlines_s: HostDeadlines = HostDeadlines()
    """How long each kind of call to os-brick may take. A call that takes longer is killed, and the device looked at anew."""
    mass_detach: Mass = Mass()
    """When wishes for volumes on this node vanish: from where on nothing is detached for that (docs/OPERATING.md, Accidents)."""
    allow_noop: bool = False
    """For benchmarks only: take connections of type `noop`, for which a device is made up."""

    def connector_settings(self, node: str) -> ConnectorSettings:
        """What the connector takes.

        Raises:
            Refused: `my_ip` is not set, and the host has no default route to tell it by.
        """
        shared = ConnectorSettings.model_fields.keys() & NodeSettings.model_fields.keys() - {
            "node",
            "my_ip",
            "state_folder",
        }
        return ConnectorSettings(
            node=node,
            state_folder=self.state_folder / "connector",
            temporary_folder=self.run_folder / "tmp",
            my_ip=self.my_ip or _own_ip(),
            **{name: getattr(self, name) for name in shared},
        )


class FenceAgentSettings(CommonSettings):
    """`brickwork-fence-agent`: when it asks which command to prove that a node can no longer write."""

    name: Name
    """This agent's name: shown in `leaders/`, and in the fences that it makes. Default: the host name. Different for each agent."""
    http: Http = Http(listen="127.0.0.1:9754")
    fence_command: Annotated[tuple[str, ...], Field(min_length=1)]
    """The program and its first arguments; node and boot follow. What it has to do: docs/OPERATING.md, "The fence agent"."""
    deadline_s: Seconds = 60.0
    """How long the command may take. Then it is killed, with its whole process group."""
    after_s: Seconds = 30.0
    """How long a node has to give no sign of life, as this agent itself sees it. Longer than a restart of the node daemon."""
    max_at_once: Annotated[int, Field(ge=1, le=100)] = 1
    """How many nodes may be fenced within `window_s`; others wait. Against what takes many nodes away at once."""
    window_s: Seconds = 600.0
    """See `max_at_once`."""
    only_awaited: bool = True
    """Fence a node only while another one is wished to have a volume that it holds. Otherwise fencing would help nobody."""
    retry_base_s: Seconds = 10.0
    """First pause after the command failed, or said: not now."""

    @model_validator(mode="after")
    def _command_is_a_program(self) -> Self:
        if not Path(self.fence_command[0]).is_absolute():
            raise ValueError(
                "fence_command: begin it with an absolute path: a daemon's working folder is not where you are"
            )
        return self


SETTINGS_OF: dict[Kind, type[CommonSettings]] = {
    "controller": ControllerSettings,
    "node": NodeSettings,
    "fence-agent": FenceAgentSettings,
}


@overload
def load(kind: Literal["controller"], path: Path | None, environ: Mapping[str, str]) -> ControllerSettings: ...
@overload
def load(kind: Literal["node"], path: Path | None, environ: Mapping[str, str]) -> NodeSettings: ...
@overload
def load(kind: Literal["fence-agent"], path: Path | None, environ: Mapping[str, str]) -> FenceAgentSettings: ...
@overload
def load(kind: Kind, path: Path | None, environ: Mapping[str, str]) -> CommonSettings: ...
def load(kind: Kind, path: Path | None, environ: Mapping[str, str]) -> CommonSettings:
    """The settings of a daemon: the environment's before the file's before the defaults.

    Args:
        path: the file. None: none, defaults and environment only.

    Raises:
        SettingsError: with every fault that was found.
    """
    model = SETTINGS_OF[kind]
    source = read(kind, path, environ, SETTINGS_OF)
    if "name" in model.model_fields:
        source.default(("name",), socket.gethostname())
    if kind == "controller":
        _name_backends(source)
    try:
        settings = model.model_validate_json(source.as_json(), strict=True)
    except ValidationError as error:
        raise SettingsError([*source.faults, *explain(model, error, source)]) from None
    faults = [*source.faults, *_exposed_secrets(settings, path)]
    if faults:
        raise SettingsError(faults)
    return settings.with_inherited() if isinstance(settings, ControllerSettings) else settings


def _exposed_secrets(settings: CommonSettings, path: Path | None) -> list[str]:
    """Passwords among the drivers' options, in a file that others can read."""
    if path is None or not isinstance(settings, ControllerSettings) or not (mode := exposure(path)):
        return []
    return [
        f"{path}: backends.{name}.options.{option} is a secret, and others can read this file ({mode}): chmod 600 {path}, or "
        "keep it in a secrets_file"
        for name, backend in settings.backends.items()
        for option, value in backend.options.items()
        if holds_secret(option, value)
    ]


def _name_backends(source: Source) -> None:
    """The adapter wants each backend's name in its settings; users write it once, as the key."""
    backends = source.values.get("backends")
    for name, backend in backends.items() if isinstance(backends, dict) else ():
        if isinstance(backend, dict):
            if "name" in backend:
                source.faults.append(
                    f"{source.where(('backends', name, 'name'))}: the name is {name!r} already; take it out"
                )
            backend["name"] = name if NAME_PATTERN.fullmatch(name) else "bad"  # told once, as the key's fault


def _own_ip() -> str:
    """The address that the default route would use. Nothing is sent: connecting a datagram socket only picks the route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address kept for documentation: it belongs to nobody
        except OSError:
            raise Refused("this host has no default route to tell its address by: set my_ip in the settings") from None
        return str(probe.getsockname()[0])
