"""What an automation may not be, beyond what the types of its parts say.  # S7, S15"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from headrace.schemas.actions import Action, CallWebhook, RunDeployment, SendNotification, Source
from headrace.schemas.automations import AutomationCore
from headrace.schemas.triggers import EventTrigger, Posture, Trigger

STARTS = frozenset(f"prefect.flow-run.{name}" for name in ("Scheduled", "Pending", "Running", "*"))
"""Events that every run of a deployment brings with it."""
_EVERY_RUN: tuple[dict[str, Any], ...] = (
    {},
    {"prefect.resource.id": "prefect.flow-run.*"},
    {"prefect.resource.id": ["prefect.flow-run.*"]},
)


def faults(
    automation: AutomationCore, fault_of_template: Callable[[str], str | None]
) -> Iterator[tuple[list[str | int], str]]:
    """Where an automation is at fault, and in what.

    Args:
        automation: as it would be stored.
        fault_of_template: says what is wrong with a template, if anything is.
    """
    if automation.enabled and (fault := _loop(automation.trigger, automation.actions)):
        yield [], fault
    for name in ("actions", "actions_on_trigger", "actions_on_resolve"):
        for number, action in enumerate(getattr(automation, name)):
            for place, template in _templates(action):
                if fault := fault_of_template(template):
                    yield [name, number, *place], f"The template cannot be read: {fault}"


def _loop(trigger: Trigger, actions: Sequence[Action]) -> str | None:
    """Why the automation would set itself off again and again; None when it would not."""
    runs = [action for action in actions if isinstance(action, RunDeployment)]
    if not runs or not isinstance(trigger, EventTrigger) or trigger.posture is not Posture.Reactive:
        return None
    if STARTS.isdisjoint(trigger.expect):
        return None
    if any(action.source is Source.INFERRED for action in runs):
        return "Each run would start another run of its own deployment, without end. Select a deployment to run."
    if trigger.match in _EVERY_RUN and not trigger.match_related:
        return (
            "The runs that this starts could set it off again, without end. Narrow `match` or `match_related` so that "
            "runs of the selected deployment do not fit."
        )
    return None


def _templates(action: Action) -> Iterator[tuple[list[str | int], str]]:
    """The templates of an action, and where each stands."""
    if isinstance(action, SendNotification):
        yield ["subject"], action.subject
        yield ["body"], action.body
    elif isinstance(action, CallWebhook) and isinstance(action.payload, str):
        yield ["payload"], action.payload
    elif isinstance(action, RunDeployment):
        yield from _in_parameters(action.parameters, ["parameters"])


def _in_parameters(value: Any, place: list[str | int]) -> Iterator[tuple[list[str | int], str]]:
    if isinstance(value, list):
        for number, one in enumerate(value):
            yield from _in_parameters(one, [*place, number])
    elif isinstance(value, dict):
        template = value.get("template")
        if value.get("__prefect_kind") == "jinja" and isinstance(template, str):
            yield place, template
        for name, one in value.items():
            yield from _in_parameters(one, [*place, name])
