"""The keys: how they are built, parsed, and who may write them.

A key is `<prefix><family>/<name>[/<name>]`, for example `/brickwork/v1/desired/attachments/web-1/data`. Every family has one
writer, and the split by writer and node lets etcd's own roles enforce it (deploy/etcd-roles.sh).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, StrEnum
from urllib.parse import quote, unquote

DEFAULT_PREFIX = "/brickwork/v1/"

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
NAME_RULE = "letters, digits, '.', '_' and '-', beginning with a letter or digit, at most 253 characters"

CLUSTER = "_cluster"
"""In `leaders/`: the election for what belongs to no backend. No backend can have this name."""
FENCE_AGENT = "_fence"
"""In `leaders/`: which fence agent acts."""


class Writer(StrEnum):
    """Who alone writes a family."""

    USER = "user"
    OPERATOR = "operator"
    NODE = "node"
    CONTROLLER = "controller"


class Family(Enum):
    """Every kind of key: its path below the prefix, the names that follow, its writer."""

    DESIRED_VOLUME = ("desired/volumes", ("volume",), Writer.USER)
    DESIRED_ATTACHMENT = ("desired/attachments", ("node", "volume"), Writer.USER)
    DESIRED_NODE = ("desired/nodes", ("node",), Writer.USER)
    DESIRED_DELETION = ("desired/deletions", ("volume",), Writer.USER)
    FENCE = ("fences", ("node", "boot"), Writer.OPERATOR)
    FENCED = ("fenced", ("node", "boot"), Writer.CONTROLLER)
    NODE = ("nodes", ("node",), Writer.NODE)
    ALIVE = ("alive", ("node",), Writer.NODE)
    CLAIM = ("claims", ("node", "volume"), Writer.NODE)
    ATTACHMENT = ("attachments", ("node", "volume"), Writer.NODE)
    BACKEND = ("backends", ("backend",), Writer.CONTROLLER)
    STORAGE = ("storage", ("backend",), Writer.CONTROLLER)
    VOLUME = ("volumes", ("volume",), Writer.CONTROLLER)
    GRANT = ("grants", ("volume",), Writer.CONTROLLER)
    CONNECTION = ("connections", ("node", "volume"), Writer.CONTROLLER)
    RECORD = ("records", ("volume",), Writer.CONTROLLER)
    LEADER = ("leaders", ("backend",), Writer.CONTROLLER)
    VERDICT_VOLUME = ("verdicts/volumes", ("volume",), Writer.CONTROLLER)
    VERDICT_ATTACHMENT = ("verdicts/attachments", ("node", "volume"), Writer.CONTROLLER)
    VERDICT_NODE = ("verdicts/nodes", ("node",), Writer.CONTROLLER)
    VERDICT_UNPARSABLE = ("verdicts/unparsable", ("encoded",), Writer.CONTROLLER)

    def __init__(self, path: str, names: tuple[str, ...], writer: Writer) -> None:
        self.path = path
        self.names = names
        self.writer = writer


VERDICT_OF = {
    Family.DESIRED_VOLUME: Family.VERDICT_VOLUME,
    Family.DESIRED_ATTACHMENT: Family.VERDICT_ATTACHMENT,
    Family.DESIRED_NODE: Family.VERDICT_NODE,
}

_BY_PATH = sorted(((family.path + "/", family) for family in Family), key=lambda pair: -len(pair[0]))


class BadName(ValueError):
    """A name that can't be part of a key. The message names the field and the rule."""


def check_name(field: str, name: str) -> str:
    """The name itself, or BadName saying which field and what the rule is."""
    if not NAME_PATTERN.fullmatch(name):
        shown = name if len(name) <= 60 else name[:57] + "..."
        raise BadName(f"{field} {shown!r}: use {NAME_RULE}")
    return name


@dataclass(frozen=True, slots=True)
class Key:
    """One parsed key: `Key(Family.CLAIM, ("web-1", "data"))`."""

    family: Family
    names: tuple[str, ...]

    @property
    def volume(self) -> str | None:
        return self._named("volume")

    @property
    def node(self) -> str | None:
        return self._named("node")

    def _named(self, role: str) -> str | None:
        roles = self.family.names
        return self.names[roles.index(role)] if role in roles else None


@dataclass(frozen=True, slots=True)
class Unparsable:
    """A path below the prefix that is no key of ours, and why."""

    path: str
    fault: str
    desired: bool
    """Below `desired/`: a user meant something by it, and is told in `verdicts/unparsable/`."""


class Keyspace:
    """Builds and parses full key paths under one prefix."""

    def __init__(self, prefix: str = DEFAULT_PREFIX) -> None:
        if not prefix.startswith("/") or not prefix.endswith("/"):
            raise ValueError(f"prefix {prefix!r}: begin and end it with a slash, as in {DEFAULT_PREFIX!r}")
        self.prefix = prefix

    def path(self, family: Family, *names: str) -> str:
        """The full key. The names are taken as they are: they were checked where they came in."""
        return f"{self.prefix}{family.path}/{'/'.join(names)}"

    def folder(self, family: Family, *names: str) -> str:
        """The prefix of all keys of a family, or of those below the given first names."""
        return self.path(family, *names) + "/" if names else f"{self.prefix}{family.path}/"

    def verdict(self, key: Key) -> str:
        """Where the controller answers a user's key."""
        return self.path(VERDICT_OF[key.family], *key.names)

    def verdict_unparsable(self, path: str) -> str:
        return self.path(
            Family.VERDICT_UNPARSABLE, quote(path.removeprefix(self.prefix), safe="", errors="surrogateescape")
        )

    def unparsable_path(self, encoded: str) -> str:
        """The user's key that `verdicts/unparsable/<encoded>` answers."""
        return self.prefix + unquote(encoded, errors="surrogateescape")

    def parse(self, path: str) -> Key | Unparsable:
        """What a path means. Never raises: a strange key is somebody's mistake, not ours to fail on."""
        if not path.startswith(self.prefix):
            return Unparsable(path, f"not below {self.prefix}", desired=False)
        rest = path[len(self.prefix) :]
        desired = rest.startswith("desired/")
        for start, family in _BY_PATH:
            if rest.startswith(start):
                return self._parse_names(path, family, rest[len(start) :], desired)
        wishes = "; wishes are desired/volumes/V, desired/attachments/N/V and desired/nodes/N" if desired else ""
        return Unparsable(path, f"no such family of keys{wishes}", desired)

    def _parse_names(self, path: str, family: Family, rest: str, desired: bool) -> Key | Unparsable:
        if family is Family.VERDICT_UNPARSABLE:
            return Key(family, (rest,))
        names = rest.split("/")
        if len(names) != len(family.names):
            wanted = "/".join(f"<{name}>" for name in family.names)
            return Unparsable(path, f"a key of this family is {family.path}/{wanted}", desired)
        for role, name in zip(family.names, names, strict=True):
            if family is Family.LEADER and name in (CLUSTER, FENCE_AGENT):
                continue
            try:
                check_name(role, name)
            except BadName as fault:
                return Unparsable(path, str(fault), desired)
        return Key(family, tuple(names))
