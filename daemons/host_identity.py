"""Which host this is, as far as a copy of it would be another (docs/PROTOCOL.md, R17).

The identity is made of what a copied disk does not take along, and what a reboot or another network card does not change: the
product uuid that the firmware tells, and the machine id of the installed system. Both have to be the same; where one is not, the
daemon stops before anything is written, and a person says what became of the host. A host without one of them, and containers,
which share their firmware, are given an identity in the settings: whoever sets it answers for its being the only one.

It is kept in the state folder as well, with the boots that were begun under it: values of older versions name only those.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from daemons.identity import read, write
from daemons.process import Refused
from reconciler.runtime.ports import Retryable

PRODUCT = (Path("/sys/class/dmi/id/product_uuid"), Path("/sys/firmware/devicetree/base/serial-number"))
"""Of the board, or of the virtual machine. The second is where there is no DMI."""
MACHINE = Path("/etc/machine-id")
NAMESPACE = Path("/proc/self/ns/pid")
_OF_THE_HOST = 0xEFFFFFFC
"""The kernel's number of the host's own namespace of processes. A container has another one."""

_NOT_SET = ("", "none", "unknown", "uninitialized", "notsettable", "notpresent", "defaultstring", "tobefilledbyoem")
_OF_MANY = ("03000200040005000006000700080009", "12345678123456781234567812345678", "fefefefefefefefefefefefefefefefe")
"""Product uuids that firmware tells where nobody set any: many boards share them."""
BOOTS_KEPT = 64


def identity_of(
    configured: str | None,
    product: tuple[Path, ...] = PRODUCT,
    machine: Path = MACHINE,
    namespace: Path = NAMESPACE,
) -> str:
    """This host's identity.

    Raises:
        Refused: it has none of its own, and the settings give it none.
    """
    if configured is not None:
        return f"setting={configured}"
    parts = {"product": _first(product), "machine": _first((machine,))}
    missing = {"product": f"product uuid ({product[0]})", "machine": f"machine id ({machine})"}
    lacking = [missing[name] for name, value in parts.items() if value is None]
    if lacking or _in_container(namespace):
        what = f"has no {' and no '.join(lacking)} of its own" if lacking else "is a container"
        raise Refused(
            f"this host {what}, so a copy of it could not be told from it, and would take "
            f"its volumes over. Give it an identity that no other host has, in the settings, say `host_identity: rack7-slot3`; "
            f"never the same on two hosts, and not in an image that is copied"
        )
    return ",".join(f"{name}={_digest(value)}" for name, value in parts.items() if value is not None)


def _in_container(namespace: Path) -> bool:
    """It shares the product uuid with its host, and the machine id with its image or its copies."""
    try:
        return namespace.stat().st_ino != _OF_THE_HOST
    except OSError:
        return False


def _first(files: tuple[Path, ...]) -> str | None:
    """What the first of the files tells that is there, unless it tells nothing."""
    for file in files:
        try:
            told = "".join(char for char in file.read_text(errors="replace").lower() if char.isalnum())
        except OSError:
            continue
        return None if told in _NOT_SET or told in _OF_MANY or len(set(told)) == 1 else told
    return None


def _digest(value: str) -> str:
    """The machine id is not for strangers, and `nodes/N` is read by all."""
    return hashlib.sha256(f"brickwork host identity {value}".encode()).hexdigest()[:16]


class KeptIdentity:
    """`ports.HostIdentity`: the identity, and what is kept with it in the state folder.

    Args:
        current: the boot that this is.
    """

    def __init__(self, state_folder: Path, node: str, identity: str, current: str) -> None:
        """
        Raises:
            Refused: the state folder is of another host, and no person said here that this one takes its place.
        """
        self._file, self._word = _file(state_folder), _word_file(state_folder)
        self._node = node
        self._identity = identity
        kept = _load(self._file) if self._file.exists() else {}
        before = kept.get("identity", identity)
        if before != identity:
            if not self.word():
                raise Refused(_moved(state_folder, node, before, identity))
            kept = {}
        boots = kept.get("boots")
        self._boots = [each for each in boots if isinstance(each, str)] if isinstance(boots, list) else []
        self._was_node = kept.get("was_node") is True
        self._remember(current, was_node=self._was_node)

    def identity(self) -> str:
        return self._identity

    def boots(self) -> frozenset[str]:
        return frozenset(self._boots)

    def was_node(self) -> bool:
        return self._was_node

    def word(self) -> bool:
        try:
            return self._word.exists() and _load(self._word) == _as_word(self._node, self._identity)
        except (Refused, OSError):
            return False  # none that anybody can read

    def published(self, boot: str) -> None:
        self._note(boot, was_node=True)

    def replaced(self) -> None:
        if self._was_node:
            self._note(self._boots[-1], was_node=False)

    def _note(self, boot: str, *, was_node: bool) -> None:
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._remember(boot, was_node=was_node)
            if was_node and self._word.exists():
                self._word.unlink(missing_ok=True)
        except (Refused, OSError) as error:
            raise Retryable(f"it can't be noted which host is the node: {error}") from error

    def _remember(self, boot: str, *, was_node: bool) -> None:
        if boot in self._boots and was_node == self._was_node and self._file.exists():
            return
        boots = [*(each for each in self._boots if each != boot), boot][-BOOTS_KEPT:]
        kept = {"identity": self._identity, "boots": boots, "was_node": was_node}
        write(self._file, json.dumps(kept) + "\n")
        self._boots, self._was_node = boots, was_node


def say_the_word(state_folder: Path, node: str, identity: str) -> None:
    """Note that this host, under this identity, is the node from now on. Said again, it counts anew.

    Raises:
        Refused: it can't be written.
    """
    write(_word_file(state_folder), json.dumps(_as_word(node, identity)) + "\n")


def _as_word(node: str, identity: str) -> dict[str, str]:
    return {"node": node, "identity": identity}


def _file(state_folder: Path) -> Path:
    return state_folder / "host.json"


def _word_file(state_folder: Path) -> Path:
    return state_folder / "this-host-is.json"


def _load(file: Path) -> dict[str, object]:
    try:
        found = json.loads(read(file))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refused(
            f"{file} can't be understood, so nobody knows which host this state folder is of. If it is this host's for certain, "
            f"remove the file"
        )
    return found


def _moved(state_folder: Path, node: str, before: object, identity: str) -> str:
    names = {"product": "board or virtual machine", "machine": "installed system", "setting": "host_identity"}
    then, now = _parts(str(before)), _parts(identity)
    changed = [names.get(name, name) for name in sorted(then.keys() | now.keys()) if then.get(name) != now.get(name)]
    return (
        f"{state_folder} is of another host: the node {node} was the host {before}, and this is {identity} (not the same: "
        f"{', '.join(changed)}). Nothing was written. Is this host a copy? Then remove {state_folder}, so that it becomes a node "
        f"of its own. Was its board or disk changed, or does it take the place of the other one? Then: brickwork-node "
        f"--this-host-is {node}"
    )


def _parts(identity: str) -> dict[str, str]:
    return dict(part.partition("=")[::2] for part in identity.split(","))
