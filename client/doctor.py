"""`brickctl doctor`: is this host fit for volumes, and if not, what is to be done about it?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import yaml

from client.exits import Exit
from client.known import Reader
from client.output import one_line
from client.session import Session
from client.settings import Given, settle
from client.settings import Settings as ClientSettings
from reconciler.adapters.brick import preflight
from reconciler.adapters.brick.preflight import Case, Finding, Fleet, Severity
from reconciler.runtime.ports import PortError, Store
from schema.keys import Family, Key, Keyspace
from schema.models import Alive, BackendStatus, NodeRecord

DEFAULT_FILE = Path("/etc/brickwork/node.yaml")
_ASK_TIMEOUT_S = 60
_PROTOCOL_OF = {
    "iscsi": "iscsi",
    "iser": "iscsi",
    "fc": "fc",
    "fibre_channel": "fc",
    "nfs": "nfs",
    "ceph": "rbd",
    "local": "local",
}
"""What Cinder's drivers call their protocols, in small letters; NVMe has a dozen names that all begin so."""


@click.command()
@click.option(
    "--config",
    type=click.Path(dir_okay=False),
    help=f"The node daemon's settings.  [default: {DEFAULT_FILE}, if it exists]",
)
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    type=click.Choice(preflight.PROTOCOLS),
    help="Look for what this one needs; may be repeated.  [default: what the backends serve, or this host seems made for]",
)
@click.option("--all", "everything", is_flag=True, help="Show what is as it should be, too.")
@click.option("-o", "--output", "form", type=click.Choice(["table", "json"]), default="table", help="[default: table]")
@click.pass_obj
def doctor(session: Session, config: str | None, protocols: tuple[str, ...], everything: bool, form: str) -> None:
    """Look at this host for what is known to go wrong on nodes.

    \b
    sudo brickctl doctor
    sudo brickctl doctor --protocol iscsi -o json

    Run it on the node, as root. It reads the node daemon's settings as the
    daemon does, asks etcd as the daemon would, and changes nothing. What other
    nodes are called is only seen with a user's rights: give them before the
    command, as in brickctl --cert FILE --key FILE doctor.

    Exit codes: 0 nothing found; 1 something found, error or warning.
    """
    host = preflight.SystemHost()
    settings, fault = _settings(Path(config) if config else None)
    node = preflight.node_id(host, settings)
    told = _ask_etcd(session, settings, node)
    case = Case(
        host=host,
        settings=settings,
        node=node,
        protocols=frozenset(protocols) or told.protocols or preflight.seems_made_for(host),
        fleet=told.fleet,
        settings_fault=fault,
        now=session.clock.wall(),
    )
    findings = preflight.preflight(case)
    if form == "json":
        found = [asdict(each) for each in findings]
        click.echo(json.dumps({"node": case.node, "protocols": sorted(case.protocols), "findings": found}, indent=2))
    else:
        _show(case, findings, everything=everything)
    if any(each.severity in (Severity.ERROR, Severity.WARNING) for each in findings):
        raise click.exceptions.Exit(Exit.UNMET)


def _show(case: Case, findings: list[Finding], *, everything: bool) -> None:
    order = list(Severity)
    for each in sorted(findings, key=lambda each: order.index(each.severity)):
        if each.severity is not Severity.OK or everything:
            click.echo(f"{each.severity:<8} {each.id}: {one_line(each.seen)}")
            for number, line in enumerate(each.remedy):
                click.echo(
                    f"  {'' if number else 'remedy:':<11} {' ' * (len(line) - len(line.lstrip()))}{one_line(line)}"
                )
    counts = [f"{kind} {sum(each.severity is kind for each in findings)}" for kind in order]
    click.echo(
        f"node {case.node}, for {', '.join(sorted(case.protocols))}: {len(findings)} checks: {', '.join(counts)}"
    )


# --- the node's settings -------------------------------------------------------------------------------------------------


def _settings(file: Path | None) -> tuple[preflight.Settings, str]:
    """The settings as the node daemon itself understands them, and what it says against them. With faults: its defaults."""
    arguments = ["--config", str(file.absolute())] if file else []
    told = _ask_daemon(arguments, os.environ)
    fault = ""
    if told.returncode != 0:
        fault = one_line(told.stderr.removeprefix("brickwork-node: "))
        own = {name: value for name, value in os.environ.items() if not name.startswith("BRICKWORK_")}
        told = _ask_daemon(["--config", os.devnull], own)
    return preflight.Settings.model_validate(yaml.safe_load(told.stdout)), fault


def _ask_daemon(arguments: list[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Its program, not its code: the client knows nothing of daemons."""
    command = [sys.executable, "-m", "daemons.node", *arguments, "--check-config", "--elsewhere"]  # looks itself
    return subprocess.run(
        command, env=dict(environ), capture_output=True, text=True, timeout=_ASK_TIMEOUT_S, check=False
    )


# --- etcd ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Told:
    fleet: Fleet
    protocols: frozenset[str] = frozenset()


def _ask_etcd(session: Session, settings: preflight.Settings, node: str) -> _Told:
    """As the node; and what a node may not read, as the user, where somebody said who that is."""
    if session.given_store is not None:
        return _read(session.store, settings, node)
    told = _as_the_node(session, settings, node)
    if told.fleet.hidden and _names_somebody(session.settings):
        try:
            return _read(session.store, settings, node)
        except (click.ClickException, PortError) as error:
            click.echo(f"note: as the user, etcd can't be asked: {_words(error)}", err=True)
    return told


def _names_somebody(user: ClientSettings) -> bool:
    return bool(user.cert_file or user.user)


def _as_the_node(session: Session, settings: preflight.Settings, node: str) -> _Told:
    etcd = settings.etcd
    given = Given(
        endpoints=etcd.endpoints,
        ca_file=_text(etcd.ca_file),
        cert_file=_text(etcd.cert_file),
        key_file=_text(etcd.key_file),
        user=etcd.user,
        password_file=_text(etcd.password_file),
        prefix=settings.prefix,
        connect_timeout_s=session.settings.connect_timeout_s,
    )
    own: Session | None = None
    try:
        own = Session(settle(given), clock=session.clock, interactive=lambda: False)
        return _read(own.store, settings, node)
    except (click.ClickException, PortError) as error:
        return _Told(Fleet(failure=_words(error)))
    finally:
        if own is not None:
            own.close()


def _words(error: click.ClickException | PortError) -> str:
    return one_line(error.message if isinstance(error, click.ClickException) else str(error))


def _text(path: Path | None) -> str | None:
    return str(path) if path else None


def _read(store: Store, settings: preflight.Settings, node: str) -> _Told:
    reader = Reader(store, Keyspace(settings.prefix))
    known = reader.together([Key(Family.NODE, (node,)), Key(Family.ALIVE, (node,))])
    for family in (Family.NODE, Family.ALIVE, Family.BACKEND):
        reader.more(known, family)
    nodes = {key.names[0]: known.value(key, NodeRecord) for key in known.keys(Family.NODE)}
    alive = {key.names[0]: known.value(key, Alive) for key in known.keys(Family.ALIVE)}
    backends = [known.value(key, BackendStatus) for key in known.keys(Family.BACKEND)]
    fleet = Fleet(
        nodes={name: record for name, record in nodes.items() if isinstance(record, NodeRecord)},
        alive={name: sign.boot for name, sign in alive.items() if isinstance(sign, Alive)},
        hidden=Family.NODE in known.denied,
    )
    return _Told(fleet, frozenset(_protocols(each for each in backends if isinstance(each, BackendStatus))))


def _protocols(backends: Iterable[BackendStatus]) -> Iterator[str]:
    for backend in backends:
        name = (backend.protocol or "").lower()
        if name.startswith("nvme"):
            yield "nvme"
        elif name in _PROTOCOL_OF:
            yield _PROTOCOL_OF[name]
