"""Pairs of writing operations, any with any, at once on the same few objects of PostgreSQL.  # G16

Each is served or refused with a reason; none is told of a deadlock, a lost row or another fault of the database's.
"""

import os
import random
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.exceptions import ApiError
from headrace.server.operations.registry import Operation, load_all
from headrace.server.services import cancelling, late_runs, paused, pending, scheduler, slots, worker_health
from headrace.server.store import open_store
from headrace.server.store.transaction import Store
from headrace.settings import get_settings, temporary_settings
from tests.support import postgresql

PAIRS, CLIENTS = 10_000, 8
MOST_SECONDS = float(os.environ.get("HEADRACE_TEST_PAIRS_SECONDS", "40"))
"""There it stops, with as many pairs as it has done; all of them take some minutes."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(MOST_SECONDS + 120)]

SOME = 5
"""So many objects of a kind are known at a time, so that two calls often meet."""
SERVICES = (cancelling, late_runs, paused, pending, scheduler, slots, worker_health)
STATES = ("SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLING", "CANCELLED", "PAUSED")
KINDS = {"flows": "flow", "flow_runs": "run", "task_runs": "task", "variables": "variable"}
"""What an id in a path is of, by the first step of the path, where that is not its own name."""
NAMES = {
    "name": "pool",
    "work_pool_name": "pool",
    "id_or_name": "limit",
    "tag": "tag",
    "key": "key",
    "client": "client",
}
"""What a name in a path is of."""
LEFT_OUT = {"install_system_block_types"}
"""What is done once, by a server that starts."""

NOT_SERVED = {"create_csrf_token", "update_server_default_result_storage", "create_run_key"}
"""What is refused here: CSRF protection is off, no block here can store results, and nobody holds a run by a lease."""
Thing = Any
Body = Callable[["World"], Any]


class World:
    """The objects that calls know of, and chance.

    Args:
        store: where they are.
    """

    def __init__(self, store: Store) -> None:
        self.api, self.store = LocalClient(store), store
        self.things: dict[str, deque[Thing]] = defaultdict(lambda: deque([str(uuid7())], SOME))
        self.chance = random.Random(7)
        self.met = Counter[str]()
        self.faults: list[str] = []
        self.served: set[str] = set()
        self.reasons: dict[str, str] = {}

    def one(self, kind: str) -> Thing:
        """Something of a kind, which may be gone; a name out of a few where things go by names."""
        if kind in ("pool", "limit", "tag", "queue name", "name", "key", "client"):
            return f"{kind.replace(' ', '-')}-{self.chance.randrange(3)}"
        return self.chance.choice(list(self.things[kind]))

    def call(self, operation: Operation) -> None:
        """Make a call, and note what came of it."""
        arguments = {name: self._argument(operation, name) for name in operation.parameters}
        if operation.takes_body:
            arguments["body"] = msgspec.convert(BODIES[operation.name](self), operation.endpoint.body)
        try:
            made = self.api.call(operation.endpoint, **arguments)
        except ApiError as error:
            self.met["refused"] += 1
            self.reasons[operation.name] = str(error)
            if error.status >= 500:
                self.faults.append(f"{operation.name}: {error}")
        except Exception as error:  # whatever reaches a caller is what this is about
            self.faults.append(f"{operation.name}: {error!r}")
        else:
            self.met["served"] += 1
            self.served.add(operation.name)
            self._keep(operation, made)

    def _keep(self, operation: Operation, made: Any) -> None:
        """Know what was made or found from now on."""
        for each in made if isinstance(made, list) else [made]:
            if (id := getattr(each, "id", None)) is not None:
                self.things[made_by(operation)].append(str(id))
                self.things["schedule"] += [str(one.id) for one in getattr(each, "schedules", [])]
            if (lease := getattr(each, "lease_id", None)) is not None:
                self.things["lease"].append(str(lease))

    def _argument(self, operation: Operation, name: str) -> Any:
        if name in ("id", "schedule_id", "lease_id", "resource_id"):
            return self.one(kind_of(operation) if name == "id" else name.removesuffix("_id"))
        steps = operation.endpoint.path.split("/")
        named = (
            "queue name" if name == "name" and "queues" in steps else "name" if "variables" in steps else NAMES[name]
        )
        return self.one("worker" if named == "pool" and "workers" in steps and name == "name" else named)


def kind_of(operation: Operation) -> str:
    """What the id in the path of an operation is of."""
    steps = [step for step in operation.endpoint.path.split("/") if step and not step.startswith("{")]
    return KINDS.get(steps[0], "work_queues" if "queues" in steps else steps[0])


def made_by(operation: Operation) -> str:
    """What an operation makes or finds, by the ids in its answer."""
    if "create_deployment_schedules" in operation.name:
        return "schedule"
    return "run" if "flow_run" in operation.name and "input" not in operation.name else kind_of(operation)


def now() -> str:
    """The present moment, as JSON has it."""
    return datetime.now(UTC).isoformat()


def state(world: World) -> dict[str, Any]:
    """Some state."""
    return {"type": world.chance.choice(STATES), "state_details": {"scheduled_time": now()}}


def place(world: World) -> dict[str, Any]:
    """A pool and one of its queues."""
    return {"work_pool_name": world.one("pool"), "work_queue_name": world.one("queue name")}


def schedules(world: World) -> list[dict[str, Any]]:
    """One or two schedules."""
    every = [
        {"interval": 60 * world.chance.randint(1, 9), "anchor_date": "2026-01-01T00:00:00Z"},
        {"cron": "* * * * *"},
    ]
    return [{"active": True, "schedule": one} for one in every[: world.chance.randint(1, 2)]]


def line(world: World) -> dict[str, Any]:
    """A log line."""
    return {"name": "x", "level": 20, "message": "m", "timestamp": now(), "flow_run_id": world.one("run")}


def records(world: World) -> dict[str, Any]:
    """A batch of an engine's."""
    run = world.one("run")
    states = [{"type": kind, "timestamp": now()} for kind in ("PENDING", "RUNNING")]
    task = {"id": world.one("task"), "flow_run_id": run, "epoch": 1, "task_key": "t", "dynamic_key": f"{uuid7()}"}
    return {
        "logs": [line(world) | {"id": str(uuid7())}],
        "task_runs": [task | {"name": "t", "run_count": 1, "states": states}],
    }


def automation(world: World) -> dict[str, Any]:
    """An automation that does nothing."""
    trigger = {"type": "event", "posture": "Reactive", "threshold": 1, "within": 0, "expect": ["a"]}
    return {"name": world.one("name"), "trigger": trigger, "actions": [{"type": "do-nothing"}]}


def some_slots(world: World) -> dict[str, Any]:
    """Slots of one limit or of several."""
    return {"names": world.chance.sample([f"limit-{n}" for n in range(3)], world.chance.randint(1, 3)), "slots": 1}


def tag_slots(world: World) -> dict[str, Any]:
    """A task run and its tags."""
    return {"names": [world.one("tag"), world.one("tag")], "task_run_id": world.one("task")}


def some_runs(world: World) -> dict[str, Any]:
    """A few flow runs."""
    return {"id": {"any_": [world.one("run") for _ in range(5)]}}


def event(world: World) -> dict[str, Any]:
    """An event of a run."""
    of = {"prefect.resource.id": f"prefect.flow-run.{world.one('run')}"}
    return {"id": str(uuid7()), "occurred": now(), "event": "a", "resource": of}


BODIES: dict[str, Body] = {
    "create_flow": lambda w: {"name": w.one("name")},
    "update_flow": lambda w: {"tags": [w.one("tag")]},
    "bulk_delete_flows": lambda w: {"flows": {"id": {"any_": [w.one("flow")]}}},
    "create_flow_run": lambda w: {"flow_id": w.one("flow"), "tags": [w.one("tag")], "state": state(w), **place(w)},
    "update_flow_run": lambda w: {"tags": [w.one("tag")], "name": w.one("name")},
    "update_flow_run_labels": lambda w: {w.one("name"): 1},
    "bulk_delete_flow_runs": lambda w: {"flow_runs": some_runs(w), "limit": 2},
    "create_logs": lambda w: [
        {"name": "x", "level": 20, "message": "m", "timestamp": now(), "flow_run_id": w.one("run")}
    ],
    "record": records,
    "set_flow_run_state": lambda w: {"state": state(w), "force": w.chance.random() < 0.3},
    "set_task_run_state": lambda w: {"state": state(w), "force": w.chance.random() < 0.3},
    "bulk_set_flow_run_state": lambda w: {"flow_runs": some_runs(w), "state": state(w), "limit": 5},
    "resume_flow_run": lambda _: {},
    "renew_run_leases": lambda w: {"leases": [{"id": w.one("run"), "epoch": 1}]},
    "create_task_run": lambda w: {
        "flow_run_id": w.one("run"),
        "task_key": "t",
        "dynamic_key": w.one("key"),
        "tags": [w.one("tag")],
        "state": state(w),
    },
    "update_task_run": lambda w: {"name": w.one("name")},
    "create_flow_run_input": lambda w: {"key": w.one("key"), "value": "1"},
    "create_deployment_schedules": schedules,
    "update_deployment_schedule": lambda w: {"active": w.chance.random() < 0.5},
    "create_work_pool": lambda w: {"name": w.one("pool"), "type": "process"},
    "update_work_pool": lambda w: {"concurrency_limit": w.chance.randint(1, 5)},
    "worker_heartbeat": lambda w: {"name": w.one("worker")},
    "create_work_queue": lambda w: {"name": w.one("queue name")},
    "create_work_queue_without_pool": lambda w: {"name": w.one("queue name")},
    "update_work_queue": lambda w: {"priority": w.chance.randint(1, 3)},
    "update_work_queue_by_id": lambda w: {"is_paused": w.chance.random() < 0.3},
    "create_deployment": lambda w: {
        "flow_id": w.one("flow"),
        "name": w.one("name"),
        "schedules": schedules(w),
        "concurrency_limit": 2,
        **place(w),
    },
    "update_deployment": lambda w: {"schedules": schedules(w), "concurrency_limit": w.chance.randint(1, 3)},
    "bulk_delete_deployments": lambda w: {"deployments": {"id": {"any_": [w.one("deployments")]}}},
    "create_variable": lambda w: {"name": w.one("name"), "value": 1},
    "update_variable": lambda _: {"value": 2},
    "update_variable_by_name": lambda _: {"value": 3},
    "create_flow_run_from_deployment": lambda w: {"state": state(w)},
    "bulk_create_flow_runs_from_deployment": lambda w: [{}, {"tags": [w.one("tag")]}],
    "schedule_deployment": lambda _: {"max_runs": 3},
    "get_scheduled_flow_runs": lambda w: {"work_queue_names": [w.one("queue name")], "limit": 5},
    "get_scheduled_flow_runs_for_deployments": lambda w: {"deployment_ids": [w.one("deployments")], "limit": 5},
    "read_work_queue_runs": lambda _: {"limit": 5},
    "create_automation": automation,
    "update_automation": automation,
    "patch_automation": lambda w: {"enabled": w.chance.random() < 0.5},
    "create_events": lambda w: [event(w) for _ in range(3)],
    "create_block_type": lambda w: {"name": w.one("name"), "slug": w.one("name")},
    "update_block_type": lambda _: {"description": "d"},
    "create_block_schema": lambda w: {
        "block_type_id": w.one("block_types"),
        "fields": {"title": w.one("name"), "type": "object", "properties": {"x": {"type": "string"}}},
    },
    "create_block_document": lambda w: {
        "name": w.one("name"),
        "block_type_id": w.one("block_types"),
        "block_schema_id": w.one("block_schemas"),
        "data": {"x": "y"},
    },
    "update_block_document_data": lambda _: {"data": {"x": "z"}},
    "create_artifact": lambda w: {"key": w.one("key"), "data": 1, "flow_run_id": w.one("run")},
    "update_artifact": lambda _: {"data": 2},
    "create_saved_search": lambda w: {"name": w.one("name")},
    "update_server_default_result_storage": lambda w: {"default_result_storage_block_id": w.one("block_documents")},
    "create_run_key": lambda _: {"epoch": 1},
    "create_api_key": lambda w: {"name": w.one("name"), "permissions": ["read"]},
    "create_concurrency_limit_v2": lambda w: {"name": w.one("limit"), "limit": 2, "active_slots": 0},
    "update_concurrency_limit_v2": lambda w: {"limit": w.chance.randint(1, 3)},
    "bulk_increment_active_slots": some_slots,
    "bulk_increment_active_slots_with_lease": some_slots,
    "bulk_decrement_active_slots": some_slots,
    "bulk_decrement_active_slots_with_lease": lambda w: {"lease_id": w.one("lease")},
    "renew_concurrency_lease": lambda _: {"lease_duration": 60},
    "create_concurrency_limit": lambda w: {"tag": w.one("tag"), "concurrency_limit": 2},
    "reset_concurrency_limit_by_tag": lambda _: {},
    "increment_concurrency_limits_v1": tag_slots,
    "decrement_concurrency_limits_v1": tag_slots,
}
"""A body for each operation that takes one."""


def writing() -> list[Operation]:
    """All operations that write."""
    return [one for one in load_all().values() if not one.reads_only and one.name not in LEFT_OUT]


def weight(operation: Operation) -> int:
    """How often an operation is called: what deletes seldom, as most that is called needs something that is there."""
    if "delete" in operation.name or operation.endpoint.method == "DELETE":
        return 1
    return 12 if operation.name.startswith("create") else 4


@pytest.fixture
def world(postgres_url: str, tmp_path: Path) -> Iterator[World]:
    """A few objects on PostgreSQL."""
    opened = open_store(postgres_url)
    with temporary_settings(home=str(tmp_path / "home")):
        made = World(opened)
        for _ in range(3):
            for operation in writing():
                if operation.endpoint.method != "DELETE":
                    made.call(operation)
        yield made
    opened.close()
    postgresql.empty(postgres_url)


def deadlocks(store: Store) -> int:
    """How many deadlocks this database has broken so far."""
    query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    return store.read(lambda tx: int(tx.connection.exec_driver_sql(query).scalar_one()))


def test_g16_every_writing_operation_is_among_the_pairs() -> None:
    """A new operation that writes gets a body here."""
    assert {one.name for one in writing() if one.takes_body} == BODIES.keys()


def test_g16_pairs_of_operations_at_once_meet_no_fault(world: World) -> None:
    """Any two operations, and the services beside them, on the same objects: served, or refused with a reason."""
    assert not world.faults, world.faults[:5]
    operations, until = writing(), time.monotonic() + MOST_SECONDS
    weights = [weight(one) for one in operations]
    pairs, ends = Counter[str](), threading.Event()

    def couple(seed: int) -> None:
        chance = random.Random(seed)
        with ThreadPoolExecutor(2) as two:
            while time.monotonic() < until and pairs["done"] < PAIRS:
                list(two.map(world.call, chance.choices(operations, weights, k=2)))
                pairs["done"] += 1

    def serve() -> None:
        while not ends.wait(0.2):
            for service in SERVICES:
                service.run_once(world.store, get_settings())

    with ThreadPoolExecutor(CLIENTS // 2 + 1) as pool:
        services = pool.submit(serve)
        couples = [pool.submit(couple, seed) for seed in range(CLIENTS // 2)]
        for each in couples:
            each.result()
        ends.set()
        services.result()

    print(f"{pairs['done']:,} pairs, {world.met}, deadlocks broken by PostgreSQL: {deadlocks(world.store)}")
    assert not world.faults, f"{len(world.faults)} of {pairs['done']} pairs: {world.faults[:10]}"
    assert world.met["served"] > pairs["done"] / 2
    if pairs["done"] >= PAIRS:
        never = {one.name for one in operations} - world.served - NOT_SERVED
        assert not never, {name: world.reasons.get(name) for name in never}
