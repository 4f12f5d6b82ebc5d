"""Work pools, their queues and workers."""

from typing import Any
from uuid import uuid4

import pytest

from headrace._internal.clock import ManualClock
from headrace.client.local import LocalClient
from headrace.exceptions import Forbidden, ObjectAlreadyExists, ObjectNotFound, ValidationFailed
from headrace.schemas import work_pools as pools
from headrace.schemas import work_queues as queues
from headrace.schemas.filters import NamePrefix, StringIn, WorkerFilter, WorkerStatus, WorkPoolFilter, WorkQueueFilter
from headrace.schemas.filters import WorkerStatusInOrNot as StatusIn
from headrace.schemas.flow_runs import READ_FLOW_RUN
from headrace.schemas.work_pools import WorkPool, WorkQueueCreate, WorkQueueUpdate, WorkQueueWithStatus
from headrace.server.services import worker_health
from headrace.server.store.tables import WORKER
from headrace.server.store.transaction import Store
from headrace.settings import get_settings, temporary_settings
from tests.operations.deployments_world import deploy, make_pool, read, run_of
from tests.operations.runs_world import in_state, spoil

TEMPLATE = {"job_configuration": {"x": "{{ y }}"}, "variables": {"properties": {"y": {"type": "string"}}}}


def pool(api: LocalClient, name: str = "pool") -> WorkPool:
    """A pool as it is now."""
    return api.call(pools.READ_WORK_POOL, name=name)


def make_queue(api: LocalClient, name: str, **options: Any) -> WorkQueueWithStatus:
    """A queue of the pool `pool`."""
    return api.call(pools.CREATE_WORK_QUEUE, work_pool_name="pool", body=WorkQueueCreate(name=name, **options))


def update_queue(api: LocalClient, queue: str, **changes: Any) -> None:
    """Change a queue of the pool `pool`."""
    api.call(pools.UPDATE_WORK_QUEUE, work_pool_name="pool", name=queue, body=WorkQueueUpdate(**changes))


def priorities(api: LocalClient) -> dict[str, int]:
    """Queues of the pool `pool`, the first one first."""
    found = api.call(pools.READ_WORK_QUEUES, work_pool_name="pool", body=pools.ReadWorkQueues())
    return {queue.name: queue.priority for queue in found}


def beat(api: LocalClient, worker: str = "w", seconds: int | None = None) -> None:
    """A worker's sign of life."""
    body = pools.WorkerHeartbeat(name=worker, heartbeat_interval_seconds=seconds)
    api.call(pools.WORKER_HEARTBEAT, work_pool_name="pool", body=body)


def workers(api: LocalClient, **filters: Any) -> dict[str, WorkerStatus]:
    """Workers of the pool `pool`, by name."""
    body = pools.ReadWorkers(workers=WorkerFilter(**filters))
    return {each.name: each.status for each in api.call(pools.READ_WORKERS, work_pool_name="pool", body=body)}


def test_a_pool_has_a_default_queue(api: LocalClient) -> None:
    """It has the first priority; nobody is there to work yet."""
    made = make_pool(api, base_job_template=TEMPLATE)

    assert made == pool(api)
    assert (made.status, made.type, made.active_slots, made.base_job_template) == (
        "NOT_READY",
        "process",
        None,
        TEMPLATE,
    )
    queue = api.call(pools.READ_WORK_QUEUE, work_pool_name="pool", name="default")
    assert (queue.id, queue.priority, queue.status) == (made.default_queue_id, 1, "NOT_READY")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": "a/b"}, ValidationFailed),
        ({"name": ""}, ValidationFailed),
        ({"name": "Prefect-own"}, Forbidden),
        ({"base_job_template": {"job_configuration": {}}}, ValidationFailed),
        ({"base_job_template": TEMPLATE | {"variables": {}}}, ValidationFailed),
        ({"concurrency_limit": -1}, ValidationFailed),
        ({"name": "there"}, ObjectAlreadyExists),
    ],
)
def test_a_pool_that_is_not_valid_is_refused(api: LocalClient, options: dict[str, Any], error: type[Exception]) -> None:
    """Its name must be its own and fit for a path, and its template declare the variables it uses."""
    make_pool(api, "there")

    with pytest.raises(error):
        make_pool(api, **options)


def test_a_pool_is_changed_paused_and_deleted(api: LocalClient) -> None:
    """Only the given fields change; what named it names nothing once it is gone."""
    make_pool(api, description="d")
    deployment = deploy(api, work_pool_name="pool")
    run = run_of(api, deployment)

    def update(**changes: Any) -> WorkPool:
        api.call(pools.UPDATE_WORK_POOL, name="pool", body=pools.WorkPoolUpdate(**changes))
        return pool(api)

    limited = update(concurrency_limit=3)
    assert (limited.concurrency_limit, limited.description, limited.active_slots) == (3, "d", 0)
    assert update(is_paused=True).status == "PAUSED"
    assert update(is_paused=False, description=None).status == "NOT_READY"
    with pytest.raises(ValidationFailed):
        update(base_job_template={"nope": 1})
    api.call(pools.DELETE_WORK_POOL, name="pool")
    assert (read(api, deployment).work_pool_name, api.call(READ_FLOW_RUN, id=run.id).work_pool_name) == (None, None)
    for endpoint, arguments in ((pools.READ_WORK_POOL, {}), (pools.DELETE_WORK_POOL, {})):
        with pytest.raises(ObjectNotFound):
            api.call(endpoint, name="pool", **arguments)


def test_the_servers_own_pools_are_not_touched(api: LocalClient) -> None:
    """Names that begin with Prefect are reserved, whether there is such a pool or not."""
    with pytest.raises(Forbidden):
        api.call(pools.DELETE_WORK_POOL, name="prefect-x")
    with pytest.raises(Forbidden):
        api.call(pools.UPDATE_WORK_POOL, name="prefect-x", body=pools.WorkPoolUpdate(description="x"))


def test_pools_are_found(api: LocalClient) -> None:
    """By name and type."""
    make_pool(api, "a"), make_pool(api, "b", "docker")
    docker = WorkPoolFilter(type=StringIn(any_=["docker"]))

    listed = api.call(pools.READ_WORK_POOLS, body=pools.ReadWorkPools(work_pools=docker))

    assert [each.name for each in listed] == ["b"]
    assert api.call(pools.COUNT_WORK_POOLS, body=pools.CountWorkPools(work_pools=docker)) == 1
    assert len(api.call(pools.READ_WORK_POOLS, body=pools.ReadWorkPools(limit=1))) == 1


def test_slots_are_counted_by_pool(api: LocalClient) -> None:
    """A run that is scheduled holds none, and what runs in one pool holds none of another."""
    make_pool(api, concurrency_limit=5), make_pool(api, "other", concurrency_limit=5)
    deployment = deploy(api, work_pool_name="pool")
    run_of(api, deployment, state=in_state("PENDING")), run_of(api, deployment, state=in_state("RUNNING"))
    run_of(api, deployment)

    assert (pool(api).active_slots, pool(api, "other").active_slots) == (2, 0)


def test_priorities_are_unique(api: LocalClient) -> None:
    """A new queue takes the first free place; one that wants a taken place moves those behind it, to the next gap."""
    make_pool(api)
    make_queue(api, "q1"), make_queue(api, "q2", priority=1), make_queue(api, "q3", priority=9), make_queue(api, "q4")
    first = priorities(api)

    update_queue(api, "q4", priority=2)
    second = priorities(api)
    update_queue(api, "q4", priority=77)
    update_queue(api, "q1", priority=1)

    assert first == {"q2": 1, "default": 2, "q1": 3, "q4": 4, "q3": 9}
    assert second == {"q2": 1, "q4": 2, "default": 3, "q1": 4, "q3": 9}
    assert priorities(api) == {"q1": 1, "q2": 2, "default": 3, "q3": 9, "q4": 77}


def test_a_queue_is_changed_and_deleted(api: LocalClient) -> None:
    """Its name stays its own; its runs go to the default queue when it is deleted, which itself cannot be."""
    make_pool(api)
    queue = make_queue(api, "fast", concurrency_limit=2)
    run = run_of(api, deploy(api, work_pool_name="pool", work_queue_name="fast"))

    update_queue(api, "fast", is_paused=True, description="d")
    paused = api.call(queues.READ_WORK_QUEUE, id=queue.id)
    assert (paused.status, paused.description, paused.concurrency_limit, paused.active_slots) == ("PAUSED", "d", 2, 0)
    for name, error in (("a/b", ValidationFailed), ("default", ObjectAlreadyExists)):
        with pytest.raises(error):
            update_queue(api, "fast", name=name)
    with pytest.raises(ValidationFailed):
        api.call(pools.DELETE_WORK_QUEUE, work_pool_name="pool", name="default")
    with pytest.raises(ObjectAlreadyExists):
        make_queue(api, "fast")
    api.call(pools.DELETE_WORK_QUEUE, work_pool_name="pool", name="fast")
    assert api.call(READ_FLOW_RUN, id=run.id).work_queue_id == pool(api).default_queue_id
    with pytest.raises(ObjectNotFound):
        api.call(pools.READ_WORK_QUEUE, work_pool_name="pool", name="fast")


def test_queues_without_a_pool_are_in_one_of_their_own(api: LocalClient) -> None:
    """As agents knew them: found by name alone, and by id."""
    made = api.call(queues.CREATE_WORK_QUEUE, body=WorkQueueCreate(name="old"))
    make_pool(api)
    prefix = WorkQueueFilter(name=NamePrefix(startswith_=["ol"]))

    assert made.work_pool_name == "default-agent-pool"
    assert pool(api, "default-agent-pool").status is None
    assert api.call(queues.READ_WORK_QUEUE_BY_NAME, name="old") == made
    assert [q.name for q in api.call(queues.READ_WORK_QUEUES, body=pools.ReadWorkQueues(work_queues=prefix))] == ["old"]
    api.call(queues.UPDATE_WORK_QUEUE, id=made.id, body=WorkQueueUpdate(concurrency_limit=1))
    assert api.call(queues.READ_WORK_QUEUE, id=made.id).concurrency_limit == 1
    api.call(queues.DELETE_WORK_QUEUE, id=made.id)
    for endpoint in (queues.READ_WORK_QUEUE, queues.DELETE_WORK_QUEUE, queues.READ_WORK_QUEUE_STATUS):
        with pytest.raises(ObjectNotFound):
            api.call(endpoint, id=uuid4())


def test_a_worker_is_known_by_its_signs_of_life(api: LocalClient, clock: ManualClock) -> None:
    """The first one adds it and makes its pool ready; one that is deleted is forgotten."""
    make_pool(api)
    beat(api, seconds=7)
    clock.advance(5)
    beat(api, seconds=7), beat(api, "v")

    assert workers(api) == {"w": "ONLINE", "v": "ONLINE"}
    assert workers(api, status=StatusIn(not_any_=[WorkerStatus.ONLINE])) == {}
    assert pool(api).status == "READY"
    api.call(pools.DELETE_WORKER, work_pool_name="pool", name="v")
    assert set(workers(api)) == {"w"}
    with pytest.raises(ObjectNotFound):
        api.call(pools.DELETE_WORKER, work_pool_name="pool", name="v")
    with pytest.raises(ObjectNotFound):
        api.call(pools.WORKER_HEARTBEAT, work_pool_name="nope", body=pools.WorkerHeartbeat(name="w"))


def test_who_is_silent_for_too_long_is_offline(api: LocalClient, store: Store, clock: ManualClock) -> None:
    """Three heartbeats; then its pool is not ready either. Queues and deployments nobody asks for are not ready."""
    make_pool(api)
    deployment = deploy(api, work_pool_name="pool")
    beat(api, "quick", seconds=10), beat(api, "slow", seconds=60)
    api.call(pools.GET_SCHEDULED_FLOW_RUNS, name="pool", body=pools.GetScheduledFlowRuns())
    queue = pool(api).default_queue_id
    seen = []

    for seconds in (29, 3, 30, 150):
        clock.advance(seconds)
        worker_health.run_once(store, get_settings())
        asked = api.call(queues.READ_WORK_QUEUE, id=queue).status
        seen.append(
            (workers(api)["quick"], workers(api)["slow"], pool(api).status, asked, read(api, deployment).status)
        )

    on, off, ready, not_ready = WorkerStatus.ONLINE, WorkerStatus.OFFLINE, "READY", "NOT_READY"
    assert seen == [
        (on, on, ready, ready, ready),
        (off, on, ready, ready, ready),
        (off, on, ready, not_ready, not_ready),
        (off, off, not_ready, not_ready, not_ready),
    ]
    beat(api, "quick", seconds=10)
    assert (workers(api)["quick"], pool(api).status) == (on, ready)


def test_g13_a_worker_that_cannot_be_read_harms_only_itself(
    api: LocalClient, store: Store, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One whose row is spoilt is left out of lists and reported; the others are watched as before."""
    make_pool(api)
    beat(api, "spoilt"), beat(api, "well")
    spoilt = api.call(pools.READ_WORKERS, work_pool_name="pool", body=pools.ReadWorkers())
    spoil(store, WORKER, next(each.id for each in spoilt if each.name == "spoilt"), "status", "NONSENSE")
    clock.advance(1000)

    worker_health.run_once(store, get_settings())

    assert workers(api) == {"well": WorkerStatus.OFFLINE}
    assert "cannot be read" in caplog.text


def test_watching_workers_can_be_switched_off(api: LocalClient, store: Store, clock: ManualClock) -> None:
    """The setting that enables the service is heeded."""
    make_pool(api)
    beat(api)
    clock.advance(1000)

    with temporary_settings(**{"server.services.foreman.enabled": False}):
        assert worker_health.run_once(store, get_settings()) == 0
