"""Recording what engines did: task runs with their states, and log lines, in batches.

A batch may come twice, late, or after a newer one; what is stored in the end does not depend on it:  # G11

- a state or a log line is inserted once, by its id, which its engine made;
- the row of a task run says what its newest news said. News are newer by (epoch, timestamp of the state, id of the
  state): an older attempt never replaces what a newer one wrote.  # G4
  When the server itself ends an open task run (its process died), it keeps the timestamp of the last real news: later
  news from a spool still win, and a second arrival of the same news does not;
- `dynamic_key` belongs to the newest attempt that uses it. When two attempts recorded the same call under different
  ids (the first one's news lay in a spool while the second began), the older one's key gets its id appended.

A batch is written by a few statements. If the database refuses one of its items, the batch is halved until that item
is alone, each part in a savepoint; it is named in the answer, and all others are stored.  # G13
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from msgspec.structs import asdict
from sqlalchemy import ColumnElement, bindparam, delete, or_, select, tuple_
from sqlalchemy.exc import InternalError, OperationalError, StatementError

from headrace.exceptions import ValidationFailed
from headrace.schemas.events import Event
from headrace.schemas.recording import RECORD, LogRecord, Recorded, Records, RefusedRecord, TaskRunRecord
from headrace.schemas.states import FINAL, State, StateType
from headrace.server.events.line_news import tell_of_lines
from headrace.server.operations.registry import implements
from headrace.server.operations.run_events import states_before, tell_of_task_runs
from headrace.server.operations.slots import free
from headrace.server.operations.tagged import index_tags
from headrace.server.operations.transitions import task_run_state_row
from headrace.server.store.statements import Columns, insert_ignore, upsert
from headrace.server.store.tables import LOG, SLOT_LEASE, TASK_RUN, TASK_RUN_STATE, TASK_RUN_TAG
from headrace.server.store.transaction import Tx

RecordT = TypeVar("RecordT", TaskRunRecord, LogRecord, Event)

logger = logging.getLogger("headrace.server.recording")

AT_ONCE = 1000
"""How many records one statement writes, however many a batch has."""
_ID = ("id",)
_KEY = ("flow_run_id", "task_key", "dynamic_key")
_NEWS = (
    "epoch",
    "name",
    "task_version",
    "task_inputs",
    "empirical_policy",
    "tags",
    "labels",
    "cache_key",
    "cache_expiration",
    "expected_start_time",
    "next_scheduled_start_time",
    "start_time",
    "end_time",
    "total_run_time",
    "run_count",
    "flow_run_run_count",
    "state_id",
    "state_type",
    "state_name",
    "state_timestamp",
    "updated",
)
"""The columns of a task run that news replace; what it is (its flow run, its keys) stays."""

_KEY_COLUMNS = [TASK_RUN.c[name] for name in _KEY]
_HOLDERS = select(TASK_RUN.c.id, TASK_RUN.c.epoch, *_KEY_COLUMNS).with_for_update()
_RENAME = TASK_RUN.update().where(TASK_RUN.c.id == bindparam("run_id")).values(dynamic_key=bindparam("new_key"))
_ENDED = select(TASK_RUN.c.id).where(
    TASK_RUN.c.id.in_(bindparam("ids", expanding=True)), TASK_RUN.c.state_type.in_([kind.value for kind in FINAL])
)
_FREE_SLOTS = delete(SLOT_LEASE).where(SLOT_LEASE.c.holder_id.in_(_ENDED))


@implements(RECORD, access="runs:write")
def record(tx: Tx, body: Records) -> Recorded:
    """Store a batch of task runs and log lines; says which of them can never be stored, and why."""
    refused = in_parts(tx, body.task_runs, _write_and_tell) + in_parts(tx, body.logs, _write_logs)
    if body.logs:
        tell_of_lines(tx, (line.id for line in body.logs))
    return Recorded(refused=refused)


def in_parts(
    tx: Tx, items: Sequence[RecordT], write: Callable[[Tx, Sequence[RecordT], bool], None]
) -> list[RefusedRecord]:
    """Write many items with few statements, each item at most once, and return those that can never be written.

    Args:
        tx: a writing transaction.
        items: what to write.
        write: writes some of them; its last argument asks it to look for clashes first.
    """
    parts = (items[start : start + AT_ONCE] for start in range(0, len(items), AT_ONCE))
    return [refused for part in parts for refused in _stored(tx, part, write)]


def _stored(
    tx: Tx, items: Sequence[RecordT], write: Callable[[Tx, Sequence[RecordT], bool], None], *, careful: bool = False
) -> list[RefusedRecord]:
    """Write items, each at most once; halve them until those that the database refuses are alone.  # G13

    Args:
        tx: a writing transaction.
        items: what to write.
        write: writes them with few statements; its last argument asks it to look for clashes first.
        careful: whether to look; only done when it went wrong without.

    Returns:
        What could not be written, and why.
    """
    if not items:
        return []
    try:
        with tx.part():
            write(tx, items, careful)
    except (ValidationFailed, StatementError, TypeError, ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, OperationalError | InternalError):  # the database is in trouble, not the item  # G16
            raise
        if not careful:
            return _stored(tx, items, write, careful=True)
        if len(items) == 1:
            return [_refused(items[0], error)]
        middle = len(items) // 2
        first, second = (_stored(tx, half, write, careful=True) for half in (items[:middle], items[middle:]))
        return first + second
    return []


def _refused(item: TaskRunRecord | LogRecord | Event, error: Exception) -> RefusedRecord:
    cause = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    reason = f"{type(cause).__name__}: {str(cause).partition(chr(10))[0]}"
    kind = _KINDS[type(item)]
    logger.error("A record of %s %s cannot be stored: %s", kind, item.id, reason)
    return RefusedRecord(id=item.id, reason=reason)


_KINDS: dict[type, str] = {TaskRunRecord: "task run", LogRecord: "log line", Event: "event"}


def _write_and_tell(tx: Tx, records: Sequence[TaskRunRecord], careful: bool) -> None:
    before = states_before(tx, records)
    write_task_runs(tx, records, careful)
    tell_of_task_runs(tx, records, before)  # G8


def write_task_runs(tx: Tx, records: Sequence[TaskRunRecord], careful: bool) -> None:
    """Write task runs and their new states, whose events are the caller's to write.

    Args:
        tx: a writing transaction.
        records: task runs, no two of them the same.
        careful: whether to look for others that hold their keys.
    """
    records = sorted(records, key=_by_id)  # locked in id order  # G16
    told = [(record, max(record.states, key=_age)) for record in records if record.states]
    silent = [record for record in records if not record.states]
    rows = [_row(record, newest, tx) for record, newest in told]
    if careful:
        _settle_keys(tx, rows)
    if silent:
        insert_ignore(tx, TASK_RUN, [_row(record, None, tx) for record in silent], index=_ID, counted=False)
    upsert(tx, TASK_RUN, rows, index=_ID, update=_NEWS, where=_newer, counted=False)
    states = [task_run_state_row(record.id, state) for record in records for state in record.states]
    insert_ignore(tx, TASK_RUN_STATE, states, index=_ID, counted=False)
    index_tags(tx, TASK_RUN_TAG, ((record.id, record.tags) for record in records))
    tagged = [record.id for record, newest in told if record.tags and newest.type in FINAL]
    if tagged:
        free(tx, _FREE_SLOTS, {"ids": tagged})


def _by_id(record: TaskRunRecord | LogRecord) -> UUID:
    return record.id


def _age(state: State) -> tuple[datetime, UUID]:
    return state.timestamp, state.id


def _newer(new: Columns) -> ColumnElement[bool]:
    stored = TASK_RUN.c
    return or_(
        stored.state_timestamp.is_(None),
        tuple_(stored.epoch, stored.state_timestamp, stored.state_id)
        < tuple_(new.epoch, new.state_timestamp, new.state_id),
    )


def _row(record: TaskRunRecord, newest: State | None, tx: Tx) -> dict[str, Any]:
    """The row a task run has if this record holds its newest news."""
    scheduled = newest is not None and newest.type is StateType.SCHEDULED
    return {
        "id": record.id,
        "created": tx.now,
        "updated": tx.now,
        "flow_run_id": record.flow_run_id,
        "epoch": record.epoch,
        "name": record.name,
        "task_key": record.task_key,
        "dynamic_key": record.dynamic_key,
        "task_version": record.task_version,
        "task_inputs": record.task_inputs,
        "empirical_policy": record.empirical_policy,
        "tags": record.tags,
        "labels": record.labels,
        "cache_key": record.cache_key,
        "cache_expiration": record.cache_expiration,
        "expected_start_time": record.expected_start_time or (newest.timestamp if newest else tx.now),
        "next_scheduled_start_time": newest.state_details.scheduled_time if newest and scheduled else None,
        "start_time": record.start_time,
        "end_time": record.end_time,
        "total_run_time": record.total_run_time,
        "run_count": record.run_count,
        "flow_run_run_count": record.flow_run_run_count,
        "state_id": newest and newest.id,
        "state_type": newest and newest.type.value,
        "state_name": newest and newest.name,
        "state_timestamp": newest and newest.timestamp,
    }


def _settle_keys(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    """Give each key to the newest attempt that uses it, where another task run of the flow run holds it."""
    wanted = [tuple(row[name] for name in _KEY) for row in rows]
    held: Any = tx.execute(_HOLDERS.where(tuple_(*_KEY_COLUMNS).in_(wanted)))
    holders = {tuple(key): (id, epoch) for id, epoch, *key in held}
    for row, key in zip(rows, wanted, strict=True):
        holder, epoch = holders.get(key, (row["id"], 0))
        if holder == row["id"]:
            continue
        if epoch < row["epoch"]:
            tx.execute(_RENAME, {"run_id": holder, "new_key": f"{row['dynamic_key']}-{holder.hex}"})
        else:
            row["dynamic_key"] = f"{row['dynamic_key']}-{row['id'].hex}"


def _write_logs(tx: Tx, records: Sequence[LogRecord], careful: bool) -> None:  # noqa: ARG001  logs never clash
    insert_ignore(tx, LOG, [{**asdict(record), "created": tx.now} for record in records], index=_ID, counted=False)
