"""What a planner may answer: at most one step, and what it has to say to users.

A step names the facts it relies on as keys. `confirms` are compared, as the planner saw them, by a read-only transaction right
before the external call (there is none where `confirms` is empty); `commits` by the transaction that writes the result. That is
all there is of safety between a lagging view and the world: S2, S4 and S9 of docs/BEHAVIOUR.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from schema.keys import Key


class Do(Enum):
    """Every step there is, named after its row in docs/PROTOCOL.md where it has one."""

    # the controller, for a volume
    RESTORE_HOLDERS = "C0"
    GRANT = "C1"
    EXPORT = "C2 create_export"
    CONNECT_EXPORT = "C2 initialize_connection, C3"
    REVOKE = "C4"
    TERMINATE = "C5 terminate_connection"
    UNEXPORT = "C5 remove_export"
    FORGET = "C6"
    # the controller, for the volume itself
    INTEND_CREATE = "V1"
    CREATE = "V2"
    INTEND_EXTEND = "V3"
    EXTEND = "V4"
    INTEND_DELETE = "V5"
    DELETE = "V6"
    FORGET_VOLUME = "V7"
    UPDATE_VOLUME = "V8"
    GIVE_UP_EXTEND = "V9"
    PROVE_DELETE = "V10"
    SPARE = "V11"
    # the node, for an attachment
    INSPECT = "look at the host"
    CLAIM = "N1"
    CONNECT = "N2, N3"
    REPORT = "N3"
    DISCONNECT = "N4"
    RELEASE = "N5"
    WITHDRAW = "N6"
    ADD_PATHS = "N11"
    EXTEND_DEVICE = "N12"
    # the node, for itself
    PUBLISH = "N0"
    MINT_BOOT = "N10"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do now."""

    do: Do
    why: str
    """In a sentence: for logs, `explain` and status."""
    node: str = ""
    epoch: int = 0
    confirms: tuple[Key, ...] = ()
    commits: tuple[Key, ...] = ()
    copies_fence: bool = False
    """REVOKE: the operator's statement is copied to `fenced/` in the same transaction (R6)."""
    on_delete: str = ""
    """UPDATE_VOLUME, where the wish is gone: what its last value said, and the revision of its end (0: not known)."""
    heard: int = 0
    flush: bool = True
    """DISCONNECT: False only for a fenced boot, whose writes must not land."""


class Aspect(Enum):
    """Which condition a saying belongs to."""

    ACCEPTED = "Accepted"
    AVAILABLE = "Available"
    GRANTED = "Granted"
    EXPORTED = "Exported"


@dataclass(frozen=True, slots=True)
class Saying:
    """What a user should know while things are not plain sailing. `node` empty: about the volume itself."""

    node: str
    aspect: Aspect
    reason: str
    message: str
    waits_for: str = ""
    """Who has to act: `"node a"`, `"backend lvm"`, `"user"`, `"operator"`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A planner's answer. No step: settled, or waiting for what `sayings` tell."""

    step: Step | None
    sayings: tuple[Saying, ...] = ()
