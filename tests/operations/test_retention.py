"""Flow runs that ended long ago go with all that belongs to them; so does what refers to things that are gone."""

import threading
from collections.abc import Iterator
from typing import Any, get_args
from uuid import UUID

import pytest
from msgspec.structs import replace
from sqlalchemy import Table, func, select, text

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.exceptions import ObjectNotFound
from headrace.schemas.artifacts import CREATE_ARTIFACT, READ_LATEST_ARTIFACT, Artifact, ArtifactCreate
from headrace.schemas.flow_runs import (
    CREATE_FLOW_RUN_INPUT,
    DELETE_FLOW_RUN,
    SET_FLOW_RUN_STATE,
    CreateFlowRunInput,
    FlowRun,
)
from headrace.schemas.flows import Flow
from headrace.schemas.logs import CREATE_LOGS, LogCreate
from headrace.schemas.task_runs import SET_TASK_RUN_STATE
from headrace.server.services import flow_run_retention, orphans, vacuum
from headrace.server.store.tables import (
    ARTIFACT,
    ARTIFACT_COLLECTION,
    FLOW_RUN,
    FLOW_RUN_INPUT,
    FLOW_RUN_STATE,
    FLOW_RUN_TAG,
    LOG,
    TASK_RUN,
    TASK_RUN_STATE,
    TASK_RUN_TAG,
)
from headrace.server.store.tables.types import Id
from headrace.server.store.transaction import Store
from headrace.settings import Settings, get_settings
from headrace.settings.services import Kind
from tests.operations.runs_world import at, make_flow, make_run, make_task_run

CONTENTS = (
    FLOW_RUN,
    FLOW_RUN_STATE,
    FLOW_RUN_INPUT,
    FLOW_RUN_TAG,
    TASK_RUN,
    TASK_RUN_STATE,
    TASK_RUN_TAG,
    LOG,
    ARTIFACT,
)
DAY = 86_400.0
KEPT = 90 * DAY


def deleting(*kinds: str, **changes: Any) -> Settings:
    """Settings by which these kinds are deleted."""
    return saying(enabled=list(kinds), **changes)


def saying(**changes: Any) -> Settings:
    """Settings that say something else about what is deleted."""
    settings = get_settings()
    services = settings.server.services
    services = replace(services, db_vacuum=replace(services.db_vacuum, **changes))
    return replace(settings, server=replace(settings.server, services=services))


def count(store: Store, table: Table) -> int:
    """How many rows a table has."""
    return store.read(lambda tx: int(tx.execute(select(func.count()).select_from(table)).scalar_one()))


def left(store: Store) -> set[str]:
    """The names of the flow runs that are there."""
    return set(store.read(lambda tx: tx.execute(select(FLOW_RUN.c.name)).scalars().all()))


def end(api: LocalClient, run: FlowRun, type: str = "COMPLETED") -> FlowRun:
    """End a run."""
    api.call(SET_FLOW_RUN_STATE, id=run.id, body={"state": {"type": type}, "force": True})
    return run


def full_run(api: LocalClient, flow: Flow, name: str, tasks: int = 2, lines: int = 3, **options: Any) -> FlowRun:
    """A run with an input, task runs, log lines and an artifact."""
    run = make_run(api, flow, name, tags=["t"], **options)
    api.call(CREATE_FLOW_RUN_INPUT, id=run.id, body=CreateFlowRunInput(key="k", value="1", sender=None))
    for number in range(tasks):
        task = make_task_run(api, run, str(number), tags=["t"])
        api.call(SET_TASK_RUN_STATE, id=task.id, body={"state": {"type": "COMPLETED"}, "force": True})
    line = LogCreate(name="n", level=20, message="m", timestamp=at(), flow_run_id=run.id)
    api.call(CREATE_LOGS, body=[line] * lines)
    artifact(api, "report", run)
    return run


def artifact(api: LocalClient, key: str, run: FlowRun | None = None) -> Artifact:
    """An artifact, of a run or of none."""
    return api.call(CREATE_ARTIFACT, body=ArtifactCreate(key=key, data=1, flow_run_id=run.id if run else None))


def test_old_runs_go_with_all_that_belongs_to_them(store: Store, api: LocalClient, clock: ManualClock) -> None:
    """Young ones, and those that have not ended, stay; by default nothing is deleted."""
    flow = make_flow(api)
    end(api, full_run(api, flow, "old"))
    full_run(api, flow, "open")
    clock.advance(KEPT - DAY)
    end(api, full_run(api, flow, "young"))
    before = {table.name: count(store, table) for table in CONTENTS}
    clock.advance(2 * DAY)

    assert flow_run_retention.run_once(store, get_settings()) == 0
    assert left(store) == {"old", "open", "young"}
    assert flow_run_retention.run_once(store, deleting("flow_runs")) == 1
    assert flow_run_retention.run_once(store, deleting("flow_runs")) == 0
    assert left(store) == {"open", "young"}
    assert {name: number - before[name] for name, number in ((t.name, count(store, t)) for t in CONTENTS)} == {
        "flow_run": -1,
        "flow_run_state": -2,
        "flow_run_input": -1,
        "flow_run_tag": -1,
        "task_run": -2,
        "task_run_state": -4,
        "task_run_tag": -2,
        "log": -3,
        "artifact": -1,
    }


@pytest.mark.parametrize("deep", [False, True])
def test_child_runs_go_with_their_parent(store: Store, api: LocalClient, clock: ManualClock, deep: bool) -> None:
    """Not before it, and it stays while one of them has not ended."""
    flow = make_flow(api)
    top = make_run(api, flow, "top")
    child = full_run(api, flow, "child", parent_task_run_id=make_task_run(api, top, "child").id)
    grandchild = full_run(api, flow, "grandchild", parent_task_run_id=make_task_run(api, child, "grandchild").id)
    for run in (child,) if deep else (child, grandchild):
        end(api, run)
    clock.advance(2 * KEPT)
    end(api, top)
    assert flow_run_retention.run_once(store, deleting("flow_runs")) == 0
    clock.advance(2 * KEPT)

    assert flow_run_retention.run_once(store, deleting("flow_runs")) == (0 if deep else 3)
    assert left(store) == ({"top", "child", "grandchild"} if deep else set())


def test_a_tree_goes_when_its_last_run_has_been_over_for_long(
    store: Store, api: LocalClient, clock: ManualClock
) -> None:
    """A child that its parent did not wait for, and that ended today, is kept with its parent."""
    flow = make_flow(api)
    top = end(api, make_run(api, flow, "top"))
    child = make_run(api, flow, "child", parent_task_run_id=make_task_run(api, top, "child").id)
    clock.advance(2 * KEPT)
    end(api, child)
    assert flow_run_retention.run_once(store, deleting("flow_runs")) == 0
    assert left(store) == {"top", "child"}

    clock.advance(2 * KEPT)
    flow_run_retention.run_once(store, deleting("flow_runs"))
    assert left(store) == set()


def test_child_runs_whose_parent_was_deleted_go_by_themselves(
    store: Store, api: LocalClient, clock: ManualClock
) -> None:
    """A call deletes a run alone."""
    flow = make_flow(api)
    top = make_run(api, flow, "top")
    end(api, make_run(api, flow, "child", parent_task_run_id=make_task_run(api, top, "child").id))
    clock.advance(2 * KEPT)
    api.call(DELETE_FLOW_RUN, id=top.id)

    assert flow_run_retention.run_once(store, deleting("flow_runs")) == 1


def test_no_transaction_deletes_much(
    store: Store, api: LocalClient, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with much inside takes many; a turn goes on until nothing is left."""
    monkeypatch.setattr(vacuum, "AT_ONCE", 10)
    flow = make_flow(api)
    for number in range(7):
        end(api, full_run(api, flow, f"run-{number}", tasks=5, lines=25))
    clock.advance(2 * KEPT)
    deleted: list[int] = []
    write = store.write

    def counting(function: Any) -> Any:
        before = sum(count(store, table) for table in CONTENTS)
        result = write(function)
        deleted.append(before - sum(count(store, table) for table in CONTENTS))
        return result

    monkeypatch.setattr(store, "write", counting)
    assert flow_run_retention.run_once(store, deleting("flow_runs", batch_size=3)) == 7
    assert max(deleted) <= 20
    assert len(deleted) > 20
    assert not any(count(store, table) for table in CONTENTS)


def test_a_turn_ends_when_the_next_one_is_due(
    store: Store, api: LocalClient, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much there is, the server sees that the service gets on.  # G15"""
    flow = make_flow(api)
    for number in range(3):
        end(api, make_run(api, flow, str(number)))
    clock.advance(2 * KEPT)
    trees = flow_run_retention.ended_trees

    def slowly(*arguments: Any) -> list[UUID]:
        clock.advance(7200)
        return trees(*arguments)

    monkeypatch.setattr(flow_run_retention, "ended_trees", slowly)
    assert [flow_run_retention.run_once(store, deleting("flow_runs", batch_size=2)) for _ in range(3)] == [2, 1, 0]


def key_of(store: Store, id: UUID) -> Any:
    """An id as the database stores it."""
    bind = Id().bind_processor(store.read(lambda tx: tx.connection.dialect))
    return bind(id) if bind else id


@pytest.fixture
def undeletable(store: Store) -> Iterator[Any]:
    """Have the database refuse to delete a row."""
    on_sqlite = store.read(lambda tx: tx.dialect) == "sqlite"
    made: list[str] = []

    def refuse(table: str, id: UUID) -> None:
        made.append(table)
        if on_sqlite:
            row = f"x'{id.hex}'"
            lines = [
                f"CREATE TRIGGER kept_{table} BEFORE DELETE ON {table} WHEN old.id = {row} "
                "BEGIN SELECT RAISE(ABORT, 'kept'); END"
            ]
        else:
            body = f"BEGIN IF old.id = '{id}' THEN RAISE 'kept'; END IF; RETURN old; END"
            lines = [
                f"CREATE FUNCTION kept_{table}() RETURNS trigger LANGUAGE plpgsql AS $${body}$$",
                f"CREATE TRIGGER kept_{table} BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION kept_{table}()",
            ]
        store.write(lambda tx: [tx.connection.exec_driver_sql(line) for line in lines])

    yield refuse
    for table in made:
        drop = f"DROP TRIGGER kept_{table}" if on_sqlite else f"DROP FUNCTION kept_{table} CASCADE"
        store.write(lambda tx, drop=drop: tx.connection.exec_driver_sql(drop))


def test_g13_a_run_that_cannot_be_deleted_stops_no_other(
    store: Store, api: LocalClient, clock: ManualClock, undeletable: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reported, and tried again in the next turn."""
    flow = make_flow(api)
    runs = [end(api, full_run(api, flow, str(number))) for number in range(10)]
    clock.advance(2 * KEPT)
    undeletable("flow_run", runs[4].id)

    flow_run_retention.run_once(store, deleting("flow_runs", batch_size=3))
    assert left(store) == {"4"}
    assert str(runs[4].id) in caplog.text


def test_servers_that_delete_at_once_do_no_harm(store: Store, api: LocalClient, clock: ManualClock) -> None:
    """Each run is gone once, and nothing is left of any."""
    flow = make_flow(api)
    for number in range(12):
        end(api, full_run(api, flow, str(number)))
    clock.advance(2 * KEPT)
    counts: list[int] = []
    settings = deleting("flow_runs", batch_size=2)
    servers = [
        threading.Thread(target=lambda: counts.append(flow_run_retention.run_once(store, settings))) for _ in range(3)
    ]
    for server in servers:
        server.start()
    for server in servers:
        server.join()

    assert sum(counts) == 12
    assert not any(count(store, table) for table in CONTENTS)


def test_the_space_of_deleted_runs_is_given_back(
    sqlite_store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of deleted events is."""
    monkeypatch.setattr(vacuum, "AT_ONCE", 50)
    api = LocalClient(sqlite_store)
    run = end(api, make_run(api, make_flow(api)))
    line = LogCreate(name="n", level=20, message="m" * 1000, timestamp=at(), flow_run_id=run.id)
    api.call(CREATE_LOGS, body=[line] * 500)
    clock.advance(2 * KEPT)

    def size() -> int:
        return sqlite_store.read(lambda tx: int(tx.execute(text("PRAGMA page_count")).scalar_one()))

    before = size()
    assert flow_run_retention.run_once(sqlite_store, deleting("flow_runs")) == 1
    assert size() < before - 50


def test_a_key_has_the_newest_artifact_that_is_left(store: Store, api: LocalClient, clock: ManualClock) -> None:
    """Whether a run takes the latest with it, or all."""
    flow = make_flow(api)
    kept = artifact(api, "both")
    run = make_run(api, flow)
    artifact(api, "both", run)
    artifact(api, "one", run)
    end(api, run)
    clock.advance(2 * KEPT)
    flow_run_retention.run_once(store, deleting("flow_runs"))

    assert api.call(READ_LATEST_ARTIFACT, key="both").id == kept.id
    with pytest.raises(ObjectNotFound):
        api.call(READ_LATEST_ARTIFACT, key="one")
    assert count(store, ARTIFACT_COLLECTION) == 1


def test_orphans_are_deleted(store: Store, api: LocalClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines and artifacts of runs that are gone, and keys whose latest artifact is; nothing that has its run."""
    monkeypatch.setattr(vacuum, "AT_ONCE", 2)
    monkeypatch.setattr(orphans, "AT_ONCE", 2)
    flow = make_flow(api)
    kept = full_run(api, flow, "kept")
    line = LogCreate(name="n", level=20, message="m", timestamp=at())
    api.call(CREATE_LOGS, body=[line, *(replace(line, flow_run_id=id) for id in (uuid7(), uuid7()) for _ in range(5))])
    for _ in range(2):
        gone = full_run(api, flow, "gone")
        artifact(api, "lost", gone)
        api.call(DELETE_FLOW_RUN, id=gone.id)
    free = artifact(api, "free")
    later = artifact(api, "free")
    later_key = artifact(api, "a-key")
    ids = [key_of(store, one.id) for one in (later, later_key)]
    for id in ids:
        store.write(lambda tx, id=id: tx.execute(text("DELETE FROM artifact WHERE id = :id"), {"id": id}))

    assert orphans.run_once(store, deleting("events", "flow_runs")) == 0
    assert orphans.run_once(store, deleting("orphans")) == 2 + 2 + 2
    assert orphans.run_once(store, deleting("orphans")) == 0
    assert count(store, LOG) == 3 + 1
    assert count(store, ARTIFACT) == 2
    assert api.call(READ_LATEST_ARTIFACT, key="free").id == free.id
    assert api.call(READ_LATEST_ARTIFACT, key="report").flow_run_id == kept.id
    assert count(store, ARTIFACT_COLLECTION) == 2


def test_g13_an_orphan_that_cannot_be_deleted_stops_no_other(
    store: Store, api: LocalClient, undeletable: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reported, and tried again in the next turn."""
    line = LogCreate(name="n", level=20, message="m", timestamp=at())
    lost = [uuid7() for _ in range(5)]
    api.call(CREATE_LOGS, body=[replace(line, flow_run_id=id) for id in lost])
    stuck = store.read(lambda tx: tx.execute(select(LOG.c.id).where(LOG.c.flow_run_id == lost[2])).scalar_one())
    undeletable("log", stuck)

    assert orphans.run_once(store, deleting("orphans")) == 4
    assert count(store, LOG) == 1
    assert str(lost[2]) in caplog.text


@pytest.mark.parametrize(
    ("said", "kinds"),
    [
        (True, {"events", "flow_runs", "orphans"}),
        (False, set()),
        (None, set()),
        (["events"], {"events"}),
        (["flow_runs", "orphans"], {"flow_runs", "orphans"}),
    ],
)
def test_the_settings_say_what_is_deleted(said: Any, kinds: set[str]) -> None:
    """All, nothing, or some kinds."""
    settings = saying(enabled=said)

    assert {kind for kind in get_args(Kind) if vacuum.is_deleted(settings, kind)} == kinds
