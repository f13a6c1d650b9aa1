"""`brickwork-fence-agent`: asks a command of yours to prove that a silent node can no longer write, and writes that down.

reflectors ──▶ cache ──▶ Fencing, each second and at each change ──▶ store, and the command
one election among all agents: one acts
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence

import structlog

from daemons.assembly import STOP_BOUND_S, Assembly
from daemons.commandline import settings_from
from daemons.process import Exit, keep_to_itself, run
from daemons.settings import FenceAgentSettings
from daemons.shell import Shell
from reconciler.adapters.fence_command import FenceCommand
from reconciler.controllers.fencing import LOOK_S, FenceOptions, Fencing
from reconciler.core.plan_fence import Hold, Limits
from reconciler.runtime.backoff import Backoff
from reconciler.runtime.election import Election
from reconciler.runtime.lease import LeaseSession
from reconciler.runtime.ports import Compare, Fencer, PortError
from schema.keys import FENCE_AGENT, Family

PROGRAM = "brickwork-fence-agent"
WATCHED = (
    Family.NODE,
    Family.ALIVE,
    Family.VOLUME,
    Family.DESIRED_ATTACHMENT,
    Family.FENCE,
    Family.LEADER,
)
"""All that it reads (deploy/etcd-roles.sh). It writes `fences/`, and its own key in `leaders/`."""

_log = structlog.get_logger("brickwork")


class FenceAgent:
    """One agent process.

    Args:
        shell: made without calls and indexes.
        fencer: the command.
    """

    def __init__(self, settings: FenceAgentSettings, shell: Assembly, fencer: Fencer) -> None:
        self._shell = shell
        self._fencer = fencer
        self._name = settings.name
        keyspace = shell.keyspace
        self._reflectors = [shell.reflect(keyspace.folder(family)) for family in WATCHED]
        self._session = LeaseSession(
            shell.store, shell.clock, shell.rng, ttl_s=settings.lease_ttl_s, report=shell.reporter("lease")
        )
        shell.needs_lease(self._session)
        shell.telemetry.watch_lease("fence-agent", lambda: self._session.age_s)
        self._election = Election(
            shell.store,
            shell.cache,
            self._session,
            keyspace.path(Family.LEADER, FENCE_AGENT),
            settings.name,
            shell.clock,
            shell.rng,
            host=socket.gethostname(),
            on_elected=lambda: _log.info("leads the fence agents", agent=settings.name),
            on_lost=self._lost,
            report=shell.reporter("election"),
        )
        self._fencing = Fencing(
            store=shell.store,
            cache=shell.cache,
            keyspace=keyspace,
            clock=shell.clock,
            fencer=fencer,
            options=FenceOptions(
                Limits(settings.after_s, settings.max_at_once, settings.window_s),
                f"{PROGRAM} {settings.name}",
                settings.only_awaited,
            ),
            guard=self._guard,
            backoff=lambda: Backoff(shell.rng, settings.retry_base_s, settings.retry_cap_s),
            tell=self._tell,
        )
        for reason in Hold:
            shell.telemetry.watch_held_back(reason.value, lambda reason=reason: self._count(reason))  # type: ignore[misc]
        self._told: dict[str, Hold] = {}
        self._wake = shell.clock.signal()
        self._stopping = False
        shell.cache.subscribe(keyspace.prefix, lambda _: self._wake.set())

    def serve(self) -> Exit:
        shell = self._shell
        shell.at_stop(lambda: self._session.close(STOP_BOUND_S))
        shell.at_stop(lambda: self._election.resign(STOP_BOUND_S))
        shell.at_stop(self._stop)
        shell.clock.spawn("fencing", self._run)
        return shell.serve(PROGRAM, self._wake.set)

    def _run(self) -> None:
        """Nobody campaigns, and nobody counts silence, before everything is listed."""
        for reflector in self._reflectors:
            reflector.synced.wait()
        self._session.start()
        self._election.start()
        report = self._shell.reporter("fencing")
        while not self._stopping:
            if all(reflector.synced.is_set() for reflector in self._reflectors):
                try:
                    self._fencing.look()
                except PortError as error:
                    report(error)
                self._tell_held_back()
            self._wake.wait(LOOK_S)
            self._wake.clear()

    def _stop(self) -> None:
        self._stopping = True
        self._wake.set()
        self._fencer.kill()

    def _lost(self) -> None:
        """The command ends before a successor may start one."""
        self._fencer.kill()
        _log.info("leads the fence agents no more", agent=self._name)

    def _guard(self) -> Compare | None:
        return self._election.guard if self._election.elected.is_set() and not self._stopping else None

    # --- telling

    def _tell(self, node: str, outcome: str, details: str) -> None:
        self._shell.telemetry.fence_tried(outcome)
        log = _log.warning if outcome in ("fenced", "failed") else _log.info
        log(f"fence command: {outcome}", node=node, details=details)

    def _count(self, reason: Hold) -> float:
        return sum(each is reason for each in self._fencing.held.values())

    def _tell_held_back(self) -> None:
        """Once for each node and reason, by the agent that acts."""
        if self._guard() is None:
            return
        held = self._fencing.held
        for node, reason in held.items():
            if self._told.get(node) is not reason:
                log = _log.info if reason is Hold.PATIENCE else _log.warning
                log(f"a silent node is not fenced: {_MEANING[reason]}", node=node, reason=reason.value)
        self._told = dict(held)


_MEANING = {
    Hold.PATIENCE: "it has not been silent for after_s yet",
    Hold.MAJORITY: "more than half of all nodes went quiet together, so it is rather etcd, our network or this agent; "
    "if it is not, fence by hand: brickctl fence",
    Hold.LIMIT: "max_at_once nodes were fenced within window_s; if it is in a hurry, fence by hand: brickctl fence",
    Hold.RETRY: "the command failed, or said: not now; it is tried again",
}


def start(settings: FenceAgentSettings) -> FenceAgent:
    """The daemon on this machine. Raises Refused."""
    shell = Shell(settings, ())
    command = FenceCommand(
        settings.fence_command,
        deadline_s=settings.deadline_s,
        environ=os.environ,
        log=lambda line: _log.info(line, command=settings.fence_command[0]),
    )
    return FenceAgent(settings, shell, command)


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script."""
    keep_to_itself()
    settings = settings_from("fence-agent", sys.argv[1:] if arguments is None else arguments, os.environ)
    return run(PROGRAM, lambda: start(settings).serve())


if __name__ == "__main__":
    raise SystemExit(main())
