"""Whether a backend's storage is still the one that its volumes are on (F-D6). Pure.

A backend's settings name a volume group, a folder, an address: what is behind that may be another on another host, after a
restore, or when a share is not mounted. So what is behind it has a *mark*: one id, or several where a backend has several shares.
"""

from __future__ import annotations

from collections.abc import Iterable


def mark_of(ids: Iterable[str]) -> str:
    """One text for all of them; empty: the storage has no mark."""
    return ",".join(sorted(set(ids)))


def covers(found: str, noted: str) -> bool:
    """Whether all storage that was noted is there. More may have come."""
    return _ids(noted) <= _ids(found)


def difference(noted: str, found: str, recorded: int, *, volumes_seen: bool = True) -> str:
    """Why this is not the storage of the recorded volumes; empty: it is, or there are none, so that nothing can be lost.

    Args:
        volumes_seen: whether any of them was found there, where nothing was noted yet and that can be told.
    """
    if not recorded:
        return ""
    if not covers(found, noted):
        here = (
            f"this controller's storage is {found}"
            if found
            else "this controller's storage has no mark that it is known by"
        )
        what = f"{here}, and {_volumes(recorded)} on {noted}"
    elif not noted and not volumes_seen:
        what = (
            f"{_volumes(recorded)} on it, but this controller's storage ({found or 'without a mark'}) has none of them"
        )
    else:
        return ""
    return (
        f"{what}: local storage of another host, a restored array, or a share that is not mounted? A controller that has the right "
        "storage takes over by itself. Nothing is done with this one before a person accepts it (brickctl accept)"
    )


def _volumes(recorded: int) -> str:
    return "1 volume is recorded" if recorded == 1 else f"{recorded:,} volumes are recorded"


def _ids(mark: str) -> frozenset[str]:
    return frozenset(filter(None, mark.split(",")))
