"""The scheduler: every scheduled time yields one run, whoever makes it and whatever changes meanwhile."""

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, update

from headrace._internal.clock import ManualClock
from headrace.client.local import LocalClient
from headrace.schedules.occurrences import occurrences
from headrace.schemas.deployments import (
    DELETE_DEPLOYMENT,
    PAUSE_DEPLOYMENT,
    RESUME_DEPLOYMENT,
    Deployment,
)
from headrace.schemas.schedules import Schedule
from headrace.server.operations.future_runs import Plan, horizon, insert_runs, plan
from headrace.server.rules.scheduling import Horizon, due_ahead, next_look
from headrace.server.services import scheduler
from headrace.server.store import open_store
from headrace.server.store.tables import DEPLOYMENT_SCHEDULE, FLOW_RUN
from headrace.server.store.transaction import Store
from headrace.settings import get_settings, temporary_settings
from tests.operations.deployments_world import DAILY, HOURLY, deploy, due_times, scheduled
from tests.operations.runs_world import at, spoil

MINUTE = Schedule(interval=60, anchor_date=datetime(2026, 1, 1, tzinfo=UTC))
BERLIN = Schedule(cron="30 * * * *", timezone="Europe/Berlin")


def turn(store: Store, remembered: dict[object, object] | None = None) -> int:
    """One turn of a scheduler; one that remembers nothing looks at everything."""
    return scheduler.run_once(store, get_settings(), remembered)  # type: ignore[arg-type]


def planned(store: Store, deployment: Deployment) -> Plan:
    """What a scheduler reads and plans before it writes."""
    made = store.read(lambda tx: plan(tx, deployment.id, horizon()))
    assert made is not None
    return made


def drop_runs(store: Store) -> None:
    """Delete all runs, so that a scheduler has to make them."""
    store.write(lambda tx: tx.execute(delete(FLOW_RUN)))


def test_runs_are_made_as_far_ahead_as_the_settings_say(api: LocalClient, store: Store) -> None:
    """At least three, at least an hour ahead, and nothing beyond a hundred days."""
    every_minute = deploy(api, "minute", schedules=[scheduled(MINUTE)])
    daily = deploy(api, "daily", schedules=[scheduled(DAILY)])
    yearly = deploy(api, "yearly", schedules=[scheduled(Schedule(cron="0 0 1 3 *"))])

    assert due_times(store, every_minute.id)[-1] == at(hours=1)
    assert due_times(store, daily.id) == [at(days=day) for day in range(3)]
    assert due_times(store, yearly.id) == [datetime(2026, 3, 1, tzinfo=UTC)]


def test_the_scheduler_keeps_runs_coming(api: LocalClient, store: Store, clock: ManualClock) -> None:
    """Turn by turn there are runs for the next hour; no time is left out and none comes twice."""
    made = deploy(api, schedules=[scheduled(MINUTE), scheduled(DAILY)])
    remembered: dict[object, object] = {}

    for _ in range(90):
        clock.advance(60)
        turn(store, remembered)

    times = Counter(due_times(store, made.id))
    assert [moment for moment in times if moment <= at(minutes=150)] == [at(minutes=minute) for minute in range(151)]
    assert {moment: count for moment, count in times.items() if count > 1} == {at(): 2}


def test_a_turn_without_need_writes_nothing(api: LocalClient, store: Store, clock: ManualClock) -> None:
    """What has runs enough is not even looked at, until it may need more; a change of its schedules is seen at once."""
    made = deploy(api, schedules=[scheduled(HOURLY)])
    remembered: dict[object, object] = {}
    clock.advance(60)
    turn(store, remembered)
    look = remembered[made.id]
    drop_runs(store)
    clock.advance(5)

    assert turn(store, remembered) == 0
    assert remembered[made.id] == look
    assert turn(store) > 0
    deploy(api, schedules=[scheduled(DAILY)])
    turn(store, remembered)
    assert remembered[made.id] != look


def test_g3_two_schedulers_make_one_run(api: LocalClient, store: Store) -> None:
    """Both plan, then both insert: an occurrence has one key, and a key one run."""
    made = deploy(api, schedules=[scheduled(HOURLY), scheduled(BERLIN)])
    drop_runs(store)
    first, second = planned(store, made), planned(store, made)

    inserted = [store.write(lambda tx, each=each: insert_runs(tx, each)) for each in (first, second)]

    assert inserted == [len(first.wanting), 0]
    assert len(due_times(store, made.id)) == len(first.wanting)


def test_g3_a_slow_scheduler_inserts_nothing_of_a_schedule_that_is_gone(api: LocalClient, store: Store) -> None:
    """A redeploy, a pause and a deletion that come between reading and writing leave it without effect."""
    for number, between in enumerate((redeploy, pause, remove)):
        made = deploy(api, f"d{number}", schedules=[scheduled(HOURLY)])
        drop_runs(store)
        slow = planned(store, made)
        between(api, made)
        kept = due_times(store, made.id)

        inserted = store.write(lambda tx, slow=slow: insert_runs(tx, slow))

        assert inserted == 0
        assert due_times(store, made.id) == kept


def redeploy(api: LocalClient, deployment: Deployment) -> None:
    """Give a deployment another schedule."""
    deploy(api, deployment.name, schedules=[scheduled(DAILY)])


def pause(api: LocalClient, deployment: Deployment) -> None:
    """Pause a deployment."""
    api.call(PAUSE_DEPLOYMENT, id=deployment.id)


def remove(api: LocalClient, deployment: Deployment) -> None:
    """Delete a deployment."""
    api.call(DELETE_DEPLOYMENT, id=deployment.id)


def test_paused_and_inactive_schedules_make_no_runs(api: LocalClient, store: Store) -> None:
    """Nor does a scheduler that is switched off."""
    paused = deploy(api, "paused", paused=True, schedules=[scheduled(HOURLY)])
    inactive = deploy(api, "inactive", schedules=[scheduled(HOURLY, active=False)])
    active = deploy(api, "active", schedules=[scheduled(HOURLY)])
    drop_runs(store)

    with temporary_settings(**{"server.services.scheduler.enabled": False}):
        assert turn(store) == 0
    turn(store)

    assert due_times(store, paused.id) == due_times(store, inactive.id) == []
    assert due_times(store, active.id) != []


def test_a_schedule_may_have_its_own_bound(api: LocalClient, store: Store, clock: ManualClock) -> None:
    """With `max_scheduled_runs=1` there is one run ahead, and the next one is made when its time has come."""
    made = deploy(api, schedules=[scheduled(HOURLY, max_scheduled_runs=1)])
    first = due_times(store, made.id)

    clock.advance(1)
    turn(store)

    assert first == [at()]
    assert due_times(store, made.id) == [at(), at(hours=1)]


def test_g13_a_broken_schedule_does_not_stop_the_others(
    api: LocalClient, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """One among many that was planted in the database, unreadable or without sense, is reported; the others go on."""
    made = [deploy(api, f"d{number}", schedules=[scheduled(HOURLY)]) for number in range(6)]
    for broken, value in zip(
        made, ('{"nonsense": 1}', '{"cron": "61 * * * *"}', '{"rrule": "FREQ=NEVER"}', "[]"), strict=False
    ):
        spoil(store, DEPLOYMENT_SCHEDULE, broken.schedules[0].id, "schedule", value)
    drop_runs(store)

    turn(store)

    assert [bool(due_times(store, each.id)) for each in made] == [False, False, False, False, True, True]
    assert sum(str(each.schedules[0].id) in caplog.text for each in made) >= 2


def test_g3_a_clock_that_jumps_makes_no_run_twice(api: LocalClient, store: Store, clock: ManualClock) -> None:
    """Back and forth by hours, over the change to summer time too, each time of the clock is due once."""
    clock.advance((datetime(2026, 3, 28, 12, tzinfo=UTC) - clock.now()).total_seconds())
    made = deploy(api, schedules=[scheduled(BERLIN)])

    for jump in (5400, -7200, 36000, -3600, 50000, -50000, 90000):
        clock.advance(jump)
        turn(store)

    times = due_times(store, made.id)
    assert len(times) == len(set(times))
    assert set(times) <= {one.time for one in occurrences(BERLIN, times[0], times[-1])}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, ManualClock]]:
    """A store and its clock for many small histories, each with deployments of its own."""
    clock = ManualClock()
    path: Path = tmp_path_factory.mktemp("scheduler")
    store = open_store(f"sqlite:///{path}/headrace.db", clock)
    yield store, clock
    store.close()


SCHEDULES = {
    "a": Schedule(cron="*/30 * * * *"),
    "b": Schedule(cron="15 * * * *", timezone="America/New_York"),
    "c": Schedule(interval=2700, anchor_date=datetime(2026, 1, 1, tzinfo=UTC)),
    "d": Schedule(rrule="FREQ=HOURLY;INTERVAL=2", timezone="Europe/Berlin"),
}


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    schedules=st.lists(st.sampled_from(sorted(SCHEDULES)), min_size=1, max_size=2, unique=True),
)
def test_g3_any_history_yields_one_run_for_each_time(
    shared: tuple[Store, ManualClock], seed: int, schedules: list[str]
) -> None:
    """Two schedulers that read early and write late, redeploys, pauses and the clock in any order: afterwards there is
    one run for each time since the last change, and never two for one.
    """
    store, clock = shared
    chance, api = random.Random(seed), LocalClient(store)
    name = f"history {seed} {' '.join(schedules)}"
    made = deploy(api, name, schedules=[scheduled(SCHEDULES[slug], slug) for slug in schedules])
    waiting: list[Plan] = []
    wanted = list(schedules)

    for _ in range(25):
        match chance.choice(["read", "read", "write", "write", "deploy", "pause", "clock", "clock"]):
            case "read":
                waiting.append(planned(store, made))
            case "write" if waiting:
                late = waiting.pop(chance.randrange(len(waiting)))
                store.write(lambda tx, late=late: insert_runs(tx, late))
            case "deploy":
                wanted = chance.sample(sorted(SCHEDULES), chance.randint(1, 3))
                deploy(api, name, schedules=[scheduled(SCHEDULES[slug], slug) for slug in wanted])
            case "pause":
                api.call(PAUSE_DEPLOYMENT, id=made.id)
                api.call(RESUME_DEPLOYMENT, id=made.id)
            case "clock":
                clock.advance(chance.uniform(1, 3000))
    for late in waiting:
        store.write(lambda tx, late=late: insert_runs(tx, late))
    turn(store)

    keys = select(FLOW_RUN.c.idempotency_key, FLOW_RUN.c.expected_start_time).where(FLOW_RUN.c.deployment_id == made.id)
    rows = store.read(lambda tx: tx.execute(keys).all())
    ahead = Counter(row.expected_start_time for row in rows if row.expected_start_time >= clock.now())
    expected = Counter(
        one.time
        for slug in wanted
        for one in occurrences(SCHEDULES[slug], clock.now(), clock.now() + timedelta(hours=1))
    )
    assert len({row.idempotency_key for row in rows}) == len(rows)
    assert {moment: ahead[moment] for moment in expected} == dict(expected)
    deploy(api, name)


def test_g3_a_redeploy_and_a_scheduler_may_collide(api: LocalClient, store: Store) -> None:
    """Threads that redeploy and schedule at once leave exactly the runs of the last deploy."""
    made = deploy(api, schedules=[scheduled(HOURLY, "a")])

    def deploy_at(number: int) -> None:
        deploy(api, schedules=[scheduled(Schedule(cron=f"{number} * * * *"), "a")])

    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(deploy_at, number) for number in range(1, 12)]
        work += [pool.submit(turn, store) for _ in range(12)]
        for each in work:
            each.result()
    deploy(api, schedules=[scheduled(Schedule(cron="59 * * * *"), "a")])

    times = due_times(store, made.id)
    assert {moment.minute for moment in times} == {59}
    assert len(times) == len(set(times))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([*SCHEDULES.values(), DAILY, Schedule(cron="0 0 1 * *"), Schedule(interval=7, anchor_date=at())]),
    st.integers(0, 5),
    st.integers(1, 30),
    st.integers(0, 7200),
    st.one_of(st.none(), st.integers(1, 4)),
)
def test_a_schedule_is_looked_at_before_it_runs_short(
    schedule: Schedule, least: int, most: int, near: int, own: int | None
) -> None:
    """Until the moment that is said, the runs it has are those it should have, or it may have no more."""
    ahead = Horizon(least=least, most=most, near=timedelta(seconds=near), far=timedelta(days=40))
    has = due_ahead(schedule, at(), ahead, own)

    look = next_look(has, at(), ahead, own)

    assert at() <= look <= at(minutes=10)
    moment = max(at(), look - timedelta(milliseconds=1))
    wants = due_ahead(schedule, moment, ahead, own)
    missing = [one for one in wants if one not in has]
    assert not missing or look == at() or own is not None or len(has) >= most


def test_a_changed_row_is_not_mistaken_for_an_old_one(api: LocalClient, store: Store) -> None:
    """A schedule planted by hand without a new version is found when its deployment is looked at again."""
    made = deploy(api, schedules=[scheduled(DAILY)])
    row = update(DEPLOYMENT_SCHEDULE).where(DEPLOYMENT_SCHEDULE.c.deployment_id == made.id)
    store.write(lambda tx: tx.execute(row.values(schedule=HOURLY)))

    assert turn(store) > 0
