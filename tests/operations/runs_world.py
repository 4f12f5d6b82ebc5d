"""Flows and runs for the tests of what is done with them, made by the calls a client would make."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Table, text

from headrace.client.local import LocalClient
from headrace.schemas.endpoint import Endpoint
from headrace.schemas.flow_runs import CREATE_FLOW_RUN, FlowRun, FlowRunCreate
from headrace.schemas.flows import CREATE_FLOW, Flow, FlowCreate
from headrace.schemas.states import StateCreate, StateDetails, StateType
from headrace.schemas.task_runs import CREATE_TASK_RUN, TaskRun, TaskRunCreate
from headrace.server.operations.registry import Existing, operation_of
from headrace.server.store.tables.types import Id
from headrace.server.store.transaction import Store

NOW = datetime(2026, 1, 1, tzinfo=UTC)
"""Where the clock of a test begins."""


def at(**delta: float) -> datetime:
    """A moment so long after the start: `at(minutes=5)`."""
    return NOW + timedelta(**delta)


def make_flow(api: LocalClient, name: str = "etl", **options: Any) -> Flow:
    """A flow."""
    return api.call(CREATE_FLOW, body=FlowCreate(name=name, **options))


def make_run(
    api: LocalClient, flow: Flow, name: str = "run", state: StateCreate | None = None, **options: Any
) -> FlowRun:
    """A flow run; Pending unless a state is given."""
    return api.call(CREATE_FLOW_RUN, body=FlowRunCreate(flow_id=flow.id, name=name, state=state, **options))


def make_task_run(api: LocalClient, run: FlowRun | None, key: str = "0", **options: Any) -> TaskRun:
    """A task run of a flow run, or of none."""
    values = {"task_key": "add", "dynamic_key": key, "name": f"add-{key}"} | options
    return api.call(CREATE_TASK_RUN, body=TaskRunCreate(flow_run_id=run.id if run else None, **values))


def scheduled(moment: datetime) -> StateCreate:
    """Scheduled for a moment."""
    return StateCreate(type=StateType.SCHEDULED, state_details=StateDetails(scheduled_time=moment))


def in_state(type: str) -> StateCreate:
    """A state of a type, named for it."""
    return StateCreate(type=StateType(type))


def is_new(store: Store, endpoint: Endpoint[Any], **arguments: Any) -> bool:
    """Whether a call makes something, rather than finding it there."""
    function: Callable[..., Any] = operation_of(endpoint).function
    return not isinstance(store.write(lambda tx: function(tx, **arguments)), Existing)


def spoil(store: Store, table: Table, id: UUID, column: str, value: str) -> None:
    """Write a value past all checks, as a bug or a person with a database shell would."""
    kind = {"postgresql": "jsonb"}.get(_dialect(store), "text") if value[:1] in '{["' or value.isdigit() else "text"
    statement = text(f"UPDATE {table.name} SET {column} = CAST(:value AS {kind}) WHERE id = :id")  # no text of users
    key = Id().bind_processor(store.read(lambda tx: tx.connection.dialect))
    store.write(lambda tx: tx.execute(statement, {"value": value, "id": key(id) if key else id}))


def _dialect(store: Store) -> str:
    return store.read(lambda tx: tx.dialect)
