"""The user of a run: what is put and deleted with etcdctl, and when. Plain data, drawn from the seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from schema.keys import Family, Keyspace

BROKEN = (b"", b"{", b"[]", b'{"mode": "rx"}', b'{"mod": "rw"}', b"\xff\xfe", b'{"mode": NaN}', b'"rw"')
"""Values that no wish may have."""

ASIDE = (b'{"cordons": {"test": "a try"}}', b'{"drains": {"test": "a try"}}')
"""What holds a node's wishes back."""


@dataclass(frozen=True)
class Act:
    """One key put, or deleted where `value` is None, so many seconds after the start."""

    at_s: float
    path: str
    value: bytes | None

    def __str__(self) -> str:
        if self.value is None:
            return f"etcdctl del {self.path}"
        return f"etcdctl put {self.path} {self.value.decode(errors='replace')}"


@dataclass
class _Wishes:
    """What the user wants so far."""

    volumes: dict[str, dict[str, Any]] = field(default_factory=dict)
    attachments: dict[tuple[str, str], bytes] = field(default_factory=dict)
    aside: set[str] = field(default_factory=set)
    """Nodes that are cordoned or drained."""
    sizes: dict[str, int] = field(default_factory=dict)
    """GiB, the largest ever wished for: a retained volume is not taken back for a smaller wish."""


class Author:
    """Writes a script.

    Args:
        backends: names, to put volumes on.
        lasts_s: so long the user goes on.
    """

    def __init__(
        self,
        rng: Random,
        keyspace: Keyspace,
        nodes: Sequence[str],
        backends: Sequence[str],
        volumes: int,
        lasts_s: float,
    ) -> None:
        self._rng = rng
        self._keyspace = keyspace
        self._nodes = nodes
        self._backends = backends
        self._names = [f"v{number}" for number in range(volumes)]
        self._lasts_s = lasts_s
        self._now_s = 0.0
        self._acts: list[Act] = []
        self._wishes = _Wishes()

    def write(self, acts: int) -> list[Act]:
        """So many acts at random, then those that leave nothing unclear: whatever is wished at the end can be had."""
        moments = sorted(self._rng.uniform(0.0, self._lasts_s) for _ in range(acts))
        for self._now_s in moments:
            self._rng.choices(
                (
                    self._create,
                    self._attach,
                    self._detach,
                    self._move,
                    self._remove,
                    self._grow,
                    self._set_aside,
                    self._err,
                ),
                (3, 6, 3, 3, 1, 1, 2, 1),
            )[0]()
        self._now_s = self._lasts_s
        self._make_clear()
        return self._acts

    # --- what a user does

    def _create(self) -> None:
        name = self._rng.choice(self._names)
        if name not in self._wishes.volumes:
            self._volume(name, self._spec(name, self._rng.choice(("retain", "delete"))))

    def _attach(self) -> None:
        node, volume = self._rng.choice(self._nodes), self._rng.choice(self._names)
        mode = self._rng.choice((b"{}", b"{}", b"{}", b'{"mode": "ro"}'))
        self._attachment(node, volume, mode)

    def _detach(self) -> None:
        if self._wishes.attachments:
            self._attachment(*self._rng.choice(sorted(self._wishes.attachments)), None)

    def _move(self) -> None:
        if self._wishes.attachments:
            node, volume = self._rng.choice(sorted(self._wishes.attachments))
            self._attachment(node, volume, None)
            self._attachment(self._rng.choice(self._nodes), volume, b"{}")

    def _remove(self) -> None:
        if self._wishes.volumes:
            name = self._rng.choice(sorted(self._wishes.volumes))
            del self._wishes.volumes[name]
            self._act(Family.DESIRED_VOLUME, (name,), None)

    def _grow(self) -> None:
        if self._wishes.volumes:
            name = self._rng.choice(sorted(self._wishes.volumes))
            spec = self._wishes.volumes[name]
            self._volume(name, spec | {"size_gib": spec["size_gib"] + 1})

    def _set_aside(self) -> None:
        node = self._rng.choice(self._nodes)
        if node in self._wishes.aside:
            self._wishes.aside.discard(node)
            self._act(Family.DESIRED_NODE, (node,), None)
        else:
            self._wishes.aside.add(node)
            self._act(Family.DESIRED_NODE, (node,), self._rng.choice(ASIDE))

    def _err(self) -> None:
        """A value that can't be read."""
        node, volume = self._rng.choice(self._nodes), self._rng.choice(self._names)
        self._attachment(node, volume, self._rng.choice(BROKEN))

    def _make_clear(self) -> None:
        """No cordon or drain, no broken value, no two nodes for one volume, no attachment without its volume."""
        for node in sorted(self._wishes.aside):
            self._act(Family.DESIRED_NODE, (node,), None)
        taken: dict[str, str] = {}
        for (node, volume), value in sorted(self._wishes.attachments.items()):
            if value in BROKEN or volume in taken:
                self._attachment(node, volume, None)
                continue
            taken[volume] = node
        for volume in taken:
            if volume not in self._wishes.volumes:
                self._volume(volume, self._spec(volume, "retain"))

    # --- how

    def _spec(self, name: str, on_delete: str) -> dict[str, Any]:
        backend = self._backends[self._names.index(name) % len(self._backends)]
        return {"backend": backend, "size_gib": self._wishes.sizes.get(name, 1), "on_delete": on_delete}

    def _volume(self, name: str, spec: Mapping[str, Any]) -> None:
        self._wishes.volumes[name] = dict(spec)
        self._wishes.sizes[name] = spec["size_gib"]
        self._act(Family.DESIRED_VOLUME, (name,), json.dumps(spec).encode())

    def _attachment(self, node: str, volume: str, value: bytes | None) -> None:
        if value is None:
            del self._wishes.attachments[node, volume]
        else:
            self._wishes.attachments[node, volume] = value
        self._act(Family.DESIRED_ATTACHMENT, (node, volume), value)

    def _act(self, family: Family, names: tuple[str, ...], value: bytes | None) -> None:
        self._acts.append(Act(self._now_s, self._keyspace.path(family, *names), value))
