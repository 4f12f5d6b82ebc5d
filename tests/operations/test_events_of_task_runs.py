"""The events of task runs that headrace records itself: what Prefect's client says in each of its own."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace
from sqlalchemy import update
from sqlalchemy.event import listen

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.schemas.events import READ_EVENTS, ReadEvents, ReceivedEvent
from headrace.schemas.flow_runs import CREATE_FLOW_RUN, DELETE_FLOW_RUN
from headrace.schemas.flows import CREATE_FLOW
from headrace.schemas.recording import RECORD, Records, TaskRunRecord
from headrace.schemas.states import State, StateDetails, StateType
from headrace.schemas.task_runs import DELETE_TASK_RUN, Parameter, TaskRunPolicy
from headrace.server.events import finding
from headrace.server.operations.closing import close_inside
from headrace.server.operations.events import read_events
from headrace.server.store.tables import TASK_RUN
from headrace.server.store.transaction import Store, Tx

START = datetime(2026, 1, 1, tzinfo=UTC)
RESULT = {"storage_key": "k", "expiration": None, "serializer": {"type": "pickle"}}

# The fields that Prefect 3.8.8's client was seen to send.
LABELS = {
    "prefect.resource.id",
    "prefect.resource.name",
    "prefect.run-count",
    "prefect.state-message",
    "prefect.state-name",
    "prefect.state-timestamp",
    "prefect.state-type",
    "prefect.orchestration",
}
STATE = {"type", "name", "message", "state_details"}
TASK_RUN_FIELDS = {
    "name",
    "task_key",
    "dynamic_key",
    "task_version",
    "empirical_policy",
    "tags",
    "labels",
    "task_inputs",
    "run_count",
    "flow_run_run_count",
    "expected_start_time",
    "total_run_time",
}


@pytest.fixture
def run_id(api: LocalClient) -> UUID:
    """A flow run."""
    flow = api.call(CREATE_FLOW, body={"name": "etl"})
    return api.call(CREATE_FLOW_RUN, body={"flow_id": flow.id, "name": "otter", "tags": ["nightly"]}).id


def _moment(second: float) -> datetime:
    return START + timedelta(seconds=second)


def _recorded(run_id: UUID) -> TaskRunRecord:
    """A task run that fails at first, waits, and completes: it runs for 2 and for 0.5 seconds."""
    id = uuid7()

    def state(second: float, type: StateType, name: str | None = None, data: Any = None, **details: Any) -> State:
        about = StateDetails(flow_run_id=run_id, task_run_id=id, **details)
        return State(type=type, name=name, timestamp=_moment(second), data=data, state_details=about)

    waiting = state(3, StateType.SCHEDULED, "AwaitingRetry", scheduled_time=_moment(13))
    waiting.message = 'It said "no"'
    return TaskRunRecord(
        id=id,
        flow_run_id=run_id,
        task_key="load-1a2b",
        dynamic_key="0",
        name="load-0",
        task_version="3",
        tags=["nightly", "small"],
        task_inputs={"x": [Parameter(name="day")], "y": []},
        empirical_policy=TaskRunPolicy(retries=1, retry_delay=10),
        expected_start_time=_moment(0),
        start_time=_moment(1),
        end_time=_moment(13.5),
        total_run_time=2.5,
        run_count=2,
        flow_run_run_count=1,
        states=[
            state(0, StateType.PENDING),
            state(1, StateType.RUNNING),
            waiting,
            state(13, StateType.RUNNING, "Retrying", {"type": "unpersisted"}),
            state(13.5, StateType.COMPLETED, None, RESULT, untrackable_result=True),
        ],
    )


def _read(api: LocalClient, **filter: Any) -> list[ReceivedEvent]:
    chosen = {"event": {"prefix": ["prefect.task-run."]}, "occurred": {"until": _moment(86_400)}, "order": "ASC"}
    return api.call(READ_EVENTS, body={"filter": {**chosen, **filter}}).events


def test_they_have_the_fields_of_those_that_prefects_clients_send(api: LocalClient, run_id: UUID) -> None:
    """Labels, what is related, and the payload; what is None is left out, as there."""
    api.call(RECORD, body=Records(task_runs=[_recorded(run_id)]))

    events = _read(api)

    times = [set(), {"start_time"}, {"start_time"}, {"start_time"}, {"start_time", "end_time"}]
    for event, at_that_time in zip(events, times, strict=True):
        payload = event.payload
        assert set(event.resource) == LABELS
        assert [labels["prefect.resource.role"] for labels in event.related] == ["tag", "tag", "flow-run", "flow"]
        assert set(payload) == {"intended", "initial_state", "validated_state", "task_run"}
        assert set(payload["validated_state"]) == STATE | {"data"}
        assert set(payload["initial_state"] or STATE) == STATE
        assert set(payload["task_run"]) == TASK_RUN_FIELDS | at_that_time
        assert set(payload["task_run"]["empirical_policy"]) == {
            "max_retries", "retries", "retry_delay", "retry_delay_seconds"
        }  # fmt: skip
    waiting, retrying, last = (event.payload for event in events[2:])
    assert waiting["validated_state"] == retrying["initial_state"] | {"data": None}
    assert waiting["validated_state"]["state_details"] == {"scheduled_time": "2026-01-01T00:00:13Z"}
    assert waiting["validated_state"]["message"] == 'It said "no"'
    assert retrying["validated_state"]["data"] is None
    assert last["validated_state"]["state_details"] == {"untrackable_result": True}
    assert last["validated_state"]["data"] == RESULT
    assert last["task_run"]["task_inputs"] == {"x": [{"input_type": "parameter", "name": "day"}], "y": []}


def test_g8_each_tells_of_its_task_run_as_it_was_at_that_state(api: LocalClient, run_id: UUID) -> None:
    """A record says how the run stands at its last state; it is counted back from there."""
    api.call(RECORD, body=Records(task_runs=[_recorded(run_id)]))

    events = _read(api)

    told = [event.payload["task_run"] for event in events]
    assert [event.resource["prefect.run-count"] for event in events] == ["0", "1", "1", "2", "2"]
    assert [one["run_count"] for one in told] == [0, 1, 1, 2, 2]
    assert [one["total_run_time"] for one in told] == [0.0, 0.0, 2.0, 2.0, 2.5]
    assert [one.get("start_time") for one in told] == [None] + ["2026-01-01T00:00:01Z"] * 4
    assert [one.get("end_time") for one in told] == [None] * 4 + ["2026-01-01T00:00:13.500000Z"]


def test_g8_states_of_one_moment_keep_their_order(api: LocalClient, run_id: UUID) -> None:
    """A clock may give two states the same microsecond."""
    record = _recorded(run_id)
    record.states[1].timestamp = record.states[0].timestamp
    api.call(RECORD, body=Records(task_runs=[record]))

    pending, running, *_ = _read(api)

    assert (pending.event, running.event) == ("prefect.task-run.Pending", "prefect.task-run.Running")
    assert (pending.follows, running.follows) == (None, pending.id)
    assert (running.payload["intended"]["from"], running.payload["task_run"]["run_count"]) == ("PENDING", 1)


def test_g8_they_say_the_same_when_the_states_come_one_by_one(api: LocalClient, run_id: UUID) -> None:
    """What was the state before is then read from the database."""
    record = _recorded(run_id)
    for count, ran, state in zip([0, 1, 1, 2, 2], [0, 0, 2, 2, 2.5], record.states, strict=True):
        ended = record.end_time if state.is_final() else None
        started = record.start_time if count else None
        stands = {"run_count": count, "total_run_time": ran, "start_time": started, "end_time": ended}
        api.call(RECORD, body=Records(task_runs=[replace(record, states=[state], **stands)]))
    one_by_one = _read(api)
    api.call(DELETE_TASK_RUN, id=record.id)
    again = replace(record, id=uuid7(), states=[replace(state, id=uuid7()) for state in record.states])
    for state in again.states:
        state.state_details = replace(state.state_details, task_run_id=again.id)
    api.call(RECORD, body=Records(task_runs=[again]))

    at_once = _read(api, resource={"id": [f"prefect.task-run.{again.id}"]})

    assert [event.payload for event in one_by_one] == [event.payload for event in at_once]


def test_they_stay_when_their_run_is_deleted_and_can_be_searched(api: LocalClient, run_id: UUID) -> None:
    """An event is whole by itself; a word of its payload finds it."""
    record = _recorded(run_id)
    api.call(RECORD, body=Records(task_runs=[record]))
    before = _read(api)
    api.call(DELETE_TASK_RUN, id=record.id)
    api.call(DELETE_FLOW_RUN, id=run_id)

    assert _read(api) == before
    assert len(_read(api, text={"query": "load-1a2b"})) == 5


@pytest.mark.parametrize("most", [finding.MOST, 0])
def test_they_are_found_by_what_their_flow_run_belongs_to(
    api: LocalClient, run_id: UUID, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By each resource that they name, whether the index has them under it or under the flow run alone."""
    monkeypatch.setattr(finding, "MOST", most)
    api.call(RECORD, body=Records(task_runs=[_recorded(run_id)]))
    other = api.call(CREATE_FLOW_RUN, body={"flow_id": api.call(CREATE_FLOW, body={"name": "other"}).id}).id
    api.call(RECORD, body=Records(task_runs=[_recorded(other)]))
    expected = [event for event in _read(api) if f"prefect.flow-run.{run_id}" in str(event.related)]
    named = [labels["prefect.resource.id"] for labels in expected[0].related]

    own = [id for id in named if id != "prefect.tag.small"]
    assert len(own) == 3
    for id in own:
        chosen = {"id": [id]}
        found = [_read(api, related=chosen), _read(api, any_resource=chosen)]
        assert found == ([_read(api)] * 2 if id == "prefect.tag.nightly" else [expected] * 2), id
    flow = {"id": [id for id in named if id.startswith("prefect.flow.")]}
    last = {"name": ["prefect.task-run.Completed", "other"]}
    for names in ({"prefix": ["pre"]}, {"prefix": ["other", "prefect.task-run.Comp"]}, last):
        found = [event.event for event in _read(api, related=flow, event=names)]
        assert found.count("prefect.task-run.Completed") == 1, names
    assert len(_read(api, related=flow, event={"prefix": ["prefect.flow-run."]})) == 1


def test_a_page_of_them_is_read_by_two_statements(api: LocalClient, store: Store, run_id: UUID) -> None:
    """One counts and one reads, however many there are."""

    def statements() -> int:
        seen: list[object] = []

        def read(tx: Tx) -> None:
            listen(tx.connection, "before_cursor_execute", lambda *arguments: seen.append(arguments[2]))
            read_events(tx, ReadEvents())

        store.read(read)
        return len(seen)

    api.call(RECORD, body=Records(task_runs=[_recorded(run_id)]))
    few = statements()
    api.call(RECORD, body=Records(task_runs=[replace(_recorded(run_id), dynamic_key=str(key)) for key in range(1, 9)]))

    assert (few, statements()) == (2, 2)


def test_g6_what_the_server_ends_is_told_of_as_fully(
    api: LocalClient, store: Store, clock: ManualClock, run_id: UUID
) -> None:
    """The end it was given follows the state it had."""
    record = _recorded(run_id)
    record.states, record.run_count, record.total_run_time, record.end_time = record.states[:2], 1, 0.0, None
    api.call(RECORD, body=Records(task_runs=[record]))
    clock.advance(60)
    store.write(lambda tx: close_inside(tx, run_id, StateType.CRASHED))

    running, crashed = _read(api)[-2:]

    told = crashed.payload["task_run"]
    assert crashed.follows == running.id
    assert crashed.payload["initial_state"] == {
        name: value for name, value in running.payload["validated_state"].items() if name != "data"
    }
    assert set(told) == TASK_RUN_FIELDS | {"start_time", "end_time"}
    assert told["end_time"] == crashed.occurred.isoformat().replace("+00:00", "Z")
    assert told["task_inputs"] == {"x": [{"input_type": "parameter", "name": "day"}], "y": []}


@pytest.mark.parametrize("broken", [{"tags": {"no": "list"}}, {"task_inputs": ["no", "inputs"]}])
def test_g13_a_task_run_that_cannot_be_read_is_ended_and_told_of(
    api: LocalClient, store: Store, run_id: UUID, broken: dict[str, Any]
) -> None:
    """So is the one beside it."""
    records = [_recorded(run_id), replace(_recorded(run_id), dynamic_key="1")]
    for record in records:
        record.states = record.states[:2]
    api.call(RECORD, body=Records(task_runs=records))
    store.write(lambda tx: tx.execute(update(TASK_RUN).where(TASK_RUN.c.id == records[0].id).values(**broken)))

    store.write(lambda tx: close_inside(tx, run_id, StateType.CRASHED))

    assert len(_read(api, event={"name": ["prefect.task-run.Crashed"]})) == 2
