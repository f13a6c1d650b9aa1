"""Runs commands in a guest for the harness: one TCP connection per command, one JSON object per line.

The harness sends one request: {"argv": [...], "env": {...}, "input": base64, "timeout_s": number or null,
"merge_output": bool}. The agent answers {"pid": n}, then {"stdout": base64} and {"stderr": base64} as output
comes, and at last {"exit_code": n} or {"timed_out": true}.

Output is sent as it comes, so that what a daemon said before its guest was killed is already safe with the harness.
A command outlives its connection: a daemon must not die because the harness stopped reading.

Uses the standard library only: it starts before anything else is known to work.
"""

import base64
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Any

Send = Callable[[dict[str, Any]], None]


def sender(connection: socket.socket) -> Send:
    """Return a function that sends one message, and does nothing once the other side is gone."""
    connected = True

    def send(message: dict[str, Any]) -> None:
        nonlocal connected
        if connected:
            try:
                connection.sendall(json.dumps(message).encode() + b"\n")
            except OSError:
                connected = False

    return send


def start(request: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start the command as leader of its own process group, so that a time-out ends its children too."""
    process = subprocess.Popen(
        request["argv"],
        env=os.environ | request["env"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if request["merge_output"] else subprocess.PIPE,
        cwd="/",
        start_new_session=True,
    )
    assert process.stdin is not None
    threading.Thread(target=feed, args=(process.stdin, base64.b64decode(request["input"])), daemon=True).start()
    return process


def feed(stdin: IO[bytes], content: bytes) -> None:
    """Write all the input; a command that does not read it is not an error."""
    try:
        with stdin:
            stdin.write(content)
    except BrokenPipeError:
        pass


def forward_output(process: subprocess.Popen[bytes], timeout_s: float | None, send: Send) -> bool:
    """Send output until the command itself ends, and say whether it did so in time.

    The end of its output is no sign of that: a daemon that it left behind may hold the pipe open for ever.
    """
    pidfd = os.pidfd_open(process.pid)
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        selector.register(pidfd, selectors.EVENT_READ, "ended")
        for name, stream in (("stdout", process.stdout), ("stderr", process.stderr)):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                selector.register(stream.fileno(), selectors.EVENT_READ, name)
        ended = False
        while not ended:
            remaining_s = None if deadline is None else deadline - time.monotonic()
            ready = selector.select(remaining_s)
            if not ready and deadline is not None and time.monotonic() >= deadline:
                return False
            ended = any(key.data == "ended" for key, _ in ready)
            for key in list(selector.get_map().values()):
                if key.data != "ended" and not drain(key.fd, key.data, send):
                    selector.unregister(key.fd)
    os.close(pidfd)
    return True


def drain(descriptor: int, name: str, send: Send) -> bool:
    """Send what can be read now; False at the end of the stream."""
    while True:
        try:
            content = os.read(descriptor, 65536)
        except BlockingIOError:
            return True
        if not content:
            return False
        send({name: base64.b64encode(content).decode()})


def serve(connection: socket.socket) -> None:
    """Run the one command of this connection."""
    with connection, connection.makefile("rb") as lines:
        send = sender(connection)
        request = json.loads(lines.readline())
        try:
            process = start(request)
        except OSError as error:
            send({"stderr": base64.b64encode(f"{error}\n".encode()).decode()})
            send({"exit_code": 127})
            return
        send({"pid": process.pid})
        if forward_output(process, request["timeout_s"], send):
            send({"exit_code": process.wait()})
            return
        os.killpg(process.pid, signal.SIGKILL)
        send({"timed_out": True})
        process.wait()


def main(address: str, port: str) -> None:
    """Serve each connection in a thread of its own: one stuck command must not hold up the others."""
    with socket.create_server((address, int(port)), backlog=64) as server:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
