"""Automations: a trigger, and the actions taken when it fires, and the calls about them."""

from datetime import datetime
from types import NoneType
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from headrace.schemas.actions import Action, name_actions
from headrace.schemas.endpoint import Endpoint
from headrace.schemas.filters import AutomationFilter, AutomationSort
from headrace.schemas.triggers import Trigger, name_trigger

ACTIONS = ("actions", "actions_on_trigger", "actions_on_resolve")


class AutomationCore(Struct, kw_only=True):
    """What an automation is made of."""

    name: str
    description: str = ""
    enabled: bool = True
    tags: list[str] = []
    trigger: Trigger
    actions: list[Action]
    actions_on_trigger: list[Action] = []
    actions_on_resolve: list[Action] = []

    @staticmethod
    def complete(said: dict[str, Any]) -> None:
        """Add to a body what clients may leave out and tagged unions need: the type of each trigger and action."""
        name_trigger(said.get("trigger"))
        for name in ACTIONS:
            name_actions(said.get(name))


class AutomationCreate(AutomationCore, kw_only=True):
    """An automation to be created; `owner_resource` is what it is deleted with, such as `prefect.deployment.<id>`."""

    owner_resource: str | None = None


class Automation(AutomationCore, kw_only=True):
    """An automation as it is stored."""

    id: UUID
    created: datetime | None
    updated: datetime | None


class AutomationUpdate(Struct, kw_only=True):
    """What an automation becomes; what may be left out stays as it is."""

    name: str
    description: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    trigger: Trigger
    actions: list[Action]
    actions_on_trigger: list[Action] | UnsetType = UNSET
    actions_on_resolve: list[Action] | UnsetType = UNSET

    complete = staticmethod(AutomationCore.complete)


class AutomationPartialUpdate(Struct, kw_only=True):
    """Whether an automation is to act."""

    enabled: bool | UnsetType = UNSET


class ReadAutomations(Struct, kw_only=True):
    """Which automations to list, in what order, and which part of the list."""

    automations: AutomationFilter | None = None
    limit: int | None = None
    offset: Annotated[int, Meta(ge=0)] = 0
    sort: AutomationSort = AutomationSort.NAME_ASC


class CountAutomations(Struct, kw_only=True):
    """Which automations to count."""

    automations: AutomationFilter | None = None


CREATE_AUTOMATION = Endpoint("POST", "/automations/", body=AutomationCreate, returns=Automation, status=201)
COUNT_AUTOMATIONS = Endpoint("POST", "/automations/count", body=CountAutomations, returns=int)
READ_AUTOMATIONS = Endpoint("POST", "/automations/filter", body=ReadAutomations, returns=list[Automation])
DELETE_AUTOMATIONS_OWNED_BY_RESOURCE = Endpoint(
    "DELETE", "/automations/owned-by/{resource_id}", returns=NoneType, status=202
)
READ_AUTOMATIONS_RELATED_TO_RESOURCE = Endpoint(
    "GET", "/automations/related-to/{resource_id}", returns=list[Automation]
)
DELETE_AUTOMATION = Endpoint("DELETE", "/automations/{id}", returns=NoneType, status=204)
READ_AUTOMATION = Endpoint("GET", "/automations/{id}", returns=Automation)
PATCH_AUTOMATION = Endpoint("PATCH", "/automations/{id}", body=AutomationPartialUpdate, returns=NoneType, status=204)
UPDATE_AUTOMATION = Endpoint("PUT", "/automations/{id}", body=AutomationUpdate, returns=NoneType, status=204)
