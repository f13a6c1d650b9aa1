"""What every compare is for: each key that a step names in `confirms` or `commits` is left out in turn.

One actor's cache misses writes to some keys (`Load.lag`), a slow worker of it plans on that picture while a quick one sees the
present, and one step, the same in the whole run, does not compare those keys. So a single search tries every step with every key,
and tells for each what goes wrong. Where nothing does, the key is in NOT_CAUGHT with the reason; the test fails when that list is
no longer right. Keys that guard each other are left out together as well: TOGETHER. `pytest -rP` prints the whole table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from tests.model import checks
from tests.model.load import Load
from tests.model.moves import STEPS
from tests.model.search import Search
from tests.model.state import Budget, families

NOT_CAUGHT = {
    "said twice: the holder lists and the export intents in the record agree, or nothing is planned": (
        "GRANT commits GRANT VOLUME RECORD",
        "REVOKE commits GRANT",
        "EXPORT confirms VOLUME RECORD",
        "TERMINATE confirms GRANT VOLUME RECORD",
        "INTEND_CREATE commits GRANT VOLUME RECORD",
        "INTEND_EXTEND commits GRANT VOLUME",
        "INTEND_DELETE commits GRANT VOLUME",
        "PROVE_DELETE commits GRANT VOLUME RECORD",
        "UPDATE_VOLUME commits GRANT",
        "EXTEND confirms GRANT VOLUME",
        "DELETE confirms GRANT VOLUME",
    ),
    "said by the claim as well as by the status": ("REVOKE commits CLAIM",),
    "one of three that change together, or by hand": (
        "REPORT commits CLAIM ATTACHMENT CONNECTION",
        "RELEASE commits ATTACHMENT",
        "CLAIM commits CLAIM ATTACHMENT",
    ),
    "this very process did the step before, on the same keys, and remembers the epoch": (
        "CONNECT_EXPORT confirms GRANT VOLUME RECORD",
        "UNEXPORT confirms GRANT VOLUME RECORD",
        "FORGET commits GRANT CONNECTION",
    ),
    "compared before the call; nobody else writes it while the call is on its way, but by hand": (
        "CONNECT_EXPORT commits GRANT VOLUME RECORD CONNECTION",
        "CONNECT commits CLAIM ATTACHMENT CONNECTION",
        "EXTEND_DEVICE commits CLAIM ATTACHMENT CONNECTION",
        "CREATE commits GRANT VOLUME RECORD",
        "EXTEND commits GRANT VOLUME RECORD",
        "DELETE commits GRANT VOLUME RECORD",
    ),
    "what this records, the driver's own data, is not in the model": (
        "EXPORT commits GRANT VOLUME RECORD CONNECTION",
        "TERMINATE commits GRANT VOLUME RECORD",
        "UNEXPORT commits GRANT VOLUME RECORD",
    ),
    "spares work in vain: what comes of it is undone, or done once more": (
        "EXPORT confirms DESIRED_ATTACHMENT DESIRED_NODE",
        "CONNECT_EXPORT confirms DESIRED_ATTACHMENT DESIRED_NODE",
        "CLAIM commits DESIRED_ATTACHMENT DESIRED_NODE",
        "CONNECT confirms DESIRED_ATTACHMENT DESIRED_NODE",
        "WITHDRAW commits DESIRED_ATTACHMENT DESIRED_NODE CLAIM ATTACHMENT CONNECTION",
        "CREATE confirms GRANT VOLUME RECORD",
        "INTEND_CREATE commits DESIRED_VOLUME",
        "INTEND_EXTEND commits DESIRED_VOLUME",
        "UPDATE_VOLUME commits DESIRED_VOLUME",
    ),
    "fences are never taken back, so an outdated picture of one only lacks it": (
        "REVOKE commits FENCE FENCED",
        "RELEASE commits FENCE",
        "GRANT commits FENCED",
    ),
    "a fenced boot may be cut off, and cutting it off works in the model": (
        "CLAIM commits FENCE",
        "CONNECT confirms FENCE CONNECTION",
    ),
    "a device that is here already stays of its epoch; no disconnect of it begins while the call is on its way": (
        "ADD_PATHS confirms DESIRED_ATTACHMENT DESIRED_NODE CLAIM ATTACHMENT CONNECTION FENCE",
    ),
    "a device that looks at its size stays what it is; where it is gone nothing comes of it": (
        "EXTEND_DEVICE confirms DESIRED_ATTACHMENT DESIRED_NODE CLAIM ATTACHMENT CONNECTION FENCE",
    ),
    "what this records, the number of paths, is not in the model": ("ADD_PATHS commits ATTACHMENT",),
    "the claim, which is compared, goes before the status changes": ("CONNECT confirms ATTACHMENT",),
    "what a device has not written yet, which a flush would write, is not in the model; tests/sim has it": (
        "DISCONNECT confirms FENCE",
    ),
}
"""Why -> step, `confirms` or `commits`, and the keys that can be left out one at a time without anything going wrong."""

CAUGHT = (
    "CLAIM commits CONNECTION",
    "CONNECT confirms CLAIM",
    "DELETE confirms RECORD",
    "DISCONNECT confirms ATTACHMENT CLAIM CONNECTION DESIRED_ATTACHMENT DESIRED_NODE",
    "EXPORT confirms GRANT",
    "EXTEND confirms RECORD",
    "FORGET commits RECORD VOLUME",
    "GRANT commits DESIRED_ATTACHMENT DESIRED_NODE DESIRED_VOLUME FENCE NODE",
    "INTEND_DELETE commits DESIRED_VOLUME RECORD",
    "INTEND_EXTEND commits RECORD",
    "RELEASE commits CLAIM CONNECTION DESIRED_ATTACHMENT DESIRED_NODE",
    "RESTORE_HOLDERS commits GRANT VOLUME",
    "REVOKE commits ATTACHMENT CONNECTION DESIRED_ATTACHMENT DESIRED_NODE NODE VOLUME",
    "UPDATE_VOLUME commits RECORD VOLUME",
)
"""Keys each of which something goes wrong without. A key that no planner names any more is missed here."""

TOGETHER = (
    "GRANT commits RECORD GRANT VOLUME",
    "REVOKE commits GRANT VOLUME",
    "REVOKE commits CLAIM ATTACHMENT",
    "EXPORT confirms RECORD GRANT VOLUME",
    "TERMINATE confirms GRANT VOLUME",
    "INTEND_CREATE commits RECORD GRANT VOLUME",
    "INTEND_DELETE commits RECORD GRANT VOLUME",
    "EXTEND confirms RECORD GRANT VOLUME",
    "DELETE confirms RECORD GRANT VOLUME",
    "CLAIM commits CLAIM ATTACHMENT CONNECTION",
    "REPORT commits CLAIM ATTACHMENT CONNECTION",
)
"""Keys that can be left out singly, but not all at once."""


def one_key(start: str = "idle", nodes: int = 2, sizes: tuple[int, ...] = (1,), **budget: int) -> Load:
    return Load(Budget(stale=1, **budget), start, lag="one", crashes=False, skips=True, nodes=nodes, sizes=sizes)


LOADS = (
    one_key("attached", wishes=1, paths=1),
    one_key("attached", partitions=1, fences=1, paths=1),
    one_key("attached", wishes=2),
    one_key("attached", partitions=1, fences=1),
    one_key("republishing", wishes=1, deletions=1),
    one_key("declined", deletions=2),
    one_key(wishes=1, cordons=1),
    one_key("attached", drains=2),
    one_key("without volume", nodes=1, specs=2, sizes=(1, 2)),
    one_key("without volume", nodes=1, specs=3),
    one_key("without volume", nodes=1, specs=2, wishes=1),
    one_key("attached", nodes=1, specs=1, wishes=1, sizes=(1, 2)),
    replace(one_key("attached", nodes=1, specs=1, wishes=1, sizes=(1, 2)), online=True),
)

Left = tuple[str, str, str]
"""Step, `confirms` or `commits`, keys: what was left out."""


def left_out(step: int, where: str, keys: int) -> Left:
    return STEPS[step].name, where, " ".join(family.name for family in families(keys))


def search(loads: Iterable[Load]) -> tuple[dict[Left, str], set[Left]]:
    """What was caught, and how; and every single key that any step names."""
    caught: dict[Left, str] = {}
    named: set[Left] = set()
    for load in loads:
        run = Search(load)
        report = run.run()
        for check, places in run.broken.items():
            for skipped in {run.states[place].skipped for place in places}:
                assert skipped or check == checks.ENDLESS, report.traces[check]
                if skipped:
                    caught.setdefault(left_out(*skipped), check)
        named |= {left_out(*key) for key in run.world.planners.compared()}
    return caught, named


def singly(lines: Iterable[str]) -> set[Left]:
    """One key at a time."""
    return {(step, where, key) for step, where, *keys in map(str.split, lines) for key in keys}


@pytest.mark.slow
def test_every_compare_is_needed_or_known_not_to_be() -> None:
    """Each key left out is caught by a check, or is in the list of those that guard nothing alone."""
    caught, named = search(LOADS)
    reasons = {left: reason for reason, lines in NOT_CAUGHT.items() for left in singly(lines)}
    for row in sorted(named | caught.keys()):
        print(f"{' '.join(row):60} {caught.get(row) or 'not caught: ' + reasons.get(row, 'no reason known')}")
    assert named - caught.keys() == reasons.keys()
    assert named & caught.keys() == singly(CAUGHT)
    missed = [line for line in TOGETHER if tuple(line.split(maxsplit=2)) not in caught]
    assert not missed
