"""Loading what the rules decide by: runs as they stand, and the facts a rule declares.

A run is loaded with its current state by one statement, and its row is locked (PostgreSQL; SQLite has one writer), so
that what was decided is still true when it is written. Locks are taken in one order: run, limit, then slots.  # G16
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import FromClause, Row, Table, and_, bindparam, or_, select

from headrace.exceptions import ObjectNotFound
from headrace.schemas.concurrency_limits import ConcurrencyLimitStrategy
from headrace.schemas.states import State, StateDetails, StateType
from headrace.server.operations.rows import values_of
from headrace.server.operations.slots import standings
from headrace.server.operations.surroundings import SURROUNDINGS, surrounded
from headrace.server.rules.change import Change, FlowRunNow, TaskRunNow
from headrace.server.rules.facts import (
    CACHED,
    FLOW_RUN,
    SLOTS,
    TAG_LIMITS,
    EnclosingRun,
    FlowRunFacts,
    Slots,
    TaskRunFacts,
    Times,
)
from headrace.server.store import tables
from headrace.server.store.prepared import Prepared
from headrace.server.store.tables import (
    CONCURRENCY_LIMIT,
    DEPLOYMENT,
    FLOW_RUN_STATE,
    TASK_RUN,
    TASK_RUN_STATE,
)
from headrace.server.store.transaction import Tx
from headrace.settings import Settings, get_settings

_RUN_COLUMNS = (
    "id",
    "empirical_policy",
    "run_count",
    "total_run_time",
    "expected_start_time",
    "next_scheduled_start_time",
    "start_time",
    "end_time",
)
_FLOW_RUN_COLUMNS = (
    *_RUN_COLUMNS,
    "deployment_id",
    "parent_task_run_id",
    "work_queue_id",
    "infrastructure_pid",
    "state_index",
    "epoch",
    "lease_until",
    "lease_seconds",
)
_TASK_RUN_COLUMNS = (*_RUN_COLUMNS, "task_key", "tags", "flow_run_id", "flow_run_run_count")


def _columns(table: Table, columns: tuple[str, ...], states: Table) -> list[Any]:
    state = [states.c[name].label(f"state_{name}") for name in _STATE_COLUMNS]
    return [*(table.c[name] for name in columns), *state, table.c.state_id.label("current_state_id")]


def _locked(runs: FromClause, columns: list[Any], table: Table) -> Prepared:
    one = select(*columns).select_from(runs).where(table.c.id == bindparam("run_id"))
    return Prepared(one.with_for_update(of=table))


_STATE_COLUMNS = ("id", "type", "name", "timestamp", "message", "data", "state_details")
_LOCK_FLOW_RUN = _locked(
    surrounded(tables.FLOW_RUN.outerjoin(FLOW_RUN_STATE, FLOW_RUN_STATE.c.id == tables.FLOW_RUN.c.state_id)),
    [*_columns(tables.FLOW_RUN, _FLOW_RUN_COLUMNS, FLOW_RUN_STATE), *SURROUNDINGS],
    tables.FLOW_RUN,
)
_LOCK_TASK_RUN = _locked(
    TASK_RUN.outerjoin(TASK_RUN_STATE, TASK_RUN_STATE.c.id == TASK_RUN.c.state_id),
    _columns(TASK_RUN, _TASK_RUN_COLUMNS, TASK_RUN_STATE),
    TASK_RUN,
)


def _times(settings: Settings) -> Times:
    server = settings.server
    return Times(
        pending_timeout=server.runs.pending_timeout,
        cancelling_timeout=server.runs.cancelling_timeout_seconds,
        late_after=server.services.late_runs.after_seconds.total_seconds(),
        slot_wait=server.deployments.concurrency_slot_wait_seconds,
        slot_grace=server.concurrency.initial_deployment_lease_duration,
        tag_slot_wait=server.tasks.tag_concurrency_slot_wait_seconds,
        max_cache_key_length=server.tasks.max_cache_key_length,
    )


_known: tuple[Settings, Times] | None = None


def times(settings: Settings | None = None) -> Times:
    """How long things may last, by the settings in force or those given."""
    global _known
    settings = settings or get_settings()
    if _known is None or _known[0] is not settings:
        _known = settings, _times(settings)
    return _known[1]


def read_state(row: Mapping[str, Any] | Row[Any], prefix: str = "state_") -> State | None:
    """The state in columns `<prefix>id`, `<prefix>type`, ...; None when there is none."""
    columns = row if isinstance(row, Mapping) else values_of(row)
    if columns[f"{prefix}id"] is None:
        return None
    return State(
        id=columns[f"{prefix}id"],
        type=StateType(columns[f"{prefix}type"]),
        name=columns[f"{prefix}name"],
        timestamp=columns[f"{prefix}timestamp"],
        message=columns[f"{prefix}message"],
        data=columns[f"{prefix}data"],
        state_details=msgspec.convert(columns[f"{prefix}state_details"] or {}, StateDetails),
    )


def _state_at(row: Row[Any], start: int) -> State | None:
    """The state in the columns from `start` on; by position, for this is on the path of every change."""
    if row[start] is None:
        return None
    return State(
        id=row[start],
        type=StateType(row[start + 1]),
        name=row[start + 2],
        timestamp=row[start + 3],
        message=row[start + 4],
        data=row[start + 5],
        state_details=msgspec.convert(row[start + 6] or {}, StateDetails),
    )


def lock_flow_run(tx: Tx, run_id: UUID) -> FlowRunNow:
    """Load a flow run and keep others from changing it until the end of the transaction.

    Raises:
        ObjectNotFound: there is none of that id.
    """
    row = _lock(tx, _LOCK_FLOW_RUN, run_id)
    if row is None:
        raise ObjectNotFound("Flow run", run_id)
    width = len(_FLOW_RUN_COLUMNS)
    known = dict(zip(_FLOW_RUN_COLUMNS, row[:width], strict=True))
    return FlowRunNow(**known, state=_state_at(row, width), around=row)


def find_task_run(tx: Tx, run_id: UUID) -> TaskRunNow | None:
    """Load a task run and lock it; None when there is none of that id."""
    row = _lock(tx, _LOCK_TASK_RUN, run_id)
    if row is None:
        return None
    width = len(_TASK_RUN_COLUMNS)
    return TaskRunNow(**dict(zip(_TASK_RUN_COLUMNS, row[:width], strict=True)), state=_state_at(row, width))


def _lock(tx: Tx, statement: Prepared, run_id: UUID) -> Any:
    """Load a run with its state under a lock.

    Who had to wait for the lock on PostgreSQL sees the newest row of the run, but joined to states as they were when
    the statement began: the state written meanwhile is missing. A second look, with the lock in hand, sees it.  # G4
    """
    row = tx.execute(statement, {"run_id": run_id}).one_or_none()
    if row is not None and row.state_id is None and row.current_state_id is not None:
        row = tx.execute(statement, {"run_id": run_id}).one_or_none()
    return row


def flow_run_facts(tx: Tx, change: Change[FlowRunNow], needs: frozenset[str]) -> FlowRunFacts:
    """Load what the rules asked for `change` need to know."""
    deployment_id = change.run.deployment_id
    if SLOTS not in needs or deployment_id is None:
        return FlowRunFacts(times=times())
    state = change.run.state
    if change.proposed.type is StateType.RUNNING and (
        state is None or state.state_details.deployment_concurrency_lease_id is None
    ):
        return FlowRunFacts(times=times())  # it was given no slot, so there is none to look after
    exists, slots = _deployment_slots(tx, deployment_id, change.run.id)
    return FlowRunFacts(times=times(), deployment_exists=exists, slots=slots)


_DEPLOYMENT_LIMIT = Prepared(
    select(DEPLOYMENT.c.concurrency_options, CONCURRENCY_LIMIT.c.id)
    .select_from(
        DEPLOYMENT.outerjoin(
            CONCURRENCY_LIMIT,
            and_(CONCURRENCY_LIMIT.c.id == DEPLOYMENT.c.concurrency_limit_id, CONCURRENCY_LIMIT.c.active),
        )
    )
    .where(DEPLOYMENT.c.id == bindparam("deployment_id"))
)


def _deployment_slots(tx: Tx, deployment_id: UUID, run_id: UUID) -> tuple[bool, Slots | None]:
    """Whether the deployment exists, and its limit if it has one."""
    row: Any = tx.execute(_DEPLOYMENT_LIMIT, {"deployment_id": deployment_id}).one_or_none()
    if row is None:
        return False, None
    options, limit_id = row
    if limit_id is None:
        return True, None
    options = options or {}
    slots = _slots(
        tx,
        [limit_id],
        run_id,
        collision=ConcurrencyLimitStrategy(options.get("collision_strategy") or ConcurrencyLimitStrategy.ENQUEUE),
        grace=options.get("grace_period_seconds"),
    )
    return True, slots[0] if slots else None  # it may have been deleted this moment


def _slots(tx: Tx, ids: Sequence[UUID], run_id: UUID, **more: Any) -> tuple[Slots, ...]:
    """The limits of these ids, locked so that nobody else takes a slot before this transaction ends.  # G7"""
    found, _ = standings(tx, ids, holder_id=run_id, request=run_id)
    return tuple(
        Slots(limit_id=one.id, limit=one.limit, used=one.used, ahead=one.ahead, held=one.held, **more) for one in found
    )


_ENCLOSING = Prepared(
    select(tables.FLOW_RUN.c.id, tables.FLOW_RUN.c.run_count, *(FLOW_RUN_STATE.c[name] for name in _STATE_COLUMNS))
    .select_from(tables.FLOW_RUN.outerjoin(FLOW_RUN_STATE, FLOW_RUN_STATE.c.id == tables.FLOW_RUN.c.state_id))
    .where(tables.FLOW_RUN.c.id == bindparam("run_id"))
)
_TAG_LIMITS = select(CONCURRENCY_LIMIT.c.id).where(
    CONCURRENCY_LIMIT.c.name.in_(bindparam("names", expanding=True)), CONCURRENCY_LIMIT.c.active
)
_CACHED = Prepared(
    select(*(TASK_RUN_STATE.c[name] for name in _STATE_COLUMNS))
    .select_from(TASK_RUN.join(TASK_RUN_STATE, TASK_RUN_STATE.c.task_run_id == TASK_RUN.c.id))
    .where(
        TASK_RUN.c.cache_key == bindparam("key"),
        TASK_RUN_STATE.c.type == StateType.COMPLETED.value,
        or_(TASK_RUN.c.cache_expiration.is_(None), TASK_RUN.c.cache_expiration > bindparam("now")),
    )
    .order_by(TASK_RUN_STATE.c.timestamp.desc())
    .limit(20)
)


def task_run_facts(tx: Tx, change: Change[TaskRunNow], needs: frozenset[str]) -> TaskRunFacts:
    """Load what the rules asked for `change` need to know.

    Raises:
        ObjectNotFound: the flow run of the task run is gone.
    """
    run, details = change.run, change.proposed.state_details
    return TaskRunFacts(
        times=times(),
        cached=_cached(tx, details.cache_key) if CACHED in needs and details.cache_key is not None else None,
        flow_run=_enclosing(tx, run.flow_run_id) if FLOW_RUN in needs and run.flow_run_id is not None else None,
        limits=_tag_limits(tx, run) if TAG_LIMITS in needs and run.tags else (),
        jitter=random.random(),  # spreads waiting clients, keeps no secret
    )


def _enclosing(tx: Tx, flow_run_id: UUID) -> EnclosingRun:
    row: Any = tx.execute(_ENCLOSING, {"run_id": flow_run_id}).one_or_none()
    if row is None:
        raise ObjectNotFound("Flow run", flow_run_id)
    return EnclosingRun(id=row[0], run_count=row[1], state=_state_at(row, 2))


def _cached(tx: Tx, key: str) -> State | None:
    """The newest completed state stored under a key, also when its run has moved on since.

    A task run's own `cache_key` may be there without a state that has it.
    """
    states = (_state_at(row, 0) for row in tx.execute(_CACHED, {"key": key, "now": tx.now}))
    return next((state for state in states if state is not None and state.state_details.cache_key == key), None)


def _tag_limits(tx: Tx, run: TaskRunNow) -> tuple[Slots, ...]:
    ids = tx.execute(_TAG_LIMITS, {"names": [f"tag:{tag}" for tag in run.tags]}).scalars().all()
    return _slots(tx, ids, run.id) if ids else ()
