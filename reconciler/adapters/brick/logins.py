"""Whether the host logs in to iSCSI targets by itself at boot: `node.startup` in open-iscsi's records.

What we log in to is never logged in to by the host (PROTOCOL R11): a device that no grant explains could write. os-brick, when it
connects, says the opposite in the records that it makes or finds, and so does everybody who uses the same target. What was there
before us is not ours to change: the host itself may live on that target. So before the first login to a target the records that it
has are noted, durably: after a crash, os-brick's could not be told from the host's.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from reconciler.adapters.brick import connection
from reconciler.runtime.ports import Retryable

RECORDS = (Path("/etc/iscsi/nodes"), Path("/var/lib/iscsi/nodes"))
"""Where open-iscsi keeps what it knows of targets: Debian's place until 12, and that of others."""
MANUAL, AUTOMATIC = "manual", "automatic"
_BY_ITSELF = {AUTOMATIC, "onboot"}
_STARTUP = re.compile(r"^node\.startup\s*=\s*(\S+)", re.MULTILINE)


class Startup(NamedTuple):
    """What a record should say."""

    iqn: str
    portal: str
    """As iscsiadm takes it: `10.0.0.1:3260`."""
    value: str


class Logins:
    """The host's own logins.

    Args:
        folder: where is noted what was there before us.
        records: where open-iscsi's records are.
    """

    def __init__(self, folder: Path, records: tuple[Path, ...] = RECORDS) -> None:
        self._folder = folder
        self._records = records
        self._lock = threading.Lock()
        """Many volumes of one array share one target, and are connected side by side."""
        self._under_way: Counter[str] = Counter()

    @contextlib.contextmanager
    def login(self, iqns: Iterable[str]) -> Iterator[None]:
        """Around a login and the mending of its records. Another volume's last logout leaves the note alone meanwhile: whoever came
        then would take the records that this login makes for the host's."""
        named = set(iqns)
        with self._lock:
            self._under_way.update(named)
        try:
            self.before(named)
            yield
        finally:
            with self._lock:
                self._under_way.subtract(named)

    def before(self, iqns: Iterable[str]) -> None:
        """Note what the records of these targets say, before a login changes them. Raises Retryable when that can't be kept."""
        for iqn in set(iqns):
            with self._lock:
                now = self._startups(iqn)
                noted = self._theirs(iqn)
                theirs = now if noted is None else noted
                try:
                    self._note(iqn, {portal: value for portal, value in theirs.items() if portal in now})
                except OSError as error:
                    raise Retryable(f"{self._folder} can't be written: {error.strerror}") from error

    def _note(self, iqn: str, theirs: Mapping[str, str]) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._file(iqn).with_suffix(".new")
        with fresh.open("w") as file:
            json.dump(theirs, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._file(iqn))

    def after(self, iqns: Iterable[str]) -> Iterator[Startup]:
        """The records that do not say what they should: as before for the host's own, and manual for ours."""
        for iqn in sorted(set(iqns)):
            theirs = self._theirs(iqn) or {}
            for portal, value in self._startups(iqn).items():
                if value != (wanted := theirs.get(portal, MANUAL)):
                    yield Startup(iqn, portal, wanted)

    def left(self, iqns: Iterable[str]) -> None:
        """os-brick removes our records with the last logout: what comes after that is the host's own again."""
        for iqn in set(iqns):
            with self._lock:
                theirs = self._theirs(iqn) or {}
                ours = {portal for portal, value in self._startups(iqn).items() if theirs.get(portal) != value}
                if not ours and not self._under_way[iqn]:
                    self._file(iqn).unlink(missing_ok=True)

    def own(self, iqns: Iterable[str]) -> set[tuple[str, str]]:
        """Portal and target of each login that the host makes for itself: that session is not ours to end."""
        noted = ((iqn, portal, value) for iqn in set(iqns) for portal, value in (self._theirs(iqn) or {}).items())
        return {(connection.portal(portal) or portal, iqn) for iqn, portal, value in noted if value in _BY_ITSELF}

    def targets(self) -> set[str]:
        """All that the host has records of."""
        return {entry.name for folder in self._records for entry in _entries(folder)}

    def _theirs(self, iqn: str) -> dict[str, str] | None:
        """None: nothing is noted. A note that can't be read tells of none: a login that is one too few at boot harms least."""
        try:
            noted = json.loads(self._file(iqn).read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return {}
        return {str(portal): str(value) for portal, value in noted.items()} if isinstance(noted, dict) else {}

    def _startups(self, iqn: str) -> dict[str, str]:
        return dict(startups(iqn, self._records))

    def _file(self, iqn: str) -> Path:
        return self._folder / f"{quote(iqn, safe='')}.json"


def startups(iqn: str, records: tuple[Path, ...] = RECORDS) -> Iterator[tuple[str, str]]:
    """Each portal that the host knows of a target, and what `node.startup` says there."""
    for folder in records:
        for place in _entries(folder / iqn):
            for file in (
                place,
                *_entries(place),
            ):  # one for each interface; in old releases the portal's entry is the file
                if (found := _STARTUP.search(_text(file))) is not None:
                    yield _portal(place.name), found[1]


def automatic(iqns: Iterable[str], records: tuple[Path, ...] = RECORDS) -> list[str]:
    """Those targets that the host logs in to by itself at boot."""
    return [iqn for iqn in sorted(set(iqns)) if AUTOMATIC in dict(startups(iqn, records)).values()]


def of(data: Mapping[str, Any]) -> list[str]:
    """The targets that an iSCSI connection names."""
    return list(data.get("target_iqns") or filter(None, [data.get("target_iqn")]))


def _portal(entry: str) -> str:
    """`10.0.0.1,3260,1` or `fd00::1,3260,1`, as the folders are called."""
    address, _, rest = entry.partition(",")
    port = rest.partition(",")[0] or "3260"
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
