"""Deploying from Python: `flow.deploy`, `deploy`, `flow.to_deployment`, `run_deployment`."""

from pathlib import Path

import pytest

from headrace import flow
from headrace.client import get_client
from headrace.deployments import DeploymentError, deploy, run_deployment
from headrace.flows import Flow
from headrace.schedules import Cron, Interval
from headrace.schemas.deployments import READ_DEPLOYMENT
from headrace.schemas.states import StateType


def test_a_flow_of_a_source_is_deployed(project: Path) -> None:
    """With schedules, tags and parameters; the answer is the deployment's id."""
    source = flow.from_source(source=".", entrypoint="flows.py:add_up")
    id = source.deploy(
        name="prod",
        work_pool_name="main",
        schedules=[Cron("0 9 * * MON-FRI", slug="work"), Interval(6 * 60 * 60)],
        parameters={"a": 1},
        tags=["prod"],
        concurrency_limit=3,
    )
    made = get_client().call(READ_DEPLOYMENT, id=id)

    assert (made.entrypoint, made.description, made.version) == ("flows.py:add_up", "Adds up.", "3")
    assert made.pull_steps == [{"headrace.deployments.steps.set_working_directory": {"directory": str(project)}}]
    assert sorted((one.schedule.cron or "", one.schedule.interval or 0) for one in made.schedules) == [
        ("", 21600),
        ("0 9 * * MON-FRI", 0),
    ]
    assert made.global_concurrency_limit is not None
    assert made.global_concurrency_limit.limit == 3


@pytest.mark.usefixtures("project")
def test_the_parameters_are_described() -> None:
    """By a JSON schema in their order."""
    made = flow.from_source(source=".", entrypoint="flows.py:add_up").to_deployment("x")
    schema = made.parameter_openapi_schema

    assert schema["required"] == ["a"]
    assert {name: one["position"] for name, one in schema["properties"].items()} == {"a": 0, "b": 1, "c": 2}
    assert schema["properties"]["a"]["type"] == "integer"
    assert schema["properties"]["c"]["default"] == "x"


@pytest.mark.usefixtures("project")
def test_several_deployments_share_a_pool() -> None:
    """`deploy` takes what `to_deployment` makes."""
    source = flow.from_source(source=".", entrypoint="flows.py:add_up")
    ids = deploy(source.to_deployment("a"), source.to_deployment("b", cron="@daily"), work_pool_name="main")

    assert len(set(ids)) == 2


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"work_pool_name": "nowhere"}, "no work pool 'nowhere'"),
        ({}, "A work pool is wanted"),
        ({"work_pool_name": "main", "image": "me/flow"}, "cannot build"),
        ({"work_pool_name": "main", "colour": "red"}, "no option colour"),
        ({"work_pool_name": "main", "cron": "x"}, "cron"),
        ({"work_pool_name": "main", "parameters": {"z": 1}}, "has no parameter z; it takes: a, b, c"),
        ({"work_pool_name": "main", "concurrency_limit": {"limit": 1, "collision_strategy": "X"}}, "ENQUEUE"),
    ],
)
def test_what_is_wrong_is_said(options: dict[str, object], message: str) -> None:
    """Before anything is deployed."""
    source = flow.from_source(source=".", entrypoint="flows.py:add_up")

    with pytest.raises(DeploymentError, match=message):
        source.deploy("x", **options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("project")
def test_an_image_that_exists_becomes_a_job_variable() -> None:
    """Nothing is built or pushed."""
    source = flow.from_source(source=".", entrypoint="flows.py:add_up")
    id = source.deploy("x", work_pool_name="main", image="me/flow:1", build=False, push=False)

    assert get_client().call(READ_DEPLOYMENT, id=id).job_variables == {"image": "me/flow:1"}


@pytest.mark.usefixtures("project")
def test_a_flow_no_worker_can_find_is_refused() -> None:
    """One that is defined inside a function, or in an installed package."""

    @flow
    def hidden() -> None: ...

    with pytest.raises(DeploymentError, match="inside a function"):
        hidden.deploy("x", work_pool_name="main")
    packaged: Flow[..., object] = Flow(pytest.main)
    with pytest.raises(DeploymentError, match="installed package '_pytest'"):
        packaged.deploy("x", work_pool_name="main")


@pytest.mark.usefixtures("project")
def test_a_run_of_a_deployment_is_created() -> None:
    """By name or id; with no time to wait it comes back at once, scheduled."""
    source = flow.from_source(source=".", entrypoint="flows.py:add_up")
    id = source.deploy("x", work_pool_name="main", parameters={"a": 1})
    run = run_deployment("add-up/x", parameters={"b": [1.5]}, timeout=0, flow_run_name="mine", idempotency_key="k")
    same = run_deployment(id, timeout=0, idempotency_key="k")

    assert (run.name, run.state_type, run.parameters) == ("mine", StateType.SCHEDULED, {"a": 1, "b": [1.5]})
    assert same.id == run.id
    with pytest.raises(DeploymentError, match="no deployment 'add-up/y'"):
        run_deployment("add-up/y", timeout=0)
    with pytest.raises(DeploymentError, match="not 'flow/deployment'"):
        run_deployment("x", timeout=0)
