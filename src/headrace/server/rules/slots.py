"""Slots of a deployment's concurrency limit.  # G7

There is no counter. A slot is a row with an end; those whose end lies ahead are in use, counted under the lock of the
limit. A run that is held by a lease keeps its slot for as long as it is held (`FOREVER`): whatever ends the run or
takes it from its holder frees the slot in the same transaction, so a slot can neither be lost nor return late.
A client without a lease of headrace's gets the slot for a time of grace until it runs, as Prefect's server does.
"""

from datetime import datetime
from uuid import UUID

from headrace.schemas.concurrency_limits import ConcurrencyLimitStrategy
from headrace.schemas.states import StateDetails, StateType
from headrace.server.rules.attempts import attempt_after, is_retry_in_process, retries_in_process
from headrace.server.rules.change import (
    ACCEPT,
    Abort,
    Accept,
    Change,
    Decision,
    Effect,
    FlowRunNow,
    Reject,
    after,
    instead,
    with_details,
)
from headrace.server.rules.facts import FOREVER, FlowRunFacts, Slots

FULL = "No slot of the deployment's concurrency limit is free."


class TakeSlot(Effect, frozen=True):
    """Give the run a slot of a limit, in place of one it may have."""

    limit_id: UUID
    lease_id: UUID
    until: datetime


class ExtendSlot(Effect, frozen=True):
    """Let the run's slot last until then."""

    until: datetime


class FreeSlots(Effect, frozen=True):
    """Give back what slots the run has."""


class StandInLine(Effect, frozen=True):
    """Keep the run's place in the line before these limits; it comes back at `retry`."""

    limit_ids: tuple[UUID, ...]
    retry: datetime


class LeaveLine(Effect, frozen=True):
    """Give up the run's place in line."""


AWAITING = "AwaitingConcurrencySlot"
"""The name of the state in which a flow run waits for a slot of its deployment."""


def keep_lease_id(change: Change[FlowRunNow], _: FlowRunFacts) -> Decision:
    """Carry the id of the slot's lease from state to state; clients send none."""
    lease_id = change.run.state and change.run.state.state_details.deployment_concurrency_lease_id
    if lease_id is None or change.proposed.state_details.deployment_concurrency_lease_id is not None:
        return ACCEPT
    return Accept(with_details(change.proposed, deployment_concurrency_lease_id=lease_id))


def take_slot(change: Change[FlowRunNow], facts: FlowRunFacts) -> Decision:
    """A run of a deployment with a limit needs a slot before it may be claimed."""
    if change.run.deployment_id is None:
        return ACCEPT
    if not facts.deployment_exists:
        return Abort("The deployment of this run was deleted.")
    slots = facts.slots
    if slots is None:
        return ACCEPT
    if slots.limit <= 0:
        return Abort("The deployment's concurrency limit is 0: none of its runs may start.")
    if slots.free:
        return _give(change, facts, slots)
    if slots.collision is ConcurrencyLimitStrategy.CANCEL_NEW:
        return Reject(FULL, instead(change, StateType.CANCELLED, message=FULL))
    retry = after(change.now, facts.times.slot_wait)
    waiting = instead(change, StateType.SCHEDULED, AWAITING, details=StateDetails(scheduled_time=retry))
    return Reject(FULL, waiting, (StandInLine((slots.limit_id,), retry),))


def keep_slot(change: Change[FlowRunNow], facts: FlowRunFacts) -> Decision:
    """A run that begins must still have the slot it was given, or get another one."""
    slots, state = facts.slots, change.run.state
    if slots is None or state is None or state.state_details.deployment_concurrency_lease_id is None:
        return ACCEPT
    if slots.held:
        return Accept(effects=(ExtendSlot(_slot_end(change, facts, slots)),))
    if slots.open:  # it had a slot before any of those who wait
        return _give(change, facts, slots)
    message = f"{FULL} The one this run had was given up because the run did not start in time."
    return Reject(message, instead(change, StateType.CANCELLED, message=message))


def drop_lease_id(change: Change[FlowRunNow], _: FlowRunFacts) -> Decision:
    """A client that does not renew its slot keeps it until the run ends, and is told of no lease to renew."""
    state = change.run.state
    if state is None or state.state_details.deployment_concurrency_lease_id is None:
        return ACCEPT
    if change.renews_slot or _is_leased(change):
        return ACCEPT
    without = with_details(change.proposed, deployment_concurrency_lease_id=None)
    return Accept(without, (ExtendSlot(FOREVER),))


def free_slots(change: Change[FlowRunNow], _: FlowRunFacts) -> Decision:
    """A run that neither runs nor is about to gives its slot back, unless it is about to be retried on the spot."""
    run, written = change.run, change.written
    if run.deployment_id is None or written is None:
        return ACCEPT
    if run.state is not None and run.state.name == AWAITING and written.name != AWAITING:
        return Accept(effects=(LeaveLine(),))
    had = run.type in HOLDING or is_retry_in_process(run)
    return Accept(effects=(FreeSlots(),)) if had and not retries_in_process(change, written) else ACCEPT


def no_slot_when_late(change: Change[FlowRunNow], facts: FlowRunFacts) -> Decision:
    """A run that is late because its deployment is full is cancelled, where the deployment asks for that."""
    slots = facts.slots
    if slots is None or slots.free or slots.collision is not ConcurrencyLimitStrategy.CANCEL_NEW:
        return ACCEPT
    return Reject(FULL, instead(change, StateType.CANCELLED, message=FULL))


HOLDING = frozenset({StateType.PENDING, StateType.RUNNING, StateType.CANCELLING})
"""The types in which a run may hold a slot."""


def _give(change: Change[FlowRunNow], facts: FlowRunFacts, slots: Slots) -> Accept:
    lease_id = change.proposed.id
    state = with_details(change.proposed, deployment_concurrency_lease_id=lease_id)
    return Accept(state, (TakeSlot(slots.limit_id, lease_id, _slot_end(change, facts, slots)),))


def _slot_end(change: Change[FlowRunNow], facts: FlowRunFacts, slots: Slots) -> datetime:
    if _is_leased(change):
        return FOREVER
    return after(change.now, facts.times.slot_grace if slots.grace is None else slots.grace)


def _is_leased(change: Change[FlowRunNow]) -> bool:
    """Whether the slot will end with a lease of the run itself."""
    return attempt_after(change, change.proposed).lease_until is not None
