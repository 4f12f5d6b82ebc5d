"""Runs in a store, for the tests of changes of state and of the services that make them."""

from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from headrace._internal.ids import uuid7
from headrace.schemas.states import OrchestrationResult, State, StateCreate, StateDetails, StateType
from headrace.server.operations.facts import lock_flow_run
from headrace.server.operations.transitions import (
    add_first_flow_run_state,
    add_first_task_run_state,
    first_flow_run_state,
    first_task_run_state,
    set_flow_run_state,
    set_task_run_state,
)
from headrace.server.rules.change import FlowRunNow
from headrace.server.store.tables import (
    CONCURRENCY_LIMIT,
    DEPLOYMENT,
    FLOW_RUN,
    FLOW_RUN_STATE,
    SLOT_LEASE,
    TASK_RUN,
    TASK_RUN_STATE,
)
from headrace.server.store.transaction import Store, Tx


def proposal(type: StateType | str, name: str | None = None, data: Any = None, **details: Any) -> StateCreate:
    """A state as a client proposes it."""
    return StateCreate(type=StateType(type), name=name, data=data, state_details=StateDetails(**details))


class World:
    """A store with runs, and short names for what tests do to them."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def flow_run(self, state: StateCreate | None = None, **fields: Any) -> UUID:
        """Create a flow run."""

        def create(tx: Tx) -> UUID:
            values = {
                "id": uuid7(),
                "created": tx.now,
                "updated": tx.now,
                "flow_id": uuid7(),
                "name": "otter",
                "parameters": {},
                "context": {},
                "empirical_policy": {},
                "tags": [],
                "labels": {},
                "auto_scheduled": False,
                "total_run_time": 0.0,
                "run_count": 0,
                **fields,
            }
            first = first_flow_run_state(tx, values, state)
            tx.execute(FLOW_RUN.insert(), values)
            add_first_flow_run_state(tx, values, first)
            return values["id"]  # type: ignore[return-value]

        return self.store.write(create)

    def task_run(self, state: StateCreate | None = None, **fields: Any) -> UUID:
        """Create a task run."""

        def create(tx: Tx) -> UUID:
            values = {
                "id": uuid7(),
                "created": tx.now,
                "updated": tx.now,
                "name": "wolf",
                "task_key": "m.f",
                "dynamic_key": str(uuid7()),
                "task_inputs": {},
                "empirical_policy": {},
                "tags": [],
                "labels": {},
                "total_run_time": 0.0,
                "run_count": 0,
                "flow_run_run_count": 0,
                **fields,
            }
            first = first_task_run_state(tx, values, state)
            tx.execute(TASK_RUN.insert(), values)
            add_first_task_run_state(tx, values, first)
            return values["id"]  # type: ignore[return-value]

        return self.store.write(create)

    def limit(self, name: str, size: int) -> UUID:
        """Create a concurrency limit."""
        values = {"id": uuid7(), "name": name, "limit": size, "active": True, "slot_decay_per_second": 0.0}
        self.store.write(
            lambda tx: tx.execute(CONCURRENCY_LIMIT.insert(), {**values, "created": tx.now, "updated": tx.now})
        )
        return values["id"]  # type: ignore[return-value]

    def deployment(self, slots: int | None = None, **options: Any) -> UUID:
        """Create a deployment, with a concurrency limit of so many slots if given."""
        id = uuid7()
        values = {
            "id": id,
            "flow_id": uuid7(),
            "name": f"d-{id}",
            "paused": False,
            "status": "READY",
            "tags": [],
            "labels": {},
            "parameters": {},
            "enforce_parameter_schema": True,
            "job_variables": {},
            "concurrency_limit_id": None if slots is None else self.limit(f"deployment:{id}", slots),
            "concurrency_options": options or None,
        }
        self.store.write(lambda tx: tx.execute(DEPLOYMENT.insert(), {**values, "created": tx.now, "updated": tx.now}))
        return id

    def propose(self, run_id: UUID, type: StateType | str, name: str | None = None, **options: Any) -> Any:
        """Propose a state for a flow run, without details."""
        result: OrchestrationResult = self.store.write(
            lambda tx: set_flow_run_state(tx, run_id, proposal(type, name), **options)
        )
        return result

    def propose_task(self, run_id: UUID, state: StateCreate, force: bool = False) -> OrchestrationResult:
        """Propose a state for a task run."""
        return self.store.write(lambda tx: set_task_run_state(tx, run_id, state, force))

    def run(self, run_id: UUID) -> FlowRunNow:
        """A flow run as it stands."""
        return self.store.write(lambda tx: lock_flow_run(tx, run_id))

    def type(self, run_id: UUID) -> StateType | None:
        """The type of a flow run's state."""
        return self.run(run_id).type

    def column(self, run_id: UUID, name: str) -> Any:
        """One column of a flow run."""
        statement = select(FLOW_RUN.c[name]).where(FLOW_RUN.c.id == run_id)
        return self.store.read(lambda tx: tx.execute(statement).scalar_one())

    def task(self, run_id: UUID) -> Any:
        """The row of a task run."""
        return self.store.read(lambda tx: tx.execute(select(TASK_RUN).where(TASK_RUN.c.id == run_id)).one())

    def states(self, run_id: UUID) -> list[str]:
        """The names of all states a flow run or a task run has had."""
        flow = select(FLOW_RUN_STATE.c.name).where(FLOW_RUN_STATE.c.flow_run_id == run_id)
        task = select(TASK_RUN_STATE.c.name).where(TASK_RUN_STATE.c.task_run_id == run_id)
        return self.store.read(
            lambda tx: [
                *tx.execute(flow.order_by(FLOW_RUN_STATE.c.state_index)).scalars(),
                *tx.execute(task.order_by(TASK_RUN_STATE.c.timestamp)).scalars(),
            ]
        )

    def slots_in_use(self) -> int:
        """How many slots are in use, of all limits."""
        live = select(func.count()).select_from(SLOT_LEASE)
        return self.store.read(lambda tx: int(tx.execute(live.where(SLOT_LEASE.c.until > tx.now)).scalar_one()))


def state_of(result: OrchestrationResult) -> State:
    """The state an answer names."""
    assert result.state is not None
    return result.state
