"""`make demo`: the main job, with everything it needs started here and gone at the end.

An own etcd (unix socket), a controller with the file backend, two nodes on this host. Two volumes are attached, one is written,
moved to the other node and read there; the controller is killed in the middle of an attach; at the end nothing is left.
With `--keep` everything stays up for playing until Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from reconciler.adapters.etcd.embedded import EmbeddedError
from tools.fleet import VENV, Fleet, FleetError, wait_until
from tools.janitor import Janitor

MANIFEST = """\
kind: Volume
name: data
spec: {backend: files, size_gib: 1}
---
kind: Volume
name: logs
spec: {backend: files, size_gib: 2, on_delete: delete}
---
kind: Attachment
node: node-a
volume: data
---
kind: Attachment
node: node-b
volume: logs
"""
PATTERN = b"brick by brick, and always the same volume."
CRASH = "CONNECT_EXPORT:called"
"""Where the controller is killed: the driver has mapped the volume, and nothing of that is written down yet."""


class Demo:
    """Tells what it does as a transcript."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self.folder = folder
        self.started = time.monotonic()

    def title(self, text: str) -> None:
        print(f"\n== {text}  [{time.monotonic() - self.started:.1f} s]", flush=True)

    def run(self, *arguments: str) -> str:
        """One brickctl command, shown with what it printed."""
        print(f"$ brickctl {' '.join(arguments)}", flush=True)
        printed = self.fleet.brickctl(*arguments)
        print(printed.rstrip(), flush=True)
        return printed

    def etcdctl(self, *arguments: str) -> None:
        print(f"$ etcdctl {' '.join(arguments)}")
        print(self.fleet.etcdctl_run(*arguments).rstrip(), flush=True)

    def attached(self, node: str, volume: str) -> Path:
        self.run("wait", "attachment", f"{node}/{volume}", "--for=attached", "--timeout", "60s")
        return self.fleet.folder / node / "dev" / volume

    # --- the story

    def start(self) -> None:
        self.title("an etcd on a unix socket, two nodes, one controller with the file backend")
        self.fleet.node("node-a")
        self.fleet.node("node-b")
        self.fleet.controller()
        wait_until("the backend is ready", self._ready, 60)
        self.run("get", "nodes")
        self.run("get", "backends")

    def _ready(self) -> bool:
        item = self.fleet.store.get("/brickwork/v1/backends/files")
        nodes = self.fleet.keys("/brickwork/v1/alive/")
        return item is not None and json.loads(item.value)["ready"] and len(nodes) == 2

    def attach(self) -> Path:
        self.title("two volumes and two attachments, from a manifest")
        manifest = self.folder / "demo.yaml"
        manifest.write_text(MANIFEST)
        print(f"$ cat demo.yaml\n{MANIFEST}", end="")
        self.run("apply", "-f", str(manifest))
        device = self.attached("node-a", "data")
        self.attached("node-b", "logs")
        self.run("get", "attachments")
        return device

    def move(self, device: Path) -> None:
        self.title("a pattern is written through the device on node-a; then the volume moves to node-b")
        with device.open("r+b", buffering=0) as stream:
            stream.write(PATTERN.ljust(4096, b"\0"))
            os.fsync(stream.fileno())
        print(f"wrote {PATTERN!r} to {os.path.realpath(device)}")
        self.run("attach", "node-b", "data")
        wait_until("node-b is told who holds it", self._held)
        self.run("explain", "node-b", "data")
        self.run("detach", "node-a", "data")
        device = self.attached("node-b", "data")
        found = _head(device)
        print(f"read  {found!r} from {os.path.realpath(device)}")
        files = [file.name for file in self.fleet.volume_files() if _head(file) == PATTERN]
        print(f"and found it in the backing file {', '.join(files)}")
        if found != PATTERN or len(files) != 1:
            raise FleetError("the pattern is not where it should be")

    def _held(self) -> bool:
        item = self.fleet.store.get("/brickwork/v1/verdicts/attachments/node-b/data")
        return item is not None and b"HeldBy" in item.value

    def crash(self) -> None:
        self.title("the controller is killed with SIGKILL in the middle of an attach")
        self.run("detach", "node-b", "data")
        self.run("wait", "attachment", "node-b/data", "--for=detached")
        self.fleet.daemon("ctl").kill(signal.SIGTERM)
        doomed = self.fleet.controller(settings={"allow_failpoints": True, "failpoint": CRASH})
        self.etcdctl("put", "/brickwork/v1/desired/attachments/node-a/data", "{}")
        status = doomed.wait(60)
        print(f"the controller died of signal {-status}: the driver had mapped the volume, nobody had noted it")
        self.run("explain", "node-a", "data")
        self.fleet.controller()
        self.attached("node-a", "data")
        self.run("get", "attachments")

    def end(self) -> None:
        self.title("everything is detached")
        self.run("detach", "node-a", "data")
        self.etcdctl("del", "/brickwork/v1/desired/attachments/node-b/logs")
        for name in ("node-a/data", "node-b/logs"):
            self.run("wait", "attachment", name, "--for=detached")
        self.run("delete", "volume", "logs", "data", "--yes")
        self.run("wait", "volume", "logs", "--for=deleted")
        self.prove()

    def prove(self) -> None:
        """Nothing is left but the retained volume."""
        families = ("desired/", "claims/", "connections/", "attachments/", "verdicts/")
        left = [key for family in families for key in self.fleet.keys(f"/brickwork/v1/{family}")]
        holders = [item.key for item in self.fleet.store.list("/brickwork/v1/grants/").items if b'"node"' in item.value]
        links = [
            str(link) for node in ("node-a", "node-b") for link in (self.fleet.folder / node / "dev").glob("[a-z]*")
        ]
        loops = self.fleet.loop_devices()
        files = self.fleet.volume_files()
        self.title("what is left")
        print(f"wishes, claims, connections, attachment records, verdicts: {left or 'none'}")
        print(f"holders: {holders or 'none'}; links: {links or 'none'}; devices: {loops or 'none'}")
        print(f"volumes on the backend: {len(files)} (data is retained; logs said on_delete: delete)")
        self.run("get", "volumes")
        if left or holders or links or loops or len(files) != 1:
            raise FleetError("something is left that should not be")


def _head(path: Path) -> bytes:
    with path.open("rb", buffering=0) as stream:
        return stream.read(4096).rstrip(b"\0")


def keep(fleet: Fleet) -> None:
    """Stay up for playing."""
    print(
        f"""
Everything stays up until Ctrl-C. In another terminal:
  export BRICKWORK_ENDPOINTS={fleet.etcd.endpoint} ETCDCTL_ENDPOINTS={fleet.etcd.endpoint} ETCDCTL_API=3
  {VENV}/brickctl get volumes
  {fleet.etcdctl} put /brickwork/v1/desired/volumes/mine '{{"backend": "files", "size_gib": 1}}'
  {fleet.etcdctl} put /brickwork/v1/desired/attachments/node-a/mine '{{}}'
  {VENV}/brickctl explain mine
logs: {fleet.folder}/*/log""",
        flush=True,
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="stay up at the end, for playing")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("demo: it attaches loop devices, which takes root: sudo make demo", file=sys.stderr)
        return 1
    if not Path("/dev/loop-control").exists():
        print("demo: there is no /dev/loop-control: modprobe loop; a container has to be given it", file=sys.stderr)
        return 1
    state = Path(os.environ.get("BRICKWORK_STATE") or ".state").absolute()
    state.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="demo-", dir=state))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Janitor(folder):
        return play(folder, state, options.keep)


def play(folder: Path, state: Path, stay: bool) -> int:
    """The demo, from start to end; the exit status."""
    try:
        with Fleet(folder, packages=state) as fleet:
            demo = Demo(fleet, folder)
            demo.start()
            device = demo.attach()
            demo.move(device)
            demo.crash()
            demo.end()
            print(f"\ndone in {time.monotonic() - demo.started:.0f} s")
            if stay:
                keep(fleet)
    except EmbeddedError as error:
        print(f"demo: {error}", file=sys.stderr)
        shutil.rmtree(folder)
        return 1
    except KeyboardInterrupt:
        print("demo: ended from outside", file=sys.stderr)
        shutil.rmtree(folder)
        return 130
    except FleetError as error:
        print(f"demo: {error}\nthe daemons' logs: {folder}/*/log", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
