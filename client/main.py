"""`brickctl`: the command group, its options, and what an error means for the exit code."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from client.exits import Exit, Misuse, NotFound, Unreachable
from client.streams import shown_streams

COMMANDS: dict[str, str] = {
    "apply": "Make wishes so, as manifests say.",
    "attach": "Wish for a volume on a node.",
    "detach": "Take back the wish for a volume on a node.",
    "delete": "Take back wishes for volumes or attachments; forget nodes or backends.",
    "cordon": "Keep new attachments from a node.",
    "uncordon": "Take a cordon back.",
    "drain": "Detach everything from a node, and wait until nothing is left.",
    "undrain": "Take a drain back: what it set aside is attached again.",
    "get": "List volumes, attachments, nodes or backends.",
    "describe": "Tell everything about one object.",
    "wait": "Wait until an object is as asked for.",
    "explain": "Say what happens next, who waits for whom, and what to do.",
    "fence": "State that one boot of a node can no longer write.",
    "accept": "Take a backend's storage as it is, although it is another one.",
    "doctor": "Look at this host for what is known to go wrong on nodes.",
}
"""Each command and its line in `--help`. Its module, of the same name, is imported when it is run."""

INTERRUPTED = 130
"""By Ctrl-C, as a shell tells of it."""

MODULE_OF = {"detach": "attach", "uncordon": "cordon", "undrain": "drain"}


class Commands(click.Group):
    """Imports a command's module only to run it, and translates errors of the store into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"client.{MODULE_OF.get(cmd_name, cmd_name)}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"No such command '{args[0]}'.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def _tell_deserted(self, ctx: click.Context) -> None:
        if ctx.obj is not None and (note := ctx.obj.deserted()):
            click.echo(note, err=True)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Whatever is said, errors included, is fit for a terminal."""
        with shown_streams():
            return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """`--help` and `--version` are answered here."""
        try:
            return super().make_context(*args, **kwargs)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError as error:
            _leave(error)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            from reconciler.runtime.ports import PortError, TooLarge, UnknownOutcome

            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except BrokenPipeError as error:
            _leave(error)  # before click takes it for code 1
        except NotFound:
            self._tell_deserted(ctx)
            raise
        except UnknownOutcome as error:
            raise Unreachable(f"{error}; it may or may not have been written: run the same command again") from None
        except TooLarge as error:
            raise Misuse(str(error)) from None
        except PortError as error:
            raise Unreachable(str(error)) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--endpoint", "-e", "endpoints", multiple=True, metavar="URL", help="An etcd endpoint; may be repeated.")
@click.option("--cacert", type=click.Path(dir_okay=False), help="Certificate authorities to trust, PEM.")
@click.option("--cert", type=click.Path(dir_okay=False), help="Client certificate, PEM; takes --key too.")
@click.option("--key", type=click.Path(dir_okay=False), help="Private key of the client certificate, PEM.")
@click.option(
    "--user", metavar="NAME", help="User of etcd; the password comes from BRICKWORK_PASSWORD or is asked for."
)
@click.option("--prefix", help="Where Brickwork's keys are.  [default: /brickwork/v1/]")
@click.option("--connect-timeout", type=click.FloatRange(min=0.1), metavar="SECONDS", help="How long to try etcd.")
@click.option(
    "--config", type=click.Path(dir_okay=False), help="Settings file.  [default: ~/.config/brickwork/client.yaml]"
)
@click.version_option(package_name="brickwork", prog_name="brickctl")
@click.pass_context
def cli(
    ctx: click.Context,
    endpoints: tuple[str, ...],
    cacert: str | None,
    cert: str | None,
    key: str | None,
    user: str | None,
    prefix: str | None,
    connect_timeout: float | None,
    config: str | None,
) -> None:
    """Keeps block volumes attached to the hosts that should have them: the client.

    It writes wishes to etcd and tells what became of them. Settings come from options, from the environment
    (BRICKWORK_ENDPOINTS, BRICKWORK_CA_FILE, BRICKWORK_CERT_FILE, BRICKWORK_KEY_FILE, BRICKWORK_USER, BRICKWORK_PASSWORD,
    BRICKWORK_PREFIX; etcdctl's variables serve too), or from the settings file.

    Exit codes: 0 ok, 1 unmet, 2 usage, 3 conflict, 4 not found, 5 timeout, 6 unreachable, 7 blocked, 8 answer not
    written.
    """
    from client.session import Session
    from client.settings import Given, default_file, from_environment, from_file, settle

    if ctx.obj is None:
        named = config or os.environ.get("BRICKWORK_CONFIG")
        options = Given(
            endpoints=endpoints or None,
            ca_file=cacert,
            cert_file=cert,
            key_file=key,
            user=user,
            prefix=prefix,
            connect_timeout_s=connect_timeout,
        )
        file = from_file(Path(named) if named else default_file(), needed=named is not None)
        ctx.obj = Session(settle(options, from_environment(os.environ), file))
    ctx.call_on_close(ctx.obj.close)


def main() -> None:
    """The entry point of the installed command. An answer that can't be written ends it with a word, never a traceback."""
    _stand_in_for_what_is_closed()
    try:
        cli(prog_name="brickctl")
    except OSError as error:
        if error.errno not in UNWRITTEN:
            raise
        _leave(error)


UNWRITTEN = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""What writing to stdout or stderr may end in."""


def _stand_in_for_what_is_closed() -> None:
    """Python leaves `None` for what was closed; and the number may be given to a connection, so it is taken here."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def _leave(error: OSError) -> NoReturn:
    """Nothing more is written, at the interpreter's end neither."""
    gone = error.errno == errno.EPIPE
    if not gone:
        with suppress(OSError):
            text = (
                f"Error: the answer can't be written: {error.strerror}. What was asked for may be done: brickctl get\n"
            )
            os.write(2, text.encode())
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    sys.exit(int(Exit.PIPE if gone else Exit.OUTPUT))


if __name__ == "__main__":
    main()
