"""The whole: an etcd, a controller guest with storage to export, and node guests that attach it.

management  10.9.0.0/24   etcd .1, ctl .11, n1 .21, n2 .22, sd .23
storage A   10.9.1.0/24   ctl .11, n1 .21, n2 .22, sd .23
storage B   10.9.2.0/24   ctl .11, n1 .21, n2 .22, sd .23
(harness    10.9.9.0/24   carries the tests' own commands, and is never cut)
"""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from harness import layout
from harness.channel import CommandFailed, CommandTimedOut, GuestUnreachable
from harness.etcd import EtcdServer
from harness.guest import Guest, GuestSpec, adopt_orphans
from harness.logs import LogFolder
from harness.network import Lan, Network
from harness.place import Place

# Cinder is imported by the controller's guest only, and takes a few hundred MiB.
SPECS = (
    GuestSpec("ctl", number=11, role="controller", memory_mib=2048),
    GuestSpec("n1", number=21, role="node", memory_mib=1024),
    GuestSpec("n2", number=22, role="node", memory_mib=1024),
)
# Boots systemd, in half a minute: only for the tests that ask for it.
SPEC_WITH_SYSTEMD = GuestSpec("sd", number=23, role="node", memory_mib=1024, stage2="stage2-systemd")

# What one wants to see of every guest when a test failed. A command that its guest does not have does no harm.
EVIDENCE = [
    "uptime; ps -N --pid 2 --ppid 2 --forest -o pid,stat,etime,args",
    "ip -br address; ip -s link",
    "lsblk -o NAME,TYPE,SIZE,RO,STATE,MOUNTPOINTS; ls -l /dev/disk/by-path /dev/brickwork",
    "multipath -ll; dmsetup table; dmsetup info -c",
    "iscsiadm -m session -P 1; find /etc/iscsi/nodes",
    "lvs -a; grep -r . /sys/kernel/config/target/iscsi --include=info --include=lun_* --include=enable",
    "dmesg | tail -n 60",
]
# The same for what needs to be seen only once; runs on this machine, with etcdctl and the checkout's scripts at hand.
EVIDENCE_OF_STORE = ["etcdctl endpoint status"]


class Topology:
    """The guests and what connects them. Use it as a context: the end of it leaves nothing running."""

    def __init__(self, place: Place | None = None) -> None:
        self.place = place or Place()
        self.logs = LogFolder(self.place.logs)
        self.network = Network(self.place)
        self.etcd = EtcdServer(self.place, self.network, self.logs)
        hosts = ",".join(f"{Lan.MANAGEMENT.address(spec.number)}={spec.name}" for spec in (*SPECS, SPEC_WITH_SYSTEMD))
        self.ctl, self.n1, self.n2 = (Guest(spec, hosts, self.place, self.network, self.logs) for spec in SPECS)
        self.guests = [self.ctl, self.n1, self.n2]
        self.sd = Guest(SPEC_WITH_SYSTEMD, hosts, self.place, self.network, self.logs)
        # Tests of the product add to these: shell commands, run when a test failed.
        self.evidence = list(EVIDENCE)
        self.evidence_of_store = list(EVIDENCE_OF_STORE)
        # Daemons of these names outlive the tests that start them.
        self.lasting_daemons: set[str] = set()

    def __enter__(self) -> "Topology":
        self.place.take()
        self.logs.begin()
        adopt_orphans(True)
        compile_checkout()
        install_first_stage()
        try:
            self.network.create([guest.name for guest in (*self.guests, self.sd)])
            self.etcd.create()
            self.boot_all()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the guests and etcd and delete the networks. The logs stay."""
        for guest in (*self.guests, self.sd):
            guest.kill()
            guest.save_console()
        self.etcd.kill()
        self.place.release()
        adopt_orphans(False)

    def boot_all(self) -> None:
        """Boot all guests that do not run, together."""
        down = [guest for guest in self.guests if not guest.running]
        for guest in down:
            guest.start()
        with ThreadPoolExecutor() as threads:
            list(threads.map(Guest.wait_until_ready, down))

    def renew_guests(self) -> None:
        """Give all guests empty disks and boot them: the way back from whatever a failed test left behind."""
        for guest in self.guests:
            guest.kill()
            guest.forget_disks()
        self.etcd.ensure_running()
        self.etcd.wipe()
        self.heal()
        self.boot_all()

    def heal(self) -> None:
        """Undo all cuts and freezes."""
        for guest in (*self.guests, self.sd):
            guest.thaw()
            for lan in Lan:
                guest.heal(lan)

    def before_test(self, test: str) -> None:
        """Make all of it whole again, and open the test's log folder."""
        self.heal()
        self.etcd.ensure_running()
        self.boot_all()
        for guest in self.guests:
            guest.save_console()
        self.logs.enter(test)

    def after_test(self) -> None:
        """Undo the test's cuts and freezes, and stop what it started and nobody else uses."""
        self.heal()
        self.etcd.ensure_running()
        for guest in self.guests:
            lasting = [daemon for name, daemon in guest.daemons.items() if name in self.lasting_daemons]
            guest.stop_daemons(keep=lasting)
            guest.save_console()
        self.logs.leave()

    def collect_evidence(self) -> None:
        """Run the evidence commands and write what they say to `<guest>-evidence.log` and `store-evidence.log`."""
        with ThreadPoolExecutor() as threads:
            store = threads.submit(self._collect_from_store)
            running = [guest for guest in (*self.guests, self.sd) if guest in self.guests or guest.running]
            list(threads.map(self._collect_from, running))
            store.result()

    def _collect_from(self, guest: Guest) -> None:
        with self.logs.file(f"{guest.name}-evidence.log").open("w") as log:
            for command in self.evidence:
                try:
                    log.write(f"{guest.run(f'{{ {command}; }} 2>&1', timeout_s=30, check=False)}\n\n")
                except (CommandFailed, CommandTimedOut) as error:
                    log.write(f"$ {command}\n{error}\n\n")
                except GuestUnreachable as error:
                    log.write(f"{error}\n{guest.console_tail()}")
                    return

    def _collect_from_store(self) -> None:
        path = f"{layout.ETCD_BINARIES}:{layout.VENV}/bin:{os.environ['PATH']}"
        env = {
            "PATH": path,
            "ETCDCTL_ENDPOINTS": self.etcd.endpoint,
            "BRICKWORK_ENDPOINTS": f"http://{self.etcd.endpoint}",
        }
        with self.logs.file("store-evidence.log").open("w") as log:
            for command in self.evidence_of_store:
                try:
                    log.write(f"$ {command}\n")
                    done = self.network.run(["sh", "-c", f"{command} 2>&1"], timeout_s=30, check=False, env=env)
                    log.write(f"{done.stdout}\n")
                except subprocess.TimeoutExpired as error:
                    log.write(f"{error}\n\n")


def install_first_stage() -> None:
    """Put it into the guests' tree, in one step: a guest of another set may be reading it right now."""
    installed = layout.ROOT_TREE / "e2e" / "stage1"
    fresh = installed.with_name(f"stage1.{os.getpid()}")
    shutil.copy(layout.E2E / "guest" / "stage1", fresh)
    fresh.replace(installed)


def compile_checkout() -> None:
    """Save the guests the work: they cannot write to the checkout, and would compile it again at every start."""
    packages = [folder.parent for folder in layout.CHECKOUT.glob("*/__init__.py")]
    subprocess.run([layout.VENV / "bin" / "python3", "-m", "compileall", "-q", *packages], check=False, timeout=120)


def missing_parts() -> str:
    """Return what `prepare.sh --check` and a look at the virtual environment find missing; empty when all is there."""
    check = subprocess.run(
        [layout.E2E / "prepare.sh", "--check"], capture_output=True, text=True, check=False, timeout=60
    )
    if check.returncode != 0:
        return check.stdout.strip() or check.stderr.strip()
    if not Path("/dev/net/tun").exists():
        return "no /dev/net/tun: guests cannot have a network"
    python = (layout.VENV / "bin" / "python3").resolve()
    if not (layout.ROOT_TREE / python.relative_to("/")).exists():
        return f"guests have no {python}: make {layout.VENV} with /usr/bin/python3"
    return ""
