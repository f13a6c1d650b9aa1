"""Volumes that are files on a share: Cinder's NFS driver, the kernel's server and client, loop devices on the nodes."""

from typing import Any

from harness.guest import Guest
from harness.product import Brickwork, digest, nfs_backend, write
from harness.topology import Topology


def backends(topology: Topology) -> dict[str, Any]:
    return {"nfs": nfs_backend(topology)}


def test_a_file_on_a_share_moves_between_nodes(brickwork: Brickwork, ctl: Guest, n1: Guest, n2: Guest) -> None:
    """Each node writes to the server's file and sees what the other wrote; no loop device and no mount is left (A36)."""
    volume = brickwork.create("file", "nfs")
    brickwork.attach(n1, volume)
    write(n1, volume, "written by n1", offset_mib=1)
    for number, (source, target) in enumerate([(n1, n2), (n2, n1)]):
        before = digest(source, volume.link)
        assert digest(ctl, volume.file) == before
        brickwork.brickctl("detach", source.name, volume.name)
        brickwork.attach(target, volume)
        assert brickwork.traces_of_node(source, volume) == []
        assert digest(target, volume.link) == before
        write(target, volume, f"written by {target.name}", offset_mib=2 + number)
    assert digest(ctl, volume.file) == digest(n1, volume.link)
    brickwork.detach(n1, volume)
    assert brickwork.traces(n1, volume) + brickwork.traces(n2, volume) == []
    brickwork.delete(volume)
    assert ctl.run(["ls", volume.file], check=False).exit_code != 0
