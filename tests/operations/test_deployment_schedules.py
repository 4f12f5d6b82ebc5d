"""The schedules of deployments: what they are on the wire, and what becomes of them when they change."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from headrace._internal.clock import ManualClock
from headrace.client.local import LocalClient
from headrace.exceptions import ObjectAlreadyExists, ObjectNotFound, ValidationFailed
from headrace.schemas.deployments import (
    CREATE_DEPLOYMENT_SCHEDULES,
    DELETE_DEPLOYMENT_SCHEDULE,
    PAUSE_DEPLOYMENT,
    READ_DEPLOYMENT_SCHEDULES,
    SCHEDULE_DEPLOYMENT,
    UPDATE_DEPLOYMENT,
    UPDATE_DEPLOYMENT_SCHEDULE,
    Deployment,
    DeploymentSchedule,
    DeploymentScheduleUpdate,
    DeploymentUpdate,
    ScheduleDeployment,
)
from headrace.schemas.schedules import Schedule
from headrace.schemas.states import StateCreate, StateType
from headrace.server.operations.transitions import set_flow_run_state
from headrace.server.store.tables import DEPLOYMENT_SCHEDULE, FLOW_RUN
from headrace.server.store.transaction import Store
from tests.operations.deployments_world import DAILY, HOURLY, deploy, due_times, make_pool, read, run_of, scheduled
from tests.operations.runs_world import NOW, at, spoil


def by_slug(deployment: Deployment) -> dict[str | None, DeploymentSchedule]:
    """The schedules of a deployment, by slug."""
    return {each.slug: each for each in deployment.schedules}


def change(api: LocalClient, deployment: Deployment, one: DeploymentSchedule, /, **fields: Any) -> None:
    """Change one schedule, as an operator does."""
    body = DeploymentScheduleUpdate(**fields)
    api.call(UPDATE_DEPLOYMENT_SCHEDULE, id=deployment.id, schedule_id=one.id, body=body)


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (Schedule(cron="0 6 * * *"), Schedule(cron="0 6 * * *")),
        (Schedule(cron="@daily", timezone="Europe/Berlin", day_or=False),) * 2,
        (Schedule(interval=60), Schedule(interval=60, anchor_date=NOW, timezone="UTC")),
        (
            Schedule(interval=timedelta(days=1), anchor_date=datetime(2026, 1, 1), timezone="Asia/Tokyo"),
            Schedule(interval=86400, anchor_date=NOW, timezone="Asia/Tokyo"),
        ),
        (Schedule(rrule="FREQ=DAILY"), Schedule(rrule="DTSTART:20200101T000000\nFREQ=DAILY", timezone="UTC")),
        (Schedule(rrule="DTSTART:20260101T000000\nRRULE:FREQ=DAILY", timezone="Asia/Tokyo"),) * 2,
    ],
    ids=["cron", "cron with all", "interval", "days", "rule", "rule with all"],
)
def test_what_a_schedule_leaves_unsaid_is_filled_in(api: LocalClient, sent: Schedule, stored: Schedule) -> None:
    """As Prefect's server does it, so that a schedule means the same for ever."""
    assert [each.schedule for each in deploy(api, schedules=[scheduled(sent)]).schedules] == [stored]


def test_g3_deploying_the_same_again_changes_nothing(api: LocalClient, store: Store, clock: ManualClock) -> None:
    """A schedule that did not change keeps its identity, its anchor and its runs; with a slug or without."""
    plans = [scheduled(DAILY), scheduled(Schedule(interval=7200)), scheduled(HOURLY, "hourly")]
    first = deploy(api, schedules=plans)
    runs = select(FLOW_RUN.c.id, FLOW_RUN.c.expected_start_time)
    before = store.read(lambda tx: set(tx.execute(runs).all()))
    clock.advance(600)

    second = deploy(api, schedules=plans)

    assert {each.id for each in second.schedules} == {each.id for each in first.schedules}
    assert {each.schedule.anchor_date for each in second.schedules} == {
        each.schedule.anchor_date for each in first.schedules
    }
    assert before <= store.read(lambda tx: set(tx.execute(runs).all()))


def test_what_an_operator_paused_stays_paused(api: LocalClient) -> None:
    """Deploying the same schedule again does not set it going; a deploy that switches it off and on does as it says."""
    made = deploy(api, schedules=[scheduled(HOURLY, "hourly")])
    change(api, made, made.schedules[0], active=False)

    again = deploy(api, schedules=[scheduled(HOURLY, "hourly")])
    change(api, made, made.schedules[0], active=True)
    declared = [
        deploy(api, schedules=[scheduled(HOURLY, "hourly", active=active)]).schedules[0].active
        for active in (False, True)
    ]

    assert not again.schedules[0].active
    assert declared == [False, True]


def test_a_schedule_is_known_by_its_slug_and_by_the_one_it_replaces(api: LocalClient) -> None:
    """Its time may change, and its name; slugs may even change places."""
    first = by_slug(deploy(api, schedules=[scheduled(DAILY, "a"), scheduled(HOURLY, "b")]))

    moved = by_slug(deploy(api, schedules=[scheduled(HOURLY, "a"), scheduled(HOURLY, "b2", replaces="b")]))
    swapped = by_slug(deploy(api, schedules=[scheduled(HOURLY, "b2"), scheduled(DAILY, "a")]))

    assert (moved["a"].id, moved["b2"].id) == (first["a"].id, first["b"].id)
    assert (swapped["a"].id, swapped["b2"].id) == (first["a"].id, first["b"].id)


def test_a_deployment_is_updated_schedule_by_schedule(api: LocalClient) -> None:
    """An update finds schedules by slug, adds new ones and leaves the others alone; without a slug it is refused."""
    made = deploy(api, schedules=[scheduled(DAILY, "a", parameters={"x": 1}), scheduled(DAILY, "b")])

    def update(*schedules: DeploymentScheduleUpdate) -> dict[str | None, DeploymentSchedule]:
        api.call(UPDATE_DEPLOYMENT, id=made.id, body=DeploymentUpdate(schedules=list(schedules)))
        return by_slug(read(api, made))

    after = update(
        DeploymentScheduleUpdate(slug="a", active=False), DeploymentScheduleUpdate(slug="c", schedule=HOURLY)
    )
    renamed = update(DeploymentScheduleUpdate(slug="d", replaces="a", schedule=HOURLY))

    assert (after["a"].active, after["a"].parameters, after["b"].active) == (False, {"x": 1}, True)
    assert set(after) == {"a", "b", "c"}
    assert (renamed["d"].id, renamed["d"].schedule) == (after["a"].id, HOURLY)
    assert set(update()) == {"b", "c", "d"}
    for wrong in (DeploymentScheduleUpdate(active=False), DeploymentScheduleUpdate(slug="new", active=True)):
        with pytest.raises(ValidationFailed):
            update(wrong)


def test_schedules_are_added_changed_and_deleted(api: LocalClient, store: Store) -> None:
    """One by one; what a schedule made ahead goes with it."""
    made = deploy(api)
    added = api.call(CREATE_DEPLOYMENT_SCHEDULES, id=made.id, body=[scheduled(DAILY, "a"), scheduled(HOURLY)])

    change(api, made, added[0], schedule=HOURLY, slug="b", parameters={"x": 1})
    listed = {each.id: each for each in api.call(READ_DEPLOYMENT_SCHEDULES, id=made.id)}
    api.call(DELETE_DEPLOYMENT_SCHEDULE, id=made.id, schedule_id=added[1].id)
    left = due_times(store, made.id)

    assert (listed[added[0].id].slug, listed[added[0].id].schedule, len(listed)) == ("b", HOURLY, 2)
    assert left == [at(hours=hour) for hour in range(len(left))]
    api.call(DELETE_DEPLOYMENT_SCHEDULE, id=made.id, schedule_id=added[0].id)
    assert due_times(store, made.id) == []


def test_what_is_not_there_is_not_found(api: LocalClient) -> None:
    """Neither a deployment nor a schedule of another one."""
    made, other = deploy(api, schedules=[scheduled(DAILY)]), deploy(api, "other")
    calls: list[tuple[Any, dict[str, Any]]] = [
        (READ_DEPLOYMENT_SCHEDULES, {"id": uuid4()}),
        (CREATE_DEPLOYMENT_SCHEDULES, {"id": uuid4(), "body": []}),
        (DELETE_DEPLOYMENT_SCHEDULE, {"id": other.id, "schedule_id": made.schedules[0].id}),
        (UPDATE_DEPLOYMENT_SCHEDULE, {"id": made.id, "schedule_id": uuid4(), "body": DeploymentScheduleUpdate()}),
        (SCHEDULE_DEPLOYMENT, {"id": uuid4(), "body": ScheduleDeployment()}),
    ]
    for endpoint, arguments in calls:
        with pytest.raises(ObjectNotFound):
            api.call(endpoint, **arguments)


def test_schedules_without_slugs_are_replaced_by_an_update(api: LocalClient) -> None:
    """Nobody could say which of them is meant, so what is sent takes the place of all; the same one stays itself."""
    made = deploy(api, schedules=[scheduled(DAILY, "a"), scheduled(HOURLY), scheduled(Schedule(cron="5 * * * *"))])
    hourly = next(each for each in made.schedules if each.schedule == HOURLY)

    def update(*schedules: DeploymentScheduleUpdate) -> list[DeploymentSchedule]:
        api.call(UPDATE_DEPLOYMENT, id=made.id, body=DeploymentUpdate(schedules=list(schedules)))
        return read(api, made).schedules

    kept = update(DeploymentScheduleUpdate(schedule=HOURLY))
    assert [each.id for each in kept] == [hourly.id]
    assert update() == []
    assert [each.schedule for each in update(DeploymentScheduleUpdate(schedule=DAILY))] == [DAILY]
    with pytest.raises(ValidationFailed, match="say when it is due"):
        update(DeploymentScheduleUpdate(active=False))


def test_slugs_are_unique_in_a_deployment(api: LocalClient) -> None:
    """Two schedules cannot have the same one, however they come by it."""
    twice = [scheduled(DAILY, "a"), scheduled(HOURLY, "a")]
    with pytest.raises(ObjectAlreadyExists):
        deploy(api, schedules=twice)
    made = deploy(api, schedules=[scheduled(DAILY, "a"), scheduled(HOURLY, "b")])
    with pytest.raises(ObjectAlreadyExists):
        api.call(CREATE_DEPLOYMENT_SCHEDULES, id=made.id, body=twice[:1])
    with pytest.raises(ObjectAlreadyExists):
        change(api, made, by_slug(made)["b"], slug="a")


def test_runs_of_a_schedule_say_where_they_come_from(api: LocalClient, store: Store) -> None:
    """Tagged as made by a schedule, with its parameters over those of the deployment, and its name."""
    make_pool(api)
    made = deploy(
        api,
        work_pool_name="pool",
        tags=["t"],
        parameters={"a": 1, "b": 1},
        version="3",
        schedules=[scheduled(DAILY, "nights", parameters={"b": 2})],
    )

    run = store.read(lambda tx: tx.execute(select(FLOW_RUN).order_by(FLOW_RUN.c.expected_start_time)).first())

    assert run is not None
    assert (run.tags, run.parameters, run.deployment_version) == (["auto-scheduled", "t"], {"a": 1, "b": 2}, "3")
    assert (run.state_type, run.state_name, run.auto_scheduled) == ("SCHEDULED", "Scheduled", True)
    assert run.created_by == {"type": "SCHEDULE", "id": str(made.schedules[0].id), "display_value": "nights"}
    assert run.expected_start_time == run.next_scheduled_start_time == NOW
    assert (run.work_queue_id, run.work_queue_name) == (made.work_queue_id, "default")


def test_g3_a_run_that_has_begun_is_not_taken_back(api: LocalClient, store: Store) -> None:
    """A changed schedule takes back the runs nobody has claimed; a claimed one goes on, and is made only once."""
    made = deploy(api, schedules=[scheduled(HOURLY, "a")])
    claimed: UUID = store.read(
        lambda tx: tx.execute(select(FLOW_RUN.c.id).order_by(FLOW_RUN.c.expected_start_time).limit(1)).scalar_one()
    )
    store.write(lambda tx: set_flow_run_state(tx, claimed, StateCreate(type=StateType.PENDING), lease_seconds=30.0))

    deploy(api, schedules=[scheduled(DAILY, "a")])
    deploy(api, schedules=[scheduled(HOURLY, "a")])

    times = due_times(store, made.id)
    assert times == sorted(set(times))
    assert store.read(lambda tx: tx.execute(select(FLOW_RUN.c.id).where(FLOW_RUN.c.id == claimed)).one())


def test_g2_a_late_run_outlives_a_change_of_its_schedule(api: LocalClient, store: Store, clock: ManualClock) -> None:
    """What was due by the schedule as it was is still to be run; pausing the deployment takes it back."""
    made = deploy(api, schedules=[scheduled(HOURLY, "a")])
    clock.advance(1800)

    deploy(api, schedules=[scheduled(DAILY, "b")])
    after = due_times(store, made.id)
    api.call(PAUSE_DEPLOYMENT, id=made.id)

    assert after == [at(), at(days=1), at(days=2), at(days=3)]
    assert due_times(store, made.id) == []


def test_runs_are_made_for_a_window_on_request(api: LocalClient, store: Store) -> None:
    """From a moment to another, however far away; asking twice makes none twice."""
    made = deploy(api, schedules=[scheduled(HOURLY)])
    window = ScheduleDeployment(start_time=at(days=30), end_time=at(days=30, hours=4), min_runs=10)
    near = due_times(store, made.id)

    for _ in range(2):
        api.call(SCHEDULE_DEPLOYMENT, id=made.id, body=window)

    assert due_times(store, made.id) == [*near, *(at(days=30, hours=hour) for hour in range(5))]


def test_g13_a_broken_schedule_harms_only_itself(api: LocalClient, store: Store) -> None:
    """A deployment with one that cannot be read still can be, without it; deploying again mends it."""
    made = deploy(api, schedules=[scheduled(DAILY, "good"), scheduled(HOURLY, "bad")])
    spoil(store, DEPLOYMENT_SCHEDULE, by_slug(made)["bad"].id, "schedule", '{"nonsense": 1}')

    assert set(by_slug(read(api, made))) == {"good"}
    assert run_of(api, made).deployment_id == made.id
    mended = deploy(api, schedules=[scheduled(DAILY, "good"), scheduled(HOURLY, "bad")])
    assert by_slug(mended)["bad"].id == by_slug(made)["bad"].id


def test_s7_schedules_that_cost_too_much_are_refused(api: LocalClient) -> None:
    """A rule that is searched for in vain, and more schedules than anybody needs, are a 422 and not a long wait."""
    endless = Schedule(rrule="FREQ=SECONDLY;INTERVAL=7;BYSECOND=1;BYSETPOS=2")
    for schedules in ([scheduled(DAILY), scheduled(endless)], [scheduled(DAILY)] * 101):
        with pytest.raises(ValidationFailed):
            deploy(api, schedules=schedules)


def test_times_are_kept_with_their_zone(api: LocalClient, store: Store) -> None:
    """Six in the morning in Berlin is five o'clock in winter."""
    made = deploy(api, schedules=[scheduled(Schedule(cron="0 6 * * *", timezone="Europe/Berlin"))])

    assert due_times(store, made.id)[0] == datetime(2026, 1, 1, 5, tzinfo=UTC)


def test_a_schedule_has_no_more_runs_ahead_than_the_settings_allow(api: LocalClient) -> None:
    """Fifty by default, whichever way a schedule comes in."""
    made = deploy(api, paused=True, schedules=[scheduled(DAILY, slug="a", max_scheduled_runs=50)])
    known = read(api, made).schedules[0]

    with pytest.raises(ValidationFailed, match="at most 50"):
        deploy(api, "other", schedules=[scheduled(DAILY, max_scheduled_runs=51)])
    with pytest.raises(ValidationFailed, match="at most 50"):
        api.call(CREATE_DEPLOYMENT_SCHEDULES, id=made.id, body=[scheduled(DAILY, slug="b", max_scheduled_runs=51)])
    change = DeploymentScheduleUpdate(max_scheduled_runs=51)
    with pytest.raises(ValidationFailed, match="at most 50"):
        api.call(UPDATE_DEPLOYMENT_SCHEDULE, id=made.id, schedule_id=known.id, body=change)
