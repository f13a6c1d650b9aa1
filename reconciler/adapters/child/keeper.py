"""The keeper: a small process that outlives the worker, and sees to it that nothing outlives the keeper.

The daemon runs this *file* (``python -I -S keeper.py <requests> <replies> <permits> <command…>``): a process with all of
Brickwork's imports would cost 19 MB, this one 9. So it imports next to nothing. `sessions` builds on its functions.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

FOREVER = float("inf")
LOOK_S = 0.25
"""Between two looks at the clock while there is a permission: waits stand still while the machine is suspended."""


def end_session(session: int, until: float, but: int = 0) -> list[int]:
    """SIGKILL all of a session (except one pid) until none is left; returns those that are left when time is up.

    Args:
        until: on `time.monotonic`, or `FOREVER`.
    """
    while members := living(session, but):
        try:
            for fd in members.values():
                _kill(fd)
            if not but:  # a group is killed atomically, no fork can escape it; the loop is for those outside the group
                _kill_group(session)
            if left := [pid for pid, fd in members.items() if not ready(fd, select.POLLIN, until)]:
                return left
        finally:
            close(members)
    return []


def living(session: int, but: int = 0) -> dict[int, int]:
    """The session's processes that have not ended (a zombie has): pid -> pidfd, to be closed."""
    found = {}
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        if pid != but and _session(pid) == session:
            fd = _open(pid)
            if fd is not None and not ready(fd, select.POLLIN, 0.0) and _session(pid) == session:
                found[pid] = fd  # asked again: the number still means the process of this descriptor
            elif fd is not None:
                os.close(fd)
    return found


def close(members: dict[int, int]) -> None:
    for fd in members.values():
        os.close(fd)


def ready(fd: int, what: int, until: float) -> bool:
    """Wait for a file descriptor (a pidfd: for the end of the process); False when the time is up first."""
    poll = select.poll()
    poll.register(fd, what)
    if until == FOREVER:
        return bool(poll.poll())
    return bool(poll.poll(max(0, int((until - time.monotonic()) * 1000 + 0.999))))


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _open(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _kill(pidfd: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # who is left is told by `ready`


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def main(requests: int, replies: int, permits: int, command: list[str]) -> int:
    """Run the command; when it ends, or the daemon does, or the daemon's permission, end all that is left.

    Returns its status, or 128 + its signal.
    """
    for number in (signal.SIGTERM, signal.SIGINT):  # systemd tells the whole group; the daemon decides when we end
        signal.signal(number, lambda *_: None)
    keeper, worker = os.getpid(), os.fork()
    if worker == 0:
        os.environ["BRICKWORK_PIPES"] = f"{requests},{replies},{keeper}"
        os.close(permits)
        os.execv(command[0], command)
    os.close(replies)  # so that the daemon sees the worker's end
    keep_watch(requests, os.pidfd_open(worker), permits)
    end_session(keeper, FOREVER, but=keeper)
    status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    return status if status >= 0 else 128 - status


def keep_watch(requests: int, worker: int, permits: int) -> None:
    """Return when the daemon is gone, when the worker has ended, or when the last permission is over.

    A permission is a line with a moment of CLOCK_BOOTTIME. The daemon may be stopped (SIGSTOP, a debugger) while its worker
    goes on; this process is what ends the worker before somebody else acts in its place.
    """
    until = FOREVER
    poll = select.poll()
    poll.register(requests, 0)  # POLLHUP comes all the same: nobody can write any more
    poll.register(worker, select.POLLIN)
    poll.register(permits, select.POLLIN)
    while (left_s := until - time.clock_gettime(time.CLOCK_BOOTTIME)) > 0:
        ready_fds = [fd for fd, _ in poll.poll(None if left_s == FOREVER else min(left_s, LOOK_S) * 1000 + 1)]
        if requests in ready_fds or worker in ready_fds:
            return
        if permits in ready_fds:
            lines = os.read(permits, 1 << 16).split()
            if not lines:
                return
            until = float(lines[-1])


if __name__ == "__main__":
    os._exit(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
