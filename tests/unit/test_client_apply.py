"""`brickctl apply`: manifests to wishes (A1, A2)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.runtime.ports import Put
from schema.keys import Family
from tests.fakes.store import Fault
from tests.unit.client_world import KEYS, World

MANIFEST = """\
kind: Volume
name: data
spec: {backend: lvm, size_gib: 10}
---
kind: Attachment
node: web-1
volume: data
spec: {mode: rw}
"""

VOLUME = "kind: Volume\nname: a\nspec:\n  backend: lvm\n  size_gib: {}\n"
IMPORT = "kind: Volume\nname: a\nspec:\n  backend: lvm\n  import:\n    id: {}\n"


def test_apply_stores_what_was_said() -> None:
    """The stored value is the user's own words, with the schema and without defaults."""
    world = World()
    assert world.ok("apply", "-f", "-", stdin=MANIFEST) == "volume/data created\nattachment/web-1/data created\n"
    assert world.value(Family.DESIRED_VOLUME, "data") == b'{"schema":1,"backend":"lvm","size_gib":10}'
    assert world.value(Family.DESIRED_ATTACHMENT, "web-1", "data") == b'{"schema":1,"mode":"rw"}'
    assert world.etcd.writes == 1


def test_apply_again_writes_nothing() -> None:
    """What is so already, however it was spelt, is unchanged; a difference is configured."""
    world = World()
    world.volume(spec=b'{"size_gib": 10, "on_delete": "retain", "backend": "lvm"}')
    world.wish(spec=b"{}")
    before = world.etcd.revision
    assert world.ok("apply", "-f", "-", stdin=MANIFEST) == "volume/data unchanged\nattachment/web-1/data unchanged\n"
    assert world.etcd.revision == before
    changed = MANIFEST.replace("10", "20")
    assert "volume/data configured\n" in world.ok("apply", "-f", "-", stdin=changed)


def test_etcdctl_and_apply_come_to_the_same_spec() -> None:
    """A1: one normalised spec and one hash, whoever wrote it."""
    by_hand, applied = World(), World()
    by_hand.volume(spec=b'{"on_delete":"retain","size_gib":10,"backend":"lvm"}')
    applied.ok("apply", "-f", "-", stdin=MANIFEST)
    paths = "jsonpath=$.spec", "jsonpath=$.status.spec_hash"
    for path in paths:
        assert by_hand.ok("get", "volume", "data", "-o", path) == applied.ok("get", "volume", "data", "-o", path)


@pytest.mark.parametrize(("written", "stored"), [("010", b"10"), ("08", b"8"), ("12", b"12")])
def test_a_size_is_decimal(written: str, stored: bytes) -> None:
    """F-B3: YAML 1.2, where a leading zero makes no octal number."""
    world = World()
    world.ok("apply", "-f", "-", stdin=VOLUME.format(written))
    assert world.value(Family.DESIRED_VOLUME, "a") == b'{"schema":1,"backend":"lvm","size_gib":%s}' % stored


def test_references_go_on_as_they_were_written() -> None:
    """F-B3: words and times that YAML 1.1 took for something else are text; numbers of one spelling stay numbers."""
    world = World()
    for written, stored in (("no", '"no"'), ("12:30:45", '"12:30:45"'), ("'0123456'", '"0123456"'), ("77", "77")):
        world.ok("apply", "-f", "-", stdin=IMPORT.format(written))
        assert f'"import":{{"id":{stored}}}' in (world.value(Family.DESIRED_VOLUME, "a") or b"").decode()


def test_a_manifest_that_is_not_utf8_is_told_with_its_line(tmp_path: Path) -> None:
    """F-C15: file, line and remedy, from a file and from stdin."""
    data = MANIFEST.encode() + b"---\n# caf\xe9\n"
    (tmp_path / "a.yaml").write_bytes(data)
    world = World()
    for result in (world.run("apply", "-f", str(tmp_path)), world.run("apply", "-f", "-", stdin=data)):
        assert result.exit_code == 2
        assert "line 10: not UTF-8 (byte 0xe9); save it as UTF-8, for instance: iconv" in result.stderr
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbf" + MANIFEST.encode())
    assert world.ok("apply", "-f", str(tmp_path)).count("created") == 2


def test_nothing_of_a_folder_is_skipped_in_silence(tmp_path: Path) -> None:
    """F-C15: suffixes in capitals count; folders in it are told."""
    (tmp_path / "A.YAML").write_text(MANIFEST)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.Yml").write_text(MANIFEST)
    result = World().run("apply", "-f", str(tmp_path))
    assert (result.exit_code, result.stdout.count("created")) == (0, 2)
    assert f"note: {tmp_path / 'more'} is not read" in result.stderr


def test_what_get_prints_may_be_applied() -> None:
    """`get -o yaml | apply` and `get -o json | apply` change nothing."""
    world = World()
    world.attached()
    world.put(Family.DESIRED_NODE, ("web-1",), b'{"cordons": {"ann": "new disk"}}')
    for kind in ("volumes", "attachments", "nodes"):
        for form in ("yaml", "json"):
            printed = world.ok("get", kind, "-o", form)
            assert "unchanged" in world.ok("apply", "-f", "-", stdin=printed)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("kind: Volum\nname: a", ["document 1, line 1: kind: 'Volum' is no kind; did you mean Volume?"]),
        ("name: a", ["kind: is missing; write one of Volume, Attachment, Node"]),
        ("kind: Backend\nname: lvm", ["backends are defined in the controller's settings"]),
        ("- 7", ["must be a mapping"]),
        (
            "kind: Volume\nname: a\nspec:\n  backend: lvm\n  size_gb: 10\n",
            [
                "line 5: spec.size_gb: unknown field; did you mean size_gib? (known: backend, import, on_delete, size_gib)"
            ],
        ),
        ("kind: Volume\nname: a\nspec:\n  backend: lvm\n", ["line 3: spec: size_gib is needed, unless"]),
        ("kind: Volume\nname: a\nspec:\n  backend: lvm\n  size_gib: ten\n", ["line 5: spec.size_gib: must be"]),
        ("kind: Volume\nname: a", ["spec: is missing"]),
        ("kind: Volume\nname: a\nspec: 7", ["line 3: spec: must be a mapping"]),
        ("kind: Volume\nname: 12\nspec: {backend: lvm, size_gib: 1}", ["line 2: name: must be text: write name: '12'"]),
        ("kind: Attachment\nnode: a/b\nvolume: v", ["line 2: node: 'a/b': use letters, digits"]),
        ("kind: Attachment\nnode: a\nvolume: v\nmode: rw", ["line 4: mode: belongs into the spec: write spec: {mode"]),
        (
            "kind: Attachment\nnode: a\nvolum: v",
            ["line 3: volum: unknown field; did you mean volume?", "volume: is missing"],
        ),
        (
            "kind: Attachment\nnode: a\nvolume: v\nspec: {mode: rw, mode: ro}",
            ["line 4, column 18", "'mode' appears twice"],
        ),
        ("kind: Attachment\nnode: a\nvolume: v\n---\nkind: [", ["document 2, line 5"]),
        (
            '{"kind": "Volume",\n "name": "a",\n "spec": {"backend": "lvm", "size_gib": "1"}}',
            ["document 1, line 3: spec.size_gib"],
        ),
        ('{"kind": "Volume", "kind": "Node", "name": "a"}', ["'kind' appears twice"]),
        (
            "kind: Volume\nname: a\nspec: {backend: lvm, import: {made: 2026-11-23}}",
            ["line 3: spec.import.made: 2026-11-23 is a date or time to YAML: quote it: '2026-11-23'"],
        ),
        (
            "kind: Volume\nname: a\nspec: {backend: lvm, import: {size: .nan}}",
            ["line 3: spec: holds something that is no JSON"],
        ),
        (f"kind: Attachment\nnode: a\nvolume: v\nspec: {{labels: {{a: {'x' * 33_000}}}}}", ["spec: needs 33,"]),
        (
            VOLUME.format("1_000"),
            ["line 5: spec.size_gib: 1_000 is no plain decimal number (it would be read as 1000)"],
        ),
        (VOLUME.format("0x10"), ["line 5: spec.size_gib: 0x10 is no plain decimal number"]),
        (VOLUME.format('"10"'), ["line 5: spec.size_gib: must be a valid integer; write 10, without quotes and unit"]),
        (VOLUME.format("10G"), ["line 5: spec.size_gib: must be a valid integer; write 10, without quotes and unit"]),
        (
            VOLUME.format("2TiB"),
            ["line 5: spec.size_gib: must be a valid integer; write 2048, without quotes and unit"],
        ),
        (
            "kind: Volume\nname: 010\nspec: {backend: lvm, size_gib: 1}",
            ["line 2: name: must be text: write name: '010'"],
        ),
        (IMPORT.format("0123456"), ["line 6: spec.import.id: 0123456 would become 123456: quote it: '0123456'"]),
        (IMPORT.format("1e3"), ["line 6: spec.import.id: 1e3 would become 1000.0: quote it: '1e3'"]),
        (IMPORT.format("2026-11-23"), ["line 6: spec.import.id: 2026-11-23 is a date or time to YAML: quote it"]),
        (
            "kind: Attachment\nnode: a\nvolume: v\nspec:\n  labels:\n    app: 010\n    on: true\n",
            [
                "line 6: spec.labels.app: must be a valid string; quote it: '010'",
                "line 7: spec.labels.on: must be a valid string; quote it: 'true'",
            ],
        ),
        ("", ["no objects in -"]),
        (MANIFEST + "---\n" + MANIFEST, ["document 3, line 10: volume/data is in stdin: document 1, line 1 already"]),
    ],
)
def test_faults_are_told_with_place_and_remedy(text: str, faults: list[str]) -> None:
    """File, document, line and field; and nothing is written."""
    world = World()
    result = world.run("apply", "-f", "-", stdin=text)
    assert result.exit_code == 2
    for fault in faults:
        assert fault in result.stderr
    assert world.etcd.writes == 0


def test_one_bad_document_stops_all_and_every_fault_is_told() -> None:
    """Nothing is written when any document is bad; all faults come at once."""
    world = World()
    bad = MANIFEST + "---\nkind: Volume\nname: b\nspec: {backend: lvm, size: 1}\n---\nkind: Nod\n"
    result = world.run("apply", "-f", "-", stdin=bad)
    assert "document 3, line 12: spec.size: unknown field" in result.stderr
    assert "document 4, line 14: kind: 'Nod'" in result.stderr
    assert result.stderr.endswith("Nothing was written.\n")
    assert world.etcd.writes == 0


def test_towers_of_aliases_end() -> None:
    """YAML's aliases can be piled up to billions of nodes; they are looked at once each."""
    tower = "a0: &a0 {x: y}\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 25))
    result = World().run("apply", "-f", "-", stdin=tower)
    assert "kind: is missing" in result.stderr


def test_folders_and_files(tmp_path: Path) -> None:
    """A folder means its manifests; a file may hold YAML or JSON."""
    (tmp_path / "a.yaml").write_text(MANIFEST)
    (tmp_path / "b.json").write_text(
        json.dumps({"kind": "Node", "name": "web-1", "spec": {"cordons": {"ann": "disk"}}}, indent="\t")
    )
    (tmp_path / "README").write_text("not a manifest")
    world = World()
    assert world.ok("apply", "-f", str(tmp_path)).count("created") == 3
    (tmp_path / "empty").mkdir()
    assert "in this folder" in world.run("apply", "-f", str(tmp_path / "empty")).stderr
    assert "No such file" in world.run("apply", "-f", str(tmp_path / "none.yaml")).stderr


def test_hints_for_what_does_not_exist_yet() -> None:
    """An attachment may come first; a hint on stderr says what it will wait for."""
    world = World()
    result = world.run("apply", "-f", "-", stdin="kind: Attachment\nnode: web-1\nvolume: dta\n")
    assert result.exit_code == 0
    assert "hint: volume dta is not wished for yet" in result.stderr
    assert "hint: node web-1 has not published itself yet" in result.stderr
    world.node()
    world.volume("dta")
    assert world.run("apply", "-f", "-", stdin="kind: Attachment\nnode: web-1\nvolume: dta\n").stderr == ""


def test_a_change_by_somebody_else_is_a_conflict() -> None:
    """Written only if it is as it was read; else exit code 3, with the object's name, and nothing is written."""
    world = World()
    world.volume()
    world.store.fault = lambda name: _interfere(world, name)
    result = world.run("apply", "-f", "-", stdin=MANIFEST.replace("10", "30"))
    assert result.exit_code == 3
    assert "volume/data: changed by somebody else meanwhile; nothing was written" in result.stderr
    assert world.value(Family.DESIRED_ATTACHMENT, "web-1", "data") is None


def _interfere(world: World, name: str) -> Fault | None:
    if name == "txn" and world.store.calls["txn"] == 2:
        world.etcd.txn((), (Put(KEYS.path(Family.DESIRED_VOLUME, "data"), b'{"backend":"lvm","size_gib":11}'),))
    return None


def test_a_broken_wish_is_put_right_and_a_newer_one_left_alone() -> None:
    """apply repairs what a hand broke; what a newer Brickwork wrote it does not touch (A56)."""
    world = World()
    world.volume(spec=b"{broken")
    world.wish(spec=b'{"schema": 2, "mode": "rw"}')
    result = world.run("apply", "-f", "-", stdin=MANIFEST)
    assert result.exit_code == 3
    assert "attachment/web-1/data: $.schema: version 2 is newer" in result.stderr
    world.delete(Family.DESIRED_ATTACHMENT, "web-1", "data")
    assert "volume/data configured\n" in world.ok("apply", "-f", "-", stdin=MANIFEST)


def test_an_unknown_outcome_says_to_run_it_again() -> None:
    """The answer got lost: exit code 6, and the same command finds out."""
    world = World()
    world.store.faults.append(Fault.LOST_REPLY)
    result = world.run("apply", "-f", "-", stdin=MANIFEST)
    assert result.exit_code == 6
    assert "may or may not have been written: run the same command again" in result.stderr
    assert world.ok("apply", "-f", "-", stdin=MANIFEST).count("unchanged") == 2


def test_very_many_objects_are_written_in_batches() -> None:
    """etcd takes 128 operations in a transaction."""
    world = World()
    documents = [{"kind": "Volume", "name": f"v{n}", "spec": {"backend": "lvm", "size_gib": 1}} for n in range(250)]
    assert world.ok("apply", "-f", "-", stdin=json.dumps(documents)).count("created") == 250
    assert world.etcd.writes == 5, "each with the absence of a confirmed deletion"


def test_hints_for_what_will_be_refused() -> None:
    """F-C7: an unknown backend, another one, a smaller size, another mode: stored all the same, and told."""
    world = World()
    world.attached()
    world.backend("nvme")

    def told(text: str) -> str:
        result = world.run("apply", "-f", "-", stdin=text)
        assert result.exit_code == 0
        return result.stderr

    volume = "kind: Volume\nname: {}\nspec: {{backend: {}, size_gib: {}}}\n"
    assert told(volume.format("data", "lvm", 10)) == told(volume.format("data", "lvm", 20)) == ""
    assert told(volume.format("new", "lvn", 1)) == "hint: no controller has told of backend lvn; did you mean lvm?\n"
    assert "backend files (there are: lvm, nvme)" in told(volume.format("new", "files", 1))
    assert "volume data is on backend lvm and does not move" in told(volume.format("data", "nvme", 10))
    assert "volume data has 10 GiB and does not shrink" in told(volume.format("data", "lvm", 5))
    ro = "kind: Attachment\nnode: web-1\nvolume: data\nspec: {mode: ro}\n"
    assert "hint: web-1/data is attached as rw and stays so; for ro detach it" in told(ro)
    typo = told("kind: Attachment\nnode: web1\nvolume: dta\n")
    assert "Or did you mean web-1?" in typo
    assert "Or did you mean data?" in typo
    assert "Or did you mean web-1?" in world.run("cordon", "web1").stderr
