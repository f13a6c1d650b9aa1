"""What can be written after `brickwork-controller`, `brickwork-node` and `brickwork-fence-agent`: where the settings are, and
what to do with them.

    --config FILE      the settings; by default /etc/brickwork/<daemon>.yaml, which may be missing
    --accept-store     take etcd as it is from the next start on, although it was restored or replaced; then stop
    --check-config     print what holds after all defaults and stop: exit code 0, or 2 with every fault
    --elsewhere        with it: these settings are for another machine, do not look at this one
    --open             with it: set each backend up, too, as a start of the controller does
    --this-host-is N   (node) from now on this host is the node N: its board or disk was changed, or it takes another's place
    --version

`--check-config` asks nothing of the network and needs no rights. It looks at files, and whether each backend could be opened on
this host: class, options, SDK, programs. With `--elsewhere` it does not, and files that are missing here are mentioned only.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NoReturn, overload

import yaml

from daemons import checking
from daemons.host_identity import identity_of, say_the_word
from daemons.identity import FileStoreMemory, Instance, node_id, private_folder
from daemons.journal import complain
from daemons.process import Exit, Refused
from daemons.settings import (
    CommonSettings,
    ControllerSettings,
    FenceAgentSettings,
    Kind,
    NodeSettings,
    SettingsError,
    load,
)
from reconciler.runtime.ports import StoreMark


@overload
def settings_from(
    kind: Literal["controller"], arguments: Sequence[str], environ: Mapping[str, str]
) -> ControllerSettings: ...
@overload
def settings_from(kind: Literal["node"], arguments: Sequence[str], environ: Mapping[str, str]) -> NodeSettings: ...
@overload
def settings_from(
    kind: Literal["fence-agent"], arguments: Sequence[str], environ: Mapping[str, str]
) -> FenceAgentSettings: ...
def settings_from(kind: Kind, arguments: Sequence[str], environ: Mapping[str, str]) -> CommonSettings:
    """The daemon's settings. Ends the process (SystemExit) for `--check-config`, `--help`, `--version` and faults; quietly, where
    nobody reads its answer any more, and with a word where that can't be written."""
    try:
        try:
            return _settings_from(kind, arguments, environ)
        finally:
            sys.stdout.flush()  # what argparse printed: at the interpreter's end it would be too late to say anything
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF):
            raise
        if error.errno != errno.EPIPE:
            with suppress(OSError):
                os.write(2, f"brickwork-{kind}: the answer can't be written: {error.strerror}\n".encode())
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing more is written, at the interpreter's end neither
        os.dup2(1, 2)
        raise SystemExit(Exit.REFUSED if error.errno != errno.EPIPE else 128 + signal.SIGPIPE) from None


def _settings_from(kind: Kind, arguments: Sequence[str], environ: Mapping[str, str]) -> CommonSettings:
    parser = argparse.ArgumentParser(prog=f"brickwork-{kind}", description=_DESCRIPTION[kind], allow_abbrev=False)
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"settings; default: {_default_file(kind)}, if it exists"
    )
    parser.add_argument(
        "--check-config", action="store_true", help="print the effective settings, or all faults, and stop"
    )
    parser.add_argument(
        "--elsewhere",
        action="store_true",
        help="with --check-config: for settings of another machine: look at no file, backend or program of this one",
    )
    if kind == "controller":
        parser.add_argument(
            "--open",
            action="store_true",
            help="with --check-config: also set each backend's driver up, which asks its array; takes the controller's rights",
        )
    parser.add_argument(
        "--accept-store",
        action="store_true",
        help="take etcd as it is from the next start on, although it was restored from a backup or replaced, and stop",
    )
    if kind == "node":
        parser.add_argument(
            "--this-host-is",
            metavar="NODE",
            help="say that this host is the node from now on (its board or disk was changed, or it replaces another), and stop",
        )
    parser.add_argument("--version", action="version", version=f"brickwork {version('brickwork')}")
    options = parser.parse_args(arguments)
    file: Path | None = options.config
    if file is None and _default_file(kind).exists():
        file = _default_file(kind)
    try:
        settings = load(kind, file, environ)
    except SettingsError as error:
        complain(f"brickwork-{kind}: {error}")
        raise SystemExit(Exit.SETTINGS) from None
    if options.check_config:
        _show(kind, settings, elsewhere=options.elsewhere, set_up=getattr(options, "open", False))
    if options.accept_store:
        _accept_store(kind, settings)
    if isinstance(settings, NodeSettings) and options.this_host_is is not None:
        _this_host_is(settings, options.this_host_is)
    return settings


_DESCRIPTION: Mapping[Kind, str] = {
    "controller": "Grants volumes to nodes and drives the storage backends.",
    "node": "Keeps the volumes that belong on this host attached to it.",
    "fence-agent": "Fences nodes that are silent, where a command of yours can prove that they no longer write.",
}


def _default_file(kind: Kind) -> Path:
    return Path("/etc/brickwork") / f"{kind}.yaml"


def _show(kind: Kind, settings: CommonSettings, *, elsewhere: bool, set_up: bool) -> NoReturn:
    """The settings as YAML, secrets hidden; then what is wrong with them on this machine."""
    print(yaml.safe_dump(settings.shown(), sort_keys=False, allow_unicode=True), end="", flush=True)
    if elsewhere:
        for missing in checking.files_missing(settings):
            print(f"note: {missing}", file=sys.stderr)
        raise SystemExit(Exit.OK)
    faults = 0
    for fault in _faults(settings, set_up=set_up):
        print(f"brickwork-{kind}: {fault}", file=sys.stderr, flush=True)
        faults += 1
    if faults:
        raise SystemExit(Exit.SETTINGS)
    print(f"brickwork-{kind}: ok", file=sys.stderr)
    raise SystemExit(Exit.OK)


def _faults(settings: CommonSettings, *, set_up: bool) -> Iterator[str]:
    yield from checking.files_missing(settings)
    yield from checking.useless_certificates(settings)
    yield from checking.unusable_secrets(settings)
    if isinstance(settings, ControllerSettings):
        yield from checking.unusable_backends(settings, set_up=set_up)


def _accept_store(kind: Kind, settings: CommonSettings) -> NoReturn:
    """Forget which store it was. The daemon must not run: it would go on by what it remembers itself."""
    try:
        instance = Instance(settings.state_folder)
        FileStoreMemory(settings.state_folder).save(StoreMark(accepted=True))
        instance.close()
    except Refused as refusal:
        print(f"brickwork-{kind}: {refusal}", file=sys.stderr)
        raise SystemExit(refusal.exit) from None
    print(f"brickwork-{kind} takes etcd as it is at its next start")
    raise SystemExit(Exit.OK)


def _this_host_is(settings: NodeSettings, node: str) -> NoReturn:
    """A daemon that runs, and waits, hears of it within a second."""
    try:
        private_folder(settings.state_folder)
        own = node_id(settings.state_folder, settings.node, socket.gethostname())
        if own != node:
            raise Refused(
                f"this host bears the node id {own!r}, not {node!r}: see `node` in the settings, and the state folder"
            )
        identity = identity_of(settings.host_identity)
        say_the_word(settings.state_folder, node, identity)
    except Refused as refusal:
        print(f"brickwork-node: {refusal}", file=sys.stderr)
        raise SystemExit(refusal.exit) from None
    print(
        f"this host ({identity}) is {node} from now on, as soon as the boot of the former host is stated to be over: "
        f"switch that off, and say so (brickctl describe node {node} names its boot): "
        f"brickctl fence {node} --boot BOOT --why replaced --evidence 'it is switched off' --powered-off. "
        f"Does a fence agent's command know the switch of {node} by that name? Give it this host's"
    )
    raise SystemExit(Exit.OK)
