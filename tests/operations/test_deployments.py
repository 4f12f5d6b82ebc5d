"""Deployments: creating and replacing them, their limits, and finding them."""

from typing import Any
from uuid import uuid4

import pytest

from headrace.client.local import LocalClient
from headrace.exceptions import ObjectNotFound, ValidationFailed
from headrace.schemas.concurrency_limits import ConcurrencyLimitStrategy, ConcurrencyOptions
from headrace.schemas.deployments import (
    BULK_DELETE_DEPLOYMENTS,
    COUNT_DEPLOYMENTS,
    CREATE_DEPLOYMENT,
    DELETE_DEPLOYMENT,
    PAGINATE_DEPLOYMENTS,
    PAUSE_DEPLOYMENT,
    READ_DEPLOYMENT,
    READ_DEPLOYMENT_BY_NAME,
    READ_DEPLOYMENTS,
    RESUME_DEPLOYMENT,
    UPDATE_DEPLOYMENT,
    WORK_QUEUE_CHECK_FOR_DEPLOYMENT,
    BulkDeleteDeployments,
    CountDeployments,
    DeploymentCreate,
    DeploymentUpdate,
    PaginateDeployments,
    ReadDeployments,
)
from headrace.schemas.filters import DeploymentFilter, IsEqual, Like, NameMatch, StringIn, TagsAllOrAny, WorkPoolFilter
from headrace.schemas.flow_runs import READ_FLOW_RUN, FlowRunPolicy
from headrace.schemas.schedules import Schedule
from headrace.server.operations.checks import Unfit
from headrace.server.store.transaction import Store
from tests.operations.deployments_world import DAILY, HOURLY, deploy, due_times, make_pool, read, run_of, scheduled
from tests.operations.runs_world import in_state, make_flow

SCHEMA = {"type": "object", "properties": {"day": {"type": "integer"}}, "required": ["day"]}
TEMPLATE = {
    "job_configuration": {"image": "{{ image }}", "env": "{{ env }}"},
    "variables": {"properties": {"image": {"type": "string"}, "env": {"type": "object"}}},
}


def update(api: LocalClient, deployment: Any, **changes: Any) -> Any:
    """Change a deployment and read it."""
    api.call(UPDATE_DEPLOYMENT, id=deployment.id, body=DeploymentUpdate(**changes))
    return read(api, deployment)


def test_what_is_left_out_of_a_deployment_has_its_default(api: LocalClient) -> None:
    """As Prefect's server answers: ready for nobody yet, running nowhere, checked against no schema."""
    made = deploy(api)

    assert made == api.call(READ_DEPLOYMENT_BY_NAME, flow_name="etl", deployment_name="nightly")
    assert (made.status, made.paused, made.tags, made.enforce_parameter_schema) == ("NOT_READY", False, [], True)
    assert (made.parameter_openapi_schema, made.pull_steps, made.work_pool_name) == ({}, [], None)
    assert made.labels == {"prefect.flow.id": str(made.flow_id)}


def test_replacing_a_deployment_keeps_what_is_left_out(api: LocalClient) -> None:
    """The same flow and name is the same deployment; parameters, schedules and labels are replaced as a whole."""
    make_pool(api)
    first = deploy(
        api,
        description="loads",
        tags=["a"],
        version="1",
        entrypoint="flows.py:etl",
        parameters={"day": 1},
        labels={"team": "x"},
        schedules=[scheduled(DAILY)],
        work_pool_name="pool",
        concurrency_limit=2,
    )

    second = deploy(api, version="2")

    assert (second.id, second.created) == (first.id, first.created)
    assert (second.description, second.tags, second.version, second.entrypoint) == ("loads", ["a"], "2", "flows.py:etl")
    assert (second.work_pool_name, second.work_queue_name) == ("pool", "default")
    assert second.global_concurrency_limit is not None
    assert (second.parameters, second.schedules, second.labels) == ({}, [], {"prefect.flow.id": str(first.flow_id)})


def test_deploying_again_does_not_set_a_paused_deployment_going(api: LocalClient) -> None:
    """It stays paused unless the deploy says otherwise."""
    made = deploy(api)
    api.call(PAUSE_DEPLOYMENT, id=made.id)

    assert deploy(api).paused
    assert not deploy(api, paused=False).paused


def test_a_limit_of_its_own_is_a_limit_by_name(api: LocalClient) -> None:
    """It stands in `global_concurrency_limit`, is changed in place, and goes when it is emptied."""
    options = ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    made = deploy(api, concurrency_limit=2, concurrency_options=options)
    limit = made.global_concurrency_limit
    assert limit is not None

    raised = update(api, made, concurrency_limit=5)

    assert (limit.name, limit.limit, limit.active_slots) == (f"deployment:{made.id}", 2, 0)
    assert (raised.global_concurrency_limit.id, raised.global_concurrency_limit.limit) == (limit.id, 5)
    assert (raised.concurrency_limit, raised.concurrency_options) == (None, options)
    assert update(api, made, concurrency_limit=None).global_concurrency_limit is None


def test_a_shared_limit_must_be_there_and_alone(api: LocalClient) -> None:
    """One that is not known is a 404; two limits at once are a 422."""
    owner = deploy(api, "owner", concurrency_limit=3)
    shared = owner.global_concurrency_limit.id  # type: ignore[union-attr]
    made = deploy(api, global_concurrency_limit_id=shared)

    assert made.global_concurrency_limit is not None
    assert made.global_concurrency_limit.id == shared
    with pytest.raises(ObjectNotFound):
        deploy(api, "other", global_concurrency_limit_id=uuid4())
    with pytest.raises(ValidationFailed):
        deploy(api, "other", concurrency_limit=1, global_concurrency_limit_id=shared)


def test_g7_a_shared_limit_outlives_a_deployment(api: LocalClient) -> None:
    """A deployment's own limit goes with it, one of another deployment does not."""
    owner = deploy(api, "owner", concurrency_limit=3)
    limit = owner.global_concurrency_limit
    other = deploy(api, global_concurrency_limit_id=limit.id)  # type: ignore[union-attr]

    api.call(DELETE_DEPLOYMENT, id=other.id)

    assert read(api, owner).global_concurrency_limit == limit


def test_a_queue_that_is_named_is_made(api: LocalClient) -> None:
    """In the pool that is named, else in the pool of queues without one; a pool must be there."""
    make_pool(api)

    placed = deploy(api, work_pool_name="pool", work_queue_name="fast")
    lonely = deploy(api, "lonely", work_queue_name="old")

    assert (placed.work_pool_name, placed.work_queue_name) == ("pool", "fast")
    assert (lonely.work_pool_name, lonely.work_queue_name) == ("default-agent-pool", "old")
    assert [queue.name for queue in api.call(WORK_QUEUE_CHECK_FOR_DEPLOYMENT, id=placed.id)] == ["fast"]
    with pytest.raises(ObjectNotFound, match="nope"):
        deploy(api, work_pool_name="nope")
    assert update(api, placed, work_queue_name="slow").work_queue_name == "slow"
    assert update(api, placed, work_pool_name="pool").work_queue_name == "default"


@pytest.mark.parametrize(
    "options",
    [
        {"parameters": {"day": "x"}, "parameter_openapi_schema": SCHEMA},
        {"parameters": {"day": 1}, "parameter_openapi_schema": {"type": "nope"}},
        {
            "parameters": {"day": 1},
            "parameter_openapi_schema": {"properties": {"day": {"$ref": "http://127.0.0.1:9/"}}},
        },
        {"work_pool_name": "pool", "job_variables": {"image": 5}},
        {"schedules": [scheduled(Schedule(cron="0 0 * * *", timezone="Nope/Nope"))]},
        {"schedules": [scheduled(Schedule(cron="61 * * * *"))]},
    ],
    ids=["parameter", "no schema", "reference", "job variable", "time zone", "cron"],
)
def test_what_does_not_fit_is_refused(api: LocalClient, options: dict[str, Any]) -> None:
    """Parameters, job variables and schedules are checked before anything is stored; nothing is fetched for it."""
    make_pool(api, base_job_template=TEMPLATE)

    with pytest.raises(ValidationFailed):
        deploy(api, **options)

    assert api.call(COUNT_DEPLOYMENTS, body=CountDeployments()) == 0


def test_parameters_may_be_incomplete_and_checks_be_switched_off(api: LocalClient) -> None:
    """A run may bring what a deployment lacks; without enforcement anything goes."""
    assert deploy(api, parameter_openapi_schema=SCHEMA).parameters == {}
    loose = deploy(
        api, "loose", parameters={"day": "x"}, parameter_openapi_schema=SCHEMA, enforce_parameter_schema=False
    )
    assert loose.parameters == {"day": "x"}


def test_a_change_that_does_not_fit_is_a_conflict(api: LocalClient) -> None:
    """As are parameters of a run that do not fit; the deployment stays as it was."""
    made = deploy(api, parameters={"day": 1}, parameter_openapi_schema=SCHEMA)

    with pytest.raises(Unfit, match="day"):
        api.call(UPDATE_DEPLOYMENT, id=made.id, body=DeploymentUpdate(parameters={"day": "x"}))

    assert read(api, made).parameters == {"day": 1}


def test_names_and_flows_are_checked(api: LocalClient) -> None:
    """A name must be fit for a path; the flow must be there."""
    flow = make_flow(api)
    for name in ("", "a/b", "50%"):
        with pytest.raises(ValidationFailed):
            api.call(CREATE_DEPLOYMENT, body=DeploymentCreate(name=name, flow_id=flow.id))
    with pytest.raises(ObjectNotFound):
        api.call(CREATE_DEPLOYMENT, body=DeploymentCreate(name="x", flow_id=uuid4()))


def test_only_the_given_fields_change(api: LocalClient) -> None:
    """An update leaves alone what it does not name; null empties what may be empty."""
    made = deploy(api, description="d", tags=["a"], parameters={"day": 1}, version="1")

    after = update(api, made, description=None, tags=["b"], parameters=None)

    assert (after.description, after.tags, after.parameters, after.version) == (None, ["b"], {"day": 1}, "1")


def test_pausing_takes_back_the_runs_made_ahead_and_resuming_makes_them_anew(api: LocalClient, store: Store) -> None:
    """A run that a person asked for stays."""
    made = deploy(api, schedules=[scheduled(HOURLY)])
    by_hand = run_of(api, made)
    ahead = due_times(store, made.id)

    api.call(PAUSE_DEPLOYMENT, id=made.id)
    paused = due_times(store, made.id)
    api.call(RESUME_DEPLOYMENT, id=made.id)

    assert len(ahead) > 3
    assert paused == [by_hand.expected_start_time]
    assert due_times(store, made.id) == ahead


def test_deleting_keeps_the_runs_that_were(api: LocalClient, store: Store) -> None:
    """Runs that wait for somebody to start them go with the deployment; the others stay and belong to none."""
    made = deploy(api, schedules=[scheduled(HOURLY)], concurrency_limit=1)
    waiting, begun, retrying = (
        run_of(api, made),
        run_of(api, made, state=in_state("RUNNING")),
        run_of(api, made, state=in_state("SCHEDULED"), empirical_policy=FlowRunPolicy(retry_type="in_process")),
    )

    api.call(DELETE_DEPLOYMENT, id=made.id)

    with pytest.raises(ObjectNotFound):
        api.call(READ_FLOW_RUN, id=waiting.id)
    for kept in (begun, retrying):
        assert api.call(READ_FLOW_RUN, id=kept.id).deployment_id is None
    assert due_times(store, made.id) == []
    with pytest.raises(ObjectNotFound):
        api.call(READ_DEPLOYMENT, id=made.id)
    with pytest.raises(ObjectNotFound):
        api.call(DELETE_DEPLOYMENT, id=made.id)


@pytest.mark.parametrize(
    ("deployments", "found"),
    [
        (DeploymentFilter(name=NameMatch(like_="IGHT")), ["nightly"]),
        (DeploymentFilter(paused=IsEqual(eq_=True)), ["hourly"]),
        (DeploymentFilter(tags=TagsAllOrAny(any_=["b"])), ["hourly"]),
        (DeploymentFilter(flow_or_deployment_name=Like(like_="etl")), ["hourly", "nightly"]),
        (DeploymentFilter(work_queue_name=StringIn(any_=["fast"])), ["nightly"]),
        (DeploymentFilter(work_queue_name=StringIn(any_=["default"])), []),
    ],
)
def test_deployments_are_found(api: LocalClient, deployments: DeploymentFilter, found: list[str]) -> None:
    """By their own fields, and by those of what they belong to."""
    make_pool(api)
    deploy(api, tags=["a"], work_pool_name="pool", work_queue_name="fast")
    deploy(api, "hourly", tags=["b"], paused=True)

    listed = api.call(READ_DEPLOYMENTS, body=ReadDeployments(deployments=deployments))
    page = api.call(PAGINATE_DEPLOYMENTS, body=PaginateDeployments(deployments=deployments, limit=1))

    assert [each.name for each in listed] == found
    assert (page.count, page.pages, [each.name for each in page.results]) == (len(found), len(found), found[:1])
    assert api.call(COUNT_DEPLOYMENTS, body=CountDeployments(deployments=deployments)) == len(found)
    by_pool = CountDeployments(work_pools=WorkPoolFilter(name=StringIn(any_=["pool"])))
    assert api.call(COUNT_DEPLOYMENTS, body=by_pool) == 1


def test_several_are_deleted_at_once(api: LocalClient) -> None:
    """Those a filter finds; the answer names them."""
    ids = {deploy(api, name).id for name in ("a1", "a2", "b1")}
    body = BulkDeleteDeployments(deployments=DeploymentFilter(name=NameMatch(like_="a")))

    deleted = api.call(BULK_DELETE_DEPLOYMENTS, body=body).deleted

    assert len(deleted) == 2
    assert set(deleted) < ids
    assert api.call(COUNT_DEPLOYMENTS, body=CountDeployments()) == 1
