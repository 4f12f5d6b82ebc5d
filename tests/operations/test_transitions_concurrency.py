"""Many clients at once, on both databases: nobody meets an error, no attempt has two holders, no limit is passed."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from headrace.schemas.filters import FlowRunFilter, IdInOrNot
from headrace.schemas.flow_runs import BulkSetFlowRunState
from headrace.schemas.leases import RenewRunLeases, RunLease
from headrace.schemas.states import SetStateStatus, StateType
from headrace.server.operations.leases import renew_run_leases
from headrace.server.operations.states import bulk_set_flow_run_state
from headrace.server.services import cancelling, late_runs, paused, pending
from headrace.server.services.leases import Reaper
from headrace.server.store.tables import SLOT_LEASE
from headrace.server.store.transaction import Store, Tx
from headrace.settings import get_settings
from tests.operations.transitions_world import World, proposal

CLIENTS, STEPS, SLOTS = 8, 40, 2
TYPES = list(StateType)


class Crowd:
    """Runs with parents, children, tags and limits, and what clients do to them at random."""

    def __init__(self, world: World) -> None:
        self.world, self.claims, self.twice = world, set[tuple[UUID, int]](), list[tuple[UUID, int]]()
        self.most, self._counting = 0, threading.Lock()
        deployments = [world.deployment(slots=SLOTS), world.deployment(slots=SLOTS), None]
        world.limit("tag:t", SLOTS)
        parents = [world.flow_run(proposal("SCHEDULED"), deployment_id=id) for id in deployments for _ in range(3)]
        self.tasks = [world.task_run(flow_run_id=id, tags=["t"]) for id in parents for _ in range(2)]
        self.runs = parents + [world.flow_run(parent_task_run_id=id) for id in self.tasks[::2]]

    def client(self, seed: int) -> None:
        """One client: so many steps, chosen by its seed."""
        chance, reaper = random.Random(seed), Reaper(0.05)
        steps = [self._claim, self._propose, self._propose, self._propose_task, self._renew, self._bulk]
        for _ in range(STEPS):
            if chance.random() < 0.15:
                chance.choice([reaper, cancelling, late_runs, paused, pending]).run_once(  # type: ignore[attr-defined]
                    self.world.store, get_settings()
                )
            else:
                chance.choice(steps)(chance)
            self.most = max(self.most, *self.world.store.read(_slots_of_each_limit), 0)

    def _claim(self, chance: random.Random) -> None:
        run_id = chance.choice(self.runs)
        answer = self.world.propose(run_id, chance.choice(["PENDING", "RUNNING"]), lease_seconds=0.2)
        if answer.status is SetStateStatus.ACCEPT:
            with self._counting:
                if (run_id, answer.epoch) in self.claims:
                    self.twice.append((run_id, answer.epoch))
                self.claims.add((run_id, answer.epoch))

    def _propose(self, chance: random.Random) -> None:
        self.world.propose(chance.choice(self.runs), chance.choice(TYPES), force=chance.random() < 0.3)

    def _propose_task(self, chance: random.Random) -> None:
        self.world.propose_task(chance.choice(self.tasks), proposal(chance.choice(TYPES)), chance.random() < 0.3)

    def _renew(self, chance: random.Random) -> None:
        leases = [RunLease(id=id, epoch=self.world.run(id).epoch) for id in chance.sample(self.runs, 3)]
        self.world.store.write(lambda tx: renew_run_leases(tx, RenewRunLeases(leases=leases)))

    def _bulk(self, chance: random.Random) -> None:
        found = FlowRunFilter(id=IdInOrNot(any_=chance.sample(self.runs, 5)))
        body = BulkSetFlowRunState(flow_runs=found, state=proposal(chance.choice(TYPES)))
        self.world.store.write(lambda tx: bulk_set_flow_run_state(tx, body))


def _slots_of_each_limit(tx: Tx) -> list[int]:
    live: Any = select(func.count()).where(SLOT_LEASE.c.until > tx.now).group_by(SLOT_LEASE.c.limit_id)
    return list(tx.execute(live).scalars())


@pytest.fixture
def crowd(store: Store) -> Crowd:
    """Runs on the database under test."""
    return Crowd(World(store))


def test_g4_g7_g16_a_crowd_meets_no_error_and_breaks_nothing(crowd: Crowd) -> None:
    """Eight clients that change the same runs in every way at once get answers, never an error."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(crowd.client, range(CLIENTS)))

    assert crowd.claims
    assert crowd.twice == []
    assert 0 < crowd.most <= SLOTS
