"""What is written into the event log: each state of a flow run, what becomes of objects, and what clients report."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace
from sqlalchemy import select

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.exceptions import Forbidden, ValidationFailed
from headrace.schemas import work_pools
from headrace.schemas.deployments import CREATE_DEPLOYMENT, DELETE_DEPLOYMENT, PAUSE_DEPLOYMENT, UPDATE_DEPLOYMENT
from headrace.schemas.events import CREATE_EVENTS, READ_EVENTS, Event
from headrace.schemas.flow_runs import CREATE_FLOW_RUN, SET_FLOW_RUN_STATE, FlowRun
from headrace.schemas.flows import CREATE_FLOW, DELETE_FLOW, UPDATE_FLOW, Flow
from headrace.schemas.recording import RECORD, Records, RefusedRecord, TaskRunRecord
from headrace.schemas.states import State, StateType
from headrace.server.operations.events import record_events
from headrace.server.services import worker_health
from headrace.server.store.tables import EVENT, TASK_RUN, TASK_RUN_STATE
from headrace.server.store.transaction import Store
from headrace.settings import get_settings
from tests.operations.events_seen import events_of

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def flow(api: LocalClient) -> Flow:
    """A flow."""
    return api.call(CREATE_FLOW, body={"name": "etl"})


def _run(api: LocalClient, flow: Flow, **fields: Any) -> FlowRun:
    return api.call(CREATE_FLOW_RUN, body={"flow_id": flow.id, "name": "otter", "tags": ["nightly"], **fields})


def _set(api: LocalClient, run: FlowRun, type: str, *, force: bool = False, **state: Any) -> State:
    answer = api.call(SET_FLOW_RUN_STATE, id=run.id, body={"state": {"type": type, **state}, "force": force})
    assert answer.state is not None
    return answer.state


def test_g5_each_state_of_a_flow_run_is_an_event(api: LocalClient, store: Store, flow: Flow) -> None:
    """It has the state's id and moment, follows the event of the state before, and names what is around."""
    run = _run(api, flow)
    state = _set(api, run, "RUNNING", message="Off it goes")

    first, second = events_of(store, "flow-run", run.id)

    assert (first.event, first.id, first.follows) == ("prefect.flow-run.Pending", run.state_id, None)
    assert (second.event, second.id, second.follows) == ("prefect.flow-run.Running", state.id, run.state_id)
    assert second.occurred == state.timestamp
    assert second.resource == {
        "prefect.resource.id": f"prefect.flow-run.{run.id}",
        "prefect.resource.name": "otter",
        "prefect.run-count": "1",
        "prefect.state-message": "Off it goes",
        "prefect.state-name": "Running",
        "prefect.state-timestamp": state.timestamp.isoformat(),
        "prefect.state-type": "RUNNING",
    }
    assert second.related == [
        {
            "prefect.resource.id": f"prefect.flow.{flow.id}",
            "prefect.resource.role": "flow",
            "prefect.resource.name": "etl",
        },
        {"prefect.resource.id": "prefect.tag.nightly", "prefect.resource.role": "tag"},
    ]
    assert second.payload == {
        "intended": {"from": "PENDING", "to": "RUNNING"},
        "initial_state": {"type": "PENDING", "name": "Pending"},
        "validated_state": {"type": "RUNNING", "name": "Running", "message": "Off it goes"},
    }


def test_a_run_bears_the_tags_of_its_flow_too(api: LocalClient, store: Store) -> None:
    """Each once, in each of its events, so that what looks for a tag finds the runs of the flows that have it."""
    flow = api.call(CREATE_FLOW, body={"name": "tagged", "tags": ["team", "nightly"]})
    run = _run(api, flow)
    _set(api, run, "RUNNING")

    events = events_of(store, "flow-run", run.id)
    tags = [
        [each["prefect.resource.id"] for each in event.related if each["prefect.resource.role"] == "tag"]
        for event in events
    ]
    assert tags == [["prefect.tag.nightly", "prefect.tag.team"]] * 2


def test_a_state_long_after_the_last_one_follows_nothing(
    api: LocalClient, store: Store, flow: Flow, clock: ManualClock
) -> None:
    """Five minutes are the most; and what is refused is no event."""
    run = _run(api, flow)
    clock.advance(301)
    api.call(SET_FLOW_RUN_STATE, id=run.id, body={"state": {"type": "PENDING"}})
    _set(api, run, "COMPLETED")

    events = events_of(store, "flow-run", run.id)
    assert [(event.event.rpartition(".")[2], event.follows) for event in events] == [
        ("Pending", None),
        ("Completed", None),
    ]


def test_g5_a_forced_state_names_who_forced_it(api: LocalClient, store: Store, flow: Flow) -> None:
    """So does one that leaves a final state."""
    run = _run(api, flow)
    _set(api, run, "COMPLETED")
    _set(api, run, "FAILED", force=True)

    _, done, forced = events_of(store, "flow-run", run.id)
    assert "headrace.forced-by" not in done.resource
    assert forced.resource["headrace.forced-by"] == "The administrator"


def test_a_run_of_a_deployment_names_its_place_and_its_maker(api: LocalClient, store: Store, flow: Flow) -> None:
    """The deployment, its queue and its pool are related to what its runs do."""
    api.call(work_pools.CREATE_WORK_POOL, body={"name": "pool", "type": "process"})
    deployment = api.call(CREATE_DEPLOYMENT, body={"flow_id": flow.id, "name": "prod", "work_pool_name": "pool"})
    run = _run(api, flow, deployment_id=deployment.id, work_pool_name="pool")

    [event] = events_of(store, "flow-run", run.id)
    roles = {labels["prefect.resource.role"]: labels for labels in event.related}
    assert {"flow", "deployment", "work-queue", "work-pool", "tag"} <= set(roles)
    assert roles["work-pool"]["prefect.work-pool.type"] == "process"
    assert roles["deployment"]["prefect.resource.name"] == "prod"


def _names(store: Store, kind: str, id: UUID) -> list[str]:
    return [event.event.removeprefix(f"prefect.{kind}.") for event in events_of(store, kind, id)]


def test_flows_and_deployments_tell_what_becomes_of_them(api: LocalClient, store: Store, flow: Flow) -> None:
    """An update is told when it has changed something, with what it was and is."""
    deployment = api.call(CREATE_DEPLOYMENT, body={"flow_id": flow.id, "name": "prod"})
    api.call(UPDATE_DEPLOYMENT, id=deployment.id, body={"description": "new"})
    api.call(UPDATE_DEPLOYMENT, id=deployment.id, body={"description": "new"})
    api.call(PAUSE_DEPLOYMENT, id=deployment.id)
    api.call(DELETE_DEPLOYMENT, id=deployment.id)
    api.call(UPDATE_FLOW, id=flow.id, body={"tags": ["a"]})
    api.call(DELETE_FLOW, id=flow.id)

    assert _names(store, "deployment", deployment.id) == ["created", "updated", "updated", "deleted"]
    update = events_of(store, "deployment", deployment.id)[1]
    assert update.payload == {
        "updated_fields": ["description"],
        "updates": {"description": {"from": None, "to": "new"}},
    }
    assert _names(store, "flow", flow.id) == ["created", "updated", "deleted"]
    assert events_of(store, "flow", flow.id)[2].payload == {"name": "etl", "tags": ["a"], "labels": {}}


def test_pools_and_queues_tell_of_their_status(api: LocalClient, store: Store, clock: ManualClock) -> None:
    """Ready with a worker, not ready without, paused; each follows the one before within ten minutes."""
    pool = api.call(work_pools.CREATE_WORK_POOL, body={"name": "pool", "type": "process"})
    api.call(work_pools.WORKER_HEARTBEAT, work_pool_name="pool", body={"name": "worker"})
    clock.advance(300)
    worker_health.run_once(store, get_settings())
    clock.advance(900)
    api.call(work_pools.UPDATE_WORK_POOL, name="pool", body={"is_paused": True, "description": "x"})
    queue = api.call(work_pools.CREATE_WORK_QUEUE, work_pool_name="pool", body={"name": "high"})
    api.call(work_pools.UPDATE_WORK_QUEUE, work_pool_name="pool", name="high", body={"is_paused": True})
    api.call(work_pools.DELETE_WORK_POOL, name="pool")

    events = events_of(store, "work-pool", pool.id)
    assert [event.event.rpartition(".")[2] for event in events] == [
        "created",
        "not-ready",
        "ready",
        "not-ready",
        "updated",
        "paused",
        "deleted",
    ]
    first, ready, silent, paused = events[1], events[2], events[3], events[5]
    assert [first.follows, ready.follows, silent.follows, paused.follows] == [None, first.id, ready.id, None]
    assert _names(store, "work-queue", queue.id) == ["created", "paused", "deleted"]


def _recorded(run: FlowRun, *types: StateType) -> TaskRunRecord:
    states = [State(type=type, timestamp=START + timedelta(seconds=second)) for second, type in enumerate(types)]
    return TaskRunRecord(
        id=uuid7(), flow_run_id=run.id, task_key="add", dynamic_key="add-0", name='add "0"', run_count=1, states=states,
        tags=["small"],
    )  # fmt: skip


def test_g8_the_states_of_recorded_task_runs_are_events(api: LocalClient, store: Store, flow: Flow) -> None:
    """As Prefect's clients would send them, also when a state comes in a later batch, or a batch twice."""
    run = _run(api, flow)
    record = _recorded(run, StateType.PENDING, StateType.RUNNING, StateType.FAILED)
    record.states[2].message = 'It said "no"'
    early, late = (replace(record, states=part) for part in (record.states[:2], record.states[2:]))
    for batch in (early, late, late):
        api.call(RECORD, body=Records(task_runs=[batch]))

    events = events_of(store, "task-run", record.id)

    names = [event.event.removeprefix("prefect.task-run.") for event in events]
    assert names == ["Pending", "Running", "Failed"]
    assert [event.id for event in events] == [state.id for state in record.states]
    assert [event.follows for event in events] == [None, events[0].id, events[1].id]
    last = events[2]
    assert (last.resource["prefect.resource.name"], last.resource["prefect.orchestration"]) == ('add "0"', "client")
    assert last.resource["prefect.state-message"] == 'It said "no"'
    assert last.payload["intended"] == {"from": "RUNNING", "to": "FAILED"}
    assert last.payload["validated_state"]["message"] == 'It said "no"'
    roles = [(labels["prefect.resource.role"], labels["prefect.resource.id"]) for labels in last.related]
    assert roles == [
        ("tag", "prefect.tag.nightly"),
        ("tag", "prefect.tag.small"),
        ("flow-run", f"prefect.flow-run.{run.id}"),
        ("flow", f"prefect.flow.{flow.id}"),
    ]
    whole = {"prefect.tag.nightly", f"prefect.flow.{flow.id}"}
    for _, resource in roles:
        later = {"until": START + timedelta(days=1)}
        found = api.call(READ_EVENTS, body={"filter": {"related": {"id": [resource]}, "occurred": later}})
        assert found.total == 3 + (resource in whole), "those of the task run, and Pending of the flow run"


TASK_RUN_ID, FLOW_RUN_ID = uuid7(), uuid7()


def _news(name: str, second: float, **payload: Any) -> Event:
    """What Prefect's client sends of a state of a task run."""
    said = {"type": name.upper(), "name": name, "message": "", "state_details": {}, "data": None}
    task_run = {
        "name": "a-0",
        "task_key": "a-98c4",
        "dynamic_key": "4bb5",
        "empirical_policy": {"max_retries": 0, "retry_delay_seconds": 0.0, "retries": 1, "retry_delay": 0},
        "tags": ["ft"],
        "labels": {},
        "task_inputs": {"x": [{"input_type": "task_run", "id": str(uuid7())}]},
        "run_count": 1,
        "flow_run_run_count": 1,
        "expected_start_time": "2026-01-01T00:00:00Z",
        "total_run_time": 0.5,
    }
    return Event(
        occurred=START + timedelta(seconds=second),
        event=f"prefect.task-run.{name}",
        resource={"prefect.resource.id": f"prefect.task-run.{TASK_RUN_ID}", "prefect.orchestration": "client"},
        related=[{"prefect.resource.id": f"prefect.flow-run.{FLOW_RUN_ID}", "prefect.resource.role": "flow-run"}],
        payload={"validated_state": {**said, **payload}, "task_run": {**task_run, "cache_key": None}},
    )


def _report(store: Store, *events: Event) -> list[RefusedRecord]:
    return store.write(lambda tx: record_events(tx, events))


def _task_run(store: Store) -> Any:
    return store.read(lambda tx: tx.execute(select(TASK_RUN).where(TASK_RUN.c.id == TASK_RUN_ID)).one_or_none())


def test_g11_task_runs_that_clients_report_as_events_are_stored_in_whatever_order(store: Store) -> None:
    """The newest state wins; late and repeated ones only complete the history."""
    pending, running = _news("Pending", 0), _news("Running", 1)
    done = _news("Completed", 2, data={"type": "reference"}, state_details={"cache_key": "k"})
    for batch in ([done], [pending, done], [running], [running]):
        assert _report(store, *batch) == []

    row = _task_run(store)
    assert (row.state_id, row.state_name, row.state_timestamp) == (done.id, "Completed", done.occurred)
    assert (row.flow_run_id, row.task_key, row.tags, row.run_count) == (FLOW_RUN_ID, "a-98c4", ["ft"], 1)
    assert row.task_inputs["x"][0]["input_type"] == "task_run"
    assert row.empirical_policy["retries"] == 1
    chosen = select(TASK_RUN_STATE).order_by(TASK_RUN_STATE.c.timestamp)
    states = store.read(lambda tx: tx.execute(chosen).all())
    assert [state.id for state in states] == [pending.id, running.id, done.id]
    assert states[2].data == {"type": "reference"}
    assert states[2].state_details["cache_key"] == "k"
    assert len(events_of(store, "task-run", TASK_RUN_ID)) == 3


def test_g4_no_client_that_knows_no_epochs_can_outdo_later_news_by_one(store: Store) -> None:
    """What it says of an epoch is not heard; a moment without a zone is one in UTC."""
    first, second = _news("Pending", 0), _news("Running", 1)
    first.payload["task_run"]["epoch"] = 99
    first.occurred = first.occurred.replace(tzinfo=None)
    assert _report(store, second, first) == []
    assert (_task_run(store).state_name, _task_run(store).epoch) == ("Running", 0)


def test_g13_an_event_that_cannot_be_taken_harms_only_itself(store: Store) -> None:
    """Its sender is told why; all others are stored."""
    empty = _news("Running", 1)
    empty.payload = {}
    nul = Event(occurred=START, event="a", resource={"prefect.resource.id": "x"}, payload={"text": "\x00"})
    roleless = Event(
        occurred=START, event="b", resource={"prefect.resource.id": "x"}, related=[{"prefect.resource.id": "y"}]
    )
    good = Event(occurred=START, event="c", resource={"prefect.resource.id": "x"})

    refused = {one.id for one in _report(store, empty, nul, roleless, good, _news("Pending", 0))}

    assert {empty.id, roleless.id} <= refused <= {empty.id, roleless.id, nul.id}
    assert _task_run(store).state_name == "Pending"
    names = store.read(lambda tx: set(tx.execute(select(EVENT.c.event)).scalars()))
    assert {"c", "prefect.task-run.Pending"} <= names


def test_g13_of_events_that_are_sent_together_the_sound_ones_are_stored(api: LocalClient, store: Store) -> None:
    """The answer names the others by their place and id; what only the server says is forbidden."""
    good, bad, forged = (Event(occurred=START, event=name, resource={"prefect.resource.id": "x"}) for name in "abc")
    bad.related, forged.event = [{"prefect.resource.id": "y"}], "prefect.flow-run.Running"
    unclear = replace(_news("Running", 1), payload={})
    told = _news("Pending", 0)

    with pytest.raises(ValidationFailed, match=f"2 of 4 events were refused.*{bad.id}") as refused:
        api.call(CREATE_EVENTS, body=[bad, good, unclear, told])
    with pytest.raises(Forbidden, match=str(forged.id)):
        api.call(CREATE_EVENTS, body=[forged, replace(good, id=uuid7(), event="d")])

    faults = refused.value.details or []
    assert [fault["loc"] for fault in faults] == [["body", 0], ["body", 2]]
    assert str(unclear.id) in faults[1]["msg"]
    names = store.read(lambda tx: set(tx.execute(select(EVENT.c.event)).scalars()))
    assert names == {"a", "d", "prefect.task-run.Pending"}
    assert _task_run(store).state_name == "Pending"


@pytest.mark.parametrize(
    "name",
    [
        "prefect.flow-run.Running",
        "prefect.deployment.created",
        "prefect.work-pool.ready",
        "prefect.automation.triggered",
        "prefect.concurrency-limit.created",
        "headrace.anything",
    ],
)
def test_s15_clients_cannot_forge_what_the_server_says(api: LocalClient, store: Store, name: str) -> None:
    """The server's own names are refused from anybody else."""
    forged = Event(occurred=START, event=name, resource={"prefect.resource.id": "prefect.flow-run.1"})
    with pytest.raises(Forbidden):
        api.call(CREATE_EVENTS, body=[forged])
    assert [one.id for one in _report(store, forged)] == [forged.id]


@pytest.mark.parametrize(
    "name",
    [
        "prefect.flow-run.heartbeat",
        "prefect.flow-run.pull-step.executed",
        "prefect.worker.started",
        "prefect.runner.cancelled-flow-run",
        "prefect.block.secret.loaded",
        "prefect.concurrency-limit.acquired",
        "prefect.concurrency-limit.v1.released",
        "prefect.artifact.created",
        "prefect.asset.materialization.succeeded",
        "prefect.kubernetes.pod.running",
        "my.own",
    ],
)
def test_clients_may_send_what_they_send(api: LocalClient, store: Store, name: str) -> None:
    """Events of Prefect's clients and integrations, and any name of one's own."""
    event = Event(occurred=START, event=name, resource={"prefect.resource.id": "x.1"})
    api.call(CREATE_EVENTS, body=[event])
    assert store.read(lambda tx: tx.execute(select(EVENT.c.id)).scalars().all()) == [event.id]


@pytest.mark.parametrize(
    "fault",
    [
        {"event": ""},
        {"event": "x" * 1025},
        {"resource": {"a": "b"}},
        {"resource": {"prefect.resource.id": "x", **{str(number): "" for number in range(500)}}},
        {"related": [{"prefect.resource.id": "x", "prefect.resource.role": "y"}] * 101},
        {"related": [{"prefect.resource.id": "x"}]},
    ],
)
def test_events_beyond_the_limits_are_refused(api: LocalClient, fault: dict[str, Any]) -> None:
    """As many labels, related resources and characters as the settings say."""
    body = {"occurred": START, "event": "a", "resource": {"prefect.resource.id": "x"}, **fault}
    with pytest.raises(ValidationFailed):
        api.call(CREATE_EVENTS, body=[body])
