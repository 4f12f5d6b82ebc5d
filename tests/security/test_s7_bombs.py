"""No unbounded work for a stranger's text: bombs of each kind are refused, or done within a budget.

What the budgets come to in seconds is measured and not asserted; without them the calls here would not end within the
time that a test has.
"""

import gc
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headrace.server.operations import arguments, checks
from headrace.server.store.transaction import Store
from tests.support.serving import ask, serving

MANY = 20_000


@pytest.fixture
def url(store: Store) -> Iterator[str]:
    """The URL of a server, on each database."""
    with serving(store) as served:
        yield served


def filters(resource: str, **leaf: Any) -> dict[str, Any]:
    """The body of a list narrowed by one field of its own filter."""
    return {resource: leaf}


LISTS = {
    "a text without end": ("/flow_runs/filter", filters("flow_runs", name={"like_": "%_" * MANY})),
    "very many ids": ("/flow_runs/filter", filters("flow_runs", id={"any_": ["0" * 32] * MANY})),
    "very many names": ("/flows/filter", filters("flows", name={"any_": ["x"] * MANY})),
    "very many tags, all": ("/flow_runs/filter", filters("flow_runs", tags={"all_": ["x"] * MANY})),
    "very many tags, any": ("/flow_runs/filter", filters("flow_runs", tags={"any_": ["x"] * MANY})),
    "very many prefixes": ("/work_queues/filter", filters("work_queues", name={"startswith_": ["x"] * 5000})),
    "very many words": ("/logs/filter", filters("logs", text={"query": "w " * MANY})),
    "events of very many resources": ("/events/filter", {"filter": {"related": {"id": ["x"] * 3000}}}),
    "events by very many labels": ("/events/filter", {"filter": {"resource": {"labels": {"x": ["y"] * 3000}}}}),
    "quotes": ("/logs/filter", filters("logs", text={"query": '"' * MANY})),
}


@pytest.mark.parametrize(("path", "body"), LISTS.values(), ids=LISTS)
def test_s7_filters_are_bounded(url: str, path: str, body: dict[str, Any]) -> None:
    """A filter that would make a condition without end is 422."""
    assert ask(url, "POST", path, body).status == 422


NUMBERS = {
    "next to zero": "[" + ",".join(["5e-324"] * 100_000) + "]",
    "beyond 1e250": "[" + ",".join(["1E+300"] * 100_000) + "]",
    "with many zeros": "[" + ",".join(["1e000300"] * 100_000) + "]",
    "lists": "[" + ",".join(["[]"] * 330_000) + "]",
}


@pytest.mark.parametrize("value", NUMBERS.values(), ids=NUMBERS)
def test_s7_bodies_that_take_long_to_read_are_refused(url: str, value: str) -> None:
    """Each such number costs 15 µs with Python's lock held: a body may have a thousand, and 300 000 lists."""
    answer = ask(url, "POST", "/flow_runs/", '{"flow_id": "x", "parameters": {"x": ' + value + "}}")

    assert (answer.status, answer.json()["exception_detail"][0]["type"]) == (422, "too_costly")


def test_s7_texts_that_look_like_such_numbers_are_no_reason(url: str) -> None:
    """UUIDs, and numbers inside of a text, are not counted."""
    ids = ["00000000-1e30-1e30-1e30-00000000e300", "7e305", "1e-305"] * 3 * arguments.MOST_COSTLY

    answer = ask(url, "POST", "/flows/", {"name": "f", "tags": ids})
    assert answer.status == 201


REFERENCES: dict[str, Any] = {
    f"a{number}": {"anyOf": [{"$ref": f"#/$defs/a{number + 1}"}] * 2} for number in range(40)
} | {"a40": {"type": "integer"}}
SCHEMAS: dict[str, tuple[dict[str, Any], Any, int]] = {
    "a regular expression": ({"pattern": "^(a+)+$"}, "a" * 40 + "!", 201),
    "names by a regular expression": ({"patternProperties": {"^(a+)+$": {}}}, {"a" * 40 + "!": 1}, 201),
    "references that double": ({"$ref": "#/$defs/a0"}, "text", 422),
    "a reference to itself": ({"$ref": "#/properties/x"}, 1, 422),
    "unevaluated": ({"unevaluatedProperties": False, "allOf": [{"$ref": "#/$defs/a0"}]}, {}, 422),
    "all unlike": ({"uniqueItems": True}, [{"a": number} for number in range(MANY)], 201),
    "very many faults": ({"items": {"type": "string"}}, list(range(MANY)), 422),
    "a large enumeration": ({"items": {"enum": list(range(2_000))}}, [-1] * 2_000, 422),
    "somewhere else": ({"$ref": "http://127.0.0.1:1/schema.json"}, 1, 422),
    "a file": ({"$ref": "file:///etc/passwd"}, 1, 422),
}  # fmt: skip


@pytest.mark.parametrize(("schema", "value", "status"), SCHEMAS.values(), ids=SCHEMAS)
def test_s7_schemas_have_a_budget(url: str, schema: dict[str, Any], value: Any, status: int) -> None:
    """A schema is followed for a quarter of a second; what could take longer in one step is left to the engine."""
    flow = ask(url, "POST", "/flows/", {"name": "f"}).json()["id"]
    whole = {"$defs": REFERENCES, "properties": {"x": schema}}
    body = {"name": "d", "flow_id": flow, "parameters": {"x": value}, "parameter_openapi_schema": whole}
    answer = ask(url, "POST", "/deployments/", json.dumps({**body, "enforce_parameter_schema": True}))

    assert answer.status == status
    assert len(answer.body) < 10_000 or status == 201
    assert checks.CPU_SECONDS <= 0.25


def test_s7_the_schema_of_a_paused_run_has_the_same_budget() -> None:
    """What a run asks for as its input is written by a stranger too, and nothing it refers to is fetched."""
    for schema, value, status in SCHEMAS.values():
        fault = checks.fault_of_input({"x": value}, {"$defs": REFERENCES, "properties": {"x": schema}})
        assert (fault is None) == (status == 201)
    assert checks.fault_of_input({}, []) is not None


def test_s7_a_collection_of_garbage_is_not_in_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a check is not the cause of does not refuse what it is asked about."""
    seconds = [0.0]

    def passing(phase: str, _: Any) -> None:
        seconds[0] += checks.CPU_SECONDS * 4 if phase == "start" else 0

    def faults(between: Callable[[], object]) -> list[checks.Fault]:
        texts = {"type": "string"}
        found = iter(checks.faults_of({"a": 1, "b": 1}, {"properties": {"a": texts, "b": texts}}))
        first = next(found)
        between()
        return [first, *found]

    monkeypatch.setattr(checks, "thread_time", lambda: seconds[0])
    gc.callbacks.append(passing)
    try:
        assert [place for place, _ in faults(gc.collect)] == [("a",), ("b",)]
    finally:
        gc.callbacks.remove(passing)
    assert "takes longer" in faults(lambda: passing("start", None))[-1][1]


SCHEDULES = {
    "never": {"cron": "0 0 30 2 *"},
    "hardly ever": {"cron": "0 0 29 2 1", "day_or": False},
    "long": {"cron": ",".join(["0-59"] * 150) + " * * * *"},
    "too long": {"cron": ",".join(["0-59"] * 1_000) + " * * * *"},
    "seconds of a day there is not": {"rrule": "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30"},
    "counting from the beginning": {"rrule": "DTSTART:00010101T000000\nRRULE:FREQ=SECONDLY;COUNT=999999999"},
    "microseconds": {"interval": 1e-6},
    "microseconds since long": {"interval": 1e-6, "anchor_date": "0001-01-01T00:00:00Z"},
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_s7_schedules_have_a_budget(url: str, schedule: dict[str, Any]) -> None:
    """A schedule that hardly ever comes, or all the time, costs its budget and no more."""
    flow = ask(url, "POST", "/flows/", {"name": "f"}).json()["id"]
    body = {"name": "d", "flow_id": flow, "schedules": [{"schedule": schedule, "active": True}]}
    made = ask(url, "POST", "/deployments/", body)

    assert made.status in (201, 422)
    if made.status == 201:
        asked = {"min_runs": 1000, "end_time": "9999-12-31T00:00:00Z"}
        assert ask(url, "POST", f"/deployments/{made.json()['id']}/schedule", asked).status < 500
