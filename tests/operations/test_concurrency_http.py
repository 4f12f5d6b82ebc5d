"""Slots over HTTP, as Prefect's clients meet them: what they are told, and the lease of a deployment's slot.  # G7"""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from headrace._internal.clock import ManualClock
from headrace.client.local import LocalClient
from headrace.server.services.leases import free_unheld_slots
from headrace.server.store.transaction import Store
from tests.operations.concurrency_world import Limits
from tests.operations.transitions_world import World, proposal
from tests.support.serving import Answer, ask, serving

ROOT = "/v2/concurrency_limits"


@pytest.fixture
def url(store: Store) -> Iterator[str]:
    """A server on the test's store."""
    with serving(store) as url:
        yield url


def begin(url: str, world: World, agent: str) -> tuple[UUID, Any]:
    """Claim and begin a run of a deployment with one slot, as a client of that name; the run and its state's lease."""
    run = world.flow_run(proposal("SCHEDULED"), deployment_id=world.deployment(slots=1))
    for type in ("PENDING", "RUNNING"):
        answer = ask(url, "POST", f"/flow_runs/{run}/set_state", {"state": {"type": type}}, user_agent=agent)
        assert answer.json()["status"] == "ACCEPT"
    return run, answer.json()["state"]["state_details"]["deployment_concurrency_lease_id"]


def test_g7_who_finds_no_slot_is_told_when_to_come_and_keeps_the_place(
    url: str, api: LocalClient, clock: ManualClock
) -> None:
    """423 with the seconds in Retry-After, down to a thousandth; the place in line is stored with that answer."""
    limits = Limits(api)
    limits.make()
    lease = limits.take()

    def take(holder: UUID) -> Answer:
        who = {"type": "flow_run", "id": str(holder)}
        return ask(url, "POST", f"{ROOT}/increment-with-lease", {"names": ["db"], "slots": 1, "holder": who})

    first = uuid4()
    refused = take(first)
    limits.free(lease)

    assert (refused.status, list(refused.json())) == (423, ["detail"])
    assert 1.5 < float(refused.headers["retry-after"]) < 2.5
    assert take(uuid4()).status == 423
    assert take(first).status == 200


def test_g7_the_slot_of_prefects_flows_ends_when_they_no_longer_renew_it(
    url: str, store: Store, clock: ManualClock
) -> None:
    """From 3.4.11 on they keep the lease's id and renew it; when they die, the slot is free after its time."""
    world = World(store)
    _, lease = begin(url, world, "prefect/3.8.8 (API 0.8.4)")

    clock.advance(290)
    assert ask(url, "POST", f"{ROOT}/leases/{lease}/renew", {"lease_duration": 300}).status == 204
    clock.advance(299)
    assert (store.write(free_unheld_slots), world.slots_in_use()) == (0, 1)
    clock.advance(2)
    assert world.slots_in_use() == 0
    assert ask(url, "POST", f"{ROOT}/leases/{lease}/renew").status == 410


def test_g7_the_slot_of_older_clients_lasts_until_the_run_ends(url: str, store: Store, clock: ManualClock) -> None:
    """They are told of no lease, for they would not renew it."""
    world = World(store)
    run, lease = begin(url, world, "prefect/3.4.10 (API 0.8.4)")

    clock.advance(100_000)
    assert (lease, store.write(free_unheld_slots), world.slots_in_use()) == (None, 0, 1)
    world.propose(run, "COMPLETED")
    assert world.slots_in_use() == 0
