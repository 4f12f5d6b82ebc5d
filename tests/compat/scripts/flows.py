"""Flows and tasks written for Prefect: what they return, and what the server knows of them afterwards."""

import asyncio
from datetime import timedelta

from checking import eventually, fresh, last_run, raises, run, tasks_of
from prefect import flow, get_client, get_run_logger, runtime, tags, task, unmapped
from prefect.assets import materialize
from prefect.cache_policies import INPUTS
from prefect.client.schemas.filters import FlowRunFilter, LogFilter, TaskRunFilter
from prefect.client.schemas.objects import StateType
from prefect.events.filters import EventFilter
from prefect.states import Failed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import task_input_hash
from prefect.transactions import transaction

client = get_client(sync_client=True)


@task
def double(n: int) -> int:
    return 2 * n


@task
def add(a: int, b: int) -> int:
    return a + b


def states_of(task_run):
    return [one.name for one in client.read_task_run_states(task_run.id)]


def check_flow_and_its_tasks_are_recorded():
    @flow(name=fresh("plain"), version="v7", description="words")
    def plain(n: int) -> int:
        with tags("inner"):
            return add(double(n), 1)

    with tags("outer"):
        assert plain(4) == 9
    made = last_run(plain)
    assert made.state.type is StateType.COMPLETED
    assert (made.parameters, made.flow_version) == ({"n": 4}, "v7")
    assert "outer" in made.tags
    assert made.start_time and made.end_time and made.run_count == 1
    found = {one.name.rsplit("-", 1)[0]: one for one in tasks_of(made, 2)}
    assert set(found) == {"double", "add"}
    assert all({"inner", "outer"} <= set(one.tags) for one in found.values())
    assert states_of(found["double"]) == ["Pending", "Running", "Completed"]
    assert found["add"].start_time and found["add"].end_time and found["add"].run_count == 1
    assert [one.name for one in client.read_flow_run_states(made.id)][-2:] == ["Running", "Completed"]


def check_logs_reach_the_server():
    @task
    def tells():
        get_run_logger().warning("from the task")

    @flow(name=fresh("logs"), log_prints=True)
    def told():
        print("printed")
        get_run_logger().info("from the flow")
        tells()

    told()
    made = last_run(told)
    wanted = LogFilter(flow_run_id={"any_": [made.id]})

    def lines():
        found = {one.message: one for one in client.read_logs(wanted)}
        return found if {"printed", "from the flow", "from the task"} <= set(found) else None

    found = eventually(lines)
    assert found["from the task"].level == 30 and found["from the task"].task_run_id
    assert found["printed"].name == "prefect.flow_runs"


def check_task_retries():
    attempts = []

    @task(retries=2, retry_delay_seconds=0)
    def fragile() -> int:
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError("not yet")
        return runtime.task_run.run_count

    @flow(name=fresh("task-retries"))
    def retrying() -> int:
        return fragile()

    assert retrying() == 3
    (made,) = tasks_of(last_run(retrying), 1)
    assert made.run_count == 3
    assert states_of(made) == ["Pending", "Running", "Retrying", "Retrying", "Completed"], states_of(made)


def check_flow_retries():
    attempts = []

    @flow(name=fresh("flow-retries"), retries=1, retry_delay_seconds=0)
    def fragile() -> str:
        attempts.append(double(2))
        if len(attempts) < 2:
            raise ValueError("not yet")
        return "done"

    assert fragile() == "done"
    made = last_run(fragile)
    assert made.run_count == 2
    names = [one.name for one in client.read_flow_run_states(made.id)]
    assert names[-4:] == ["Running", "AwaitingRetry", "Running", "Completed"], names


def check_failures():
    heard = []

    @task
    def broken():
        raise ValueError("broken task")

    @flow(name=fresh("failing"), on_failure=[lambda flow, run, state: heard.append((run.id, state.name))])
    def failing():
        broken()

    with raises(ValueError, "broken task"):
        failing()
    made = last_run(failing)
    assert made.state.type is StateType.FAILED and "broken task" in made.state.message
    assert heard == [(made.id, "Failed")]
    (child,) = tasks_of(made, 1)
    assert child.state.type is StateType.FAILED

    @flow(name=fresh("returned"))
    def returned():
        return Failed(message="by hand")

    assert returned(return_state=True).message == "by hand"
    assert last_run(returned).state.message == "by hand"


def check_timeouts():
    @flow(name=fresh("slow"), timeout_seconds=0.2)
    async def slow():
        await asyncio.sleep(20)

    state = asyncio.run(slow(return_state=True))
    assert state.name == "TimedOut"
    assert last_run(slow).state.name == "TimedOut"


def check_subflows():
    @flow(name=fresh("child"))
    def child(n: int) -> int:
        return double(n)

    @flow(name=fresh("parent"))
    def parent() -> int:
        return child(1) + child(2)

    assert parent() == 6
    made = last_run(parent)
    of_parent = FlowRunFilter(parent_flow_run_id={"any_": [made.id]})
    children = client.read_flow_runs(flow_run_filter=of_parent)
    assert sorted(one.parameters["n"] for one in children) == [1, 2]
    stand_ins = tasks_of(made, 2)
    assert {one.parent_task_run_id for one in children} == {one.id for one in stand_ins}
    assert {one.state.state_details.child_flow_run_id for one in stand_ins} == {one.id for one in children}
    assert client.count_flow_runs(flow_run_filter=of_parent) == 2


def check_mapping_and_futures():
    @flow(name=fresh("mapped"), task_runner=ThreadPoolTaskRunner(max_workers=4))
    def mapped() -> int:
        doubled = double.map(range(5))
        shifted = add.map(doubled, b=unmapped(1))
        last = add.submit(1, 1, wait_for=[shifted])
        return sum(shifted.result()) + last.result()

    assert mapped() == 27
    found = tasks_of(last_run(mapped), 11)
    assert {one.state.type for one in found} == {StateType.COMPLETED}
    inputs = [one.task_inputs for one in found if one.name.startswith("add")]
    assert sum("task_run" in str(one) for one in inputs) == 6, inputs


def check_caching():
    ran = []

    @task(cache_policy=INPUTS, persist_result=True)
    def by_inputs(n: int, salt: str) -> int:
        ran.append(n)
        return n

    @task(cache_key_fn=task_input_hash, cache_expiration=timedelta(minutes=5), persist_result=True)
    def by_key(n: int, salt: str) -> int:
        ran.append(n)
        return n

    @flow(name=fresh("cached"))
    def cached(salt: str):
        return [by_inputs(1, salt), by_inputs(1, salt), by_key(2, salt), by_key(2, salt)]

    assert cached(fresh("salt")) == [1, 1, 2, 2]
    assert ran == [1, 2]
    assert sorted(one.state.name for one in tasks_of(last_run(cached), 4)) == [
        "Cached",
        "Cached",
        "Completed",
        "Completed",
    ]


def check_results_are_found_again():
    @flow(name=fresh("persisted"), persist_result=True)
    def persisted() -> dict:
        return {"a": 1}

    persisted()
    assert last_run(persisted).state.result() == {"a": 1}


def check_async_flows():
    @task
    async def adouble(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    @flow(name=fresh("async-child"))
    async def achild(n: int) -> int:
        return await adouble(n)

    @flow(name=fresh("async"))
    async def aparent() -> int:
        results = await asyncio.gather(*(adouble(n) for n in range(3)), achild(5))
        return sum(results) + adouble.submit(1).result()

    assert asyncio.run(aparent()) == 18
    assert {one.state.type for one in tasks_of(last_run(aparent), 5)} == {StateType.COMPLETED}


def check_names_and_runtime():
    @task(task_run_name="step {n}")
    def named(n: int) -> str:
        return runtime.task_run.name

    @flow(name=fresh("named"), flow_run_name="run {n}")
    def naming(n: int) -> tuple:
        return runtime.flow_run.name, named(n), runtime.flow_run.parameters

    assert naming(3) == ("run 3", "step 3", {"n": 3})
    made = last_run(naming)
    assert made.name == "run 3"
    assert [one.name for one in tasks_of(made, 1)] == ["step 3"]


def check_hooks_and_transactions():
    heard = []

    @task(on_completion=[lambda task, run, state: heard.append("completed")])
    def step():
        pass

    @step.on_rollback
    def undo(txn):
        heard.append("undone")

    @flow(name=fresh("hooked"), on_completion=[lambda flow, run, state: heard.append("flow")])
    def hooked():
        try:
            with transaction():
                step()
                raise ValueError
        except ValueError:
            pass

    hooked()
    assert heard == ["completed", "undone", "flow"], heard


def check_runs_write_events():
    @flow(name=fresh("told"))
    def told() -> int:
        return double(1)

    told()
    made = last_run(told)
    (child,) = tasks_of(made, 1)

    def names():
        resources = [f"prefect.flow-run.{made.id}", f"prefect.task-run.{child.id}"]
        found = client.read_events(EventFilter.model_validate({"resource": {"id": resources}}), limit=50).events
        return {one.event for one in found}

    wanted = {
        *(f"prefect.flow-run.{state}" for state in ("Pending", "Running", "Completed")),
        *(f"prefect.task-run.{state}" for state in ("Pending", "Running", "Completed")),
    }
    eventually(lambda: wanted <= names())


def check_assets():
    key = f"s3://compat/{fresh('asset')}"

    @materialize(key)
    def made() -> int:
        return 1

    @flow(name=fresh("assets"))
    def materializing() -> int:
        return made()

    assert materializing() == 1
    wanted = EventFilter.model_validate({"resource": {"id": [key]}})
    eventually(lambda: client.read_events(wanted, limit=50).events)


def check_tasks_without_a_flow():
    @task(name=fresh("alone"))
    def alone() -> int:
        return 3

    assert alone() == 3
    wanted = TaskRunFilter(name={"like_": alone.name})
    eventually(lambda: client.read_task_runs(task_run_filter=wanted))


if __name__ == "__main__":
    run(globals())
