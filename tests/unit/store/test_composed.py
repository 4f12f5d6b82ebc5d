"""What is composed from filters finds the same when its form is kept, whatever ids and moments are asked for."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, get_args, get_type_hints
from uuid import UUID

import msgspec
import pytest
from msgspec import Struct

from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.schemas.artifacts import CREATE_ARTIFACT, READ_ARTIFACTS, READ_LATEST_ARTIFACTS, ArtifactCreate
from headrace.schemas.deployments import CREATE_DEPLOYMENT, READ_DEPLOYMENTS, DeploymentCreate
from headrace.schemas.endpoint import Endpoint
from headrace.schemas.filters import FlowFilter, FlowRunFilter, NameMatch
from headrace.schemas.flow_runs import COUNT_FLOW_RUNS, READ_FLOW_RUNS, FlowRun
from headrace.schemas.flows import READ_FLOWS
from headrace.schemas.logs import CREATE_LOGS, READ_LOGS, LogCreate
from headrace.schemas.task_runs import COUNT_TASK_RUNS, READ_TASK_RUNS, TaskRun
from headrace.server.operations import lookups, paging
from headrace.server.store import composed
from headrace.server.store.composed import Question
from headrace.server.store.transaction import Store
from tests.operations.runs_world import at, make_flow, make_run, make_task_run, scheduled

RUNS = (READ_FLOW_RUNS, COUNT_FLOW_RUNS, READ_TASK_RUNS, COUNT_TASK_RUNS)
OTHERS = (READ_FLOWS, READ_DEPLOYMENTS, READ_ARTIFACTS, READ_LATEST_ARTIFACTS, READ_LOGS)
LISTS: tuple[Endpoint[Any], ...] = (*RUNS, *OTHERS)
CHANGED_ON_THE_WAY = {"flow_runs.created_by.id_"}
"""An id that is compared with text."""


def places(kind: type[Struct], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Where a filter takes ids or a moment, and which of them."""
    for name, hint in get_type_hints(kind).items():
        for part in get_args(hint) or (hint,):
            if isinstance(part, type) and issubclass(part, Struct):
                yield from places(part, (*path, name))
            elif part is datetime or UUID in get_args(part):
                yield (*path, name), part


def body_of(endpoint: Endpoint[Any], path: tuple[str, ...], value: Any) -> Any:
    """A body that asks for one thing."""
    for name in reversed(path):
        value = {name: value}
    return msgspec.json.decode(msgspec.json.encode(value), type=endpoint.body)


def whats_there(api: LocalClient) -> tuple[list[FlowRun], list[TaskRun]]:
    """Runs of two flows, a minute apart, and with each an artifact, a log line and a task run."""
    flows = [make_flow(api, name) for name in "ab"]
    deployments = [
        api.call(CREATE_DEPLOYMENT, body=DeploymentCreate(name=flow.name, flow_id=flow.id)) for flow in flows
    ]
    runs = [
        make_run(api, flows[n % 2], f"{n}", scheduled(at(minutes=n)), deployment_id=deployments[n % 2].id)
        for n in range(6)
    ]
    for n, run in enumerate(runs):
        api.call(CREATE_ARTIFACT, body=ArtifactCreate(key=f"key-{n}", data=n, flow_run_id=run.id))
        line = LogCreate(level=20, message=f"{n}", name="test", timestamp=at(minutes=n), flow_run_id=run.id)
        api.call(CREATE_LOGS, body=[line])
    return runs, [make_task_run(api, run) for run in runs]


def ids_among(runs: list[FlowRun], tasks: list[TaskRun], path: tuple[str, ...]) -> list[UUID]:
    """Two ids of what a filter is about."""
    if path[0] == "flows":
        return [runs[0].flow_id, runs[1].flow_id]
    if path[0] == "task_runs" and path[1] == "id":
        return [tasks[0].id, tasks[1].id]
    return [runs[0].flow_id, runs[1].flow_id] if path[1] == "flow_id" else [runs[0].id, runs[1].id]


@pytest.mark.parametrize("few", [0, 2000])
@pytest.mark.parametrize("endpoint", LISTS, ids=lambda endpoint: endpoint.path)
def test_a_kept_form_finds_what_a_new_statement_does(
    store: Store, endpoint: Endpoint[Any], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every filter by ids or a moment, asked for one value until its form is kept, and then for another."""
    for module in (lookups, paging):
        monkeypatch.setattr(module, "FEW", few)
    api = LocalClient(store)
    runs, tasks = whats_there(api)
    differ = 0
    for path, kind in places(endpoint.body):
        values: Any = [at(minutes=1), at(minutes=3)] if kind is datetime else ids_among(runs, tasks, path)
        bodies = [body_of(endpoint, path, value if kind is datetime else [value]) for value in values]
        fresh = []
        for body in bodies:
            monkeypatch.setattr(composed, "_KEPT", {})
            fresh.append(api.call(endpoint, body=body))
        assert [[api.call(endpoint, body=body) for body in bodies] for _ in range(3)] == [fresh] * 3, path
        forms = [form for form in composed._KEPT.values() if form is not None]
        assert (composed.NEVER in forms) == (".".join(path) in CHANGED_ON_THE_WAY), path
        differ += fresh[0] != fresh[1]
    assert differ >= 3


def test_only_values_may_differ() -> None:
    """Other ids make no other question; another number of them, another text or another field does."""

    def asked(**filters: Any) -> Question:
        return Question("page", msgspec.convert(filters, FlowRunFilter))

    one = asked(id={"any_": [uuid7()]})
    assert one.key == asked(id={"any_": [uuid7()]}).key
    assert one.key != asked(id={"any_": [uuid7(), uuid7()]}).key
    assert one.key != asked(id={"not_any_": [uuid7()]}).key
    assert asked(name={"any_": ["a"]}).key != asked(name={"any_": ["b"]}).key
    assert asked(operator="or_").key != asked().key
    assert Question(FlowFilter()).key != Question(FlowRunFilter()).key


def test_one_object_in_two_places_is_not_kept() -> None:
    """A value is known by its identity: it could be bound in one place, and be changed on its way to the other."""
    moment = at()
    assert Question([moment, at(minutes=1)]).key is not None
    assert Question([moment, moment]).key is None


def test_long_texts_are_not_kept() -> None:
    """G14: what callers look for takes a bounded memory."""
    assert Question(FlowFilter(name=NameMatch(any_=["x" * 900, "y" * 900]))).key is not None
    assert Question(FlowFilter(name=NameMatch(any_=["x" * 900, "y" * 900, "z" * 900]))).key is None


def test_what_is_too_long_to_keep_is_not_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of more than a hundred ids goes SQLAlchemy's way each time."""
    monkeypatch.setattr(composed, "_KEPT", {})
    api = LocalClient(store)
    (run, *_), _ = whats_there(api)
    body = body_of(READ_FLOW_RUNS, ("flow_runs", "id", "any_"), [run.id, *(uuid7() for _ in range(100))])
    assert [[one.id for one in api.call(READ_FLOW_RUNS, body=body)] for _ in range(3)] == [[run.id]] * 3
    assert all(form is None or "few" in str(key) for key, form in composed._KEPT.items())


def test_questions_are_forgotten_when_there_are_too_many(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes up questions takes no more than a bounded memory."""
    monkeypatch.setattr(composed, "_KEPT", {})
    monkeypatch.setattr(composed, "MOST", 10)
    api = LocalClient(store)
    for n in range(30):
        body = body_of(COUNT_FLOW_RUNS, ("flow_runs", "name", "any_"), [f"{n}"])
        assert api.call(COUNT_FLOW_RUNS, body=body) == 0
        assert len(composed._KEPT) <= 10
