"""Many clients that take slots of the same limits at once, on PostgreSQL: no deadlock is met.  # G7, G16"""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from headrace.client.local import LocalClient
from headrace.exceptions import RateLimited
from headrace.server.services.leases import free_unheld_slots
from headrace.server.services.slots import run_once
from headrace.server.store import open_store
from headrace.server.store.tables import SLOT_LEASE
from headrace.server.store.transaction import Store, Tx
from headrace.settings import get_settings
from tests.operations.concurrency_world import Limits
from tests.operations.transitions_world import World, proposal
from tests.support import postgresql

pytestmark = pytest.mark.slow

CLIENTS, PAIRS, SIZE = 8, 10_000, 3
MOST_SECONDS = 50.0
"""A machine that is slow or busy stops there, with as many pairs as it has done."""
NAMES = [f"limit-{n}" for n in range(5)]


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Store]:
    """An empty store on PostgreSQL with a clock that runs."""
    opened = open_store(postgres_url)
    yield opened
    opened.close()
    postgresql.empty(postgres_url)


class Crowd:
    """What the clients do, and what they met."""

    def __init__(self, store: Store) -> None:
        self.store, self.limits, self.world = store, Limits(LocalClient(store)), World(store)
        self.met, self.most, self._counting = Counter[str](), 0, threading.Lock()
        self.end = time.monotonic() + MOST_SECONDS
        for name in NAMES:
            self.limits.make(name, SIZE)
        deployment = self.world.deployment(slots=SIZE)
        self.runs = [self.world.flow_run(proposal("SCHEDULED"), deployment_id=deployment) for _ in range(6)]

    def client(self, seed: int) -> None:
        """One client: again and again it takes something and gives it back."""
        chance = random.Random(seed)
        for step in itertools.count():
            if sum(self.met.values()) > 2 * PAIRS or time.monotonic() > self.end:
                break
            try:
                met = self._run(chance) if step % 10 == 0 else self._slots(chance)
            except Exception as error:  # whatever reaches a caller is what this is about
                met = repr(error)
            with self._counting:
                self.met[met] += 1
            if step % 50 == 0:
                self.store.write(free_unheld_slots)
                run_once(self.store, get_settings())
                self.most = max(self.most, *self.store.read(slots_of_each_limit), 0)

    def _slots(self, chance: random.Random) -> str:
        names, slots, holder = chance.sample(NAMES, chance.randint(1, 3)), chance.randint(1, 2), uuid4()
        while (lease := self._take(names, slots, holder)) is None:
            time.sleep(0.002)  # sooner than it is told: it has a place in line, which it must not lose
        if chance.random() < 0.2:
            self.limits.renew(lease)
        if chance.random() < 0.05:
            self.limits.change(chance.choice(names), limit=SIZE)
        self.limits.free(lease)
        return "served"

    def _take(self, names: list[str], slots: int, holder: UUID) -> UUID | None:
        try:
            return self.limits.take(*names, slots=slots, holder=holder)
        except RateLimited:
            with self._counting:
                self.met["told to wait"] += 1
            return None

    def _run(self, chance: random.Random) -> str:
        run: UUID = chance.choice(self.runs)
        self.world.propose(run, "PENDING", lease_seconds=60)
        self.world.propose(run, "SCHEDULED")
        return "moved"


def slots_of_each_limit(tx: Tx) -> list[int]:
    """How many slots of each limit are in use."""
    used = select(func.sum(SLOT_LEASE.c.slots)).where(SLOT_LEASE.c.until > tx.now).group_by(SLOT_LEASE.c.limit_id)
    return [int(one) for one in tx.execute(used).scalars()]


def test_g16_crowds_of_pairs_of_operations_meet_no_deadlock(postgres: Store) -> None:
    """Callers are served or told to wait, never an error; nothing is above its limit, and nothing is left."""
    crowd = Crowd(postgres)
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(crowd.client, range(CLIENTS)))

    assert set(crowd.met) == {"served", "moved", "told to wait"}
    assert crowd.most <= SIZE
    for run in crowd.runs:
        crowd.world.propose(run, "COMPLETED", force=True)
    assert postgres.read(slots_of_each_limit) == []
