"""Automations: stored as clients send them, checked, found by what they are about, removed with what owns them."""

import json
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import select

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.exceptions import ObjectNotFound, ValidationFailed
from headrace.schemas.automations import (
    COUNT_AUTOMATIONS,
    CREATE_AUTOMATION,
    DELETE_AUTOMATION,
    DELETE_AUTOMATIONS_OWNED_BY_RESOURCE,
    PATCH_AUTOMATION,
    READ_AUTOMATION,
    READ_AUTOMATIONS,
    READ_AUTOMATIONS_RELATED_TO_RESOURCE,
    UPDATE_AUTOMATION,
    Automation,
    AutomationPartialUpdate,
    CountAutomations,
    ReadAutomations,
)
from headrace.schemas.filters import AutomationFilter, AutomationSort, StringIn, TagsAllOrAny, TimeRange
from headrace.server.operations.arguments import BodyReader
from headrace.server.store.tables import AUTOMATION, EVENT
from headrace.server.store.transaction import Store
from tests.operations.runs_world import NOW, at, spoil

ID = "2f0e9d0e-3b36-4f7c-b0a5-000000000001"
REACTIVE: dict[str, Any] = {"posture": "Reactive"}
EVERY_FIELD = {
    "type": "event",
    "match": {"prefect.resource.id": "prefect.flow-run.*", "prefect.resource.name": ["a", "!b"]},
    "match_related": [{"prefect.resource.role": "flow"}, {"prefect.resource.id": ["prefect.tag.x"]}],
    "after": ["prefect.flow-run.Pending"],
    "expect": ["prefect.flow-run.Completed", "prefect.flow-run.Failed"],
    "for_each": ["prefect.resource.id", "related:flow:prefect.resource.id"],
    "posture": "Proactive",
    "threshold": 3,
    "within": 12.5,
}
ACTIONS: list[dict[str, Any]] = [
    {"type": "do-nothing"},
    {
        "type": "run-deployment",
        "source": "selected",
        "deployment_id": ID,
        "parameters": {"x": {"__prefect_kind": "jinja", "template": "{{ event.id }}"}, "y": [1, None]},
        "job_variables": {"env": {"A": "b"}},
        "schedule_after": 30.0,
    },
    *({"type": f"{verb}-deployment", "source": "selected", "deployment_id": ID} for verb in ("pause", "resume")),
    *({"type": f"{verb}-work-pool", "source": "inferred", "work_pool_id": None} for verb in ("pause", "resume")),
    *({"type": f"{verb}-work-queue", "source": "selected", "work_queue_id": ID} for verb in ("pause", "resume")),
    *({"type": f"{verb}-automation", "source": "inferred", "automation_id": None} for verb in ("pause", "resume")),
    *({"type": f"{verb}-flow-run"} for verb in ("cancel", "delete", "suspend", "resume")),
    {"type": "change-flow-run-state", "name": "Odd", "state": "FAILED", "message": "{{", "force": True},
    {"type": "send-notification", "block_document_id": ID, "subject": "{{ flow.name }}", "body": "{{ event }}"},
    {"type": "call-webhook", "block_document_id": ID, "payload": "{{ event.id }}"},
]


def sent(endpoint: Any, **body: Any) -> Any:
    """A body as the server reads it when it comes over the wire."""
    return BodyReader(endpoint.body).read(json.dumps(body).encode())


def make(api: LocalClient, name: str = "a", trigger: Any = REACTIVE, actions: Any = (), **more: Any) -> Automation:
    """Create an automation as a client would over the wire."""
    return api.call(
        CREATE_AUTOMATION, body=sent(CREATE_AUTOMATION, name=name, trigger=trigger, actions=actions, **more)
    )


def shown(value: Any) -> Any:
    """A value as JSON shows it, without the ids of triggers."""
    if isinstance(value, list):
        return [shown(one) for one in value]
    if isinstance(value, dict):
        is_trigger = value.get("type") in ("event", "compound", "sequence")
        return {name: shown(one) for name, one in value.items() if not (is_trigger and name == "id")}
    return shown(msgspec.to_builtins(value)) if isinstance(value, msgspec.Struct) else value


def trigger_ids(value: Any) -> list[str]:
    """The ids of a trigger and those inside it."""
    return [value["id"], *(id for one in value.get("triggers", ()) for id in trigger_ids(one))]


def names(found: list[Automation]) -> list[str]:
    """What automations are called."""
    return [one.name for one in found]


def test_every_field_comes_back_as_it_was_sent(api: LocalClient) -> None:
    """Triggers in triggers and each kind of action are stored whole; durations are seconds."""
    sequence = {"type": "sequence", "triggers": [EVERY_FIELD, EVERY_FIELD], "within": 60.0}
    trigger = {"type": "compound", "triggers": [sequence, EVERY_FIELD], "within": None, "require": 2}
    body = {
        "name": "alarm",
        "description": "tells",
        "enabled": False,
        "tags": ["x", "x"],
        "trigger": trigger,
        "actions": ACTIONS,
        "actions_on_trigger": ACTIONS[:2],
        "actions_on_resolve": ACTIONS[2:],
    }

    made = api.call(CREATE_AUTOMATION, body=sent(CREATE_AUTOMATION, **body))
    stored = api.call(READ_AUTOMATION, id=made.id)

    assert stored == made
    ids = trigger_ids(msgspec.to_builtins(stored.trigger))
    assert len(set(ids)) == 5
    identity = {"id": str(made.id), "created": "2026-01-01T00:00:00Z", "updated": "2026-01-01T00:00:00Z"}
    assert shown(stored) == {**body, **identity}


def test_what_is_left_out_has_the_defaults_of_the_reference(api: LocalClient) -> None:
    """A trigger without a type is an event's; untyped triggers and actions are told by their fields."""
    made = shown(make(api, actions=[{}, {"source": "inferred"}, {"state": "FAILED"}, {"block_document_id": ID}]))
    compound = shown(make(api, trigger={"require": "any", "within": 1, "triggers": [{"within": 3, "triggers": []}]}))

    assert made["trigger"] == {
        "type": "event",
        "match": {},
        "match_related": {},
        "after": [],
        "expect": [],
        "for_each": [],
        "posture": "Reactive",
        "threshold": 1,
        "within": 0.0,
    }
    types = ["do-nothing", "run-deployment", "change-flow-run-state", "call-webhook"]
    assert [action["type"] for action in made["actions"]] == types
    assert (made["enabled"], made["description"], made["tags"], made["actions_on_resolve"]) == (True, "", [], [])
    assert compound["trigger"]["type"] == "compound"
    assert compound["trigger"]["triggers"] == [{"type": "sequence", "triggers": [], "within": 3.0}]


@pytest.mark.parametrize(
    ("posture", "within", "stored"),
    [("Reactive", "PT1M30S", 90.0), ("Proactive", 0, 10.0), ("Proactive", "PT0S", 10.0), ("Proactive", 10, 10.0)],
)
def test_durations_are_seconds(api: LocalClient, posture: str, within: Any, stored: float) -> None:
    """A duration comes as a number or in ISO 8601; a proactive trigger without one waits for ten seconds."""
    made = make(api, trigger={"posture": posture, "within": within})

    assert shown(made)["trigger"]["within"] == stored


REFUSED_TRIGGERS: list[dict[str, Any]] = [
    {},
    {"posture": "reactive"},
    {"type": "metric", "posture": "Metric", "metric": {"name": "successes", "operator": "<", "threshold": 1}},
    {"posture": "Reactive", "within": -1},
    {"posture": "Reactive", "within": 1e300},
    {"posture": "Proactive", "within": 9.9},
    {"posture": "Reactive", "match": {"a": 1}},
    {"type": "compound", "require": "any", "triggers": [REACTIVE]},
    {"type": "compound", "within": 1, "require": 0, "triggers": [REACTIVE]},
    {"type": "compound", "within": 1, "require": 2, "triggers": [REACTIVE]},
    {"type": "compound", "within": 1, "require": "some", "triggers": [REACTIVE]},
    {"type": "sequence", "within": 1, "triggers": [{"posture": "Proactive", "within": 5}]},
]


@pytest.mark.parametrize("trigger", REFUSED_TRIGGERS, ids=str)
def test_impossible_triggers_are_refused(api: LocalClient, trigger: dict[str, Any]) -> None:
    """What cannot be evaluated is not stored, and the fault names its place."""
    with pytest.raises(ValidationFailed) as refused:
        make(api, trigger=trigger)

    assert refused.value.details is not None
    assert refused.value.details[0]["loc"][:2] == ["body", "trigger"]


REFUSED_ACTIONS: list[tuple[dict[str, Any], str]] = [
    ({"type": "explode"}, "type"),
    ({"type": "run-deployment"}, "deployment_id"),
    ({"type": "pause-deployment", "source": "inferred", "deployment_id": ID}, "deployment_id"),
    ({"type": "resume-work-pool", "source": "selected"}, "work_pool_id"),
    ({"type": "run-deployment", "source": "inferred", "schedule_after": -5}, "schedule_after"),
    ({"type": "change-flow-run-state", "state": "nope"}, "state"),
    ({"type": "send-notification", "block_document_id": ID}, "body"),
    ({"type": "send-notification", "block_document_id": ID, "body": "{{ x"}, "body"),
    ({"type": "call-webhook", "block_document_id": ID, "payload": "{% if %}"}, "payload"),
    ({"type": "call-webhook", "block_document_id": ID, "payload": {"a": "{{ x"}}, "payload"),
    ({"type": "call-webhook", "block_document_id": ID, "payload": "{{ " + "(" * 5000}, "payload"),
    ({"type": "call-webhook", "block_document_id": ID, "payload": "{{ a" + " + a" * 9000 + "}}"}, "payload"),
    (
        {
            "type": "run-deployment",
            "source": "inferred",
            "parameters": {"a": [{"__prefect_kind": "jinja", "template": "{{"}]},
        },
        "parameters",
    ),
]


@pytest.mark.parametrize(("action", "place"), REFUSED_ACTIONS, ids=lambda value: str(value)[:60])
def test_impossible_actions_are_refused(api: LocalClient, action: dict[str, Any], place: str) -> None:
    """An action that lacks what it acts on, or has a broken template, is not stored."""
    with pytest.raises(ValidationFailed) as refused:
        make(api, actions=[action])

    assert place in str(refused.value)


def test_s7_constants_in_templates_are_not_computed(api: LocalClient) -> None:
    """A template is only read when it is stored: one that would take for ever to compute is stored at once."""
    body = "{{ 9 ** 9 ** 9 ** 9 }}"

    made = make(api, actions=[{"type": "send-notification", "block_document_id": ID, "body": body}])

    assert shown(made)["actions"][0]["body"] == body


STARTED = {"posture": "Reactive", "expect": ["prefect.flow-run.Running"]}
SELECTED, INFERRED = {"deployment_id": ID}, {"source": "inferred"}


@pytest.mark.parametrize(
    ("trigger", "action", "stored"),
    [
        (STARTED, INFERRED, False),
        (STARTED, SELECTED, False),
        ({**STARTED, "expect": ["prefect.flow-run.*"]}, SELECTED, False),
        ({**STARTED, "match": {"prefect.resource.id": "prefect.flow-run.*"}}, SELECTED, False),
        ({**STARTED, "match_related": {"prefect.resource.role": "flow"}}, INFERRED, False),
        ({**STARTED, "match_related": {"prefect.resource.id": "prefect.flow.x"}}, SELECTED, True),
        ({**STARTED, "match": {"prefect.resource.name": "x"}}, SELECTED, True),
        ({**STARTED, "expect": ["prefect.flow-run.Completed"]}, INFERRED, True),
        ({**STARTED, "posture": "Proactive"}, SELECTED, True),
        (STARTED, {"type": "cancel-flow-run"}, True),
    ],
)
def test_s15_runs_that_start_runs_without_end_are_refused(
    api: LocalClient, trigger: Any, action: Any, stored: bool
) -> None:
    """An enabled automation may not run a deployment on the start of the very runs it makes."""
    if stored:
        assert make(api, trigger=trigger, actions=[action]).enabled
        return
    with pytest.raises(ValidationFailed, match="without end"):
        make(api, trigger=trigger, actions=[action])
    sleeping = make(api, trigger=trigger, actions=[action], enabled=False)
    with pytest.raises(ValidationFailed, match="without end"):
        api.call(PATCH_AUTOMATION, id=sleeping.id, body=AutomationPartialUpdate(enabled=True))


def test_an_update_replaces_what_it_names(api: LocalClient, clock: ManualClock) -> None:
    """Trigger and actions are always replaced, the rest when it is said; triggers get ids of their own."""
    made = make(api, tags=["x"], description="d", actions_on_trigger=[{}], enabled=False)
    clock.advance(60)
    body = {"name": "b", "trigger": msgspec.to_builtins(made.trigger), "actions": [{"type": "cancel-flow-run"}]}

    api.call(UPDATE_AUTOMATION, id=made.id, body=sent(UPDATE_AUTOMATION, **body))
    changed = api.call(READ_AUTOMATION, id=made.id)

    assert (changed.name, changed.tags, changed.description, changed.enabled) == ("b", ["x"], "d", False)
    assert shown(changed.actions) == [{"type": "cancel-flow-run"}]
    assert shown(changed.actions_on_trigger) == [{"type": "do-nothing"}]
    assert (changed.created, changed.updated) == (NOW, at(minutes=1))
    assert changed.trigger.id != made.trigger.id


def test_an_automation_is_switched_off_and_on(api: LocalClient) -> None:
    """A patch changes whether it is enabled; an empty one changes nothing."""
    made = make(api)
    seen = []
    for enabled in ({"enabled": False}, {}, {"enabled": None}, {"enabled": True}):
        api.call(PATCH_AUTOMATION, id=made.id, body=sent(PATCH_AUTOMATION, **enabled))
        seen.append(api.call(READ_AUTOMATION, id=made.id).enabled)

    assert seen == [False, False, False, True]
    assert api.call(READ_AUTOMATION, id=made.id).trigger == made.trigger


def test_what_is_not_there_is_not_found(api: LocalClient) -> None:
    """Reading, changing and deleting an unknown automation say so."""
    body = sent(UPDATE_AUTOMATION, name="x", trigger=REACTIVE, actions=[])
    for endpoint, arguments in (
        (READ_AUTOMATION, {}),
        (DELETE_AUTOMATION, {}),
        (PATCH_AUTOMATION, {"body": AutomationPartialUpdate()}),
        (UPDATE_AUTOMATION, {"body": body}),
    ):
        with pytest.raises(ObjectNotFound):
            api.call(endpoint, id=uuid7(), **arguments)


def test_automations_are_found_by_filters_in_an_order(api: LocalClient, clock: ManualClock) -> None:
    """Name, tags, id and age narrow the list; orders go by name and by time."""
    made = {}
    for name in ("beta", "alpha", "gamma"):
        clock.advance(60)
        made[name] = make(api, name, tags=[name[0], "all"])

    def found(sort: AutomationSort = AutomationSort.NAME_ASC, **fields: Any) -> list[str]:
        chosen = AutomationFilter(**fields) if fields else None
        return names(api.call(READ_AUTOMATIONS, body=ReadAutomations(automations=chosen, sort=sort)))

    assert found() == ["alpha", "beta", "gamma"]
    assert found(AutomationSort.CREATED_DESC) == ["gamma", "alpha", "beta"]
    assert found(name=StringIn(any_=["beta", "nope"])) == ["beta"]
    assert found(tags=TagsAllOrAny(any_=["a", "g"])) == ["alpha", "gamma"]
    assert found(created=TimeRange(before_=at(minutes=1))) == ["beta"]
    assert names(api.call(READ_AUTOMATIONS, body=ReadAutomations(limit=1, offset=1))) == ["beta"]
    chosen = AutomationFilter(tags=TagsAllOrAny(all_=["all", "b"]))
    assert api.call(COUNT_AUTOMATIONS, body=CountAutomations(automations=chosen)) == 1
    with pytest.raises(ValidationFailed, match="limit"):
        api.call(READ_AUTOMATIONS, body=ReadAutomations(limit=201))


def test_automations_are_found_by_what_owns_them_and_what_they_run(api: LocalClient) -> None:
    """A deployment knows those it owns and those that run it; when it deploys again, those it owns go."""
    owner = f"prefect.deployment.{ID}"
    owned = make(api, "owned", owner_resource=owner)
    make(api, "runs", actions=[SELECTED, SELECTED])
    make(api, "other", actions=[{"type": "pause-deployment", "deployment_id": ID}], actions_on_resolve=[SELECTED])
    api.call(UPDATE_AUTOMATION, id=owned.id, body=sent(UPDATE_AUTOMATION, name="mine", trigger=REACTIVE, actions=[]))

    def related() -> list[str]:
        return names(api.call(READ_AUTOMATIONS_RELATED_TO_RESOURCE, resource_id=owner))

    before = related()
    api.call(DELETE_AUTOMATIONS_OWNED_BY_RESOURCE, resource_id=owner)

    assert before == ["mine", "runs"]
    assert related() == ["runs"]
    assert names(api.call(READ_AUTOMATIONS, body=ReadAutomations())) == ["other", "runs"]
    assert api.call(READ_AUTOMATIONS_RELATED_TO_RESOURCE, resource_id="nothing/such") == []


def test_g8_every_change_is_told(api: LocalClient, store: Store) -> None:
    """Creating, updating and deleting write an event with the whole automation, in the same transaction."""
    made = make(api, "told", actions=ACTIONS)
    api.call(PATCH_AUTOMATION, id=made.id, body=AutomationPartialUpdate(enabled=False))
    api.call(DELETE_AUTOMATION, id=made.id)

    rows = store.read(lambda tx: tx.execute(select(EVENT).order_by(EVENT.c.seq)).all())

    assert [row.event for row in rows] == [f"prefect.automation.{what}" for what in ("created", "updated", "deleted")]
    labels = {"prefect.resource.id": f"prefect.automation.{made.id}", "prefect.resource.name": "told"}
    assert all(row.resource == labels and row.related == [] for row in rows)
    assert rows[0].payload == msgspec.to_builtins(made)
    assert [row.payload["enabled"] for row in rows] == [True, False, False]


def test_g13_a_broken_automation_does_not_break_the_list(
    api: LocalClient, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A row that cannot be read is left out of lists and reported; the others are served."""
    made: list[UUID] = [make(api, f"a{number}", actions=[SELECTED]).id for number in range(3)]
    spoil(store, AUTOMATION, made[1], "trigger", '{"type": "none"}')

    listed = api.call(READ_AUTOMATIONS, body=ReadAutomations())
    related = api.call(READ_AUTOMATIONS_RELATED_TO_RESOURCE, resource_id=f"prefect.deployment.{ID}")

    assert names(listed) == names(related) == ["a0", "a2"]
    assert str(made[1]) in caplog.text
