"""Automations: stored, found, and removed with what owns them. Evaluating them is the business of services."""

from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict, replace
from sqlalchemy import Row, delete, select, update

from headrace._internal.ids import uuid7
from headrace.exceptions import ObjectNotFound
from headrace.schemas.actions import RunDeployment
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
    AutomationCreate,
    AutomationPartialUpdate,
    AutomationUpdate,
    CountAutomations,
    ReadAutomations,
)
from headrace.schemas.triggers import EventTrigger, Trigger
from headrace.server.events.log import tell_of
from headrace.server.operations.arguments import detail, invalid
from headrace.server.operations.paging import count_of, listed, page_size
from headrace.server.operations.registry import implements
from headrace.server.operations.rows import values_of
from headrace.server.operations.templates import fault_of_template
from headrace.server.rules.triggers import faults
from headrace.server.store.filters import ordered, where
from headrace.server.store.tables import AUTOMATION, AUTOMATION_RELATED
from headrace.server.store.transaction import Tx

_SELECT = select(AUTOMATION)


def read_automation_row(row: Row[Any]) -> Automation:
    """A row of the table as the struct."""
    return msgspec.convert(values_of(row), Automation)


@implements(CREATE_AUTOMATION, access="automations:write")
def create_automation(tx: Tx, body: AutomationCreate) -> Automation:
    """Create an automation."""
    given = {name: value for name, value in asdict(body).items() if name != "owner_resource"}
    automation = Automation(**given, id=uuid7(), created=tx.now, updated=tx.now)
    automation.trigger = _with_new_ids(automation.trigger)
    _check(automation)
    tx.execute(AUTOMATION.insert(), asdict(automation))
    if body.owner_resource is not None:
        _relate(tx, automation.id, {body.owner_resource}, owns=True)
    _relate(tx, automation.id, _acted_on(automation))
    _tell(tx, "created", automation)
    return automation


@implements(READ_AUTOMATION, access="automations:read")
def read_automation(tx: Tx, id: UUID) -> Automation:
    """One automation."""
    row = tx.execute(_SELECT.where(AUTOMATION.c.id == id)).one_or_none()
    if row is None:
        raise ObjectNotFound("Automation", id)
    return read_automation_row(row)


@implements(UPDATE_AUTOMATION, access="automations:write")
def update_automation(tx: Tx, id: UUID, body: AutomationUpdate) -> None:
    """Give an automation another trigger and other actions; its triggers begin anew."""
    changes = {name: value for name, value in asdict(body).items() if value is not UNSET}
    automation = _change(tx, id, **{**changes, "trigger": _with_new_ids(body.trigger)})
    related = AUTOMATION_RELATED.c
    tx.execute(delete(AUTOMATION_RELATED).where(related.automation_id == id, related.owns.is_(False)))
    _relate(tx, id, _acted_on(automation))


@implements(PATCH_AUTOMATION, access="automations:write")
def patch_automation(tx: Tx, id: UUID, body: AutomationPartialUpdate) -> None:
    """Enable or disable an automation."""
    _change(tx, id, **({} if body.enabled is UNSET else {"enabled": body.enabled}))


@implements(DELETE_AUTOMATION, access="automations:write")
def delete_automation(tx: Tx, id: UUID) -> None:
    """Delete an automation."""
    automation = read_automation(tx, id)
    tx.execute(delete(AUTOMATION).where(AUTOMATION.c.id == id))
    tx.execute(delete(AUTOMATION_RELATED).where(AUTOMATION_RELATED.c.automation_id == id))
    _tell(tx, "deleted", automation)


@implements(READ_AUTOMATIONS, access="automations:read")
def read_automations(tx: Tx, body: ReadAutomations) -> list[Automation]:
    """The automations that a filter finds."""
    chosen = ordered(_SELECT.where(where(AUTOMATION, body.automations)), AUTOMATION, body.sort)
    rows = tx.execute(chosen.limit(page_size(body.limit)).offset(body.offset))
    return listed(rows, read_automation_row, "automation")


@implements(COUNT_AUTOMATIONS, access="automations:read")
def count_automations(tx: Tx, body: CountAutomations) -> int:
    """How many automations a filter finds."""
    return count_of(tx, _SELECT.where(where(AUTOMATION, body.automations)))


@implements(READ_AUTOMATIONS_RELATED_TO_RESOURCE, access="automations:read")
def read_automations_related_to_resource(tx: Tx, resource_id: str) -> list[Automation]:
    """The automations that a resource owns, or that run it."""
    chosen = _SELECT.where(AUTOMATION.c.id.in_(_related_to(resource_id))).order_by(AUTOMATION.c.name, AUTOMATION.c.id)
    return listed(tx.execute(chosen), read_automation_row, "automation")


@implements(DELETE_AUTOMATIONS_OWNED_BY_RESOURCE, access="automations:write")
def delete_automations_owned_by_resource(tx: Tx, resource_id: str) -> None:
    """Delete the automations that a resource owns."""
    owned = _related_to(resource_id).where(AUTOMATION_RELATED.c.owns)
    for id in tx.execute(owned.order_by(AUTOMATION_RELATED.c.automation_id)).scalars().all():
        delete_automation(tx, id)


def _related_to(resource_id: str) -> Any:
    return select(AUTOMATION_RELATED.c.automation_id).where(AUTOMATION_RELATED.c.resource_id == resource_id)


def _change(tx: Tx, id: UUID, **changes: Any) -> Automation:
    automation = replace(read_automation(tx, id), **changes, updated=tx.now)
    _check(automation)
    tx.execute(update(AUTOMATION).where(AUTOMATION.c.id == id).values(asdict(automation)))
    _tell(tx, "updated", automation)
    return automation


def _check(automation: Automation) -> None:
    if found := [
        detail("value_error", ["body", *place], message) for place, message in faults(automation, fault_of_template)
    ]:
        raise invalid(*found)


def _with_new_ids(trigger: Trigger) -> Trigger:
    """A trigger under ids of its own, its inner triggers likewise: what was counted for others is not its own."""
    if isinstance(trigger, EventTrigger):
        return replace(trigger, id=uuid7())
    return replace(trigger, id=uuid7(), triggers=[_with_new_ids(one) for one in trigger.triggers])


def _acted_on(automation: Automation) -> set[str]:
    """The deployments that an automation runs, as events name them."""
    runs = (action.deployment_id for action in automation.actions if isinstance(action, RunDeployment))
    return {f"prefect.deployment.{id}" for id in runs if id is not None}


def _relate(tx: Tx, id: UUID, resources: set[str], *, owns: bool = False) -> None:
    if resources:
        rows = [{"resource_id": one, "automation_id": id, "owns": owns} for one in sorted(resources)]
        tx.execute(AUTOMATION_RELATED.insert(), rows)


def _tell(tx: Tx, what: str, automation: Automation) -> None:
    tell_of(tx, "automation", what, automation.id, automation.name, payload=msgspec.to_builtins(automation))
