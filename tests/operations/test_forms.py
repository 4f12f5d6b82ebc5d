"""What forms and editors ask: whether values fit a schema, whether a template can be read, which workers there are."""

from typing import Any

import msgspec
import pytest

from headrace.client.local import LocalClient
from headrace.exceptions import ApiError, ObjectNotFound, ValidationFailed
from headrace.schemas.collections import READ_VIEW_CONTENT
from headrace.schemas.deployments import (
    CREATE_DEPLOYMENT,
    CREATE_FLOW_RUN_FROM_DEPLOYMENT,
    DeploymentCreate,
    DeploymentFlowRunCreate,
)
from headrace.schemas.flows import CREATE_FLOW, FlowCreate
from headrace.schemas.templates import VALIDATE_AUTOMATION_TEMPLATE, VALIDATE_TEMPLATE
from headrace.schemas.ui_schemas import VALIDATE_OBJ, ValidateObj
from headrace.schemas.variables import CREATE_VARIABLE, VariableCreate
from headrace.workers.process import TEMPLATE

ROW = {"type": "object", "properties": {"c": {"type": "string"}}, "required": ["c"]}
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "array", "items": ROW}},
    "required": ["a"],
}
KIND = "__prefect_kind"


def errors(api: LocalClient, values: dict[str, Any], schema: dict[str, Any] = SCHEMA) -> list[Any]:
    """The faults of a form's values."""
    answer = api.call(VALIDATE_OBJ, body=ValidateObj(schema=schema, values=values))
    assert answer.valid == (not answer.errors)
    plain: list[Any] = msgspec.to_builtins(answer.errors)
    return plain


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"a": 1}, []),
        ({}, [{"property": "a", "errors": ["'a' is a required property"]}]),
        ({"a": "x"}, [{"property": "a", "errors": ["'x' is not of type 'integer'"]}]),
        (
            {"a": 1, "b": [{"c": "x"}, {}]},
            [
                {
                    "property": "b",
                    "errors": [{"index": 1, "errors": [{"property": "c", "errors": ["'c' is a required property"]}]}],
                }
            ],
        ),
        ({"a": {KIND: "json", "value": "2"}}, []),
        ({"a": {KIND: "json"}}, [{"property": "a", "errors": ["'a' is a required property"]}]),
        ({"a": {KIND: "none", "value": 3}}, []),
        ({"a": {KIND: "jinja", "template": "{{ x }}"}}, []),
        ({"a": {KIND: "jinja"}}, [{"property": "a", "errors": ["Missing 'template' key in __prefect object"]}]),
        (
            {"a": {KIND: "workspace_variable", "variable_name": "nope"}},
            [{"property": "a", "errors": ["Variable 'nope' not found in workspace."]}],
        ),
        ({"a": {KIND: "workspace_variable", "variable_name": "seven"}}, []),
    ],
)
def test_each_fault_of_a_form_has_its_place(api: LocalClient, values: dict[str, Any], expected: list[Any]) -> None:
    """As the reference server says it; what stands for something else is looked at as what it stands for."""
    api.call(CREATE_VARIABLE, body=VariableCreate(name="seven", value=7))

    assert errors(api, values) == expected


@pytest.mark.parametrize(("kind", "key"), [("json", "value"), ("jinja", "template")])
def test_what_cannot_be_read_is_the_only_fault_of_its_place(api: LocalClient, kind: str, key: str) -> None:
    """Its value is not known, so the schema is not asked."""
    (fault,) = errors(api, {"a": {KIND: kind, key: "{{ 1"}})

    assert fault["property"] == "a"
    (message,) = fault["errors"]
    assert message.startswith(f"Invalid {'JSON' if kind == 'json' else kind}")


def test_a_schema_that_is_none_is_refused(api: LocalClient) -> None:
    """With what is wrong with it."""
    with pytest.raises(ValidationFailed, match="Invalid schema: 'foo'"):
        errors(api, {}, {"type": "foo"})


def test_a_run_takes_the_value_of_a_variable(api: LocalClient) -> None:
    """A parameter may name a variable; one that is not there, and a template, are refused."""
    api.call(CREATE_VARIABLE, body=VariableCreate(name="seven", value=7))
    flow = api.call(CREATE_FLOW, body=FlowCreate(name="etl"))
    deployment = api.call(CREATE_DEPLOYMENT, body=DeploymentCreate(name="daily", flow_id=flow.id))

    def run(**said: Any) -> dict[str, Any]:
        body = DeploymentFlowRunCreate(parameters={"days": {"inside": [said]}})
        return api.call(CREATE_FLOW_RUN_FROM_DEPLOYMENT, id=deployment.id, body=body).parameters

    variable = {KIND: "workspace_variable", "variable_name": "seven"}
    assert run(**variable) == {"days": {"inside": [7]}}
    with pytest.raises(ApiError, match=r"days\.inside\.0: Variable 'eight' not found"):
        run(**variable | {"variable_name": "eight"})
    with pytest.raises(ApiError, match=r"days\.inside\.0: is a jinja template"):
        run(**{KIND: "jinja", "template": "{{ 1 + 1 }}"})


@pytest.mark.parametrize("endpoint", [VALIDATE_TEMPLATE, VALIDATE_AUTOMATION_TEMPLATE])
def test_s7_a_template_is_read_and_not_carried_out(api: LocalClient, endpoint: Any) -> None:
    """One that would take for ever is fine; one that cannot be read, or nests loops three deep, is refused."""
    loop = "{{% for {} in x %}}{}{{% endfor %}}"

    api.call(endpoint, body="{% for i in range(1000000000) %}{{ i ** i }}{% endfor %}")
    with pytest.raises(ValidationFailed, match="line 1: unexpected end of template"):
        api.call(endpoint, body="{{ a.b ")
    with pytest.raises(ValidationFailed, match="loops 3 deep"):
        api.call(endpoint, body=loop.format("a", loop.format("b", loop.format("c", ""))))
    with pytest.raises(ValidationFailed, match="65537 characters"):
        api.call(endpoint, body="x" * 65_537)


def test_the_types_of_workers_are_known(api: LocalClient) -> None:
    """Each with the template a new pool begins with; that of processes declares what our own worker's does."""
    workers = api.call(READ_VIEW_CONTENT, view="aggregate-worker-metadata")

    known = {kind for package in workers.values() for kind in package}
    assert {"process", "docker", "kubernetes"} <= known
    template = workers["prefect"]["process"]["default_base_job_configuration"]
    assert template["variables"]["properties"].keys() == TEMPLATE["variables"]["properties"].keys()
    with pytest.raises(ObjectNotFound):
        api.call(READ_VIEW_CONTENT, view="nothing")
