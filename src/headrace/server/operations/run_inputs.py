"""What a person hands to a paused flow run when it is resumed."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import select

from headrace._internal.ids import uuid7
from headrace.server.operations.checks import fault_of_input
from headrace.server.store.statements import upsert
from headrace.server.store.tables import FLOW_RUN_INPUT
from headrace.server.store.transaction import Tx


def check_run_input(
    tx: Tx, flow_run_id: UUID, keyset: Mapping[str, str], values: Mapping[str, Any] | None
) -> str | None:
    """Say what is wrong with the input a paused run is given; None when it is as the run asked for.

    Args:
        tx: the transaction.
        flow_run_id: the paused run.
        keyset: names of the run's inputs that hold the schema it asks for (`schema`) and the answer (`response`).
        values: the input.
    """
    key = keyset.get("schema")
    stored = tx.execute(
        select(FLOW_RUN_INPUT.c.value).where(FLOW_RUN_INPUT.c.flow_run_id == flow_run_id, FLOW_RUN_INPUT.c.key == key)
    ).scalar()
    if stored is None:
        return f"The run's schema for its input, {key!r}, was not found."
    try:
        schema = msgspec.json.decode(stored)
    except msgspec.DecodeError:
        return f"The run's schema for its input, {key!r}, is no JSON."
    fault = fault_of_input(values or {}, schema)
    return None if fault is None else f"The input is not what the run asks for: {fault}"


def keep_run_input(tx: Tx, flow_run_id: UUID, keyset: Mapping[str, str], values: Mapping[str, Any] | None) -> None:
    """Store the input under the key the paused run reads its answer from."""
    row = {
        "id": uuid7(),
        "created": tx.now,
        "updated": tx.now,
        "flow_run_id": flow_run_id,
        "key": keyset["response"],
        "value": msgspec.json.encode(values or {}).decode(),
        "sender": None,
    }
    upsert(tx, FLOW_RUN_INPUT, [row], index=["flow_run_id", "key"], update=["value", "updated"])
