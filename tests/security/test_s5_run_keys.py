"""Keys of runs: the process of a run may change that run and what it makes, for as long as it holds the run."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.exceptions import Forbidden
from headrace.schemas.artifacts import CREATE_ARTIFACT, ArtifactCreate
from headrace.schemas.deployments import CREATE_DEPLOYMENT, DeploymentCreate
from headrace.schemas.flow_runs import CREATE_FLOW_RUN, DELETE_FLOW_RUN, SET_FLOW_RUN_STATE, FlowRunCreate
from headrace.schemas.flow_runs import SetFlowRunState as Set
from headrace.schemas.flows import CREATE_FLOW, FlowCreate
from headrace.schemas.run_keys import CREATE_RUN_KEY, RunKeyCreate
from headrace.schemas.states import StateCreate, StateType
from headrace.schemas.task_runs import CREATE_TASK_RUN, TaskRunCreate
from headrace.server.http import auth
from headrace.server.operations.registry import load_all
from headrace.server.operations.run_keys import AFTER_THE_END
from headrace.server.operations.run_scope import OF_NO_RUN, OF_OWN_RUNS
from headrace.server.store.tables import RUN_KEY
from headrace.server.store.transaction import Store
from tests.security.test_s1_access import SOCKETS, outcome
from tests.support.logins import bearer, make_key, serving_with_login
from tests.support.serving import ask

SCHEDULED, PENDING = StateCreate(type=StateType.SCHEDULED), StateCreate(type=StateType.PENDING)
RUNNING, COMPLETED = StateCreate(type=StateType.RUNNING), StateCreate(type=StateType.COMPLETED)


class World:
    """Two runs that are held, `own` with a key and `other`, each with a task run and an artifact."""

    def __init__(self, store: Store, url: str) -> None:
        self.store, self.url, self.api = store, url, LocalClient(store)
        self.flow = self.api.call(CREATE_FLOW, body=FlowCreate(name="f")).id
        self.deployment = self.api.call(CREATE_DEPLOYMENT, body=DeploymentCreate(name="d", flow_id=self.flow)).id
        self.epochs: dict[UUID, int] = {}
        self.own, self.other = self.make_run(), self.make_run()
        self.ids = {"flow": self.flow, "deployment": self.deployment, "new": uuid7(), "new2": uuid7()}
        for name, run in (("own", self.own), ("other", self.other)):
            task = TaskRunCreate(flow_run_id=run, task_key="t", dynamic_key="0")
            artifact = ArtifactCreate(flow_run_id=run, data="a")
            self.ids |= {
                name: run,
                f"{name}_task": self.api.call(CREATE_TASK_RUN, body=task).id,
                f"{name}_artifact": self.api.call(CREATE_ARTIFACT, body=artifact).id,
            }
        self.header = self.key_of(self.own)

    def make_run(self) -> UUID:
        """A run that somebody has claimed."""
        run = self.api.call(CREATE_FLOW_RUN, body=FlowRunCreate(flow_id=self.flow, state=SCHEDULED)).id
        self.claim(run)
        return run

    def claim(self, run: UUID) -> None:
        """Begin an attempt."""
        answer = self.api.call(SET_FLOW_RUN_STATE, id=run, body=Set(state=PENDING, lease_seconds=30))
        assert answer.epoch is not None
        self.epochs[run] = answer.epoch

    def key_of(self, run: UUID, *permissions: str) -> str:
        """The login of a run, as a worker that may so much asks for it."""
        worker = bearer(make_key(self.store, f"worker {uuid7()}", *(permissions or ("write", "secrets:read"))))
        body = {"epoch": self.epochs[run]}
        answer = ask(self.url, "POST", f"/flow_runs/{run}/key", body, Authorization=worker)
        assert answer.status == 201, answer.body
        return f"Bearer {answer.json()['key']}"

    def ask(self, method: str, path: str, body: str = "{}", header: str = "", **ids: Any) -> Any:
        """A call with the key of the own run; `<name>` stands for the id of a thing."""
        for name, id in {**self.ids, **ids}.items():
            path, body = path.replace(f"<{name}>", str(id)), body.replace(f"<{name}>", str(id))
        return ask(self.url, method, path, body, Authorization=header or self.header)


@pytest.fixture
def world(store: Store) -> Iterator[World]:
    """Two runs and their server, on each database."""
    with serving_with_login(store) as url:
        yield World(store, url)


STATE = '{"state": {"type": "RUNNING"}}'
LOG = '[{"name": "l", "level": 20, "message": "m", "timestamp": "2026-01-01T00:00:00Z", "flow_run_id": "<own>"}]'
TASK = '{"id": "<new>", "flow_run_id": "<own>", "task_key": "t", "dynamic_key": "9", "name": "t-9"}'
OF_OTHER = TASK.replace("<own>", "<other>").replace("<new>", "<new2>")
OF_RUNS = [
    ("POST", "/flow_runs/<own>/set_state", STATE),
    ("PATCH", "/flow_runs/<own>", '{"name": "n"}'),
    ("PATCH", "/flow_runs/<own>/labels", '{"a": "b"}'),
    ("POST", "/flow_runs/leases/renew", '{"leases": [{"id": "<own>", "epoch": 1}]}'),
    ("POST", "/flow_runs/<own>/input", '{"key": "k", "value": "v"}'),
    ("POST", "/task_runs/", '{"flow_run_id": "<own>", "task_key": "t", "dynamic_key": "1"}'),
    ("PATCH", "/task_runs/<own_task>", '{"name": "n"}'),
    ("POST", "/task_runs/<own_task>/set_state", STATE),
    ("POST", "/records", f'{{"task_runs": [{TASK}]}}'),
    ("POST", "/records", f'{{"task_runs": [{TASK.replace("<new>", "<own_task>")}]}}'),
    ("POST", "/logs/", LOG),
    ("POST", "/artifacts/", '{"flow_run_id": "<own>", "data": "x"}'),
    ("PATCH", "/artifacts/<own_artifact>", '{"data": "y"}'),
    ("POST", "/flow_runs/", '{"flow_id": "<flow>", "parent_task_run_id": "<own_task>"}'),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), OF_RUNS)
def test_s5_a_run_changes_itself_and_no_other(world: World, method: str, path: str, body: str) -> None:
    """Each call that names the own run is served; the same about another run is 403."""
    of_other = [text.replace("<own", "<other") for text in (path, body)]
    refused, served = world.ask(method, *of_other), world.ask(method, path, body)

    assert (refused.status, served.status // 100) == (403, 2), (refused.body, served.body)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/flow_runs/", '{"flow_id": "<flow>", "deployment_id": "<deployment>"}'),
        ("POST", "/deployments/<deployment>/create_flow_run", "{}"),
        ("POST", "/logs/", '[{"name": "l", "level": 20, "message": "m", "timestamp": "2026-01-01T00:00:00Z"}]'),
        ("POST", "/logs/", LOG.replace("}]", "}, ") + LOG[1:].replace("<own>", "<other>")),
        ("POST", "/records", "{}"),
        ("POST", "/records", f'{{"task_runs": [{TASK}, {OF_OTHER}]}}'),
        ("POST", "/records", f'{{"task_runs": [{TASK.replace("<new>", "<other_task>")}]}}'),
        ("POST", "/task_runs/", '{"task_key": "t", "dynamic_key": "1"}'),
        ("POST", "/artifacts/", '{"data": "x"}'),
        ("POST", "/flow_runs/<own>/key", '{"epoch": 1}'),
        ("GET", "/api_keys/", ""),
        ("POST", "/audit/filter", "{}"),
    ],
)  # fmt: skip
def test_s5_nor_gets_around_it(world: World, method: str, path: str, body: str) -> None:
    """What names no run, a foreign one among its own, or would start something elsewhere, is 403."""
    assert world.ask(method, path, body).status == 403


def test_s5_every_other_change_is_refused(world: World) -> None:
    """Of all operations, those that change something are closed to runs unless they stand in one of two lists."""
    served = []
    for endpoint, operation in load_all().items():
        closed = not (operation.reads_only or operation.access.startswith("none:")) and (
            endpoint not in OF_OWN_RUNS | OF_NO_RUN
        )
        path = endpoint.path.replace("{id}", str(world.other)).replace("{", "").replace("}", "")
        status = world.ask(endpoint.method, path).status
        if closed and status not in (403, 404, 422):  # a call that cannot be read does nothing either
            served.append((endpoint.method, endpoint.path, status))

    assert served == []


@pytest.mark.parametrize("path", SOCKETS)
def test_s5_no_socket_opens_for_a_run(world: World, path: str) -> None:
    """Websockets tell of all runs, or take events of all."""
    import asyncio

    token = world.header.removeprefix("Bearer ")
    assert asyncio.run(outcome(world.url.replace("http", "ws", 1) + path, token)) == "forbidden"


def test_s5_what_a_run_makes_is_its_own(world: World) -> None:
    """A flow run that its process created, with task runs and log lines, though its parent was not recorded yet."""
    body = '{"flow_id": "<flow>", "parent_task_run_id": "<new>"}'
    child = world.ask("POST", "/flow_runs/", body).json()

    assert child["created_by"]["id"] == str(world.own)
    for method, path, sent in OF_RUNS[:2] + OF_RUNS[5:6] + OF_RUNS[8:9] + OF_RUNS[10:12]:
        assert world.ask(method, path, sent, own=child["id"]).status // 100 == 2, path
    others = world.key_of(world.other)
    assert world.ask("POST", "/flow_runs/<child>/set_state", STATE, header=others, child=child["id"]).status == 403


def test_s5_a_run_reads_what_its_worker_may(world: World) -> None:
    """It has no permission that whoever asked for its key lacks."""
    narrow = world.key_of(world.other, "runs:write")

    assert world.ask("GET", "/flow_runs/<other>").status == 200
    assert world.ask("GET", "/flow_runs/<other>", header=narrow).status == 200
    assert world.ask("POST", "/flows/filter").status == 200
    assert world.ask("POST", "/flows/filter", header=narrow).status == 403
    assert world.ask("POST", "/flows/", '{"name": "g"}').status == 201
    assert world.ask("POST", "/flows/", '{"name": "h"}', header=narrow).status == 403


def statuses(world: World, header: str, urls: list[str]) -> list[int]:
    """What becomes of a call with a key on each server."""
    return [ask(url, "GET", f"/flow_runs/{world.own}", Authorization=header).status for url in urls]


def test_s5_a_key_ends_with_its_attempt_on_all_servers(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replaced, given back, or a minute after the run's end; not while a lease is renewed late, nor before."""
    now = [1000.0]
    monkeypatch.setattr(auth, "monotonic", lambda: now[0])

    def later(seconds: float) -> None:
        clock.advance(seconds)
        now[0] += max(seconds, auth.TRUST_SECONDS)

    with ExitStack() as stack:
        urls = [stack.enter_context(serving_with_login(store)) for _ in range(2)]
        world = World(store, urls[0])
        first = world.header
        assert statuses(world, first, urls) == [200, 200]
        later(45)  # the server was away, say: the lease has passed and nobody has done anything about it
        assert statuses(world, first, urls) == [200, 200]
        world.api.call(SET_FLOW_RUN_STATE, id=world.own, body=Set(state=SCHEDULED))
        later(0)
        assert statuses(world, first, urls) == [401, 401]
        world.claim(world.own)
        second = world.key_of(world.own)
        later(0)
        assert statuses(world, first, urls) + statuses(world, second, urls) == [401, 401, 200, 200]
        for state in (RUNNING, COMPLETED):
            body = Set(state=state, epoch=world.epochs[world.own])
            world.api.call(SET_FLOW_RUN_STATE, id=world.own, body=body)
        later(AFTER_THE_END.total_seconds() - 1)
        assert statuses(world, second, urls) == [200, 200]
        later(2)
        assert statuses(world, second, urls) == [401, 401]


def test_s5_only_who_holds_a_run_gets_its_key(world: World) -> None:
    """Neither another attempt, nor anybody for a run that nobody holds; a key goes with its run."""
    free = world.api.call(CREATE_FLOW_RUN, body=FlowRunCreate(flow_id=world.flow)).id
    for run, epoch in ((world.own, world.epochs[world.own] + 1), (free, 0)):
        with pytest.raises(Forbidden, match="does not hold"):
            world.api.call(CREATE_RUN_KEY, id=run, body=RunKeyCreate(epoch=epoch))

    world.api.call(DELETE_FLOW_RUN, id=world.own)
    kept = world.store.read(lambda tx: tx.execute(select(RUN_KEY.c.flow_run_id)).all())
    assert kept == []


def test_s5_the_key_of_a_run_is_256_bits_and_stored_hashed(world: World) -> None:
    """As that of an API key."""
    token = world.header.removeprefix("Bearer ")
    [row] = world.store.read(lambda tx: tx.execute(select(RUN_KEY)).all())

    assert len(token) == len("hr_run_") + 43
    assert token not in repr(row)
