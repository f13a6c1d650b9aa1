"""What a connection may make root do on a node: nothing but what the node's settings and the protocol's grammar allow (F-K11)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.adapters.brick.conn_info import checked
from reconciler.adapters.brick.host import Host
from reconciler.adapters.brick.settings import ConnectorSettings
from reconciler.runtime.ports import PortError, Target, Terminal, Unsupported
from tests.examples import examples
from tests.unit.brick_host import FakeHost

CANARY = "c4nary"
EVERYTHING = ("iscsi", "iser", "fibre_channel", "nvmeof", "nvme", "rbd", "nfs", "glusterfs", "quobyte", "local", "gpfs")
GOOD: dict[str, dict[str, Any]] = {
    "iscsi": {
        "target_iqn": "iqn.2010-10.org.openstack:volume-1", "target_portal": "10.0.0.1:3260", "target_lun": 1,
        "target_iqns": ["iqn.2010-10.org.openstack:volume-1"] * 2, "target_portals": ["10.0.0.1:3260", "[fd00::1]:3260"],
        "target_luns": [1, 1], "auth_method": "CHAP", "auth_username": "u", "auth_password": "p'\"$(x)",
    },
    "fibre_channel": {"target_wwn": ["50060160a0b0c0d0"], "target_lun": 0, "target_luns": [0], "target_wwns": ["50060160A0B0C0D0"]},
    "nvmeof": {
        "target_nqn": "nqn.2014-08.org.nvmexpress:uuid:1-2", "portals": [["10.0.0.1", 4420, "tcp"]],
        "vol_uuid": "4cfa2f5e-0b2c-4ac1-9f5b-9c0e1f2a3b4c",
        "target_portal": "10.0.0.1", "target_port": "4420", "transport_type": "rdma",
    },
    "rbd": {
        "name": "volumes/volume-1", "hosts": ["10.0.0.1", "[fd00::1]", "mon-1"], "ports": ["6789", 6789], "cluster_name": "ceph",
        "auth_username": "cinder", "keyring": "[client.cinder]\n\tkey = AQ==\n", "auth_enabled": True, "secret_uuid": None,
    },
    "nfs": {"export": "nas-1.example:/export/a b", "name": "volume-1", "options": None},
    "glusterfs": {"export": "10.0.0.1:/vol1", "name": "volume-1"},
    "quobyte": {"export": "quobyte://registry:7861/vol", "name": "volume-1"},
}  # fmt: skip


def target(protocol: str, data: Any) -> Target:
    return Target("v", {"driver_volume_type": protocol, "data": data}, False, None, None)


def node(tmp_path: Path, **more: Any) -> ConnectorSettings:
    return ConnectorSettings(node="n", state_folder=tmp_path / "state", my_ip="10.0.0.9", **more)


@pytest.mark.parametrize("protocol", GOOD)
def test_what_drivers_give_is_taken(tmp_path: Path, protocol: str) -> None:
    assert checked(target(protocol, GOOD[protocol]), node(tmp_path)).volume == "v"


BAD: list[tuple[str, dict[str, Any] | None]] = [
    *[("iscsi", {"target_iqn": each}) for each in ("-T x", "iqn.x", "iqn.2010-10.a b", "iqn.2010-10.org:x\n-o", 5)],
    *[("iscsi", {"target_portal": each}) for each in ("10.0.0.1", "10.0.0.1:0", "10.0.0.1:99999", "-p:1", "a b:1", "10.0.0.1:1;x")],
    *[("iscsi", {"target_portals": each}) for each in ("10.0.0.1:1", ["x"], [None], {"a": 1})],
    *[("iscsi", {"target_lun": each}) for each in (-1, "x", "1 2", True, 1 << 70)],
    ("iscsi", {"auth_password": "two\nlines"}),
    ("iscsi", {"auth_method": "--login"}),
    ("fibre_channel", {"target_wwn": "../../x"}),
    ("fibre_channel", {"target_wwns": ["50060160a0b0c0d0", "x"]}),
    ("nvmeof", {"target_nqn": "nqn.2014-08.org x"}),
    ("nvmeof", {"portals": [["10.0.0.1", 4420]]}),
    ("nvmeof", {"portals": [["10.0.0.1", 4420, "--help"]]}),
    ("nvmeof", {"portals": [["-x", 4420, "tcp"]]}),
    *[("nvmeof", {"vol_uuid": each}) for each in ("a-b", 5, "0" * 31, ["x"])],
    ("nvmeof", {"vol_uuid": None, "target_nqn": None, "nqn": None}),
    ("nvmeof", {"ns_id": "x"}),
    ("nvmeof", {"vol_uuid": "../x"}),
    *[("rbd", {"name": each}) for each in ("image", "--pool/x", "a/b/c", "a/b/c/d", "pool/../x\n", "-p/x")],
    *[("rbd", {field: each}) for field in ("cluster_name", "auth_username") for each in ("../etc", "-c", "", None, "x\n[y]")],
    *[("rbd", {"keyring": each}) for each in ("", None, "\x00", 5, "[client.cinder]\n", "[client.x]\nkey = A==\n",
        "[client.cinder]\nkey = A\\\n", "[client.cinder]\nkey =\n[global]\nkey = A==", "[client.cinder]\nkey = A b",
        "[" + " " * 9000,
    )],
    *[("iscsi", {field: ["iqn.2010-10.org:x"] * 200}) for field in ("target_iqns", "target_portals")],
    ("iscsi", {"target_iqn": None, "target_iqns": None}),
    ("fibre_channel", {"target_wwn": None, "target_wwns": [], "target_luns": [1, 2]}),
    ("fibre_channel", {"target_wwns": ["5006016000000001"] * 1025}),
    *[("fibre_channel", {"initiator_target_map": each}) for each in (5, {"x": ["y"]}, {"50060160a0b0c0d0": "x"})],
    *[("rbd", {field: []}) for field in ("hosts", "ports")],
    ("rbd", {"hosts": ["10.0.0.1\nkeyring = /etc/ceph/admin"]}),
    ("rbd", {"ports": ["6789\nx"]}),
    *[("nfs", {"export": each}) for each in ("/etc", "-o:/x", "nas:etc", "nas:/a\n/b", "nas:/../../etc", "", None, "C:/x y\x07")],
    *[("nfs", {"name": each}) for each in ("../x", "a/b", "-rf", "", None, "a\nb", ".hidden", "..", "x\x1b")],
    *[("nfs", {"options": each}) for each in (
        "-o bind", "-o vers=4,bind", "-o suid", "-o vers=4 -o bind", "-o vers=4 nolock -o", "--bind",
        "-t ext4", "-o loop=/dev/x", "-o context=x",
        "-o exec", "-o vers=4;x", "-o vers=$(x)", ["-o", "bind"], "-o remount", "-o X-mount.mkdir", "-o x-systemd.automount",
        "vers=4", "-o vers=4,dev",
        "-o", "-o -o", "-o vers=4 x", "-o mountaddr=10.0.0.1", "-o v5.1", "-o vers=4, nolock",
        "-o uid=0", "-o helper=x", "-o rbind", "-o vers",
    )],
    ("glusterfs", {"export": "/etc"}),
    ("glusterfs", {"options": "-o log-file=/etc/passwd"}),
    ("quobyte", {"export": "/etc"}),
    *[(protocol, None) for protocol in GOOD],
]  # fmt: skip


@pytest.mark.parametrize(("protocol", "change"), BAD)
def test_what_breaks_the_grammar_is_refused_and_named(
    tmp_path: Path, protocol: str, change: dict[str, Any] | None
) -> None:
    data = GOOD[protocol] | change if change is not None else "text"
    if change == {"options": "-o vers"}:
        checked(target(protocol, data), node(tmp_path))  # a bare name of the list is the server's to judge
        return
    with pytest.raises(Unsupported) as told:
        checked(target(protocol, data), node(tmp_path))
    field = next(iter(change)) if change else "data"
    assert field.removesuffix("s") in str(told.value) or "target_nqn" in str(told.value)
    assert str(told.value).isprintable()


def test_a_bad_secret_is_not_shown(tmp_path: Path) -> None:
    for protocol, change in (("iscsi", {"auth_password": CANARY + "\n"}), ("rbd", {"keyring": CANARY + "\x00"})):
        with pytest.raises(Unsupported) as told:
            checked(target(protocol, GOOD[protocol] | change), node(tmp_path))
        assert CANARY not in str(told.value)


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "-o vers=4.1,rsize=1048576,hard",
        "-o nosuid,rw",
        "-o sec=krb5p,proto=tcp6",
        "-o sync,nofail",
        "-o defaults",
        "-o vers=4.1 -o nolock,hard",
        "-o nosuid,defaults",
    ],
)
def test_a_share_is_mounted_without_what_a_volume_does_not_need(tmp_path: Path, given: str | None) -> None:
    fit = checked(target("nfs", GOOD["nfs"] | {"options": given}), node(tmp_path))
    flag, options = fit.conn_info["data"]["options"].split()
    wanted = set((given or "").removeprefix("-o ").replace(" -o ", ",").split(",")) - {""}
    assert flag == "-o"
    assert set(options.split(",")) == wanted | {"nosuid", "nodev", "noexec"}
    assert options.endswith("nosuid,nodev,noexec"), "the last word of several holds"


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("-o v3,posix", "v3,posix"),
        ("-o v4.1,fsc,nosharetransport", "v4.1,fsc,nosharetransport"),
        ("-overs=4", "vers=4"),
        ("-o lazytime,norelatime,,strictatime,dirsync,", "lazytime,norelatime,strictatime,dirsync"),
        (" -o  hard -osoft ", "hard,soft"),
    ],
)
def test_options_are_taken_as_mount_takes_them(tmp_path: Path, given: str, taken: str) -> None:
    fit = checked(target("nfs", GOOD["nfs"] | {"options": given}), node(tmp_path))
    assert fit.conn_info["data"]["options"] == f"-o {taken},nosuid,nodev,noexec"


@pytest.mark.parametrize(
    "text",
    [
        "[client.cinder]\n\tkey = AQ+/==\n",
        '\ufeff[client.cinder] # ours\r\n\tkey = AQ+/== ; a comment\r\n\tauid = 0\r\n\tcaps mon = "profile rbd, allow \\"r\\""\r\n',
        "# für Cinder\n[client.admin]\nkey = B==\n[ client.cinder ]\nkey='AQ+/=='\ncaps osd = 'allow *'\n[global]\nkey = C==\n",
        "[client.cinder]\nkey = AQ+/==\nlog file = /etc/cron.d/x\nadmin socket = /x\nkeyring=/etc/x\n",
        "key = AQ+/==",
    ],
)
def test_of_a_keyring_only_the_users_key_goes_on(tmp_path: Path, text: str) -> None:
    """os-brick puts it into a ceph.conf. Drivers tell the file as it is, word for word."""
    fit = checked(target("rbd", GOOD["rbd"] | {"keyring": text}), node(tmp_path))
    assert fit.conn_info["data"]["keyring"] == "[client.cinder]\n\tkey = AQ+/==\n"


@pytest.mark.parametrize(
    ("protocol", "change", "told"),
    [
        ("iscsi", {"target_iqns": ["iqn.2010-10.org:x"] * 3}, {"target_iqns": ["iqn.2010-10.org:x"] * 2, "target_luns": [1, 1]}),
        ("iscsi", {"target_luns": [7]}, {"target_portals": ["10.0.0.1:3260"], "target_luns": [7]}),
        ("iscsi", {"target_portals": ["san_1:3260"]}, {"target_portals": ["san_1:3260"]}),
        ("fibre_channel", {"target_wwns": ["5006016000000001"] * 3, "target_luns": [1, 2]}, {"target_luns": [1, 2]}),
        ("fibre_channel", {"target_wwns": ["5006016000000001"] * 1024}, {"target_luns": [0] * 1024}),
        ("fibre_channel", {"enable_wildcard_scan": False}, {"enable_wildcard_scan": False}),
        ("nvmeof", {"portals": [["san_1", 4420, "tcp"]]}, {"portals": [["san_1", 4420, "tcp"]]}),
    ],
)  # fmt: skip
def test_what_drivers_tell_of_paths_is_read_as_os_brick_reads_it(
    tmp_path: Path, protocol: str, change: dict[str, Any], told: dict[str, Any]
) -> None:
    data = checked(target(protocol, GOOD[protocol] | change), node(tmp_path)).conn_info["data"]
    assert {field: data.get(field) for field in told} == told


def test_a_method_without_a_user_is_no_login(tmp_path: Path) -> None:
    given = {name: value for name, value in GOOD["iscsi"].items() if name != "auth_username"}
    assert not [name for name in checked(target("iscsi", given), node(tmp_path)).conn_info["data"] if "auth" in name]


def test_the_only_replica_of_a_volume_is_the_volume(tmp_path: Path) -> None:
    own = {
        "target_nqn": "nqn.2014-08.org:r",
        "vol_uuid": GOOD["nvmeof"]["vol_uuid"],
        "portals": [["10.0.0.2", 4420, "tcp"]],
    }
    given = {"vol_uuid": "4cfa2f5e-0b2c-4ac1-9f5b-000000000000", "alias": "x", "replica_count": 1, "access_mode": "rw"}
    fit = checked(target("nvmeof", given | {"volume_replicas": [own]}), node(tmp_path))
    assert fit.conn_info["data"] == own | {"access_mode": "rw"}
    for bad in (own | {"portals": "x"}, own | {"target_nqn": "nqn x"}, "x", {}):
        with pytest.raises(Unsupported):
            checked(target("nvmeof", given | {"volume_replicas": [bad]}), node(tmp_path))


def test_a_mount_does_not_go_on_in_the_background(tmp_path: Path) -> None:
    """It would land when the volume may be detached long since."""
    fit = checked(target("nfs", GOOD["nfs"] | {"options": "-o bg,hard"}), node(tmp_path))
    assert fit.conn_info["data"]["options"] == "-o hard,nosuid,nodev,noexec"


@pytest.mark.parametrize("protocol", ["local", "gpfs", "", "noop", "NFS ", "vmdk"])
def test_only_allowed_protocols_are_taken(tmp_path: Path, protocol: str) -> None:
    with pytest.raises(Unsupported, match=r"its settings allow protocols: iscsi, .*quobyte"):
        checked(target(protocol, {"device_path": "/etc/passwd"}), node(tmp_path))
    with pytest.raises(Unsupported, match="allow protocols: nfs"):
        checked(target("iscsi", GOOD["iscsi"]), node(tmp_path, protocols=("nfs",)))


def test_of_a_file_only_in_the_named_folders(tmp_path: Path) -> None:
    folder, other = tmp_path / "volumes", tmp_path / "volumes-2"
    for each in (folder, other):
        each.mkdir(mode=0o700)
        (each / "v.img").write_bytes(b"")
    (folder / "sub").mkdir(mode=0o700)
    (folder / "out").symlink_to(other / "v.img")
    (folder / "in").symlink_to(folder / "v.img")
    os.mkfifo(folder / "pipe")
    own = node(tmp_path, protocols=EVERYTHING, local_folders=(folder,))

    def refused(path: object, settings: ConnectorSettings = own) -> str:
        with pytest.raises(Unsupported) as told:
            checked(target("local", {"device_path": path}), settings)
        return str(told.value)

    checked(target("local", {"device_path": str(folder / "v.img")}), own)
    for path in ("/etc/passwd", f"{folder}/../volumes-2/v.img", str(other / "v.img"), "/dev/sda"):
        assert "local_folders" in refused(path)
    for link in ("out", "in"):
        assert "is a link" in refused(str(folder / link))
    for path in (str(folder / "pipe"), str(folder / "sub"), str(folder)):
        assert "is no plain file" in refused(path)
    for odd in ("v.img", "", None, 5, f"{folder}/v.img\n"):
        assert "absolute path" in refused(odd)
    assert "(none)" in refused(str(folder / "v.img"), node(tmp_path, protocols=("local",)))
    with pytest.raises(Terminal, match="does not exist"):
        checked(target("local", {"device_path": str(folder / "absent")}), own)
    folder.chmod(0o777)
    assert "everybody may write to it" in refused(str(folder / "v.img"))


def test_a_file_is_not_reached_through_a_link_that_could_lead_elsewhere_later(tmp_path: Path) -> None:
    """The folder of the settings may be a link itself: that one is an administrator's."""
    folder = tmp_path / "volumes"
    (folder / "sub").mkdir(mode=0o700, parents=True)
    folder.chmod(0o700)
    (folder / "sub" / "v.img").write_bytes(b"")
    (folder / "there").symlink_to(folder / "sub")
    (tmp_path / "named").symlink_to(folder)
    for named in (folder, tmp_path / "named"):
        own = node(tmp_path, protocols=EVERYTHING, local_folders=(named,))
        for good in (named, folder):
            checked(target("local", {"device_path": str(good / "sub" / "v.img")}), own)
        with pytest.raises(Unsupported, match="goes through a link"):
            checked(target("local", {"device_path": str(named / "there" / "v.img")}), own)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("whose", ["volumes", "volumes/a", "volumes/a/b"])
def test_no_folder_on_the_way_to_a_file_is_a_users(tmp_path: Path, whose: str) -> None:
    """Its owner could put another in its place after the look."""
    folder = tmp_path / "volumes" / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "v.img").write_bytes(b"")
    os.chown(tmp_path / whose, 12345, 12345)
    own = node(tmp_path, protocols=("local",), local_folders=(tmp_path / "volumes",))
    with pytest.raises(Unsupported, match="belongs to user 12345"):
        checked(target("local", {"device_path": str(folder / "v.img")}), own)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_no_volume(tmp_path: Path) -> None:
    (tmp_path / "v.img").write_bytes(b"")
    os.chown(tmp_path / "v.img", 12345, 12345)
    with pytest.raises(Unsupported, match="belongs to user 12345, not to root"):
        checked(
            target("local", {"device_path": str(tmp_path / "v.img")}),
            node(tmp_path, protocols=("local",), local_folders=(tmp_path,)),
        )


def test_a_host_touches_nothing_for_a_connection_that_it_refuses(tmp_path: Path) -> None:
    """Through the whole of it: no link folder, no mount, no call of os-brick."""

    class Untouched:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"os-brick's {name} was called")

    fake = FakeHost(tmp_path / "fake")
    host = Host(node(tmp_path, link_folder=tmp_path / "links"), fake.roots, Untouched())  # type: ignore[arg-type]
    bad: list[tuple[str, dict[str, Any]]] = [
        ("local", {"device_path": "/etc/passwd"}),
        ("nfs", GOOD["nfs"] | {"export": "/etc"}),
    ]
    bad += [
        (protocol, GOOD[protocol] | change)
        for protocol, change in BAD[::5]
        if change and change.get("options") != "-o vers"
    ]
    for protocol, data in bad:
        with pytest.raises(Unsupported):
            host.connect(target(protocol, data))
    assert not (tmp_path / "links").exists()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.data())
@examples(250)
def test_whatever_a_connection_holds_the_answer_is_one_of_ours(data: st.DataObject) -> None:
    protocol = data.draw(st.sampled_from(EVERYTHING))
    fields: dict[str, Any] = dict(GOOD.get(protocol, {"device_path": "/x"}))
    for name in data.draw(
        st.lists(st.sampled_from([*fields, "device_path", "portals", "volume_replicas"]), max_size=3)
    ):
        fields[name] = data.draw(anything)
    own = ConnectorSettings(
        node="n", state_folder=Path("/x"), my_ip="::1", protocols=EVERYTHING, local_folders=(Path("/nowhere"),)
    )
    try:
        fit = checked(target(protocol, fields), own)
    except PortError as error:
        told = str(error)
    else:
        told = ""
        assert "\n" not in str(fit.conn_info["data"].get("name", ""))
    assert told.isprintable()


def test_the_name_of_cinder_s_own_nvme_target_is_taken(tmp_path: Path) -> None:
    """It is made of `target_prefix`, which by default begins with `iqn.`."""
    given = GOOD["nvmeof"] | {"target_nqn": "nqn.iqn.2010-10.org.openstack:-4cfa2f5e-0b2c-4ac1-9f5b-9c0e1f2a3b4c"}
    assert checked(target("nvmeof", given), node(tmp_path)).volume == "v"
