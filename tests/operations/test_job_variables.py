"""Job variables: what the template of a work pool does not allow gets into no deployment and no run."""

from collections.abc import Callable
from typing import Any

import pytest

from headrace.client.local import LocalClient
from headrace.exceptions import ValidationFailed
from headrace.schemas.deployments import (
    BULK_CREATE_FLOW_RUNS_FROM_DEPLOYMENT,
    READ_DEPLOYMENTS,
    UPDATE_DEPLOYMENT,
    DeploymentFlowRunCreate,
    DeploymentUpdate,
    ReadDeployments,
)
from headrace.schemas.flow_runs import (
    CREATE_FLOW_RUN,
    READ_FLOW_RUNS,
    UPDATE_FLOW_RUN,
    FlowRunCreate,
    FlowRunUpdate,
    ReadFlowRuns,
)
from headrace.schemas.states import StateCreate, StateType
from tests.operations.deployments_world import deploy, make_pool, run_of
from tests.operations.runs_world import make_flow

TEMPLATE = {
    "job_configuration": {"image": "{{ image }}"},
    "variables": {
        "type": "object",
        "additionalProperties": False,
        "properties": {"image": {"type": "string", "enum": ["ours:1", "ours:2"]}},
    },
}
FORBIDDEN = [{"privileged": True}, {"volumes": ["/:/host"]}, {"service_account_name": "root"}, {"image": "theirs"}]
Way = Callable[[LocalClient, dict[str, Any]], object]


def _deploying(api: LocalClient, variables: dict[str, Any]) -> object:
    return deploy(api, work_pool_name="pool", job_variables=variables)


def _changing_a_deployment(api: LocalClient, variables: dict[str, Any]) -> object:
    made = deploy(api, work_pool_name="pool")
    return api.call(UPDATE_DEPLOYMENT, id=made.id, body=DeploymentUpdate(job_variables=variables))


def _moving_a_deployment(api: LocalClient, variables: dict[str, Any]) -> object:
    made = deploy(api, job_variables=variables)
    return api.call(UPDATE_DEPLOYMENT, id=made.id, body=DeploymentUpdate(work_pool_name="pool"))


def _ordering_a_run(api: LocalClient, variables: dict[str, Any]) -> object:
    return run_of(api, deploy(api, work_pool_name="pool"), job_variables=variables)


def _creating_a_run(api: LocalClient, variables: dict[str, Any]) -> object:
    body = FlowRunCreate(flow_id=make_flow(api).id, work_pool_name="pool", job_variables=variables)
    return api.call(CREATE_FLOW_RUN, body=body)


def _changing_a_run(api: LocalClient, variables: dict[str, Any]) -> object:
    made = run_of(api, deploy(api, work_pool_name="pool"), state=StateCreate(type=StateType.SCHEDULED))
    return api.call(UPDATE_FLOW_RUN, id=made.id, body=FlowRunUpdate(job_variables=variables))


WAYS = [
    _deploying,
    _changing_a_deployment,
    _moving_a_deployment,
    _ordering_a_run,
    _creating_a_run,
    _changing_a_run,
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("variables", FORBIDDEN)
def test_s14_what_the_template_does_not_allow_is_refused(api: LocalClient, way: Way, variables: dict[str, Any]) -> None:
    """Each forbidden key, by each way in which job variables come in."""
    make_pool(api, base_job_template=TEMPLATE)

    with pytest.raises(ValidationFailed, match=next(iter(variables))):
        way(api, variables)


def test_s14_of_many_runs_the_forbidden_ones_are_refused(api: LocalClient) -> None:
    """Each run of a bulk is looked at by itself."""
    make_pool(api, base_job_template=TEMPLATE)
    made = deploy(api, work_pool_name="pool")
    bodies = [DeploymentFlowRunCreate(job_variables=one) for one in (*FORBIDDEN, {"image": "ours:2"})]

    answer = api.call(BULK_CREATE_FLOW_RUNS_FROM_DEPLOYMENT, id=made.id, body=bodies)

    assert [one.status for one in answer.results] == ["FAILED"] * len(FORBIDDEN) + ["CREATED"]


@pytest.mark.parametrize("way", WAYS)
def test_what_the_template_allows_comes_in(api: LocalClient, way: Way) -> None:
    """By the same ways, and stands in the run or the deployment."""
    make_pool(api, base_job_template=TEMPLATE)

    way(api, {"image": "ours:1"})

    made = [*api.call(READ_FLOW_RUNS, body=ReadFlowRuns()), *api.call(READ_DEPLOYMENTS, body=ReadDeployments())]
    assert {"image": "ours:1"} in [one.job_variables for one in made]
