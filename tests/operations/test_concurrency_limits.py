"""Concurrency limits: made, changed and deleted, their slots taken and given back, by name and by tag.  # G7"""

from uuid import UUID, uuid4

import pytest

from headrace._internal.clock import ManualClock
from headrace.client.local import LocalClient
from headrace.exceptions import ApiError, ObjectAlreadyExists, ObjectNotFound, RateLimited, ValidationFailed
from headrace.schemas import concurrency_limits as v1
from headrace.schemas import concurrency_limits_v2 as v2
from headrace.schemas.concurrency_limits_v2 import LimitMode
from headrace.server.services.leases import free_unheld_slots
from headrace.server.store.transaction import Store
from tests.operations.concurrency_world import Limits
from tests.operations.events_seen import events_of
from tests.operations.runs_world import in_state, make_flow, make_run


@pytest.fixture
def limits(api: LocalClient) -> Limits:
    """The calls about limits, on an empty store."""
    return Limits(api)


def test_a_limit_is_made_read_changed_and_deleted_and_each_is_told(limits: Limits, store: Store) -> None:
    """By id and by name; the events carry what the reference's carry."""
    made = limits.make(limit=3, active_slots=2)
    limits.change(limit=5, name="base")

    read = limits.api.call(v2.READ_CONCURRENCY_LIMIT_V2, id_or_name=str(made.id))
    assert (read.name, read.limit, read.active_slots, read.slot_decay_per_second) == ("base", 5, 2, 0.0)
    limits.api.call(v2.DELETE_CONCURRENCY_LIMIT_V2, id_or_name="base")
    with pytest.raises(ObjectNotFound):
        limits.used("base")
    told = events_of(store, "concurrency-limit", made.id)
    assert [event.event.rpartition(".")[2] for event in told] == ["created", "updated", "deleted"]
    assert told[1].payload == {"name": "base", "limit": 5, "active": True, "slot_decay_per_second": 0.0}


def test_names_are_unique(limits: Limits) -> None:
    """A second limit of a name is a conflict, also by renaming."""
    limits.make("a")
    limits.make("b")

    with pytest.raises(ObjectAlreadyExists):
        limits.make("a")
    with pytest.raises(ObjectAlreadyExists):
        limits.change("b", name="a")
    listed = limits.api.call(v2.READ_ALL_CONCURRENCY_LIMITS_V2, body=v1.ReadConcurrencyLimits(limit=1, offset=1))
    assert [limit.name for limit in listed] == ["b"]


def test_g7_slots_are_taken_up_to_the_limit_and_given_back(limits: Limits) -> None:
    """The next one is refused with 423 and told how long to wait; giving back twice changes nothing."""
    limits.make(limit=2)
    first = limits.take()
    limits.take()

    assert 0 < limits.refused(holder=uuid4()) < 30
    limits.free(first)
    limits.free(first)
    assert limits.used() == 1


def test_what_could_never_be_had_is_refused_at_once(limits: Limits) -> None:
    """More slots than there are, also of a limit of 0, and a rate limit without decay, are 422."""
    limits.make(limit=2)
    limits.make("none", limit=0)

    for ask in ({"slots": 3}, {"mode": LimitMode.RATE_LIMIT}):
        with pytest.raises(ValidationFailed):
            limits.take(**ask)
    with pytest.raises(ValidationFailed):
        limits.add("none")


def test_names_of_no_limit_and_inactive_limits_hold_nobody_up(limits: Limits) -> None:
    """They are passed over; the lease of nothing can be renewed all the same."""
    limits.make(limit=1, active=False)

    lease = limits.take("missing")
    limits.renew(lease)
    assert limits.add("missing") == []
    assert limits.add("db", slots=5) == ["db"]
    assert limits.used() == 0
    with pytest.raises(ObjectNotFound):
        limits.used("missing")


def test_g7_several_limits_are_taken_all_or_none(limits: Limits) -> None:
    """When one is full, none of the others is touched."""
    limits.make("a", limit=2)
    limits.make("b", limit=1)
    limits.take("b")

    limits.refused("a", "b", holder=uuid4())
    assert (limits.used("a"), limits.used("b")) == (0, 1)


def test_g7_a_lease_that_is_not_renewed_ends(limits: Limits, store: Store, clock: ManualClock) -> None:
    """Its slots are free from its end on, and renewing it then is refused with 410; the reaper leaves no row."""
    limits.make()
    kept, died = limits.take(lease_duration=60), uuid4()
    clock.advance(50)
    limits.renew(kept, 60)
    clock.advance(59)
    limits.refused(holder=died)
    clock.advance(2)

    with pytest.raises(ApiError) as refusal:
        limits.renew(kept)
    assert refusal.value.status == 410
    assert limits.used() == 0
    assert store.write(free_unheld_slots) == 1


def test_slots_without_a_lease_are_given_back_the_oldest_first(limits: Limits, clock: ManualClock) -> None:
    """`decrement` takes part of one, never from leases, and never below none."""
    limits.make(limit=10)
    lease = limits.take()
    limits.add(slots=3)
    clock.advance(100_000)
    limits.add(slots=2)

    limits.subtract(slots=4, occupancy_seconds=4)
    assert limits.used() == 1
    limits.subtract(slots=9)
    assert limits.used() == 0
    limits.free(lease)


def test_g7_a_limit_lowered_under_load_takes_no_slot_away_and_gives_none(limits: Limits) -> None:
    """Live leases stay; the next slot is had when so many were given back that one is free under the new limit."""
    limits.make(limit=3)
    leases = [limits.take() for _ in range(3)]
    limits.change(limit=1)

    limits.free(leases[0])
    limits.free(leases[1])
    assert limits.refused(holder=uuid4())
    limits.change(limit=2)
    assert limits.used() == 1


def test_setting_the_slots_in_use_takes_them_from_everybody(limits: Limits) -> None:
    """`active_slots` of an update takes the place of all leases."""
    limits.make(limit=3)
    limits.take(slots=2)

    limits.change(active_slots=0)
    assert limits.used() == 0
    limits.change(active_slots=3)
    limits.refused(holder=uuid4())
    limits.subtract(slots=3)
    assert limits.used() == 0


def test_g7_slots_of_a_rate_limit_come_back_by_themselves(limits: Limits, clock: ManualClock) -> None:
    """One slot each 1/decay seconds, one after the other, as measured on Prefect 3.8.8."""
    limits.make(limit=2, slot_decay_per_second=0.5)
    limits.add(slots=2, mode=LimitMode.RATE_LIMIT)

    with pytest.raises(RateLimited) as refusal:
        limits.add(mode=LimitMode.RATE_LIMIT)
    assert 1.5 < refusal.value.retry_after < 2.5
    clock.advance(1.1)
    assert limits.used() == 2
    clock.advance(2)
    assert limits.used() == 1
    limits.add(mode=LimitMode.RATE_LIMIT)
    clock.advance(10)
    assert limits.used() == 0


def test_g7_a_run_that_ends_holds_no_slots(limits: Limits, store: Store, clock: ManualClock) -> None:
    """What a client took for a flow run is given back when that has ended, whether its lease goes on or not."""
    limits.make(limit=2)
    run = make_run(limits.api, make_flow(limits.api), state=in_state("RUNNING"))
    limits.take(holder=run.id)
    assert store.write(free_unheld_slots) == 0

    over = make_run(limits.api, make_flow(limits.api), "over", state=in_state("COMPLETED"))
    limits.take(holder=over.id)
    store.write(free_unheld_slots)
    assert limits.used() == 1


class TestTags:
    """The older calls, about the limits of tags."""

    def make(self, api: LocalClient, limit: int = 1) -> v1.ConcurrencyLimit:
        """The limit of a tag."""
        return api.call(v1.CREATE_CONCURRENCY_LIMIT, body=v1.ConcurrencyLimitCreate(tag="gpu", concurrency_limit=limit))

    def read(self, api: LocalClient) -> v1.ConcurrencyLimit:
        """The limit of the tag as it stands."""
        return api.call(v1.READ_CONCURRENCY_LIMIT_BY_TAG, tag="gpu")

    def ask(self, task_run_id: UUID, *names: str) -> v1.ChangeTagSlots:
        """What a task run asks for."""
        return v1.ChangeTagSlots(names=list(names or ("gpu",)), task_run_id=task_run_id)

    def test_the_limit_of_a_tag_is_a_limit_by_name(self, api: LocalClient) -> None:
        """`tag:<tag>`; making it again changes it; another limit is not found by these calls."""
        made = self.make(api)
        other = Limits(api).make()

        assert self.make(api, 2).id == made.id
        assert api.call(v2.READ_CONCURRENCY_LIMIT_V2, id_or_name="tag:gpu").limit == 2
        with pytest.raises(ObjectNotFound):
            api.call(v1.READ_CONCURRENCY_LIMIT, id=other.id)
        listed = api.call(v1.READ_CONCURRENCY_LIMITS, body=v1.ReadConcurrencyLimits())
        assert [limit.tag for limit in listed] == ["gpu"]
        api.call(v1.DELETE_CONCURRENCY_LIMIT, id=made.id)
        with pytest.raises(ObjectNotFound):
            api.call(v1.DELETE_CONCURRENCY_LIMIT_BY_TAG, tag="gpu")

    def test_g7_task_runs_take_and_give_back_slots_and_are_named(self, api: LocalClient) -> None:
        """Asking again takes no second one; who has none gives back none."""
        self.make(api)
        one, two = uuid4(), uuid4()
        api.call(v1.INCREMENT_CONCURRENCY_LIMITS_V1, body=self.ask(one))
        api.call(v1.INCREMENT_CONCURRENCY_LIMITS_V1, body=self.ask(one, "gpu", "missing"))

        assert self.read(api).active_slots == [one]
        with pytest.raises(RateLimited) as refusal:
            api.call(v1.INCREMENT_CONCURRENCY_LIMITS_V1, body=self.ask(two))
        assert (refusal.value.status, refusal.value.retry_after) == (423, 10)
        api.call(v1.DECREMENT_CONCURRENCY_LIMITS_V1, body=self.ask(two))
        assert self.read(api).active_slots == [one]
        api.call(v1.DECREMENT_CONCURRENCY_LIMITS_V1, body=self.ask(one))
        assert self.read(api).active_slots == []

    def test_a_limit_of_zero_lets_nobody_run(self, api: LocalClient) -> None:
        """It is refused without a time to come again."""
        self.make(api, 0)

        with pytest.raises(ApiError) as refusal:
            api.call(v1.INCREMENT_CONCURRENCY_LIMITS_V1, body=self.ask(uuid4()))
        assert refusal.value.status == 423
        assert not isinstance(refusal.value, RateLimited)

    def test_a_reset_takes_the_slots_from_all_and_may_give_them_to_others(self, api: LocalClient) -> None:
        """`slot_override` names the task runs that hold them from now on."""
        self.make(api, 2)
        api.call(v1.INCREMENT_CONCURRENCY_LIMITS_V1, body=self.ask(uuid4()))
        named = [uuid4(), uuid4()]

        api.call(v1.RESET_CONCURRENCY_LIMIT_BY_TAG, tag="gpu", body=v1.ResetConcurrencyLimit(slot_override=named))
        assert set(self.read(api).active_slots) == set(named)
        api.call(v1.RESET_CONCURRENCY_LIMIT_BY_TAG, tag="gpu")
        assert self.read(api).active_slots == []

    def test_g7_a_task_run_nobody_knows_of_holds_its_slot_for_ten_minutes(
        self, api: LocalClient, store: Store, clock: ManualClock
    ) -> None:
        """Its record may be on its way; after that time the slot has leaked, and is freed."""
        self.make(api)
        api.call(v1.INCREMENT_CONCURRENCY_LIMITS_V1, body=self.ask(uuid4()))

        assert store.write(free_unheld_slots) == 0
        clock.advance(601)
        assert store.write(free_unheld_slots) == 1
