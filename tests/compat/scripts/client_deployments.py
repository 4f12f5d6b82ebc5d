"""What Prefect's client calls of deployments, schedules, work pools, work queues and workers."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from checking import eventually, fresh, raises, run
from prefect import flow, get_client
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    DeploymentUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.filters import (
    DeploymentFilter,
    FlowFilter,
    FlowRunFilter,
    WorkerFilter,
    WorkPoolFilter,
    WorkQueueFilter,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.client.schemas.sorting import DeploymentSort
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Scheduled

client = get_client(sync_client=True)
NOW = datetime.now(UTC)
TEMPLATE = {
    "job_configuration": {"command": "{{ command }}", "env": "{{ env }}", "image": "{{ image }}"},
    "variables": {
        "type": "object",
        "properties": {
            "command": {"type": "string"},
            "env": {"type": "object", "additionalProperties": {"type": "string"}},
            "image": {"type": "string", "default": "python"},
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "title": "n"}},
    "required": ["n"],
    "definitions": {},
}
FLOW = client.create_flow_from_name(fresh("compat-deployments"))


def pool_named(kind="process", **options):
    return client.create_work_pool(WorkPoolCreate(name=fresh("pool"), type=kind, base_job_template=TEMPLATE, **options))


def deployment(**options):
    return client.create_deployment(FLOW, fresh("deployment"), **options)


def check_deployment_is_created_read_and_changed():
    pool = pool_named()
    name = fresh("full")
    id = client.create_deployment(
        FLOW,
        name,
        version="1",
        description="what it does",
        parameters={"n": 1},
        tags=["a", "b"],
        work_pool_name=pool.name,
        work_queue_name="default",
        path="/srv/flows",
        entrypoint="main.py:main",
        parameter_openapi_schema=SCHEMA,
        enforce_parameter_schema=True,
        concurrency_limit=3,
        concurrency_options={"collision_strategy": "CANCEL_NEW"},
        job_variables={"env": {"A": "b"}},
        pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": "/srv"}}],
        schedules=[
            DeploymentScheduleCreate(schedule=CronSchedule(cron="0 6 * * *", timezone="Europe/Berlin"), slug="early")
        ],
    )
    read = client.read_deployment(id)
    assert (read.name, read.version, read.description, read.parameters) == (name, "1", "what it does", {"n": 1})
    assert (read.tags, read.work_pool_name, read.work_queue_name) == (["a", "b"], pool.name, "default")
    assert (read.path, read.entrypoint, read.job_variables) == ("/srv/flows", "main.py:main", {"env": {"A": "b"}})
    assert read.parameter_openapi_schema == SCHEMA and read.enforce_parameter_schema
    assert read.global_concurrency_limit.limit == 3
    assert read.concurrency_options.collision_strategy.value == "CANCEL_NEW"
    assert read.pull_steps[0]["prefect.deployments.steps.set_working_directory"] == {"directory": "/srv"}
    assert [(one.slug, one.schedule.cron, one.schedule.timezone) for one in read.schedules] == [
        ("early", "0 6 * * *", "Europe/Berlin")
    ]
    client.update_deployment(
        id, DeploymentUpdate(description="changed", tags=["c"], parameters={"n": 2}, concurrency_limit=5)
    )
    read = client.read_deployment(id)
    assert (read.description, read.tags, read.parameters) == ("changed", ["c"], {"n": 2})
    assert read.global_concurrency_limit.limit == 5
    assert client.create_deployment(FLOW, name, version="2") == id
    flow_name = client.read_flow(FLOW).name
    assert client.read_deployment_by_name(f"{flow_name}/{name}").id == id
    client.delete_deployment(id)
    with raises(ObjectNotFound):
        client.read_deployment(id)
    with raises(ObjectNotFound):
        client.delete_deployment(id)
    with raises(ObjectNotFound):
        client.read_deployment_by_name(f"{flow_name}/{name}")


def check_deployment_of_unknown_pool_is_refused():
    with raises(PrefectHTTPStatusError, "404"):
        deployment(work_pool_name=fresh("none"))


def check_deployment_filters():
    pool = pool_named()
    tag = fresh("tag")
    id = deployment(tags=[tag], work_pool_name=pool.name, concurrency_limit=7)
    name = client.read_deployment(id).name
    for wanted in (
        {"id": {"any_": [id]}},
        {"name": {"any_": [name]}},
        {"name": {"like_": name[:-1]}},
        {"tags": {"all_": [tag]}},
        {"tags": {"any_": [tag]}},
        {"concurrency_limit": {"ge_": 7, "le_": 7}, "tags": {"all_": [tag]}},
    ):
        found = client.read_deployments(deployment_filter=DeploymentFilter.model_validate(wanted))
        assert [one.id for one in found] == [id], wanted
    by_pool = client.read_deployments(work_pool_filter=WorkPoolFilter(name={"any_": [pool.name]}), limit=3, offset=0)
    assert [one.id for one in by_pool] == [id]
    for sort in (one for one in DeploymentSort if not one.value.startswith("CONCURRENCY")):  # Cloud has those
        assert id in {one.id for one in client.read_deployments(flow_filter=FlowFilter(id={"any_": [FLOW]}), sort=sort)}


def check_deployment_is_paused_and_resumed():
    id = deployment()
    client.pause_deployment(id)
    assert client.read_deployment(id).paused
    client.resume_deployment(id)
    assert not client.read_deployment(id).paused


def check_schedules():
    id = deployment(paused=True)
    daily = RRuleSchedule(rrule="FREQ=DAILY;BYHOUR=5", timezone="UTC")
    made = client.create_deployment_schedules(
        id, [(IntervalSchedule(interval=timedelta(hours=1)), True), (daily, False)], max_scheduled_runs=2, slug=None
    )
    assert sorted(one.active for one in made) == [False, True]
    hourly = next(one for one in made if one.active)
    client.update_deployment_schedule(
        id, hourly.id, active=False, schedule=CronSchedule(cron="*/5 * * * *"), slug="five"
    )
    read = {one.slug: one for one in client.read_deployment_schedules(id)}
    assert read["five"].schedule.cron == "*/5 * * * *" and not read["five"].active
    client.delete_deployment_schedule(id, hourly.id)
    left = client.read_deployment_schedules(id)
    assert ["BYHOUR=5" in one.schedule.rrule for one in left] == [True]


def check_scheduler_makes_runs():
    id = deployment(schedules=[DeploymentScheduleCreate(schedule=IntervalSchedule(interval=timedelta(hours=1)))])

    def runs():
        return client.read_flow_runs(flow_run_filter=FlowRunFilter(deployment_id={"any_": [id]}))

    made = eventually(runs)
    assert {one.state_type for one in made} == {StateType.SCHEDULED}
    assert all(one.auto_scheduled for one in made)
    later = client.get_scheduled_flow_runs_for_deployments([id], scheduled_before=NOW + timedelta(hours=2), limit=10)
    assert later and {one.deployment_id for one in later} == {id}
    client.pause_deployment(id)
    assert not runs()


def check_run_of_a_deployment():
    pool = pool_named()
    id = deployment(work_pool_name=pool.name, parameters={"n": 1}, tags=["of-deployment"])
    made = client.create_flow_run_from_deployment(
        id,
        parameters={"n": 2},
        name="ordered",
        tags=["own"],
        idempotency_key=fresh("key"),
        job_variables={"env": {"X": "1"}},
    )
    assert (made.name, made.parameters, made.deployment_id) == ("ordered", {"n": 2}, id)
    assert {"of-deployment", "own"} <= set(made.tags)
    assert (made.work_pool_name, made.work_queue_name) == (pool.name, "default")
    assert made.job_variables == {"env": {"X": "1"}}
    assert made.state.type is StateType.SCHEDULED
    again = client.create_flow_run_from_deployment(id, idempotency_key=made.idempotency_key)
    assert again.id == made.id
    due = client.get_scheduled_flow_runs_for_work_pool(
        pool.name, ["default"], scheduled_before=NOW + timedelta(minutes=5)
    )
    assert [one.flow_run.id for one in due] == [made.id]
    by_pool = client.read_flow_runs(work_pool_filter=WorkPoolFilter(name={"any_": [pool.name]}))
    assert [one.id for one in by_pool] == [made.id]


def check_parameters_are_checked():
    id = deployment(parameter_openapi_schema=SCHEMA, enforce_parameter_schema=True)
    with raises(PrefectHTTPStatusError, "409"):
        client.create_flow_run_from_deployment(id, parameters={"n": "no number"})
    with raises(PrefectHTTPStatusError, "404"):
        client.create_flow_run_from_deployment(uuid4())


def check_job_variables_are_checked():
    pool = pool_named()
    id = deployment(work_pool_name=pool.name)
    with raises(PrefectHTTPStatusError, "422"):
        client.create_flow_run_from_deployment(id, job_variables={"image": 5})


def check_work_pools():
    made = pool_named(description="for compat", concurrency_limit=4)
    assert (made.type, made.description, made.concurrency_limit, made.is_paused) == ("process", "for compat", 4, False)
    with raises(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=made.name, type="process"))
    replaced = client.create_work_pool(
        WorkPoolCreate(name=made.name, type="process", description="new"), overwrite=True
    )
    assert (replaced.id, replaced.description) == (made.id, "new")
    client.update_work_pool(made.name, WorkPoolUpdate(is_paused=True, concurrency_limit=2, base_job_template=TEMPLATE))
    read = client.read_work_pool(made.name)
    assert (read.is_paused, read.concurrency_limit, read.base_job_template) == (True, 2, TEMPLATE)
    assert read.status.value == "PAUSED"
    assert [one.id for one in client.read_work_pools(work_pool_filter=WorkPoolFilter(name={"any_": [made.name]}))] == [
        made.id
    ]
    assert client.read_work_pool_concurrency_status(made.name)
    client.delete_work_pool(made.name)
    with raises(ObjectNotFound):
        client.read_work_pool(made.name)
    with raises(ObjectNotFound):
        client.delete_work_pool(made.name)
    with raises(ObjectNotFound):
        client.update_work_pool(made.name, WorkPoolUpdate(is_paused=True))


def check_work_queues():
    pool = pool_named()
    made = client.create_work_queue(
        "fast", description="first", concurrency_limit=2, priority=1, work_pool_name=pool.name
    )
    assert (made.name, made.concurrency_limit, made.priority) == ("fast", 2, 1)
    with raises(ObjectAlreadyExists):
        client.create_work_queue("fast", work_pool_name=pool.name)
    assert client.read_work_queue(made.id).name == "fast"
    assert client.read_work_queue_by_name("fast", work_pool_name=pool.name).id == made.id
    client.update_work_queue(made.id, is_paused=True, priority=2)
    read = client.read_work_queue(made.id)
    assert (read.is_paused, read.priority) == (True, 2)
    assert {one.name for one in client.read_work_queues(work_pool_name=pool.name)} == {"default", "fast"}
    only = WorkQueueFilter(name={"any_": ["fast"]})
    assert [one.id for one in client.read_work_queues(work_pool_name=pool.name, work_queue_filter=only)] == [made.id]
    assert [one.id for one in client.match_work_queues(["fa"], work_pool_name=pool.name)] == [made.id]
    assert client.read_work_queue_status(made.id).healthy is not None
    assert client.read_work_queue_concurrency_status(made.id)
    assert client.get_runs_in_work_queue(made.id) == []
    client.delete_work_queue_by_id(made.id)
    with raises(ObjectNotFound):
        client.read_work_queue(made.id)


def check_workers():
    pool = pool_named()
    assert pool.status.value == "NOT_READY"
    client.send_worker_heartbeat(pool.name, "w1", heartbeat_interval_seconds=30)
    found = client.read_workers_for_work_pool(pool.name, WorkerFilter(status={"any_": ["ONLINE"]}))
    assert [one.name for one in found] == ["w1"]
    assert client.read_work_pool(pool.name).status.value == "READY"


def check_worker_types_are_known():
    known = client.read_worker_metadata()
    assert "process" in {kind for package in known.values() for kind in package}


async def check_async_client():
    async with get_client() as ours:
        flow_id = await ours.create_flow(flow(lambda: None, name=fresh("async")))
        pool = await ours.create_work_pool(WorkPoolCreate(name=fresh("async"), type="process"))
        id = await ours.create_deployment(flow_id, "one", work_pool_name=pool.name)
        made = await ours.create_flow_run_from_deployment(id, state=Scheduled())
        due = await ours.get_scheduled_flow_runs_for_work_pool(pool.name)
        assert [one.flow_run.id for one in due] == [made.id]
        await ours.pause_deployment(id)
        assert (await ours.read_deployment(id)).paused
        await ours.send_worker_heartbeat(pool.name, "w1")
        assert [one.name for one in await ours.read_workers_for_work_pool(pool.name)] == ["w1"]


if __name__ == "__main__":
    run(globals())
