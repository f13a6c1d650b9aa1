"""What os-brick's own connectors do when we end an attachment, on a host that exists only as files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.brick import connection
from reconciler.adapters.brick.host import Host
from reconciler.adapters.brick.library import OsBrick
from reconciler.adapters.brick.settings import ConnectorSettings
from reconciler.runtime.ports import Target
from tests.unit.brick_host import FakeHost
from tests.unit.test_brick_conn_info import GOOD, target

NQN = "nqn.2014-08.org.x:1"
NVME: dict[str, Any] = {
    "target_nqn": NQN,
    "portals": [["10.0.0.1", 4420, "tcp"]],
    "ns_id": "7",
    "host_nqn": f"{NQN}-host",
}


class Brick(OsBrick):
    """The real os-brick; the commands that it would run are written down, and answered by the fake host."""

    def __init__(self, settings: ConnectorSettings, fake: FakeHost) -> None:
        super().__init__(settings)
        self.fake = fake
        self.ran: list[str] = []

    def lacks_program(self, protocol: str) -> bool:
        return False

    def _connector(self, protocol: str, data: object, multipath: bool) -> Any:
        from os_brick.initiator.connectors import nvmeof, rbd

        if protocol == "rbd":
            return rbd.RBDConnector("", execute=self.run, do_local_attach=True)
        return nvmeof.NVMeOFConnector("", execute=self.run)

    def run(self, *command: str, **_: object) -> tuple[str, str]:
        self.ran.append(" ".join(command[:3]))
        folder = self.fake.roots.sys / "bus" / "rbd" / "devices"
        if command[:2] == ("rbd", "showmapped"):
            shown = [
                {
                    "name": (each / "name").read_text().strip(),
                    "device": str(self.fake.roots.dev / f"rbd{each.name}"),
                }
                for each in sorted(folder.iterdir())
            ]
            return json.dumps(shown), ""
        if command[:2] == ("rbd", "unmap"):
            name = Path(command[2]).name
            (self.fake.roots.block(name)).rename(self.fake.roots.sys / f"gone-{name}")
            Path(command[2]).unlink()
        return "", ""


@pytest.fixture
def fake(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


@pytest.fixture
def brick(fake: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Brick]:
    from os_brick.initiator.connectors import nvmeof
    from oslo_config import cfg

    monkeypatch.setattr(nvmeof, "NVME_CTRL_SYSFS_PATH", f"{tmp_path}/ctl/")
    cfg.CONF.set_override("lock_path", str(tmp_path), group="os_brick")
    yield Brick(ConnectorSettings(node="n", state_folder=tmp_path / "state", my_ip="10.0.0.9"), fake)
    cfg.CONF.clear_override("lock_path", group="os_brick")


@pytest.fixture
def host(fake: FakeHost, brick: Brick, tmp_path: Path) -> Host:
    settings = ConnectorSettings(
        node="n", state_folder=tmp_path / "state", my_ip="10.0.0.9", link_folder=tmp_path / "l"
    )
    return Host(settings, fake.roots, brick)


def mapped(fake: FakeHost, number: int, image: str) -> None:
    folder = fake.roots.sys / "bus" / "rbd" / "devices" / str(number)
    for name, text in zip(("pool", "name"), image.split("/"), strict=True):
        fake.write(folder / name, text)
    fake.disk(f"rbd{number}")
    (fake.roots.dev / f"rbd{number}").unlink()  # a plain file can't be flushed as a device
    (fake.roots.dev / f"rbd{number}").symlink_to("/dev/null")


def image(name: str) -> Target:
    return target("rbd", GOOD["rbd"] | {"name": name})


@pytest.mark.parametrize("details", [None, {"device_info": {"path": "/dev/rbd0"}}])
def test_an_image_of_another_pool_with_the_same_name_stays_mapped(
    host: Host, brick: Brick, fake: FakeHost, tmp_path: Path, details: dict[str, Any] | None
) -> None:
    """os-brick looks for the image's name alone, and takes the first. The key that it left in a file goes all the same."""
    mapped(fake, 0, "other/volume-1")
    key = tmp_path / "brickrbd_x"
    key.write_text("")
    if details:
        details = {"device_info": {**details["device_info"], "conf": str(key)}}
    host.disconnect(image("volumes/volume-1"), details, flush=True)
    assert fake.roots.block("rbd0").exists()
    assert brick.ran == []
    assert key.exists() is (details is None)


def test_of_two_images_of_one_name_the_volumes_own_is_unmapped(brick: Brick, fake: FakeHost) -> None:
    mapped(fake, 0, "other/volume-1")
    mapped(fake, 1, "volumes/volume-1")
    data, path = connection.form("rbd", GOOD["rbd"]), str(fake.roots.dev / "rbd1")
    brick.disconnect("rbd", data, {"path": path}, devices=("rbd1",), multipath=False, force=False)
    assert brick.ran == [f"rbd unmap {path}"]
    assert fake.roots.block("rbd0").exists()


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize(
    "details", [None, {"device_info": {"path": "/dev/null"}}], ids=["unknown", "a name that is another's now"]
)
def test_a_controller_without_the_volume_is_ended_unless_others_have_volumes_there(
    host: Host, brick: Brick, tmp_path: Path, fake: FakeHost, details: dict[str, Any] | None, others: bool
) -> None:
    """os-brick leaves it for ever where it finds no device, and it logs in with `-l -1`."""
    controller = tmp_path / "ctl" / "nvme3"
    for name, text in (("subsysnqn", NQN), ("transport", "tcp"), ("address", "traddr=10.0.0.1,trsvcid=4420")):
        fake.write(controller / name, text)
    if others:
        fake.write(controller / "nvme3n1" / "nsid", "1")
    host.disconnect(target("nvmeof", NVME), details, flush=True)
    assert brick.ran == ([] if others else ["nvme disconnect -d"])


def test_what_an_older_version_connected_is_disconnected_as_it_is(host: Host, brick: Brick, tmp_path: Path) -> None:
    """One field of it would be refused now, so nothing is left of it in our form: os-brick would fail for want of it, for ever."""
    controller = tmp_path / "ctl" / "nvme3"
    for name, text in (("subsysnqn", NQN), ("transport", "tcp"), ("address", "traddr=10.0.0.1,trsvcid=4420")):
        brick.fake.write(controller / name, text)
    older = target("nvmeof", NVME | {"portals": [["10.0.0.1", 4420, "tcp"], ["10.0.0.2", 0, "tcp"]]})
    host.disconnect(older, None, flush=True)
    assert brick.ran == [], "never begun"
    host.disconnect(older, {"device_info": {"path": "/dev/nvme9n9"}}, flush=True)
    assert brick.ran == ["nvme disconnect -d"]
