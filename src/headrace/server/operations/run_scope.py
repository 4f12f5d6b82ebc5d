"""What the key of a run may change: that run, and what its process made.  # S5

It may read what its permissions allow. Of what changes something it may call the operations named here, and none that
is added later until it is named. What a call names must be the run itself, a flow run that its process created
(`created_by` says so, and callers cannot), or task runs and artifacts of these.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Table, or_, select

from headrace.exceptions import Forbidden
from headrace.schemas.artifacts import CREATE_ARTIFACT, UPDATE_ARTIFACT
from headrace.schemas.concurrency_limits_v2 import (
    BULK_DECREMENT_ACTIVE_SLOTS_WITH_LEASE,
    BULK_INCREMENT_ACTIVE_SLOTS_WITH_LEASE,
    RENEW_CONCURRENCY_LEASE,
)
from headrace.schemas.flow_runs import (
    CREATE_FLOW_RUN,
    CREATE_FLOW_RUN_INPUT,
    DELETE_FLOW_RUN_INPUT,
    SET_FLOW_RUN_STATE,
    UPDATE_FLOW_RUN,
    UPDATE_FLOW_RUN_LABELS,
)
from headrace.schemas.flows import CREATE_FLOW
from headrace.schemas.leases import RENEW_RUN_LEASES
from headrace.schemas.logs import CREATE_LOGS
from headrace.schemas.origin import BY_FLOW_RUN
from headrace.schemas.recording import RECORD
from headrace.schemas.task_runs import CREATE_TASK_RUN, SET_TASK_RUN_STATE, UPDATE_TASK_RUN
from headrace.server.operations.pool_scope import named_in
from headrace.server.operations.registry import Operation
from headrace.server.store.json_functions import member
from headrace.server.store.long_lists import among
from headrace.server.store.tables import ARTIFACT, FLOW_RUN, TASK_RUN
from headrace.server.store.transaction import Tx

OF_NO_RUN = frozenset(
    {
        CREATE_FLOW,
        CREATE_FLOW_RUN,
        BULK_INCREMENT_ACTIVE_SLOTS_WITH_LEASE,
        BULK_DECREMENT_ACTIVE_SLOTS_WITH_LEASE,
        RENEW_CONCURRENCY_LEASE,
    }
)
"""What may name no run: it makes something, or gives back what nobody else can name."""
OF_OWN_RUNS = frozenset(
    {
        SET_FLOW_RUN_STATE,
        UPDATE_FLOW_RUN,
        UPDATE_FLOW_RUN_LABELS,
        RENEW_RUN_LEASES,
        CREATE_FLOW_RUN_INPUT,
        DELETE_FLOW_RUN_INPUT,
        CREATE_TASK_RUN,
        UPDATE_TASK_RUN,
        SET_TASK_RUN_STATE,
        RECORD,
        CREATE_LOGS,
        CREATE_ARTIFACT,
        UPDATE_ARTIFACT,
    }
)


def keep_within_run(tx: Tx, run_id: UUID, operation: Operation, arguments: Mapping[str, Any]) -> None:
    """See that a call changes nothing but a run and what its process made.

    Args:
        tx: a transaction.
        run_id: the flow run whose key it is.
        operation: what is called.
        arguments: with what.

    Raises:
        Forbidden: it would change something else.
    """
    endpoint = operation.endpoint
    if operation.reads_only or operation.access.startswith("none:"):
        return
    if endpoint not in OF_OWN_RUNS | OF_NO_RUN:
        raise _beyond(run_id)
    named = named_in(operation, arguments)
    if endpoint is UPDATE_ARTIFACT:
        named.append((ARTIFACT, arguments["id"]))
    if (not named and endpoint in OF_OWN_RUNS) or _is_any_of_no_run(arguments.get("body")):
        raise _beyond(run_id)
    for table in {table for table, _ in named}:
        if not _are_own(tx, table, {key for other, key in named if other is table}, run_id):
            raise _beyond(run_id)


def _beyond(run_id: UUID) -> Forbidden:
    return Forbidden(
        f"This login is for the flow run {run_id} and what it makes alone. "
        "HEADRACE_WORKER_RUN_KEYS=false lets runs use the login of their worker."
    )


def _is_any_of_no_run(body: Any) -> bool:
    """Whether one of the records of a batch belongs to no flow run."""
    records = body if isinstance(body, list) else [*getattr(body, "task_runs", ()), *getattr(body, "logs", ())]
    return any(one.flow_run_id is None for one in records)


def _are_own(tx: Tx, table: Table, keys: set[Any], run_id: UUID) -> bool:
    """Whether all things that keys name belong to a run; task runs may also be new."""
    keys = keys - {run_id} if table is FLOW_RUN else keys
    if not keys:
        return True
    if table not in (FLOW_RUN, TASK_RUN, ARTIFACT):
        return False
    made = (member(FLOW_RUN.c.created_by, "id") == str(run_id), member(FLOW_RUN.c.created_by, "type") == BY_FLOW_RUN)
    if table is FLOW_RUN:
        own = tx.execute(select(FLOW_RUN.c.id).where(among(FLOW_RUN.c.id, list(keys)), *made)).scalars()
        return set(own) == keys
    of_run = table.c.flow_run_id
    others = select(table.c.id).where(
        among(table.c.id, list(keys)),
        or_(of_run.is_(None), ~or_(of_run == run_id, of_run.in_(select(FLOW_RUN.c.id).where(*made)))),
    )
    return tx.execute(others.limit(1)).first() is None
