"""etcd's API definition: message classes, and the methods with their paths.

They come from the frozen package ``etcd3==0.12.0``. Its generated Python was written for protobuf 3 and does not import on
current ones, but the descriptors it carries as text are valid for ever. So this module reads that text (`ast`; nothing of the
package is executed), puts it into a descriptor pool of its own, and lets today's protobuf build the classes.

The text is checked by its digest: another version, or another distribution that installs a folder of the same name, is
refused by name instead of failing somewhere strange. No other module knows where messages come from.
"""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool, message_factory

# Bare forks beside gRPC are allowed here (children exec at once and never use a store); without this each one logs a line.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

DISTRIBUTION = "etcd3"
VERSION = "0.12.0"
_FILES = ("kv", "auth", "rpc")  # in the order in which they import one another
_DIGEST = "1d83558d4eab306fb9e188cf025eafd5b0f16eb0750a57a0c6226c32a12aa9d2"
_REMEDY = f"Install {DISTRIBUTION}=={VERSION} into Brickwork's own virtual environment"


class ApiMissing(ImportError):
    """etcd's API definition cannot be loaded; the text says why, and the remedy."""


@dataclass(frozen=True, slots=True)
class Call:
    """One method: its path on the wire, and how to write a request and read an answer."""

    path: str
    serialize: Callable[[Any], bytes]
    parse: Callable[[bytes], Any]


class Api:
    """Messages and calls, out of the three serialized descriptor files."""

    def __init__(self, files: tuple[bytes, ...]) -> None:
        # Private: another library in this process may well register its own `rpc.proto` in the default pool.
        self._pool = descriptor_pool.DescriptorPool()
        for file in files:
            self._pool.AddSerializedFile(file)

    def message(self, name: str) -> Any:
        """The class of one message, such as ``"TxnRequest"``."""
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"etcdserverpb.{name}"))

    def call(self, service: str, method: str) -> Call:
        """One method of one service, such as ``"KV", "Txn"``."""
        found = self._pool.FindServiceByName(f"etcdserverpb.{service}").methods_by_name[method]
        request = message_factory.GetMessageClass(found.input_type)
        answer = message_factory.GetMessageClass(found.output_type)
        return Call(f"/etcdserverpb.{service}/{method}", request.SerializeToString, answer.FromString)


def locate(name: str = DISTRIBUTION, version: str = VERSION) -> Path:
    """The installed package's folder of generated files.

    Raises:
        ApiMissing: the distribution is not installed, or in another version.
    """
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise ApiMissing(f"{name} is not installed{_owners(name)}. {_REMEDY}.") from None
    if found.version != version:
        raise ApiMissing(f"{name} {found.version} is installed, and only {version} is known here. {_REMEDY}.")
    return Path(str(found.locate_file(f"{name}/etcdrpc")))


def read(folder: Path) -> tuple[bytes, ...]:
    """The serialized descriptors in the generated files of `folder`.

    Raises:
        ApiMissing: files are missing, or are not the ones we know.
    """
    try:
        files = tuple(_serialized(folder / f"{name}_pb2.py") for name in _FILES)
    except (OSError, ValueError, SyntaxError) as error:
        raise ApiMissing(
            f"{folder} is not readable as etcd's API ({error}){_owners(DISTRIBUTION)}. {_REMEDY}."
        ) from error
    if hashlib.sha256(b"".join(files)).hexdigest() != _DIGEST:
        raise ApiMissing(f"{folder} is not that of {DISTRIBUTION} {VERSION}{_owners(DISTRIBUTION)}. {_REMEDY}.")
    return files


def _serialized(path: Path) -> bytes:
    """The literal in the line ``  serialized_pb=_b('…')``, of a generated file. Parsing that line alone takes 1 ms, the file 70."""
    start = "serialized_pb=_b("
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith(start):
            literal = ast.literal_eval(text[len(start) :].rstrip(",)"))
            if isinstance(literal, str):
                return literal.encode("latin1")
    raise ValueError(f"{path.name} holds no serialized descriptor")


def _owners(folder: str) -> str:
    """Names the other distributions that say they own the import name, for a message."""
    others = sorted(set(metadata.packages_distributions().get(folder, [])) - {DISTRIBUTION})
    return f"; the import name {folder!r} belongs to {', '.join(others)}" if others else ""


_API = Api(read(locate()))

message = _API.message

RangeRequest = message("RangeRequest")
TxnRequest = message("TxnRequest")
AuthenticateRequest = message("AuthenticateRequest")
StatusRequest = message("StatusRequest")
AlarmRequest = message("AlarmRequest")
LeaseGrantRequest = message("LeaseGrantRequest")
LeaseRevokeRequest = message("LeaseRevokeRequest")
LeaseKeepAliveRequest = message("LeaseKeepAliveRequest")
WatchRequest = message("WatchRequest")

RANGE = _API.call("KV", "Range")
TXN = _API.call("KV", "Txn")
AUTHENTICATE = _API.call("Auth", "Authenticate")
STATUS = _API.call("Maintenance", "Status")
ALARM = _API.call("Maintenance", "Alarm")
LEASE_GRANT = _API.call("Lease", "LeaseGrant")
LEASE_REVOKE = _API.call("Lease", "LeaseRevoke")
LEASE_KEEP_ALIVE = _API.call("Lease", "LeaseKeepAlive")
WATCH = _API.call("Watch", "Watch")

PROGRESS_REQUEST = WatchRequest.FromString(b"\x1a\x00")
"""An empty `progress_request` (field 3), which etcd answers since 3.4: younger than the definition, kept as an unknown field."""

# Enumerators used in compares (etcd's rpc.proto; result EQUAL and target VERSION are the zeros).
GREATER = 1
CREATE = 1
MOD = 2
NOSPACE = 1
"""The alarm (rpc.proto)."""
DELETED = 1
"""`Event.type` of a deletion (kv.proto)."""
