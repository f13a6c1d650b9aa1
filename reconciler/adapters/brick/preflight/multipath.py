"""Multipath: whether multipathd does what the settings ask for, and nothing that nobody asked for.

Read is what the administrator wrote, not what multipathd made of it: its built-in table of arrays queues on some of them, which is
their vendors' choice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from reconciler.adapters.brick.preflight.case import (
    SCSI,
    Answer,
    Case,
    Check,
    Fault,
    Host,
    Severity,
    Unknown,
    missing_programs,
)

FILE = "/etc/multipath.conf"
FOLDER = "/etc/multipath/conf.d"

_LINE = re.compile(r'^\s*([\w]+)\s*(?:"([^"]*)"|([^\s"{]+))?\s*(\{)?\s*$')
_APPLY = "multipathd reconfigure"
_SAMPLE_DISK = "sdzz"
"""Named as an attached volume may be and as no disk of the host's own is."""

Section = tuple[str, dict[str, list[str]]]
"""Its name with the outer ones before it (`devices.device`), its options."""


def sections(text: str) -> Iterator[Section]:
    """What a multipath.conf says. The format has one option or brace to a line (multipath.conf(5))."""
    stack: list[Section] = []
    for line in text.splitlines():
        plain = re.sub(r"(^|\s)[#!].*$", "", line).strip()
        if plain == "}":
            if stack:
                yield stack.pop()
        elif found := _LINE.match(plain):
            name, quoted, bare, opens = found.groups()
            if opens:
                outer = f"{stack[-1][0]}." if stack else ""
                stack.append((outer + name, {}))
            elif stack:
                stack[-1][1].setdefault(name, []).append(quoted if quoted is not None else bare or "")
    yield from reversed(stack)


def _written(host: Host) -> list[Section]:
    files = [FILE, *(f"{FOLDER}/{name}" for name in host.names(FOLDER) if name.endswith(".conf"))]
    return [section for file in files for section in sections(host.text(file) or "")]


def _values(host: Host, option: str, *where: str) -> list[str]:
    return [value for name, options in _written(host) if name in where for value in options.get(option, ())]


def _answers(case: Case) -> bool | Unknown:
    """As os-brick asks it."""
    ran = case.host.run("multipathd", "show", "status")
    if ran is not None and ran.code == 0 and not ran.out.startswith("error receiving packet"):
        return True
    return False if case.host.user == 0 else Unknown("only root may ask multipathd")


_installed = missing_programs(
    {"multipathd": "multipath-tools", "multipath": "multipath-tools"}, "; the settings ask for multipath"
)


def _tools(case: Case) -> Answer:
    return _installed(case) if case.settings.multipath else None


def _runs(case: Case) -> Answer:
    if not case.settings.multipath or not case.host.has("multipathd"):
        return None
    answers = _answers(case)
    if isinstance(answers, Unknown):
        return answers
    if answers:
        return None
    missing = (
        ""
        if case.host.text(FILE) is not None
        else f"; there is no {FILE}, without which some distributions do not start it"
    )
    return Fault(
        f"the settings ask for multipath, but multipathd does not answer{missing}",
        ("systemctl enable --now multipathd", f"with no {FILE}: write one, docs/DOCTOR.md has it"),
    )


def _blacklist(case: Case) -> Answer:
    if not case.settings.multipath:
        return None
    for kind in ("devnode", "wwid"):
        patterns = [each for each in _values(case.host, kind, "blacklist") if _matches(each, kind)]
        if patterns and not _values(case.host, kind, "blacklist_exceptions"):
            return Fault(
                f'the settings ask for multipath, but {kind} "{patterns[0]}" in the blacklist keeps it from every SCSI disk',
                (f"blacklist the host's own disks only, by wwid, in {FILE}", _APPLY),
            )
    return None


def _matches(pattern: str, kind: str) -> bool:
    """Whether the pattern meets a disk that is not there yet. A lone star is taken for "everything", as in old examples."""
    if pattern in ("*", ".*", "^.*", ".*$", "^.*$"):
        return True
    try:
        return kind == "devnode" and not pattern.startswith("!") and bool(re.search(pattern, _SAMPLE_DISK))
    except re.error:
        return False


def _queues(case: Case) -> Answer:
    if not case.settings.multipath:
        return None
    for name, options in _written(case.host):
        retry = options.get("no_path_retry", [""])[-1]
        features = " ".join(options.get("features", ()))
        if retry == "queue" or (not retry and "queue_if_no_path" in features):
            return Fault(
                f"section {name} of the configuration queues for ever when all paths are lost: whoever uses the volume hangs, "
                "and so does every program that looks at disks",
                ("write no_path_retry 12 there (a minute, with the usual interval of 5 s), or fail", _APPLY),
            )
    return None


def _partitions(case: Case) -> Answer:
    if not case.settings.multipath or not case.host.has("kpartx"):
        return None
    if "yes" in _values(case.host, "skip_kpartx", "defaults", "overrides"):
        return None
    return Fault(
        "kpartx maps the partitions inside of attached volumes, and those maps keep the volumes in use: detaching waits",
        (f"write skip_kpartx yes into the section defaults of {FILE}", _APPLY),
    )


def _unasked(case: Case) -> Answer:
    if case.settings.multipath or not case.host.has("multipathd") or _answers(case) is not True:
        return None
    eager = [value for value in _values(case.host, "find_multipaths", "defaults") if value in ("no", "off", "greedy")]
    if not eager or any(_matches(each, "devnode") for each in _values(case.host, "devnode", "blacklist")):
        return None
    return Fault(
        f"multipathd takes every SCSI disk (find_multipaths {eager[-1]}), but the node's settings do not ask for multipath: "
        "it grabs attached volumes, which are in use from then on",
        ("set multipath: true in the node's settings and restart brickwork-node, once nothing is attached",
         f"or set find_multipaths strict in {FILE}; {_APPLY}"),
    )  # fmt: skip


CHECKS = (
    Check("multipath-tools", Severity.ERROR, "multipath-tools is installed where it is asked for", _tools, SCSI),
    Check("multipathd", Severity.ERROR, "multipathd answers where it is asked for", _runs, SCSI),
    Check(
        "multipath-blacklist", Severity.ERROR, "the blacklist leaves attached volumes to multipathd", _blacklist, SCSI
    ),
    Check("multipath-queue", Severity.WARNING, "lost paths end in an error, not in a queue for ever", _queues, SCSI),
    Check("multipath-partitions", Severity.WARNING, "nobody maps partitions inside of volumes", _partitions, SCSI),
    Check("multipath-unasked", Severity.WARNING, "multipathd takes nothing that it was not asked to", _unasked, SCSI),
)
