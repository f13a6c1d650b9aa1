"""Foreign errors in the port's words, and secrets that never leave."""

from __future__ import annotations

import pytest

from reconciler.adapters.brick import tools
from reconciler.adapters.brick.tools import Redactor
from reconciler.runtime.ports import Busy, PortError, Retryable, Terminal, Unsupported


class ProcessExecutionError(OSError):
    """As oslo's looks."""

    def __init__(self, cmd: str, stderr: str = "", exit_code: int = 24, description: str = "") -> None:
        super().__init__()
        self.cmd, self.stderr, self.exit_code, self.description = cmd, stderr, exit_code, description


class InvalidConnectorProtocol(ValueError):
    pass


class ExceptionChainer(Exception):
    def __str__(self) -> str:
        return "\nChained Exception #1\n\tTraceback (most recent call last):\n\t  File x\n\tVolumePathNotRemoved: sda stays\n"


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            ProcessExecutionError("iscsiadm -m node -v canary", "first\niscsiadm: login failed\n"),
            Retryable,
            "iscsiadm failed (exit code 24): first; iscsiadm: login failed",
        ),
        (
            ProcessExecutionError("nvme connect", description="[Errno 2] No such file or directory: 'nvme'"),
            Terminal,
            "nvme is missing on this host: install it",
        ),
        (InvalidConnectorProtocol("vmdk"), Unsupported, "vmdk"),
        (NotImplementedError(), Unsupported, "can't do that"),
        (KeyError("target_iqn"), Terminal, "target_iqn"),
        (PermissionError(1, "Operation not permitted", "/dev/loop-control"), Terminal, "/dev/loop-control"),
        (
            OSError(28, "No space left on device", "/dev/brickwork"),
            Retryable,
            "No space left on device: /dev/brickwork",
        ),
        (ExceptionChainer(), Retryable, "ExceptionChainer: VolumePathNotRemoved: sda stays"),
        (
            RuntimeError(
                "mount failed for share. Error - {'nfs': 'Unexpected error\nStderr: \"mount: access denied\\n\"'}"
            ),
            Retryable,
            "RuntimeError: mount failed for share. Error: mount: access denied",
        ),
        (RuntimeError("device\n gone"), Retryable, "RuntimeError: device gone"),
    ],
)
def test_each_foreign_error_says_what_to_do(error: Exception, kind: type[PortError], words: str) -> None:
    translated = Redactor().translate(error)
    assert type(translated) is kind
    assert words in str(translated)


def test_secrets_of_a_connection_are_taken_out_of_every_text() -> None:
    redactor = Redactor()
    redactor.learn(
        {
            "driver_volume_type": "iscsi",
            "data": {
                "auth_username": "user-name",
                "auth_password": "canary-1",
                "discovery_auth_password": "canary-2",
                "keyring": "[client.x]\n\tkey = canary-3==\n",
                "nested": [{"secret_uuid": "canary-4"}],
                "target_iqn": "iqn:a",
            },
        }
    )
    text = redactor.clean("user-name canary-1 canary-2 canary-3== canary-4 iqn:a")
    assert text == "user-name *** *** *** *** iqn:a"
    busy = redactor.translate(Busy("canary-1 is busy", ["opened by x"]))
    assert isinstance(busy, Busy)
    assert (str(busy), busy.holders) == ("*** is busy", ("opened by x",))


def test_a_missing_program_is_named_with_its_package() -> None:
    with pytest.raises(Terminal, match="no-such-program is missing on this host: install some-package"):
        tools.require("no-such-program", "some-package")


def test_a_program_that_hangs_is_given_up() -> None:
    with pytest.raises(Retryable, match="no answer within"):
        tools.run("sleep", "60", timeout_s=0.05)
