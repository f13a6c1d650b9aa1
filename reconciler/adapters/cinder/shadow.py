"""The database that drivers expect, made from records: Cinder's own DB API over SQLite in memory.

etcd holds the truth. A driver gets its volume as Cinder's own object, built straight from the record that came with the call
(0.1 ms). Many drivers never look into the database; for those that do, rows are written at the moment of the first look:
every function of `cinder.db.api` is wrapped, and brings the rows of the volumes that changed since up to date before it runs.
So rows cost nothing until somebody asks for them, and then only what changed.

What Cinder would have stored comes back as the model: either the changes that the driver returned, or, when it wrote to the
database itself, what is in the database afterwards.

One lock around all of it: SQLite in memory has one connection for all threads.
"""

from __future__ import annotations

import functools
import json
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from cinder import context as cinder_context
from cinder import objects
from cinder.db import api as db
from cinder.db import models
from oslo_config import cfg

from reconciler.adapters.cinder import records
from reconciler.adapters.cinder.records import Record

_local = threading.local()
_INITIATOR_DATA = "initiator_data"
"""Where a model keeps what a driver stores per initiator (Pure: CHAP secrets): rows of initiator, namespace, key, value."""


def admin_context() -> Any:
    """Cinder's request context of this thread."""
    if not hasattr(_local, "context"):
        owner = records.OWNER
        _local.context = cinder_context.RequestContext(user_id=owner, project_id=owner, is_admin=True, overwrite=False)
    return _local.context


@dataclass(frozen=True, slots=True)
class Loaded:
    """A volume in a driver's hands. `writes`: how often drivers had written to the database when it was loaded."""

    volume: Any
    record: Record
    writes: int


class Shadow:
    """All volumes of a backend, as objects and, on demand, as rows. One per process, because `cinder.db.api` is one.

    Args:
        host: Cinder's name of the backend, ``host@backend``: of volumes that have no pool yet.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._lock = threading.RLock()
        self._depth = 0  # of nested calls into the DB API
        self._tables: _Tables | None = None  # made when somebody looks
        self._pending: dict[str, Record] = {}  # what rows should say and do not, by uid
        self._written: dict[str, Record] = {}  # what rows say, by uid
        self._types: dict[str, Any] = {}
        db.configure(cfg.CONF)  # at once: some drivers make the engine without asking for any row
        for name, function in list(vars(db).items()):
            ours = isinstance(function, types.FunctionType) and function.__module__ == db.__name__
            if ours and hasattr(function, "__wrapped__"):  # it is decorated: it opens a transaction
                setattr(db, name, self._guarded(function))

    def announce(self, record: Record) -> None:
        """Let drivers find a volume in the database, without loading it now."""
        with self._lock:
            if self._written.get(record["uid"]) == record:
                self._pending.pop(record["uid"], None)
            else:
                self._pending[record["uid"]] = record

    def load(self, record: Record, status: str | None = None, attaching: str | None = None) -> Loaded:
        """The volume as a driver gets it.

        Args:
            status: Cinder's volume status; else ``in-use`` or ``available``.
            attaching: the node whose export is under way.
        """
        state = {"status": status, "attaching": attaching}
        record = {**record, **{name: value for name, value in state.items() if value}}
        self.announce(record)
        context = admin_context()
        volume = objects.Volume(context, **records.volume_fields(record, self._host))
        attachments = [objects.VolumeAttachment(context, **fields) for fields in records.attachment_fields(record)]
        volume.volume_attachment = objects.VolumeAttachmentList(context, objects=attachments)
        for part in (*attachments, volume.volume_attachment):  # else `save` would take them for changes
            part.obj_reset_changes()
        volume.volume_type = self._volume_type(record)
        volume.obj_reset_changes()
        return Loaded(volume, record, self._writes)

    def settle(self, loaded: Loaded, update: Mapping[str, Any] | None = None) -> tuple[dict[str, Any], int]:
        """Apply what the driver returned; gives the model and the size (GiB) that are to be kept.

        Cinder saves a volume only when the driver returned an update; other changes of the object are forgotten.
        """
        volume, record = loaded.volume, loaded.record
        if update:
            volume.update({name: value for name, value in update.items() if name != "id"})
        if self._writes != loaded.writes:
            if update:
                volume.save()
            volume = objects.Volume.get_by_id(admin_context(), volume.id)
        elif not update:
            return dict(record["model"]), record["size_gib"]
        model = records.model_of(volume, record)
        if self._tables and (rows := self._initiator_data(record)):
            model[_INITIATOR_DATA] = rows
        self.announce({**record, "model": model, "size_gib": volume.size})
        return model, volume.size

    def forget(self, uid: str) -> None:
        """The volume is gone."""
        with self._lock:
            self._pending.pop(uid, None)
            if self._written.pop(uid, None) is not None and self._tables:
                self._tables.delete([uid])

    def _volume_type(self, record: Record) -> Any:
        type_id, specification = records.type_of(record)
        if type_id not in self._types:
            specs = specification.get("extra_specs", {})
            new = objects.VolumeType(admin_context(), id=type_id, name=type_id, is_public=True, extra_specs=specs)
            new.obj_reset_changes()
            self._types[type_id] = new
        return self._types[type_id]

    def _initiator_data(self, record: Record) -> list[list[str]]:
        with self._lock:
            assert self._tables is not None
            initiators = {export["connector"].get("initiator") for export in record["exports"]}
            return self._tables.initiator_data(initiators) or record["model"].get(_INITIATOR_DATA, [])

    @property
    def _writes(self) -> int:
        return self._tables.foreign_writes if self._tables else 0

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of the DB API that waits for its turn, and finds rows that are up to date."""

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                if self._depth == 0:
                    self._flush()
                self._depth += 1
                try:
                    return function(*args, **kwargs)
                finally:
                    self._depth -= 1

        return guarded

    def _flush(self) -> None:
        if self._tables is None:
            self._tables = _Tables()
        if self._pending:
            self._tables.replace(list(self._pending.values()), self._host)
            self._written.update(self._pending)
            self._pending.clear()


class _Tables:
    """Cinder's tables, written to directly. To be used under the lock."""

    def __init__(self) -> None:
        self._engine = db.get_engine()
        models.BASE.metadata.create_all(self._engine)
        self._types: set[str] = set()
        self._own = False
        self.foreign_writes = 0
        sqlalchemy.event.listen(self._engine, "before_cursor_execute", self._count)

    def _count(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not self._own and statement.startswith(("INSERT", "UPDATE", "DELETE")):
            self.foreign_writes += 1

    def replace(self, of: list[Record], host: str) -> None:
        """Bring the rows of these volumes in line with their records."""
        volumes = [records.volume_fields(record, host) for record in of]
        pairs = {
            model: [(volume["id"], pair) for volume in volumes for pair in volume.pop(name).items()]
            for model, name in ((models.VolumeMetadata, "metadata"), (models.VolumeAdminMetadata, "admin_metadata"))
        }
        attachments = [fields for record in of for fields in records.attachment_fields(record)]
        for row in attachments:
            row["connector"] = row["connector"] and json.dumps(row["connector"])
        data = [row for record in of for row in record["model"].get(_INITIATOR_DATA, ())]
        names = ("initiator", "namespace", "key", "value")
        with self._transaction() as connection:
            self._delete(connection, [record["uid"] for record in of])
            for type_id, specification in dict(map(records.type_of, of)).items():
                self._write_type(connection, type_id, specification)
            _insert(connection, models.Volume, volumes)
            for model, found in pairs.items():
                rows = [{"volume_id": uid, "key": key, "value": value} for uid, (key, value) in found]
                _insert(connection, model, rows)
            _insert(connection, models.VolumeAttachment, attachments)
            rows = [dict(zip(names, row, strict=True)) for row in data]
            _insert(connection, models.DriverInitiatorData, rows, or_="IGNORE")

    def _write_type(self, connection: Any, type_id: str, specification: Mapping[str, Any]) -> None:
        if type_id in self._types:
            return
        self._types.add(type_id)
        specs, qos = specification.get("extra_specs", {}), specification.get("qos")
        qos_id = records.derived_id("qos", type_id) if qos else None
        _insert(connection, models.VolumeType, [{"id": type_id, "name": type_id, "qos_specs_id": qos_id}])
        rows = [{"volume_type_id": type_id, "key": key, "value": value} for key, value in specs.items()]
        _insert(connection, models.VolumeTypeExtraSpecs, rows)
        if qos:
            pairs = {"consumer": qos.get("consumer", "back-end"), **qos.get("specs", {})}
            rows = [{"id": qos_id, "specs_id": None, "key": "QoS_Specs_Name", "value": qos_id}]
            rows += [
                {"id": records.derived_id(qos_id, key), "specs_id": qos_id, "key": key, "value": value}
                for key, value in pairs.items()
            ]
            _insert(connection, models.QualityOfServiceSpecs, rows)

    def delete(self, uids: list[str]) -> None:
        with self._transaction() as connection:
            self._delete(connection, uids)

    def _delete(self, connection: Any, uids: list[str]) -> None:
        for start in range(0, len(uids), 500):  # SQLite limits the number of parameters
            some = uids[start : start + 500]
            for model in (models.VolumeMetadata, models.VolumeAdminMetadata, models.VolumeAttachment):
                connection.execute(sqlalchemy.delete(model.__table__).where(model.__table__.c.volume_id.in_(some)))
            table = models.Volume.__table__
            connection.execute(sqlalchemy.delete(table).where(table.c.id.in_(some)))

    def initiator_data(self, initiators: Iterable[str | None]) -> list[list[str]]:
        table = models.DriverInitiatorData.__table__
        query = sqlalchemy.select(table.c.initiator, table.c.namespace, table.c.key, table.c.value).order_by(table.c.id)
        with self._transaction() as connection:
            found = connection.execute(query.where(table.c.initiator.in_([name for name in initiators if name])))
            return [list(row) for row in found]

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        self._own = True
        try:
            with self._engine.begin() as connection:
                yield connection
        finally:
            self._own = False


def _insert(connection: Any, model: Any, rows: list[dict[str, Any]], or_: str = "REPLACE") -> None:
    if rows:
        connection.execute(sqlalchemy.insert(model.__table__).prefix_with(f"OR {or_}"), rows)
