"""Which runs workers are given, and who holds the slots."""

from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from headrace._internal.clock import ManualClock
from headrace.client.local import LocalClient
from headrace.exceptions import ObjectNotFound, ValidationFailed
from headrace.schemas import work_pools as pools
from headrace.schemas import work_queues as queues
from headrace.schemas.deployments import (
    GET_SCHEDULED_FLOW_RUNS_FOR_DEPLOYMENTS,
    Deployment,
    GetScheduledFlowRunsForDeployments,
)
from headrace.schemas.flow_runs import FlowRunPolicy
from tests.operations.deployments_world import deploy, make_pool, read, run_of
from tests.operations.runs_world import NOW, at, in_state
from tests.operations.runs_world import scheduled as due


def queued(api: LocalClient, queue: str = "default", **options: Any) -> Deployment:
    """A deployment whose runs wait in a queue of the pool `pool`."""
    return deploy(api, f"in {queue}", work_pool_name="pool", work_queue_name=queue, **options)


def given(api: LocalClient, **options: Any) -> list[str | None]:
    """Names of the runs that a worker of the pool `pool` is given."""
    body = pools.GetScheduledFlowRuns(**options)
    return [each.flow_run.name for each in api.call(pools.GET_SCHEDULED_FLOW_RUNS, name="pool", body=body)]


def change(api: LocalClient, queue: str | None = None, **changes: Any) -> None:
    """Change the pool `pool`, or a queue of it."""
    if queue is None:
        api.call(pools.UPDATE_WORK_POOL, name="pool", body=pools.WorkPoolUpdate(**changes))
    else:
        body = pools.WorkQueueUpdate(**changes)
        api.call(pools.UPDATE_WORK_QUEUE, work_pool_name="pool", name=queue, body=body)


def test_runs_come_by_priority_then_by_time(api: LocalClient) -> None:
    """The queue of the first priority first; those not due yet up to the moment that is named, if one is."""
    pool = make_pool(api)
    later, sooner = queued(api), queued(api, "urgent")
    change(api, "urgent", priority=1)
    for name, deployment, moment in (
        ("b", later, at()),
        ("a", later, at(hours=-1)),
        ("c", sooner, at()),
        ("d", later, at(hours=1)),
    ):
        run_of(api, deployment, name=name, state=due(moment))

    body = pools.GetScheduledFlowRuns(scheduled_before=at())
    found = api.call(pools.GET_SCHEDULED_FLOW_RUNS, name="pool", body=body)

    assert [each.flow_run.name for each in found] == ["c", "a", "b"]
    assert {each.work_pool_id for each in found} == {pool.id}
    assert [each.work_queue_id for each in found] == [sooner.work_queue_id, later.work_queue_id, later.work_queue_id]
    assert given(api, scheduled_before=at(hours=2)) == given(api) == ["c", "a", "b", "d"]
    assert given(api, scheduled_after=at(), work_queue_names=["default"]) == ["b", "d"]
    assert given(api, limit=2) == ["c", "a"]


def test_the_state_itself_is_left_out(api: LocalClient) -> None:
    """As the reference answers: type and name of the state are there, the state is not."""
    make_pool(api)
    run_of(api, queued(api))

    run = api.call(pools.GET_SCHEDULED_FLOW_RUNS, name="pool", body=pools.GetScheduledFlowRuns())[0].flow_run

    assert (run.state, run.state_type, run.state_name) == (None, "SCHEDULED", "Scheduled")


def test_runs_of_other_states_and_retries_in_their_own_process_are_left_alone(api: LocalClient) -> None:
    """Only what is scheduled and has no process is given."""
    make_pool(api)
    deployment = queued(api)
    run_of(api, deployment, name="pending", state=in_state("PENDING"))
    run_of(api, deployment, name="own process", empirical_policy=FlowRunPolicy(retry_type="in_process"))
    run_of(api, deployment, name="anew", empirical_policy=FlowRunPolicy(retry_type="reschedule"))

    assert given(api) == ["anew"]


def test_paused_pools_and_queues_give_nothing(api: LocalClient) -> None:
    """A paused queue is passed over; a paused pool gives nothing at all."""
    make_pool(api)
    for queue in ("default", "fast"):
        run_of(api, queued(api, queue), name=queue)

    change(api, "fast", is_paused=True)
    one = given(api)
    change(api, is_paused=True)

    assert (one, given(api)) == (["default"], [])


@pytest.mark.parametrize(
    ("pool_limit", "queue_limit", "found"), [(None, 1, 3), (2, None, 2), (3, 2, 3), (0, None, 0), (None, 0, 2)]
)
def test_g7_no_more_are_given_than_slots_are_free(
    api: LocalClient, pool_limit: int | None, queue_limit: int | None, found: int
) -> None:
    """Pending and running runs hold slots of their queue and their pool; cancelling ones do not."""
    make_pool(api, concurrency_limit=pool_limit)
    change(api, "default", concurrency_limit=queue_limit)
    first, second = queued(api), queued(api, "fast")
    run_of(api, first, state=in_state("CANCELLING"))
    for deployment in (first, first, second, second):
        run_of(api, deployment)

    assert len(given(api)) == found
    run_of(api, first, state=in_state("RUNNING"))
    left = len(given(api))
    assert left <= found
    if pool_limit:
        assert left == min(pool_limit - 1, 2 + (2 if queue_limit is None else queue_limit - 1))


def test_what_is_not_there_is_not_found(api: LocalClient) -> None:
    """Neither a pool, nor a queue of it; and a limit has its limits."""
    make_pool(api)
    with pytest.raises(ObjectNotFound):
        given(api, work_queue_names=["nope"])
    with pytest.raises(ValidationFailed):
        given(api, limit=500)
    for endpoint, body in (
        (pools.GET_SCHEDULED_FLOW_RUNS, pools.GetScheduledFlowRuns()),
        (pools.READ_WORK_POOL_CONCURRENCY_STATUS, pools.ReadWorkPoolConcurrencyStatus()),
    ):
        with pytest.raises(ObjectNotFound):
            api.call(endpoint, name="nope", body=body)
    with pytest.raises(ObjectNotFound):
        api.call(queues.READ_WORK_QUEUE_RUNS, id=uuid4(), body=queues.ReadWorkQueueRuns())


def test_asking_makes_queues_and_deployments_ready(api: LocalClient, clock: ManualClock) -> None:
    """When they were asked for last is noted, though not each time when that is often."""
    make_pool(api)
    deployment = queued(api)

    def polled() -> tuple[datetime | None, str | None]:
        queue = api.call(queues.READ_WORK_QUEUE, id=deployment.work_queue_id)
        return queue.last_polled, read(api, deployment).status

    before = polled()
    given(api)
    first = polled()
    clock.advance(30)
    given(api)

    assert (before, first) == ((None, "NOT_READY"), (NOW, "READY"))
    assert polled() == (at(seconds=30), "READY")


def test_a_queue_that_goes_on_is_ready_if_it_is_polled(api: LocalClient, clock: ManualClock) -> None:
    """Within the last minute, be it before the pause; else it is ready with the next poll."""
    make_pool(api)
    queued(api, "fast")

    def resumed() -> str | None:
        for paused in (True, False):
            change(api, "fast", is_paused=paused)
        return api.call(pools.READ_WORK_QUEUE, work_pool_name="pool", name="fast").status

    never = resumed()
    given(api)
    lately = resumed()
    clock.advance(61)

    assert (never, lately, resumed()) == ("NOT_READY", "READY", "NOT_READY")


def test_a_queue_gives_its_runs_to_agents(api: LocalClient) -> None:
    """By its id; it is healthy while it is asked and no run is late."""
    make_pool(api)
    deployment = queued(api, "fast")
    run_of(api, deployment, name="one")
    change(api, "fast", concurrency_limit=1)

    before = api.call(queues.READ_WORK_QUEUE_STATUS, id=deployment.work_queue_id)
    runs = api.call(queues.READ_WORK_QUEUE_RUNS, id=deployment.work_queue_id, body=queues.ReadWorkQueueRuns())
    after = api.call(queues.READ_WORK_QUEUE_STATUS, id=deployment.work_queue_id)

    assert ([run.name for run in runs], before.healthy, after.healthy) == (["one"], False, True)
    assert runs[0].state is not None
    change(api, "fast", is_paused=True)
    assert api.call(queues.READ_WORK_QUEUE_RUNS, id=deployment.work_queue_id, body=queues.ReadWorkQueueRuns()) == []


def test_deployments_give_their_runs_to_who_serves_them(api: LocalClient) -> None:
    """In the order of time, of these deployments alone; that makes them ready."""
    served, other = deploy(api), deploy(api, "other")
    run_of(api, served, name="b"), run_of(api, served, name="a", state=due(at(hours=-1))), run_of(api, other)
    body = GetScheduledFlowRunsForDeployments(deployment_ids=[served.id])

    runs = api.call(GET_SCHEDULED_FLOW_RUNS_FOR_DEPLOYMENTS, body=body)

    assert [run.name for run in runs] == ["a", "b"]
    assert all(run.state is not None and run.state.type == "SCHEDULED" for run in runs)
    assert (read(api, served).status, read(api, other).status) == ("READY", "NOT_READY")


def test_the_holders_of_slots_are_shown(api: LocalClient, clock: ManualClock) -> None:
    """By queue and for a pool as a whole, a page at a time."""
    make_pool(api, concurrency_limit=5)
    deployment = queued(api)
    for name in ("a", "b", "c"):
        run_of(api, deployment, name=name, state=in_state("RUNNING"))
        clock.advance(10)

    page = queues.ReadWorkQueueConcurrencyStatus(limit=2, page=2)
    of_queue = api.call(queues.READ_WORK_QUEUE_CONCURRENCY_STATUS, id=deployment.work_queue_id, body=page)
    of_pool = api.call(
        pools.READ_WORK_POOL_CONCURRENCY_STATUS, name="pool", body=pools.ReadWorkPoolConcurrencyStatus(flow_run_limit=1)
    )

    assert ([run.name for run in of_queue.flow_runs], of_queue.count, of_queue.pages) == (["c"], 3, 2)
    assert of_queue.flow_runs[0].time_in_current_state == 10
    assert (of_pool.active_slots, of_pool.concurrency_limit, of_pool.count) == (3, 5, 1)
    assert ([run.name for run in of_pool.queues[0].flow_runs], of_pool.queues[0].flow_run_count) == (["a"], 3)
