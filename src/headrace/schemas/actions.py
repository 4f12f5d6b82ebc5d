"""Actions: what an automation does when its trigger fires."""

import json
import re
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeAlias
from uuid import UUID

from msgspec import Struct

from headrace.schemas.states import StateType
from headrace.schemas.triggers import seconds


class Source(StrEnum):
    """Whether an action names what it acts on, or takes it from the event that fired."""

    SELECTED = "selected"
    INFERRED = "inferred"


def _kebab(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


class _Action(Struct, kw_only=True, tag_field="type", tag=_kebab):
    """What all actions share: `type`, their name with hyphens."""


class _Choice(_Action, kw_only=True):
    """An action on something that is selected by its id, or inferred.

    Raises:
        ValueError: it is selected and has no id, or inferred and has one.
    """

    source: Source = Source.SELECTED

    def __post_init__(self) -> None:
        name = next(name for name in self.__struct_fields__ if name.endswith("_id"))
        if (getattr(self, name) is None) is (self.source is Source.SELECTED):
            raise ValueError(f"{name} is {'missing' if self.source is Source.SELECTED else 'given, and also inferred'}")


class _DeploymentChoice(_Choice, kw_only=True):
    deployment_id: UUID | None = None


class _WorkPoolChoice(_Choice, kw_only=True):
    work_pool_id: UUID | None = None


class _WorkQueueChoice(_Choice, kw_only=True):
    work_queue_id: UUID | None = None


class _AutomationChoice(_Choice, kw_only=True):
    automation_id: UUID | None = None


class DoNothing(_Action, kw_only=True):
    """Only tells that the trigger fired."""


class RunDeployment(_DeploymentChoice, kw_only=True):
    """Creates a run of a deployment, `schedule_after` seconds later if given."""

    parameters: dict[str, Any] | None = None
    job_variables: dict[str, Any] | None = None
    schedule_after: float | timedelta = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.schedule_after = seconds(self.schedule_after, "schedule_after")


class PauseDeployment(_DeploymentChoice, kw_only=True):
    """Pauses a deployment."""


class ResumeDeployment(_DeploymentChoice, kw_only=True):
    """Resumes a deployment."""


class CancelFlowRun(_Action, kw_only=True):
    """Cancels the flow run that the event is about."""


class DeleteFlowRun(_Action, kw_only=True):
    """Deletes the flow run that the event is about."""


class ChangeFlowRunState(_Action, kw_only=True):
    """Gives the flow run that the event is about another state."""

    name: str | None = None
    state: StateType
    message: str | None = None
    force: bool = False


class PauseWorkQueue(_WorkQueueChoice, kw_only=True):
    """Pauses a work queue."""


class ResumeWorkQueue(_WorkQueueChoice, kw_only=True):
    """Resumes a work queue."""


class SendNotification(_Action, kw_only=True):
    """Sends a message by a notification block; subject and body are templates."""

    block_document_id: UUID
    subject: str = "Prefect automated notification"
    body: str


class CallWebhook(_Action, kw_only=True):
    """Calls a webhook block; the payload is a template, and one that is no text is written as JSON."""

    block_document_id: UUID
    payload: str | dict[str, Any] = ""

    def __post_init__(self) -> None:
        if not isinstance(self.payload, str):
            self.payload = json.dumps(self.payload, indent=2)


class PauseAutomation(_AutomationChoice, kw_only=True):
    """Pauses an automation."""


class ResumeAutomation(_AutomationChoice, kw_only=True):
    """Resumes an automation."""


class SuspendFlowRun(_Action, kw_only=True):
    """Suspends the flow run that the event is about."""


class ResumeFlowRun(_Action, kw_only=True):
    """Resumes the flow run that the event is about."""


class PauseWorkPool(_WorkPoolChoice, kw_only=True):
    """Pauses a work pool."""


class ResumeWorkPool(_WorkPoolChoice, kw_only=True):
    """Resumes a work pool."""


Action: TypeAlias = (
    DoNothing
    | RunDeployment
    | PauseDeployment
    | ResumeDeployment
    | CancelFlowRun
    | DeleteFlowRun
    | ChangeFlowRunState
    | PauseWorkQueue
    | ResumeWorkQueue
    | SendNotification
    | CallWebhook
    | PauseAutomation
    | ResumeAutomation
    | SuspendFlowRun
    | ResumeFlowRun
    | PauseWorkPool
    | ResumeWorkPool
)

_TOLD_BY = {
    "state": "change-flow-run-state",
    "body": "send-notification",
    "block_document_id": "call-webhook",
    "work_pool_id": "pause-work-pool",
    "work_queue_id": "pause-work-queue",
    "automation_id": "pause-automation",
    "deployment_id": "run-deployment",
    "source": "run-deployment",
}
"""By a field that it has: the type of an action that came without; the first field found decides."""


def name_actions(said: Any) -> None:
    """Give actions that came without their `type` the one that their fields tell."""
    for one in said if isinstance(said, list) else ():
        if isinstance(one, dict):
            one.setdefault("type", next((type for field, type in _TOLD_BY.items() if field in one), "do-nothing"))
