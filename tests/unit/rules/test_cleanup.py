"""What a run leaves to be cleared away, and what a worker may still say about a message."""

from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from headrace.schemas.states import StateType
from headrace.server.rules.change import FlowRunNow
from headrace.server.rules.cleanup import Kind, Operation, Reservation, judge, left_behind
from tests.unit.rules.runs import ID, seconds, state

POOL, OTHER, WORKER = UUID(int=3), UUID(int=4), UUID(int=5)
HELD = Reservation(work_pool_id=POOL, deliveries=1, holder=WORKER, due=seconds(30))
TOKEN = HELD.token


@pytest.mark.parametrize("type", list(StateType))
def test_what_a_run_leaves_behind(type: StateType) -> None:
    """Who was cancelling or had claimed it did not do its part; a holder with a lease stops by itself."""
    left = {StateType.CANCELLING: Kind.CANCELLING_TIMEOUT, StateType.PENDING: Kind.PENDING_CLAIM}
    run = FlowRunNow(id=ID, state=state(type))

    assert left_behind(run) is left.get(type)
    assert left_behind(replace(run, lease_until=seconds(-1))) is None
    assert left_behind(FlowRunNow(id=ID)) is None


@pytest.mark.parametrize("operation", ["ack", "release", "renew"])
@pytest.mark.parametrize(
    ("changes", "token", "status"),
    [
        ({}, TOKEN, "accepted"),
        ({"deliveries": 2}, TOKEN, "invalid_token"),
        ({}, replace(HELD, holder=OTHER).token, "invalid_token"),
        ({"holder": None}, replace(HELD, holder=None).token, "not_current"),
        ({"due": seconds(10)}, TOKEN, "expired"),
        ({"work_pool_id": OTHER}, TOKEN, "unauthorized"),
        (None, TOKEN, "not_found"),
    ],
)
def test_s5_only_who_has_a_message_is_heard(
    operation: Operation, changes: dict[str, Any] | None, token: str, status: str
) -> None:
    """By its token, in its pool, while its lease lasts; whoever is not heard is told why."""
    found = None if changes is None else replace(HELD, **changes)

    came, why = judge(operation, token, found, pool_id=POOL, now=seconds(10), most=3)

    assert came == status
    assert (why is None) == (status == "accepted")


@pytest.mark.parametrize(("deliveries", "status"), [(2, "accepted"), (3, "dead_lettered")])
def test_the_last_release_gives_a_message_up(deliveries: int, status: str) -> None:
    """When it was handed out as often as it may be; then still a worker may have done it, or take longer."""
    held = replace(HELD, deliveries=deliveries)

    came = [
        judge(one, held.token, held, pool_id=POOL, now=seconds(10), most=3)[0] for one in ("release", "ack", "renew")
    ]

    assert came == [status, "accepted", "accepted"]
