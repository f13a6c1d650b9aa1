"""What a preflight is about: the host behind a small port, the node's settings, what etcd says; and what a check answers.

Checks are pure: they read a `Case` and say what they saw. So a misconfigured host is plain data in the tests, and the same
checks can be asked by whoever has a `Case`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from reconciler.adapters.brick import mounts
from schema.models import NodeRecord

PROTOCOLS = ("iscsi", "nvme", "fc", "nfs", "local", "rbd")
SCSI = frozenset({"iscsi", "fc"})
"""Whose devices are SCSI disks, and whose paths multipathd joins."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended."""

    code: int
    out: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """Who owns a file or folder, and who else may do what with it (the mode's lowest nine bits)."""

    owner: int
    mode: int


class Host(Protocol):
    """What can be asked of a host. Nothing is changed, and what can't be read is absent."""

    user: int
    """As whom we look. 0: root."""

    def text(self, path: str) -> str | None:
        """A file's text. None: it is not there, or may not be read."""

    def names(self, folder: str) -> list[str]:
        """The entries of a folder, sorted; none where there is no such folder."""

    def access(self, path: str) -> Access | None: ...

    def has(self, program: str) -> bool:
        """Whether a program is installed."""

    def run(self, *command: str) -> Ran | None:
        """Run a program that only tells something. None: it is not installed, or gave no answer in time."""


class EtcdSection(BaseModel):
    """`etcd` in the node's settings."""

    model_config = ConfigDict(frozen=True)

    endpoints: tuple[str, ...]
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None


class Settings(BaseModel):
    """Of the node daemon's settings (`brickwork-node --check-config` prints them all) what a preflight needs."""

    model_config = ConfigDict(frozen=True)

    etcd: EtcdSection
    prefix: str
    state_folder: Path
    run_folder: Path
    link_folder: Path
    lock_path: Path
    multipath: bool = False
    node: str | None = None
    my_ip: str | None = None


@dataclass(frozen=True, slots=True)
class Fleet:
    """What etcd says. `failure`: why it can't be asked; `hidden`: the records of other nodes may not be read."""

    nodes: Mapping[str, NodeRecord] = field(default_factory=dict)
    alive: Mapping[str, str] = field(default_factory=dict)
    """Node -> the boot that gives a sign of life."""
    failure: str = ""
    hidden: bool = False


class Severity(StrEnum):
    ERROR = "error"
    """Volumes can't be attached here, or data is in danger."""
    WARNING = "warning"
    """It works until something else happens."""
    UNKNOWN = "unknown"
    """It could not be looked at."""
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, as it was seen, and the lines that mend it."""

    seen: str
    remedy: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """Why it could not be looked at."""

    why: str


@dataclass(frozen=True, slots=True)
class Case:
    """A host, about to be looked at."""

    host: Host
    settings: Settings
    node: str
    """The node's id."""
    protocols: frozenset[str]
    fleet: Fleet = Fleet()
    settings_fault: str = ""
    """What the node daemon says against its settings; the defaults are in their place then."""
    now: float = 0.0
    """Seconds since 1970."""

    def mount_of(self, path: Path) -> mounts.Mount | None:
        """The file system that a path lies on."""
        mounted = mounts.parse(self.host.text("/proc/self/mountinfo") or "")
        return mounts.containing(mounted, path)


Answer = Fault | Unknown | None
"""None: as it should be."""


@dataclass(frozen=True, slots=True)
class Check:
    """One misconfiguration that is looked for. `right` says in a few words how it should be."""

    id: str
    severity: Severity
    right: str
    look: Callable[[Case], Answer]
    protocols: frozenset[str] = frozenset(PROTOCOLS)
    """Of use for these only."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. For `ok`, `seen` is what is right."""

    id: str
    severity: Severity
    seen: str
    remedy: tuple[str, ...] = ()


def examine(check: Check, case: Case) -> Finding:
    """Ask one check."""
    answer = check.look(case)
    if isinstance(answer, Fault):
        return Finding(check.id, check.severity, answer.seen, answer.remedy)
    if isinstance(answer, Unknown):
        return Finding(check.id, Severity.UNKNOWN, answer.why)
    return Finding(check.id, Severity.OK, check.right)


def missing_programs(packages: Mapping[str, str], remark: str = "") -> Callable[[Case], Answer]:
    """A look for programs. `packages`: program -> the Debian package that has it."""

    def look(case: Case) -> Answer:
        missing = [program for program in packages if not case.host.has(program)]
        if not missing:
            return None
        wanted = " ".join(dict.fromkeys(packages[program] for program in missing))
        return Fault(f"not installed: {', '.join(missing)}{remark}", (f"apt-get install {wanted}",))

    return look
