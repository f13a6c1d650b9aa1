"""`make demo-iscsi`: a volume attached over iSCSI for real, told as a transcript.

The guests, the product in them and the checks are those of the end-to-end tests: Cinder's LVM driver exports with LIO and CHAP
over two networks, os-brick logs in, multipathd joins the paths. Ends by itself; what is left is its logs in the state folder.
"""

import os
import signal
import sys
import time
from functools import cached_property
from types import FrameType

from harness.guest import Guest
from harness.network import Lan
from harness.place import Place
from harness.product import EVIDENCE, SETTLE_S, Brickwork, Volume, digest, lvm_backend
from harness.topology import Topology, missing_parts

from schema.keys import Family

MANIFEST = """\
kind: Volume
name: data
spec: {backend: lvm, size_gib: 1, on_delete: delete}
---
kind: Attachment
node: n1
volume: data
"""
SESSIONS_OF_TARGET = "grep -h -e Name -e State /sys/kernel/config/target/iscsi/*/tpgt_1/acls/*/info"
NODE_TOOLS = ("lsblk --scsi", "iscsiadm -m session", "multipath -ll", "ls /dev/brickwork /etc/iscsi/nodes")


class DemoFailed(Exception):
    """Something is not as the transcript says."""


class Demo:
    """Tells what it does; `brickctl` runs on this machine, other commands on the guest whose name is their prompt."""

    def __init__(self, topology: Topology, started_s: float) -> None:
        self.topology = topology
        self.ctl, self.n1, self.n2 = topology.ctl, topology.n1, topology.n2
        self.brickwork = Brickwork(topology)
        self._started_s = started_s

    @cached_property
    def volume(self) -> Volume:
        """Once it was created."""
        return Volume("data", self.brickwork.value(Family.VOLUME, "data")["uid"])

    def title(self, text: str) -> None:
        print(f"\n== {text}  [{time.monotonic() - self._started_s:.0f} s]", flush=True)

    def brickctl(self, *arguments: str) -> None:
        print(f"$ brickctl {' '.join(arguments)}", flush=True)
        print(self.brickwork.brickctl(*arguments, timeout_s=SETTLE_S).stdout.rstrip(), flush=True)

    def on(self, guest: Guest, command: str) -> str:
        """A command on a guest. Tools differ in what exit code means "none", so it is not judged here."""
        print(f"{guest.name}# {command}", flush=True)
        done = guest.run(command, timeout_s=180, check=False)
        if printed := (done.stdout + done.stderr).rstrip():
            print(printed, flush=True)
        return done.stdout

    def wait(self, name: str, goal: str) -> None:
        self.brickctl("wait", "attachment", name, f"--for={goal}", "--timeout", f"{SETTLE_S}s")

    # --- the story

    def start(self) -> None:
        self.title(
            "three hosts are up; the daemons start: a controller with an LVM backend on ctl, a node on n1 and on n2"
        )
        self.brickwork.configure({"lvm": lvm_backend(self.topology, "thick")})
        self.brickctl("get", "nodes")
        self.brickctl("get", "backends")

    def attach(self) -> None:
        self.title("a volume, and the wish to have it on n1")
        manifest = self.topology.logs.file("data.yaml")
        manifest.write_text(MANIFEST)
        print(f"$ cat data.yaml\n{MANIFEST}$ brickctl apply -f data.yaml")
        print(self.brickwork.brickctl("apply", "-f", str(manifest)).stdout.rstrip(), flush=True)
        self.wait("n1/data", "attached")
        self.brickctl("get", "attachments", "-o", "wide")
        self.title("what that is on the node, and on the target")
        for command in NODE_TOOLS:
            self.on(self.n1, command)
        self.on(self.ctl, "lvs --noheadings -o lv_name,lv_size")
        self.on(self.ctl, SESSIONS_OF_TARGET)

    def write(self) -> None:
        self.title("a file is written on n1: the bytes are on the logical volume")
        self.on(self.n1, f"mkfs.ext4 -q -E nodiscard {self.volume.link} && mount {self.volume.link} /mnt")
        self.on(self.n1, "echo 'brick by brick' >/mnt/hello && umount /mnt")
        self.compare(self.n1)

    def compare(self, node: Guest) -> None:
        """The volume's first bytes as the node and as the controller read them, past all caches."""
        seen = {
            guest.name: digest(guest, device)
            for guest, device in ((node, self.volume.link), (self.ctl, self.volume.device))
        }
        for name, found in seen.items():
            print(f"sha256 of its first 32 MiB, read on {name + ':':4} {found}", flush=True)
        if len(set(seen.values())) != 1:
            raise DemoFailed("the node and the controller read different bytes")

    def lose_a_path(self) -> None:
        self.title("n1 is cut off from the second storage network; later it is plugged in again")
        self.n1.cut(Lan.STORAGE_B)
        self.wait("n1/data", "condition=Degraded")
        self.brickctl("get", "attachments", "-o", "wide")
        self.on(self.n1, f"dd if={self.volume.link} of=/dev/null bs=1M count=8 iflag=direct 2>&1 | grep copied")
        self.n1.heal(Lan.STORAGE_B)
        self.wait("n1/data", "condition=Degraded=False")

    def move(self) -> None:
        self.title("the volume moves to n2")
        self.brickctl("detach", "n1", "data")
        self.brickctl("attach", "n2", "data")
        self.wait("n2/data", "attached")
        self.on(self.ctl, SESSIONS_OF_TARGET)
        self.compare(self.n2)
        if "brick by brick" not in self.on(self.n2, f"mount {self.volume.link} /mnt && cat /mnt/hello && umount /mnt"):
            raise DemoFailed("the file is not what n1 wrote")

    def end(self) -> None:
        self.title("it is detached and deleted: what is left")
        self.brickctl("detach", "n2", "data")
        self.wait("n2/data", "detached")
        left = self.brickwork.traces(self.n1, self.volume) + self.brickwork.traces(self.n2, self.volume)
        self.brickctl("delete", "volume", "data", "--yes")
        self.brickctl("wait", "volume", "data", "--for=deleted", "--timeout", f"{SETTLE_S}s")
        for command in NODE_TOOLS:
            self.on(self.n2, command)
        self.on(self.ctl, "lvs --noheadings -o lv_name,lv_size; ls /sys/kernel/config/target/iscsi")
        self.brickctl("get", "volumes")
        print(f"devices, maps, sessions, records, links, keys, targets left: {left or 'none'}", flush=True)
        if left:
            raise DemoFailed("something is left that should not be")


def tell() -> None:
    """The whole story, on guests of its own."""
    started_s = time.monotonic()
    print(
        "== etcd and three hosts with kernels of their own are booted: ctl has storage, n1 and n2 want it", flush=True
    )
    with Topology() as topology:
        demo = Demo(topology, started_s)
        try:
            demo.start()
            demo.attach()
            demo.write()
            demo.lose_a_path()
            demo.move()
            demo.end()
        except (DemoFailed, AssertionError, TimeoutError):
            topology.evidence_of_store += EVIDENCE
            topology.collect_evidence()
            raise
    print(f"\ndone in {time.monotonic() - started_s:.0f} s; the logs: {os.path.relpath(topology.logs.folder)}")


def terminate(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM ends it as Ctrl-C does: with the guests and their networks gone."""
    raise KeyboardInterrupt


def main() -> int:
    if missing := "needs root" if os.geteuid() != 0 else missing_parts():
        print(f"demo-iscsi: {missing}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, terminate)
    try:
        tell()
    except KeyboardInterrupt:
        print("\ndemo-iscsi: stopped", file=sys.stderr)
        return 130
    except (DemoFailed, AssertionError, TimeoutError, RuntimeError) as error:
        print(f"demo-iscsi: {error}\nlogs and evidence: {Place().logs}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
