"""Fields nobody knows: a filter with one is refused, as it must not stand for none; elsewhere they are passed over."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from headrace.client.local import LocalClient
from headrace.schemas.flow_runs import COUNT_FLOW_RUNS, CountFlowRuns
from headrace.server.operations.registry import load_all
from headrace.server.store.transaction import Store
from tests.operations.deployments_world import deploy
from tests.operations.runs_world import make_flow, make_run
from tests.support.serving import ask, serving

OPEN = {"SavedSearchFilter", "TaskWorkerFilter"}
"""Filters to which Prefect's server takes anything."""


@pytest.fixture
def url(store: Store) -> Iterator[str]:
    """A server on the test's store."""
    with serving(store) as url:
        yield url


def structs_in(told: inspect.Type, seen: set[type[msgspec.Struct]]) -> set[type[msgspec.Struct]]:
    """All structs that values of a type are made of."""
    if isinstance(told, inspect.StructType) and told.cls not in seen:
        seen.add(told.cls)
        for field in told.fields:
            structs_in(field.type, seen)
    for part in (getattr(told, "item_type", None), getattr(told, "value_type", None), *getattr(told, "types", ())):
        if part is not None:
            structs_in(part, seen)
    return seen


def test_every_filter_refuses_what_it_does_not_know_and_nothing_else_does() -> None:
    """That holds for all filters and the parts they are made of; newer clients may say more of what they create."""
    bodies = {endpoint.body for endpoint in load_all() if endpoint.body is not None}
    known: set[type[msgspec.Struct]] = set().union(*(structs_in(inspect.type_info(body), set()) for body in bodies))
    filters = {struct for struct in known if struct.__name__.endswith("Filter") and struct.__name__ not in OPEN}
    parts: set[type[msgspec.Struct]] = set().union(*(structs_in(inspect.type_info(each), set()) for each in filters))
    changes = {struct for struct in known if struct.__name__.endswith(("Create", "Update"))}

    assert len(filters) > 15
    assert len(changes) > 25
    assert [each.__name__ for each in parts if not each.__struct_config__.forbid_unknown_fields] == []
    assert [each.__name__ for each in changes if each.__struct_config__.forbid_unknown_fields] == []


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/flow_runs/bulk_delete", {"flow_runs": {"nmae": {"any_": ["x"]}}}, ["body", "flow_runs", "nmae"]),
        ("/flow_runs/bulk_delete", {"flow_runs": {"name": {"all_": ["x"]}}}, ["body", "flow_runs", "name", "all_"]),
    ],
)
def test_a_field_that_is_not_known_is_named_and_nothing_is_done(
    url: str, api: LocalClient, path: str, body: dict[str, Any], place: list[str]
) -> None:
    """422 with the place of the field, as Prefect's server answers; above all, nothing is deleted."""
    make_run(api, make_flow(api))

    refused = ask(url, "POST", path, body)

    assert refused.status == 422
    assert [(each["type"], each["loc"]) for each in refused.json()["exception_detail"]] == [("extra_forbidden", place)]
    assert api.call(COUNT_FLOW_RUNS, body=CountFlowRuns()) == 1


def test_beside_the_filters_of_a_list_anything_may_stand(url: str) -> None:
    """There the reference looks for the fields it knows alone; newer clients may send more of them."""
    assert ask(url, "POST", "/flow_runs/filter", {"flow_runs": {}, "newer": {}}).json() == []


def test_what_is_created_may_have_more_fields(url: str, api: LocalClient) -> None:
    """Those of newer clients are passed over, also within a part of it and in a change."""
    made = deploy(api)
    schedules = [{"schedule": {"cron": "0 0 * * *", "newer": 1}, "newer": 1}]

    assert ask(url, "POST", "/flows/", {"name": "x", "newer": 1}).status == 201
    assert (
        ask(url, "POST", "/flow_runs/", {"flow_id": str(made.flow_id), "state": {"type": "PENDING", "n": 1}}).status
        == 201
    )
    assert ask(url, "PATCH", f"/deployments/{made.id}", {"schedules": schedules, "newer": 1}).status == 204
