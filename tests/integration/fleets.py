"""What the tests with whole daemons share: a fleet of processes, wishes, and the proof that nothing is left."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

from reconciler.runtime.ports import Delete, Put
from schema.codec import decode_family
from schema.keys import Family, Keyspace
from tools.fleet import Fleet, wait_until

KEYSPACE = Keyspace()
STATE = Path(__file__).parents[2] / ".state"
QUICK = {"lease_ttl_s": 2, "retry_base_s": 0.1, "retry_cap_s": 1.0}
"""Daemon settings for tests: the shortest lease that etcd 3.4 grants, and little patience."""
HASTY = {**QUICK, "mass_detach": {"share": 1.0}}
"""A node for tests that take many wishes back at once, and mean it."""


UNDOING = ("DISCONNECT", "TERMINATE", "UNEXPORT", "DELETE", "REVOKE", "RELEASE")


def value(fleet: Fleet, family: Family, *names: str) -> Any:
    """The decoded value of a key, None when it is absent."""
    item = fleet.store.get(KEYSPACE.path(family, *names))
    return None if item is None else decode_family(family, item.value)


def put(fleet: Fleet, family: Family, *names: str, text: str = "{}") -> None:
    """Write a key as a user would with etcdctl."""
    fleet.store.txn((), (Put(KEYSPACE.path(family, *names), text.encode()),))


def delete(fleet: Fleet, family: Family, *names: str) -> None:
    fleet.store.txn((), (Delete(KEYSPACE.path(family, *names)),))


def wish_volume(fleet: Fleet, volume: str, backend: str = "files", **spec: Any) -> None:
    put(fleet, Family.DESIRED_VOLUME, volume, text=json.dumps({"backend": backend, "size_gib": 1, **spec}))


def attach(fleet: Fleet, node: str, volume: str, text: str = "{}") -> None:
    put(fleet, Family.DESIRED_ATTACHMENT, node, volume, text=text)


def detach(fleet: Fleet, node: str, volume: str) -> None:
    delete(fleet, Family.DESIRED_ATTACHMENT, node, volume)


def until_attached(fleet: Fleet, node: str, volume: str) -> Any:
    """The attachment's status, once it says Attached."""

    def look() -> Any:
        status = value(fleet, Family.ATTACHMENT, node, volume)
        return status if status is not None and status.attached and status.phase == "Attached" else None

    return wait_until(f"{node}/{volume} is Attached", look, 60)


def attached(fleet: Fleet, node: str, volume: str) -> None:
    """Wish for a volume on a node, and wait for it."""
    wish_volume(fleet, volume)
    attach(fleet, node, volume)
    until_attached(fleet, node, volume)


def until_gone(fleet: Fleet, node: str, volume: str) -> None:
    """Wait until no key and no holder of the attachment is left."""
    wait_until(f"nothing is left of {node}/{volume}", lambda: not left_of(fleet, node, volume), 60)


def left_of(fleet: Fleet, node: str, volume: str) -> list[str]:
    """Every trace of an attachment: keys, holder entries, export intents, links, loop devices."""
    families = (Family.CLAIM, Family.CONNECTION, Family.ATTACHMENT, Family.VERDICT_ATTACHMENT)
    left = [f.path for f in families if fleet.store.get(KEYSPACE.path(f, node, volume))]
    for family, field in ((Family.GRANT, "holders"), (Family.VOLUME, "holders"), (Family.RECORD, "exports")):
        found = value(fleet, family, volume)
        left += [f"{family.path}.{field}" for each in getattr(found, field, ()) if each.node == node]
    if (fleet.folder / node / "dev" / volume).is_symlink():
        left.append("link")
    if (fleet.folder / node / "state" / "notes" / volume).exists():
        left.append("note")
    return left


def until_ready(fleet: Fleet, *backends: str) -> None:
    """Wait until the backends are led and ready."""

    def look() -> bool:
        found = [value(fleet, Family.BACKEND, name) for name in backends]
        led = [value(fleet, Family.LEADER, name) for name in backends]
        return all(status is not None and status.ready for status in found) and all(led)

    wait_until(f"backends {', '.join(backends)} are ready", look, 60)


def data_paths(fleet: Fleet, *volumes: str) -> tuple[list[str], list[str], list[str]]:
    """What no accident may change: the devices, the backend's files and whom they are mapped to, and the steps that undid
    something of these volumes, or tried to."""
    files = sorted(str(file.relative_to(fleet.files)) for file in fleet.files.rglob("*") if file.is_file())
    lines = [line for log in sorted(fleet.folder.glob("*/log")) for line in log.read_text().splitlines()]
    undone = [line for line in lines if any(f" step={do} volume={name} " in line for do in UNDOING for name in volumes)]
    return sorted(fleet.loop_devices()), files, undone


def page(fleet: Fleet, daemon: str, path: str) -> str:
    """What a daemon serves at a path, whatever its status code."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(Path(fleet.etcd.sockets) / f"{daemon}.http"))
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return answer.decode()


def unready(fleet: Fleet, daemon: str, words: str) -> bool:
    """Whether a daemon says of itself that it does not do its work, in these words. Not while it is not there."""
    try:
        told = page(fleet, daemon, "/readyz")
    except OSError:
        return False
    return " 503 " in told.splitlines()[0] and words in told


def is_ready(fleet: Fleet, daemon: str) -> bool:
    try:
        return " 200 " in page(fleet, daemon, "/readyz").splitlines()[0]
    except OSError:
        return False


def explained(fleet: Fleet, node: str, volume: str, words: str) -> bool:
    """Whether `brickctl explain` says so."""
    return words in fleet.brickctl("explain", node, volume, check=False)


def run(command: list[str]) -> str:
    """A command that goes well; what it printed."""
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
