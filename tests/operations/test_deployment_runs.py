"""Runs of deployments, as users and other flows ask for them."""

from typing import Any
from uuid import uuid4

import pytest

from headrace.client.local import LocalClient
from headrace.exceptions import ApiError, ObjectNotFound, ValidationFailed
from headrace.schemas.deployments import (
    BULK_CREATE_FLOW_RUNS_FROM_DEPLOYMENT,
    CREATE_FLOW_RUN_FROM_DEPLOYMENT,
    DeploymentFlowRunCreate,
)
from headrace.schemas.flow_runs import COUNT_FLOW_RUNS, READ_FLOW_RUN, CountFlowRuns
from headrace.server.operations.checks import Unfit
from headrace.server.store.transaction import Store
from tests.operations.deployments_world import deploy, make_pool, run_of
from tests.operations.runs_world import NOW, in_state, is_new

SCHEMA = {"type": "object", "properties": {"day": {"type": "integer"}}, "required": ["day"]}
TEMPLATE = {
    "job_configuration": {"image": "{{ image }}", "user": "{{ user }}", "env": "{{ env }}"},
    "variables": {
        "properties": {
            "image": {"type": "string"},
            "user": {"type": "string", "default": "nobody"},
            "env": {"type": "object"},
        },
        "required": ["image", "user"],
    },
}


def test_a_run_takes_after_its_deployment(api: LocalClient) -> None:
    """Parameters, tags, labels and place are the deployment's, with the run's own over them; it is due now."""
    make_pool(api)
    made = deploy(
        api, version="7", parameters={"a": 1, "b": 1}, tags=["t"], labels={"k": "v", "l": 1}, work_pool_name="pool"
    )

    run = run_of(api, made, name="mine", parameters={"b": 2}, tags=["u"], labels={"k": "w"}, context={"c": 1})

    assert run == api.call(READ_FLOW_RUN, id=run.id)
    assert (run.name, run.parameters, run.tags, run.context) == ("mine", {"a": 1, "b": 2}, ["t", "u"], {"c": 1})
    assert run.labels == {
        "prefect.flow.id": str(made.flow_id),
        "prefect.deployment.id": str(made.id),
        "k": "w",
        "l": 1,
    }
    assert (run.deployment_id, run.deployment_version, run.flow_id) == (made.id, "7", made.flow_id)
    assert (run.work_pool_name, run.work_queue_name, run.work_queue_id) == ("pool", "default", made.work_queue_id)
    assert (run.state_name, run.expected_start_time, run.auto_scheduled) == ("Scheduled", NOW, False)


def test_a_run_may_begin_in_another_state(api: LocalClient) -> None:
    """A state that is given is the run's first."""
    assert run_of(api, deploy(api), state=in_state("PENDING")).state_name == "Pending"


def test_one_key_gives_one_run(api: LocalClient, store: Store) -> None:
    """Asked again with the same key, the same run is answered."""
    made = deploy(api)
    body = DeploymentFlowRunCreate(idempotency_key="k")

    new = [is_new(store, CREATE_FLOW_RUN_FROM_DEPLOYMENT, id=made.id, body=body) for _ in range(2)]

    assert new == [True, False]
    assert run_of(api, made, idempotency_key="k").id == run_of(api, made, idempotency_key="k").id


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({}, Unfit, "'day' is a required property"),
        ({"parameters": {"day": "x"}}, Unfit, "day: 'x' is not of type 'integer'"),
        ({"parameters": {"day": 1}, "job_variables": {"user": 5}}, ValidationFailed, "user: 5 is not of type 'string'"),
        ({"parameters": {"day": 1}, "job_variables": {"image": None}}, ValidationFailed, "image: None is not of type"),
        ({"parameters": {"day": {"__prefect_kind": "json", "value": "{"}}}, ApiError, "day: Invalid JSON"),
        ({"parameters": {"day": {"__prefect_kind": "secret"}}}, ApiError, "'secret' is not known as a __prefect_kind"),
    ],
)
def test_what_does_not_fit_is_refused(
    api: LocalClient, options: dict[str, Any], error: type[ApiError], said: str
) -> None:
    """Parameters against the flow's schema, job variables against the pool's template, each by name."""
    make_pool(api, base_job_template=TEMPLATE)
    made = deploy(api, parameter_openapi_schema=SCHEMA, work_pool_name="pool", job_variables={"image": "i"})

    with pytest.raises(error, match=said):
        run_of(api, made, **options)


def test_what_fits_is_accepted(api: LocalClient) -> None:
    """What a template has a default for need not be said; unknown variables pass; checks can be switched off."""
    make_pool(api, base_job_template=TEMPLATE)
    made = deploy(api, parameter_openapi_schema=SCHEMA, work_pool_name="pool", job_variables={"image": "i"})

    assert run_of(api, made, parameters={"day": 1}, job_variables={"other": 1, "env": None}).job_variables is not None
    assert run_of(api, made, parameters={"day": "x"}, enforce_parameter_schema=False).parameters == {"day": "x"}
    filled_in = {"day": {"__prefect_kind": "json", "value": "5"}, "more": [{"__prefect_kind": "none", "value": None}]}
    assert run_of(api, made, parameters=filled_in).parameters == {"day": 5, "more": [None]}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nope"},
        {"properties": {"day": 5}},
        {"properties": {"day": {"$ref": "http://127.0.0.1:9/schema"}}},
        {"properties": {"day": {"$ref": "#/nowhere"}}},
        {"properties": {"day": {"$ref": "#"}}, "$ref": "#"},
    ],
)
def test_s10_a_schema_that_is_none_is_refused_and_nothing_is_fetched(api: LocalClient, schema: dict[str, Any]) -> None:
    """A flow's schema may hold anything; a run that is checked against it is refused, not answered by an accident."""
    made = deploy(api, parameter_openapi_schema=schema)

    with pytest.raises(Unfit, match="schema itself is not valid"):
        run_of(api, made, parameters={"day": {"x": 1}})


def test_s7_patterns_of_strangers_are_not_matched(api: LocalClient) -> None:
    """A regular expression that would take for ever is left to the engine, which runs the stranger's own code."""
    patterns = {"properties": {"day": {"pattern": "^(a+)+$"}}, "patternProperties": {"^(a+)+$": {}}}
    made = deploy(api, parameter_openapi_schema={**patterns, "additionalProperties": False})

    assert run_of(api, made, parameters={"day": "a" * 40 + "!", "a" * 40 + "!": 1}).parameters["day"].endswith("!")


def test_a_run_may_go_to_another_queue(api: LocalClient) -> None:
    """To one of its deployment's pool, which is made if it is not there; without a pool there is none."""
    make_pool(api)
    made = deploy(api, work_pool_name="pool")

    assert run_of(api, made, work_queue_name="fast").work_queue_name == "fast"
    with pytest.raises(ObjectNotFound):
        run_of(api, deploy(api, "nowhere"), work_queue_name="fast")


def test_g13_of_several_runs_a_bad_one_harms_only_itself(api: LocalClient) -> None:
    """Those that are valid are created; the answer says for each what became of it, in their order."""
    made = deploy(api, parameter_openapi_schema=SCHEMA)
    bodies = [DeploymentFlowRunCreate(parameters={"day": day}) for day in (1, "x", 3)]

    results = api.call(BULK_CREATE_FLOW_RUNS_FROM_DEPLOYMENT, id=made.id, body=bodies).results

    assert [each.status for each in results] == ["CREATED", "FAILED", "CREATED"]
    assert results[1].error is not None
    assert "day" in results[1].error
    assert api.call(READ_FLOW_RUN, id=results[2].flow_run_id).parameters == {"day": 3}


def test_a_call_creates_a_hundred_runs_at_most(api: LocalClient) -> None:
    """More than that are refused as a whole."""
    made = deploy(api)

    with pytest.raises(ApiError, match="at most 100") as refused:
        api.call(BULK_CREATE_FLOW_RUNS_FROM_DEPLOYMENT, id=made.id, body=[DeploymentFlowRunCreate()] * 101)

    assert refused.value.status == 400
    assert api.call(COUNT_FLOW_RUNS, body=CountFlowRuns()) == 0


def test_a_run_without_job_variables_has_none(api: LocalClient) -> None:
    """They are empty, rather than null, as for runs without a deployment."""
    assert run_of(api, deploy(api)).job_variables == {}


def test_without_a_deployment_there_is_no_run(api: LocalClient) -> None:
    """A deployment that is not there is a 404, for one run and for several."""
    with pytest.raises(ObjectNotFound):
        api.call(CREATE_FLOW_RUN_FROM_DEPLOYMENT, id=uuid4(), body=DeploymentFlowRunCreate())
    with pytest.raises(ObjectNotFound):
        api.call(BULK_CREATE_FLOW_RUNS_FROM_DEPLOYMENT, id=uuid4(), body=[DeploymentFlowRunCreate()])
