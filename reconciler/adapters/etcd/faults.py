"""gRPC's errors, each translated to one of the port's: one table, the first row that fits counts.

A row says three things: what error the caller gets, whether the call may simply be made again, and the remedy for a person.
Repeating a write is allowed only where the answer proves that etcd never acted on the request; everything that is not in
the table is taken as *lost*: a read is repeated, and a write ends in `UnknownOutcome`. The texts are those of etcd's
`rpctypes/error.go` (3.4 to 3.7) and of gRPC's channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import grpc

from reconciler.runtime.ports import (
    Compacted,
    Denied,
    NoSpace,
    PortError,
    Retryable,
    Terminal,
    TooLarge,
    Unavailable,
    UnknownOutcome,
)

_Code = grpc.StatusCode


class LeaseGone(Retryable):
    """A key was to hang on a lease that is no more, or such a lease was to be revoked. Nothing happened."""


class Again(Enum):
    """May the same call be made again without asking the caller?"""

    NO = auto()
    """The answer is final."""
    SURE = auto()
    """Yes: it never reached etcd, or was refused before it was proposed."""
    LOGIN = auto()
    """Yes, once, after logging in anew."""
    READS = auto()
    """Lost on the way: only when it changes nothing."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A row of the table: fits when the code is `code` (None: any) and `text` is in the details."""

    code: Any
    text: str
    error: type[PortError]
    again: Again
    remedy: str = ""


_LOGIN = "check user and password, or the client certificate's common name"
_REACH = "check that etcd runs, and the endpoints and certificates in the settings"
_ROLES = "the etcd role of this user does not cover the key; see the roles under deploy/"

_TABLE = (
    # Credentials are checked before anything is applied. An older token than the user database is refused the same way.
    Fault(_Code.UNAUTHENTICATED, "", Denied, Again.LOGIN, _LOGIN),
    Fault(None, "invalid auth token", Denied, Again.LOGIN, _LOGIN),
    Fault(None, "revision of auth store is old", Denied, Again.LOGIN, _LOGIN),
    Fault(None, "user name is empty", Denied, Again.LOGIN, _LOGIN),
    Fault(None, "invalid user ID or password", Denied, Again.NO, _LOGIN),
    Fault(_Code.PERMISSION_DENIED, "", Denied, Again.NO, _ROLES),
    # Refused for what it is.
    Fault(_Code.OUT_OF_RANGE, "compacted", Compacted, Again.NO),
    Fault(_Code.RESOURCE_EXHAUSTED, "space exceeded", NoSpace, Again.NO, "compact, defragment, then disarm the alarm"),
    Fault(_Code.RESOURCE_EXHAUSTED, "larger than max", TooLarge, Again.NO, "etcd takes 1.5 MiB by default"),
    Fault(_Code.INVALID_ARGUMENT, "request is too large", TooLarge, Again.NO, "etcd takes 1.5 MiB by default"),
    Fault(_Code.INVALID_ARGUMENT, "too many operations", TooLarge, Again.NO, "etcd takes 128 operations by default"),
    Fault(_Code.OUT_OF_RANGE, "lease TTL", Terminal, Again.NO, "ask for a shorter lease"),
    Fault(_Code.NOT_FOUND, "lease not found", LeaseGone, Again.NO, "the lease is gone: take a new one"),
    # Never sent: the channel had no connection to put it on.
    Fault(_Code.UNAVAILABLE, "failed to connect to all addresses", Unavailable, Again.SURE, _REACH),
    Fault(_Code.UNAVAILABLE, "connections to all backends failing", Unavailable, Again.SURE, _REACH),
    Fault(_Code.UNAVAILABLE, "DNS resolution failed", Unavailable, Again.SURE, _REACH),
    Fault(_Code.UNAVAILABLE, "errors resolving", Unavailable, Again.SURE, _REACH),
    # Refused before it was proposed: an interceptor's answer (we send `hasleader`), and the server's back-pressure.
    Fault(_Code.UNAVAILABLE, "etcdserver: no leader", Unavailable, Again.SURE, "the cluster has no majority just now"),
    Fault(
        None,
        "not supported for learner",
        Unavailable,
        Again.SURE,
        "this member does not serve yet: name the others, too",
    ),
    Fault(_Code.RESOURCE_EXHAUSTED, "too many requests", Unavailable, Again.SURE, "etcd is overloaded"),
    # Lost: no answer, or one that says nothing about the outcome.
    Fault(_Code.UNAVAILABLE, "", Unavailable, Again.READS, _REACH),
    Fault(_Code.DEADLINE_EXCEEDED, "", Unavailable, Again.READS, _REACH),
    Fault(_Code.CANCELLED, "", Unavailable, Again.READS),
    Fault(_Code.INVALID_ARGUMENT, "", Terminal, Again.NO),
    Fault(_Code.FAILED_PRECONDITION, "", Terminal, Again.NO),
    Fault(_Code.UNIMPLEMENTED, "", Terminal, Again.NO, "is this endpoint an etcd of version 3.4 or later?"),
)
_UNSIGNED = "no authority in ca_file (without one: that this system trusts) has signed"
_CAUSES = (
    ("Failed to create security handshaker", "ca_file, cert_file or key_file can't be used: see --check-config"),
    ("WRONG_VERSION_NUMBER", "there is no TLS on this port: write http, or the port of etcd's that speaks https"),
    ("is not in peer certificate", "etcd's certificate is not for this name: use one that stands in it"),
    ("Hostname Verification Check failed", "etcd's certificate is not for this name: use one that stands in it"),
    ("CERTIFICATE_VERIFY_FAILED", f"etcd's certificate has expired, or {_UNSIGNED} it"),
    ("BAD_SIGNATURE", f"{_UNSIGNED} etcd's certificate"),
    (
        "TSI_DATA_CORRUPTED",
        "etcd does not take our certificate: none is set, it has expired, or etcd's authority has not signed it",
    ),
    (
        "Tls handshake failed",
        "TLS could not be agreed on: check ca_file, cert_file and key_file, and etcd's certificate",
    ),
)
"""What connections to an endpoint break down for, by what gRPC says of it. It changes nothing of what may be repeated."""
LOST = Fault(None, "", Unavailable, Again.READS, _REACH)
"""Whatever the table does not know."""
REFUSED = Fault(None, "", Denied, Again.LOGIN, _ROLES)
"""A watch that was cancelled in the answer that created it. etcd 3.4 words an expired token as "permission denied" there."""


class Failed(Exception):
    """One attempt that failed: the table's row, and what was said."""

    def __init__(self, fault: Fault, details: str) -> None:
        super().__init__(details)
        self.fault = fault
        self.details = details

    @classmethod
    def by(cls, error: Any) -> Failed:
        """From gRPC's error."""
        details = " ".join((error.details() or error.code().name).split())
        return cls(find(error.code(), details), details)

    @classmethod
    def silent(cls, seconds: float) -> Failed:
        """From the answer that did not come."""
        return cls(LOST, f"no answer within {seconds:.1f} s")

    def translated(self, what: str, write: bool) -> PortError:
        """The port's error, fit for a user's eyes. `what` names the call and the endpoint."""
        fault = self.fault
        if fault.again is Again.READS and write:
            return UnknownOutcome(f"{what}: no answer, so it may or may not have happened ({self.details})")
        remedy = fault.remedy
        if remedy is _REACH:
            remedy = next((words for text, words in _CAUSES if text in self.details), remedy)
        return fault.error(f"{what}: {self.details}{'; ' if remedy else ''}{remedy}")


def find(code: Any, details: str) -> Fault:
    """The row for an error."""
    for row in _TABLE:
        if (row.code is None or row.code is code) and row.text in details:
            return row
    return LOST
