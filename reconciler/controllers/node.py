"""The node's side of every attachment: read, plan, confirm, act once, record.

`reconcile` looks at one volume, asks `plan_node` for the next step, and carries it out. The node as a whole (its boot, its
published record) is one more key of the same queue, `NODE_KEY`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from reconciler.controllers.conditions import NoteUnreadable
from reconciler.controllers.host import Host, Known
from reconciler.controllers.node_steps import NodeSteps, PathsNotAdded
from reconciler.controllers.snapshot import Conflict, Snapshot, Writer
from reconciler.controllers.vanished import VanishedAttachments
from reconciler.controllers.verdicts import rfc3339
from reconciler.core.mass import MassRule
from reconciler.core.ownership import Ownership, ThisHost, ownership
from reconciler.core.plan_node import leaves_trace, plan_boot, plan_node
from reconciler.core.reading import attachment_view, looking
from reconciler.core.steps import Do, Step
from reconciler.core.views import AttachmentView, OnHost
from reconciler.runtime.cache import Cache
from reconciler.runtime.controller import After, Again, Done, Result
from reconciler.runtime.ports import Boot, Busy, Clock, Connector, HostIdentity, PortError, Store
from schema.codec import Malformed, host_identity_in
from schema.keys import Family, Key, Keyspace
from schema.models import AttachmentPhase, NodeRecord

NODE_KEY = ".node"
"""The queue key of the node itself; no volume can have this name."""

OTHER_HOST_S = 1.0
"""Between two looks whether a person said that this host is the node: a file tells nobody that it was written."""
BUSY_LOOK_S = 2.0
"""Between two looks at a device in use: the kernel tells nobody when it becomes free."""


def _seen(known: Known | None) -> tuple[str, bool]:
    """What a look at an attached device found, and whether all is well."""
    if known is None or known.on_host is not OnHost.PRESENT:
        return "it is gone", False
    if known.fault is not None or known.device is None:
        return str(known.fault or "nothing usable is left of it"), False
    live, total = known.device.paths_live, known.device.paths_total
    return f"{live}/{total} paths are live", live >= total


class NodeReconciler:
    """Reconciles this node's attachments, by volume name, and the node itself."""

    def __init__(
        self,
        *,
        node: str,
        store: Store,
        cache: Cache,
        keyspace: Keyspace,
        clock: Clock,
        connector: Connector,
        host: Host,
        boot: Boot,
        this: HostIdentity,
        record: Callable[[], NodeRecord],
        enqueue: Callable[[str], None],
        failpoint: Callable[[str], None],
        observe_step: Callable[[str, Step, float, BaseException | None], None],
        mass: Callable[[], MassRule],
        tell_paused: Callable[[str, str], None],
        tell_device: Callable[[str, str, bool], None],
        verify_s: float = 15.0,
    ) -> None:
        self._node = node
        self._cache = cache
        self._keyspace = keyspace
        self._clock = clock
        self._host = host
        self._boot = boot
        self._this = this
        self._record = record
        self._enqueue = enqueue
        self._observe_step = observe_step
        self._verify_s = verify_s
        self._tell_paused = tell_paused
        self._tell_device = tell_device
        self._vanished = VanishedAttachments(node, cache, keyspace, host, mass)
        self._errors: dict[str, tuple[Do, PortError]] = {}
        self._writer = Writer(store, cache, keyspace)
        self._steps = NodeSteps(
            node=node,
            writer=self._writer,
            connector=connector,
            host=host,
            boot=boot,
            this=this,
            clock=clock,
            failpoint=failpoint,
        )

    def reconcile(self, key: str) -> Result:
        """One look at one volume, or at the node itself; at most one step."""
        if key == NODE_KEY:
            return self._reconcile_node()
        snapshot = Snapshot(self._cache, self._keyspace)
        view = self._view(key, snapshot)
        if view.wish is None and not view.drain and view.device is OnHost.PRESENT:
            view = replace(view, paused=self._vanished.why_paused(key, snapshot))
        if view.note_fault:
            return Done() if view.foreign else self._hold(key, view.note_fault, snapshot)
        step = plan_node(view)
        if step is None:
            return Done() if view.foreign else self._settle(key, view, snapshot)
        result = self._act(key, step, snapshot)
        if view.fenced or not view.published:
            self._enqueue(NODE_KEY)
        return result

    def failed(self, key: str, delay_s: float) -> None:
        """The queue will try again in `delay_s` seconds: say in the attachment's status why it is not settled."""
        failed = self._errors.get(key)
        snapshot = Snapshot(self._cache, self._keyspace)
        if failed is not None and not self._ownership(snapshot).fault:
            do, error = failed
            self._steps.tell(key, snapshot, error, rfc3339(self._clock.wall() + delay_s), connecting=do is Do.CONNECT)

    def _view(self, volume: str, snapshot: Snapshot) -> AttachmentView:
        on_host = self._host.on_host(volume, snapshot)
        paths = self._steps.paths_to_add(volume)
        note = self._host.note(volume)
        noted = (note.uid, note.epoch, note.boot) if note is not None else None
        size_gib = note.size_gib if note is not None else None
        boot = self._boot.current()
        view = attachment_view(
            snapshot.see,
            self._node,
            volume,
            boot,
            on_host,
            noted,
            paths_to_add=paths,
            size_gib=size_gib,
            this=self._this_host(),
            told=self._told(),
        )
        return replace(view, note_fault=self._host.spoiled(volume))

    def _act(self, volume: str, step: Step, snapshot: Snapshot) -> Result:
        started = self._clock.now()
        error: PortError | None = None
        self._errors.pop(volume, None)
        try:
            self._steps.carry_out(step, volume, snapshot)
        except Busy as busy:
            error = busy
            self._steps.tell(volume, snapshot, busy, None)
            return After(BUSY_LOOK_S)
        except PathsNotAdded as caught:
            error = caught  # the attachment is as it was; its next look tells
        except PortError as caught:
            error = caught
            if not isinstance(caught, Conflict):
                self._errors[volume] = (step.do, caught)
            raise
        finally:
            self._observe_step(volume, step, self._clock.now() - started, error)
        return Again()

    def _hold(self, volume: str, fault: str, snapshot: Snapshot) -> Result:
        """Nothing is done with a volume whose note can't be read, until somebody puts that right."""
        if self._host.read_again(volume):
            return Again()
        self._steps.tell(volume, snapshot, NoteUnreadable(fault), None)
        return After(self._verify_s)

    def unreadable(self) -> list[str]:
        """What can't be read of this node's keys and notes, and why: each holds up its own volume."""
        snapshot, found = Snapshot(self._cache, self._keyspace), []
        for family in (Family.CLAIM, Family.ATTACHMENT, Family.CONNECTION):
            folder = self._keyspace.folder(family, self._node)
            for name in (item.key.removeprefix(folder) for item in self._cache.prefix(folder)):
                seen = snapshot.see(Key(family, (self._node, name)))
                if seen is not None and isinstance(seen.value, Malformed):
                    found.append(f"{family.path}/{self._node}/{name} can't be read: {seen.value}")
        return found + [fault for volume in self._host.volumes() if (fault := self._host.spoiled(volume))]

    def _settle(self, volume: str, view: AttachmentView, snapshot: Snapshot) -> Result:
        """Nothing to do: verify now and then that what is published is still so."""
        if self._steps.tell_paused(volume, snapshot, view.paused):
            self._tell_paused(volume, view.paused)
            return Again()
        attached = view.status is not None and view.status[0] is AttachmentPhase.ATTACHED
        if not attached or view.device is not OnHost.PRESENT:
            return Done()
        known = self._host.known(volume)
        due_s = (known.looked_at_s if known else 0.0) + self._verify_s - self._clock.now()
        if due_s > 0:
            return After(due_s)
        before = _seen(known)
        self._steps.verify(volume, snapshot)
        known = self._host.known(volume)
        if (now := _seen(known)) != before:
            self._tell_device(volume, *now)
        gone = known is None or known.on_host is not OnHost.PRESENT
        return Again() if gone or self._steps.paths_to_add(volume) else After(self._verify_s)

    # --- which host the node is

    def not_the_node(self) -> str:
        """Why this host is not the node, and which devices of it are here all the same. Empty: it is, or may become it."""
        fault = self._ownership(Snapshot(self._cache, self._keyspace)).fault
        if not fault:
            return ""
        known = ((volume, self._host.known(volume)) for volume in sorted(self.volumes()))
        here = [volume for volume, device in known if device is not None and device.on_host is OnHost.PRESENT]
        what = f". Devices of {self._node} are on this host all the same: {', '.join(here)}; nobody may write to them"
        return fault + (what if here else "")

    def _ownership(self, snapshot: Snapshot) -> Ownership:
        return ownership(looking(snapshot.see), self._node, self._this_host(), self._told())

    def _this_host(self) -> ThisHost:
        this = self._this
        return ThisHost(this.identity(), this.boots() | {self._boot.current()}, this.was_node(), this.word())

    def _told(self) -> str | None:
        item = self._cache.get(self._keyspace.path(Family.NODE, self._node))
        unreadable = item is not None and not isinstance(self._cache.decoded(item), NodeRecord)
        return host_identity_in(item.value) if item is not None and unreadable else None

    # --- the node itself

    def _reconcile_node(self) -> Result:
        snapshot = Snapshot(self._cache, self._keyspace)
        boot = self._boot.current()
        key = Key(Family.NODE, (self._node,))
        published = snapshot.value(key, NodeRecord)
        fence = Key(Family.FENCE, (self._node, boot))
        fenced = snapshot.see(fence) is not None
        wanted = self._record()
        own = self._ownership(snapshot)
        step = plan_boot(
            published=published == wanted,
            fenced=fenced,
            traces=sum(1 for view in self._views() if leaves_trace(view)),
            claims=sum(1 for view in self._views() if plan_node(view) is not None) if fenced else 0,
            foreign=bool(own.fault),
        )
        if step is None:
            if published == wanted:
                self._this.published(boot)
            elif own.fault and published is not None:
                self._this.replaced()
            return After(OTHER_HOST_S) if own.fault else Done()
        if step.do is Do.MINT_BOOT:
            self._boot.mint()
        else:
            rests_on = (key, fence) if own.fence is None else (key, fence, own.fence)
            self._writer.commit(snapshot, rests_on, [(key, wanted)])
        for volume in self.volumes():
            self._enqueue(volume)
        return Again()

    @property
    def published(self) -> bool:
        """Whether the world knows this boot: then nothing of an earlier one is left here."""
        record = Snapshot(self._cache, self._keyspace).value(Key(Family.NODE, (self._node,)), NodeRecord)
        return record is not None and record.boot == self._boot.current()

    def _views(self) -> list[AttachmentView]:
        """Every attachment as it is now."""
        snapshot = Snapshot(self._cache, self._keyspace)
        return [self._view(volume, snapshot) for volume in self.volumes()]

    def paused(self) -> int:
        """Attachments that stay although their wishes are gone."""
        return self._vanished.paused()

    def volumes(self) -> set[str]:
        """Every volume that any key of this node, or a note, speaks of."""
        families = (Family.DESIRED_ATTACHMENT, Family.CLAIM, Family.ATTACHMENT, Family.CONNECTION)
        folders = [self._keyspace.folder(family, self._node) for family in families]
        named = {item.key.removeprefix(folder) for folder in folders for item in self._cache.prefix(folder)}
        return {name for name in named if "/" not in name} | set(self._host.volumes())
