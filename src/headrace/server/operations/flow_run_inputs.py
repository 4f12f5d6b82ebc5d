"""Inputs of flow runs: what is handed to a run while it goes on."""

from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import delete, select

from headrace._internal.ids import uuid7
from headrace.exceptions import ObjectAlreadyExists, ObjectNotFound
from headrace.schemas.flow_runs import (
    CREATE_FLOW_RUN_INPUT,
    DELETE_FLOW_RUN_INPUT,
    FILTER_FLOW_RUN_INPUT,
    READ_FLOW_RUN_INPUT,
    CreateFlowRunInput,
    FilterFlowRunInput,
    FlowRunInput,
)
from headrace.server.operations.paging import listed
from headrace.server.operations.registry import Raw, implements
from headrace.server.operations.rows import values_of
from headrace.server.store.filters import begins_with
from headrace.server.store.statements import insert_ignore
from headrace.server.store.tables import FLOW_RUN, FLOW_RUN_INPUT
from headrace.server.store.transaction import Tx

MOST = 1_000
"""How many inputs one call returns at most; each may be a whole document."""


@implements(CREATE_FLOW_RUN_INPUT, access="runs:write")
def create_flow_run_input(tx: Tx, id: UUID, body: CreateFlowRunInput) -> Any:
    """Hand a value to a flow run, under a key it has no value for yet."""
    if tx.execute(select(FLOW_RUN.c.id).where(FLOW_RUN.c.id == id)).one_or_none() is None:
        raise ObjectNotFound("Flow run", id)
    row = {"id": uuid7(), "created": tx.now, "updated": tx.now, "flow_run_id": id} | msgspec.structs.asdict(body)
    if not insert_ignore(tx, FLOW_RUN_INPUT, [row], index=["flow_run_id", "key"]):
        raise ObjectAlreadyExists(f"A flow run input with the key '{body.key}' exists.")


@implements(FILTER_FLOW_RUN_INPUT, access="runs:read")
def filter_flow_run_input(tx: Tx, id: UUID, body: FilterFlowRunInput) -> list[FlowRunInput]:
    """Values handed to a flow run whose keys begin with a prefix, the oldest first."""
    table = FLOW_RUN_INPUT
    mine = (table.c.flow_run_id == id, begins_with(table.c.key, body.prefix))
    chosen = select(table).where(*mine, table.c.key.not_in(body.exclude_keys)).order_by(table.c.created, table.c.id)
    rows = tx.execute(chosen.limit(min(body.limit, MOST)))
    return listed(rows, lambda row: msgspec.convert(values_of(row), FlowRunInput), "flow run input")


@implements(READ_FLOW_RUN_INPUT, access="runs:read")
def read_flow_run_input(tx: Tx, id: UUID, key: str) -> Raw:
    """The value handed to a flow run under a key, as it was handed over: it need not be JSON."""
    mine = (FLOW_RUN_INPUT.c.flow_run_id == id, FLOW_RUN_INPUT.c.key == key)
    value = tx.execute(select(FLOW_RUN_INPUT.c.value).where(*mine)).scalar_one_or_none()
    if value is None:
        raise ObjectNotFound("Flow run input", key)
    return Raw(value.encode(), "text/plain; charset=utf-8")


@implements(DELETE_FLOW_RUN_INPUT, access="runs:write")
def delete_flow_run_input(tx: Tx, id: UUID, key: str) -> None:
    """Take a value away from a flow run."""
    mine = (FLOW_RUN_INPUT.c.flow_run_id == id, FLOW_RUN_INPUT.c.key == key)
    if not tx.execute(delete(FLOW_RUN_INPUT).where(*mine)).rowcount:
        raise ObjectNotFound("Flow run input", key)
