"""What Prefect's client calls of flows, flow runs, task runs, their states, inputs and logs."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from checking import fresh, raises, run
from prefect import flow, get_client, task
from prefect.client.schemas.actions import LogCreate
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowRunFilter,
    LogFilter,
    TaskRunFilter,
)
from prefect.client.schemas.objects import FlowRunPolicy, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort, FlowSort, LogSort, TaskRunSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelling, Completed, Failed, Pending, Running, Scheduled

client = get_client(sync_client=True)
NOW = datetime.now(UTC)


@flow(name=fresh("compat-runs"))
def example(x: int = 1) -> int:
    return x


@task(tags=["compat"])
def step(x: int = 1) -> int:
    return x


def one_of(made, **filters):
    """Whether a flow-run filter finds this run alone, among those of its flow."""
    flows = FlowFilter(id={"any_": [made.flow_id]})
    found = client.read_flow_runs(flow_filter=flows, flow_run_filter=FlowRunFilter.model_validate(filters))
    return [one.id for one in found] == [made.id]


def check_server_answers():
    assert client.api_healthcheck() is None
    assert client.hello().status_code == 200
    assert client.api_version().split(".")[0] == "3"
    client.raise_for_api_version_mismatch()


def check_flows():
    name = fresh("flow")
    id = client.create_flow_from_name(name)
    assert client.create_flow_from_name(name) == id
    assert client.read_flow(id).name == name
    assert client.read_flow_by_name(name).id == id
    assert [one.id for one in client.read_flows(flow_filter=FlowFilter(name={"any_": [name]}))] == [id]
    like = client.read_flows(
        flow_filter=FlowFilter(name={"like_": name[:-2]}), sort=FlowSort.NAME_ASC, limit=5, offset=0
    )
    assert [one.id for one in like] == [id]
    client.delete_flow(id)
    with raises(PrefectHTTPStatusError, "404"):
        client.read_flow(id)
    with raises(ObjectNotFound):
        client.delete_flow(id)
    with raises(PrefectHTTPStatusError, "404"):
        client.read_flow_by_name(name)


def check_flow_run_is_created_read_and_changed():
    made = client.create_flow_run(example, name="first", parameters={"x": 3}, context={"a": 1}, tags=["t1", "t2"])
    assert made.state.type is StateType.PENDING
    assert (made.name, made.parameters, sorted(made.tags), made.context) == ("first", {"x": 3}, ["t1", "t2"], {"a": 1})
    policy = FlowRunPolicy(retries=2, retry_delay=5)
    client.update_flow_run(
        made.id, flow_version="v9", parameters={"x": 4}, empirical_policy=policy, infrastructure_pid="p1"
    )
    client.set_flow_run_name(made.id, "second")
    client.update_flow_run_labels(made.id, {"team": "compat", "size": 3})
    read = client.read_flow_run(made.id)
    assert (read.name, read.flow_version, read.parameters) == ("second", "v9", {"x": 4})
    assert (read.empirical_policy.retries, read.empirical_policy.retry_delay) == (2, 5)
    assert read.infrastructure_pid == "p1"
    assert read.labels["team"] == "compat" and read.labels["size"] == 3
    client.delete_flow_run(made.id)
    with raises(ObjectNotFound):
        client.read_flow_run(made.id)


def check_flow_run_states():
    made = client.create_flow_run(example, state=Pending())
    running = client.set_flow_run_state(made.id, Running())
    assert running.status is SetStateStatus.ACCEPT
    assert running.state.type is StateType.RUNNING
    cancelling = client.set_flow_run_state(made.id, Cancelling(message="stop it"))
    assert cancelling.status is SetStateStatus.ACCEPT
    done = client.set_flow_run_state(made.id, Completed(message="well done"), force=True)
    assert done.status is SetStateStatus.ACCEPT
    states = client.read_flow_run_states(made.id)
    assert [one.type.value for one in states] == ["PENDING", "RUNNING", "CANCELLING", "COMPLETED"], states
    assert client.read_flow_run_state(states[-1].id).message == "well done"
    read = client.read_flow_run(made.id)
    assert read.start_time is not None and read.end_time is not None
    assert read.total_run_time >= timedelta(0)
    with raises(ObjectNotFound):
        client.set_flow_run_state(uuid4(), Running())


def check_pending_is_a_lock():
    made = client.create_flow_run(example, state=Scheduled())
    assert client.set_flow_run_state(made.id, Pending()).status is SetStateStatus.ACCEPT
    assert client.set_flow_run_state(made.id, Pending()).status is SetStateStatus.ABORT
    assert client.set_flow_run_state(made.id, Pending(name="Submitting")).status is SetStateStatus.ACCEPT


def check_future_run_is_told_to_wait():
    made = client.create_flow_run(example, state=Scheduled(scheduled_time=NOW + timedelta(hours=1)))
    client.set_flow_run_state(made.id, Pending())
    told = client.set_flow_run_state(made.id, Running())
    assert told.status is SetStateStatus.WAIT
    assert told.details.delay_seconds > 3000


def check_failed_run_with_retries_is_rescheduled():
    made = client.create_flow_run(example, state=Pending())
    client.update_flow_run(made.id, empirical_policy=FlowRunPolicy(retries=1, retry_delay=0))
    client.set_flow_run_state(made.id, Running())
    told = client.set_flow_run_state(made.id, Failed(message="no"))
    assert told.status is SetStateStatus.REJECT
    assert told.state.name == "AwaitingRetry"


def check_flow_run_filters():
    tag = fresh("tag")
    due = NOW + timedelta(hours=3)
    other = client.create_flow_run(example, name="other")
    made = client.create_flow_run(example, name=fresh("found"), tags=[tag, "x"], state=Scheduled(scheduled_time=due))
    client.update_flow_run(made.id, flow_version="3.1")
    assert one_of(made, id={"any_": [made.id]})
    assert one_of(made, name={"any_": [made.name]})
    assert one_of(made, name={"like_": made.name[:-1]})
    assert one_of(made, tags={"all_": [tag, "x"]})
    assert one_of(made, tags={"any_": [tag, "none"]})
    assert one_of(made, state={"type": {"any_": ["SCHEDULED"]}}, tags={"all_": [tag]})
    assert one_of(made, state={"name": {"any_": ["Scheduled"]}}, tags={"all_": [tag]})
    assert one_of(made, state={"type": {"not_any_": ["RUNNING"]}}, tags={"all_": [tag]})
    assert one_of(made, flow_version={"any_": ["3.1"]})
    assert one_of(
        made, expected_start_time={"after_": due - timedelta(minutes=1), "before_": due + timedelta(minutes=1)}
    )
    assert one_of(made, next_scheduled_start_time={"before_": due, "after_": due}, tags={"all_": [tag]})
    assert one_of(made, deployment_id={"is_null_": True}, tags={"all_": [tag]})
    assert one_of(made, start_time={"is_null_": True}, tags={"all_": [tag]})
    assert one_of(made, end_time={"is_null_": True}, tags={"all_": [tag]})
    assert one_of(made, parent_task_run_id={"is_null_": True}, tags={"all_": [tag]})
    assert one_of(made, operator="or_", id={"any_": [made.id]}, name={"any_": ["nobody"]})
    assert not one_of(made, idempotency_key={"any_": ["nobody"]})
    assert not one_of(made, parent_flow_run_id={"any_": [other.id]})
    ours = FlowFilter(id={"any_": [made.flow_id]})
    assert client.count_flow_runs(flow_filter=ours, flow_run_filter=FlowRunFilter(tags={"all_": [tag]})) == 1
    for sort in FlowRunSort:
        assert {made.id, other.id} <= {one.id for one in client.read_flow_runs(flow_filter=ours, sort=sort)}
    assert len(client.read_flow_runs(flow_filter=ours, limit=1, offset=1)) == 1
    with raises(PrefectHTTPStatusError, "422"):
        client.read_flow_runs(limit=100_000)


def check_flow_run_inputs():
    made = client.create_flow_run(example)
    client.create_flow_run_input(made.id, "a-1", '{"n": 1}', sender="prefect.flow-run.somebody")
    client.create_flow_run_input(made.id, "a-2", '"two"')
    assert client.read_flow_run_input(made.id, "a-2") == '"two"'
    found = client.filter_flow_run_input(made.id, "a-", limit=5, exclude_keys={"a-2"})
    assert [(one.key, one.sender) for one in found] == [("a-1", "prefect.flow-run.somebody")]
    with raises(PrefectHTTPStatusError, "409"):
        client.create_flow_run_input(made.id, "a-1", "0")
    client.delete_flow_run_input(made.id, "a-1")
    with raises(PrefectHTTPStatusError, "404"):
        client.read_flow_run_input(made.id, "a-1")


def check_task_runs():
    parent = client.create_flow_run(example)
    client.set_flow_run_state(parent.id, Running())
    made = client.create_task_run(
        step, parent.id, "0", name="one", extra_tags=["extra"], state=Pending(), task_inputs={}
    )
    assert made.state.type is StateType.PENDING
    assert {"compat", "extra"} <= set(made.tags)
    client.set_task_run_name(made.id, "renamed")
    assert client.set_task_run_state(made.id, Running()).status is SetStateStatus.ACCEPT
    assert client.set_task_run_state(made.id, Completed()).status is SetStateStatus.ACCEPT
    assert [one.type.value for one in client.read_task_run_states(made.id)] == ["PENDING", "RUNNING", "COMPLETED"]
    read = client.read_task_run(made.id)
    assert (read.name, read.flow_run_id, read.task_key, read.dynamic_key) == ("renamed", parent.id, made.task_key, "0")
    for wanted in (
        {"id": {"any_": [made.id]}},
        {"name": {"like_": "rena"}, "flow_run_id": {"any_": [parent.id]}},
        {"tags": {"all_": ["extra"]}, "flow_run_id": {"any_": [parent.id]}},
        {"state": {"type": {"any_": ["COMPLETED"]}}, "flow_run_id": {"any_": [parent.id]}},
        {"state": {"name": {"any_": ["Completed"]}}, "flow_run_id": {"any_": [parent.id]}},
        {"start_time": {"after_": NOW - timedelta(hours=1)}, "flow_run_id": {"any_": [parent.id]}},
        {"end_time": {"is_null_": False}, "flow_run_id": {"any_": [parent.id]}},
        {"subflow_runs": {"exists_": False}, "flow_run_id": {"any_": [parent.id]}},
    ):
        found = client.read_task_runs(task_run_filter=TaskRunFilter.model_validate(wanted))
        assert [one.id for one in found] == [made.id], wanted
    for sort in TaskRunSort:
        of_parent = FlowRunFilter(id={"any_": [parent.id]})
        assert [one.id for one in client.read_task_runs(flow_run_filter=of_parent, sort=sort)] == [made.id]
    client.delete_task_run(made.id)
    with raises(ObjectNotFound):
        client.read_task_run(made.id)


def check_logs():
    made = client.create_flow_run(example)
    lines = [
        LogCreate(
            name="compat",
            level=level,
            message=f"line {level}",
            timestamp=NOW + timedelta(seconds=level),
            flow_run_id=made.id,
        )
        for level in (10, 20, 30)
    ]
    client.create_logs(lines)
    of_run = {"flow_run_id": {"any_": [made.id]}}
    read = client.read_logs(LogFilter.model_validate(of_run), sort=LogSort.TIMESTAMP_DESC)
    assert [one.message for one in read] == ["line 30", "line 20", "line 10"]
    loud = client.read_logs(LogFilter.model_validate(of_run | {"level": {"ge_": 20, "le_": 20}}))
    assert [one.level for one in loud] == [20]
    late = client.read_logs(LogFilter.model_validate(of_run | {"timestamp": {"after_": NOW + timedelta(seconds=25)}}))
    assert [one.message for one in late] == ["line 30"]
    assert len(client.read_logs(LogFilter.model_validate(of_run), limit=2, offset=2)) == 1


async def check_async_client():
    async with get_client() as ours:
        assert await ours.api_healthcheck() is None
        made = await ours.create_flow_run(example, tags=["async"])
        assert (await ours.set_flow_run_state(made.id, Running())).status is SetStateStatus.ACCEPT
        assert (await ours.read_flow_run(made.id)).state.type is StateType.RUNNING
        child = await ours.create_task_run(step, made.id, "0", state=Running())
        assert [one.id for one in await ours.read_task_runs(flow_run_filter=FlowRunFilter(id={"any_": [made.id]}))] == [
            child.id
        ]
        assert len(await ours.read_flow_run_states(made.id)) == 2
        await ours.delete_task_run(child.id)
        await ours.delete_flow_run(made.id)
        with raises(ObjectNotFound):
            await ours.read_flow_run(made.id)


if __name__ == "__main__":
    run(globals())
