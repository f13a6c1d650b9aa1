"""One watch: every change after a revision, exactly once and in order, over as many streams as it takes.

The rules, each learnt from a client that did otherwise:

* Resume from the last *event's* revision + 1. A response's header names the store's revision, which runs ahead of a watcher
  that is still catching up: resuming from it loses what lies between. The header counts only in a progress notice.
* A progress notice for *our* watch id moves the revision (etcd sends one only to a watcher that has everything). The answer
  to a progress *request* (id -1) does not: before 3.4.25 and 3.5.8 it could overtake events. It only proves life.
* `created` and `canceled` in one answer is a refusal, not a start. etcd 3.4 words an expired token as "permission denied",
  so a user with a password logs in again once before that is believed.
* A store that is behind us when a stream begins would stay silent until it has caught up, for ever if it was restored from a
  backup: a list, which is linearizable, tells the one from a member that lags.
* `compact_revision` ends the watch: the history is gone.
* A healthy watch may be silent for ten minutes. After `quiet_s` of silence it asks for a sign of life; a stream that does not
  answer is replaced, on the next endpoint; when nothing at all was heard for `silence_s`, the caller is told.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from reconciler.adapters.etcd import rpc
from reconciler.adapters.etcd.calls import Caller, Metadata, Pause
from reconciler.adapters.etcd.faults import LOST, REFUSED, Again, Failed
from reconciler.runtime.ports import Batch, Compacted, Event, Item, Stop, Unavailable

_POLL_S = 1.0
"""How soon a set `stop` is noticed while nothing comes."""
_TICK_S = 2.0
"""At least this often the caller gets a batch."""
_ANSWER_MAX = 1000
"""From so many revisions on a watch gets what it missed in more than one answer (etcd's `watchBatchMaxRevs`)."""
_STEADY_S = 2.0
"""A stream that lived this long starts the pauses from the shortest again; also the longest pause between streams."""


class Watch:
    """What one call of `Store.watch` remembers between its streams."""

    def __init__(self, caller: Caller, key: bytes, range_end: bytes, after_revision: int, stop: Stop) -> None:
        self._caller = caller
        self._key, self._range_end = key, range_end
        self._revision = after_revision
        self._stop = stop
        self._attempt_s = caller.settings.attempt_timeout_s
        self._quiet_s = 4 * caller.settings.timeout_s
        self._silence_s = 6 * caller.settings.timeout_s
        self._heard_at = self._yielded_at = time.monotonic()
        self._pause = Pause(0.1, _STEADY_S)
        self._logged_in_again = False
        self._trouble = "no answer"

    def batches(self) -> Iterator[Batch]:
        """See `Store.watch`."""
        while not self._ended():
            started_at = time.monotonic()
            try:
                yield from self._follow()
            except (Failed, Unavailable) as error:
                self._trouble = str(error)
            if time.monotonic() - started_at > _STEADY_S:
                self._pause.reset()
            yield from self._wait_out()

    def _follow(self) -> Iterator[Batch]:
        """The batches of one stream, until it breaks or the caller stops."""
        link, stream = self._caller.watch()
        try:
            stream.send(self._create())
            asked_at: float | None = time.monotonic()
            while not self._ended():
                answer = stream.receive(_POLL_S)
                now = time.monotonic()
                if answer is not None:
                    self._heard_at, asked_at = now, None
                    batch = self._read(answer)
                    if batch is not None:
                        self._yielded_at = now
                        yield batch
                        continue
                elif asked_at is None:
                    if now - self._heard_at >= self._quiet_s:
                        stream.send(rpc.PROGRESS_REQUEST)
                        asked_at = now
                elif now - asked_at >= self._attempt_s:
                    raise Failed.silent(now - asked_at)
                yield from self._tick()
        except Failed as failed:
            self._judge(failed, stream.metadata)
            self._caller.rotate(link)
            raise
        finally:
            stream.close()

    def _create(self) -> Any:
        request = rpc.WatchRequest()
        create = request.create_request
        create.key = self._key
        create.range_end = self._range_end
        create.start_revision = self._revision + 1
        create.progress_notify = True
        return request

    def _read(self, answer: Any) -> Batch | None:
        """What an answer brings; None when it brings nothing new."""
        if answer.compact_revision:
            raise Compacted(f"the changes after revision {self._revision} are gone from etcd (compacted)")
        if answer.canceled:
            raise Failed(REFUSED if answer.created else LOST, answer.cancel_reason or "cancelled without a reason")
        if answer.created:
            self._logged_in_again = False
            if 0 < answer.header.revision < self._revision:
                raise Compacted(f"etcd is at revision {answer.header.revision}, and was at {self._revision}: list anew")
            return None
        if answer.events:
            self._revision = answer.events[-1].kv.mod_revision
            return Batch(self._revision, tuple(_event(event) for event in answer.events))
        if answer.watch_id >= 0 and answer.header.revision > self._revision:
            self._revision = answer.header.revision
            return Batch(self._revision)
        return None

    def _judge(self, failed: Failed, metadata: Metadata) -> None:
        """Returns when another stream may serve; raises what stays true."""
        again = failed.fault.again
        if again is Again.LOGIN and not self._logged_in_again and self._caller.login_again(metadata):
            self._logged_in_again = True
        elif again in (Again.LOGIN, Again.NO):
            raise failed.translated(f"etcd at {self._caller.url}, watch {text(self._key)}", write=False) from failed

    def _wait_out(self) -> Iterator[Batch]:
        """The pause between two streams, with ticks; raises Unavailable when the silence has lasted too long."""
        end = time.monotonic() + self._pause.next_s()
        while not self._ended():
            now = time.monotonic()
            if now - self._heard_at >= self._silence_s:
                raise Unavailable(f"nothing heard from etcd for {now - self._heard_at:.0f} s; {self._trouble}")
            if now >= end:
                return
            self._caller.closed.wait(min(_POLL_S, end - now))
            yield from self._tick()

    def _tick(self) -> Iterator[Batch]:
        now = time.monotonic()
        if now - self._yielded_at >= _TICK_S:
            self._yielded_at = now
            yield Batch(self._revision)

    def _ended(self) -> bool:
        return self._stop.is_set() or self._caller.closed.is_set()


class _History(Watch):
    """A watch from some revision in the past, which knows how far its events are complete.

    Whoever catches up gets all events of a key in one answer, whose header then names the revision that they are complete to
    (etcd 3.4 to 3.7, `syncWatchers`), but for answers of `_ANSWER_MAX` revisions and more: the rest comes in another one. Answers
    to progress requests are no help: see above.
    """

    complete_to = 0

    def _read(self, answer: Any) -> Batch | None:
        batch = super()._read(answer)
        if batch is not None and batch.events:
            revisions = {event.revision for event in batch.events}
            self.complete_to = answer.header.revision if len(revisions) < _ANSWER_MAX else batch.revision
        return batch


class _Over:
    """A `Stop` at a deadline."""

    def __init__(self, timeout_s: float) -> None:
        self._end = time.monotonic() + timeout_s

    def is_set(self) -> bool:
        return time.monotonic() >= self._end


def history(caller: Caller, key: bytes, since: int, until: int) -> Sequence[Event]:
    """See `Store.history`. `until`: the store's revision when it was asked."""
    watch = _History(caller, key, b"", since - 1, _Over(caller.settings.timeout_s))
    events: list[Event] = []
    for batch in watch.batches():
        events += batch.events
        if watch.complete_to >= until:
            return tuple(events)
    raise Unavailable(f"etcd did not tell what became of {text(key)} from revision {since} to {until}")


def _event(event: Any) -> Event:
    pair = event.kv
    key = text(pair.key)
    if event.type == rpc.DELETED:
        return Event(key, None, pair.mod_revision)
    return Event(key, item(pair), pair.mod_revision)


def item(pair: Any) -> Item:
    """One key and value of etcd's as the port has them."""
    return Item(text(pair.key), pair.value, pair.mod_revision, pair.create_revision, pair.lease)


def text(key: bytes) -> str:
    """A key as text. Anybody may put bytes that are no UTF-8: they survive the way there and back, and disturb nobody."""
    return key.decode("utf-8", "surrogateescape")
