"""Recording batches of task runs and log lines: once, in any order, fenced by the attempt, each bad item alone."""

import logging
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.schemas.recording import RECORD, LogRecord, Recorded, Records, TaskRunRecord
from headrace.schemas.states import State, StateDetails, StateType
from headrace.server.operations.closing import close_inside
from headrace.server.store.tables import LOG, SLOT_LEASE, TASK_RUN, TASK_RUN_STATE
from headrace.server.store.transaction import Store

FLOW_RUN_ID = uuid7()
START = datetime(2026, 1, 1, tzinfo=UTC)
PENDING, RUNNING, COMPLETED, CRASHED = StateType.PENDING, StateType.RUNNING, StateType.COMPLETED, StateType.CRASHED


def state(type: StateType, second: float, **options: Any) -> State:
    """A state entered `second` seconds after the start."""
    return State(type=type, timestamp=START + timedelta(seconds=second), **options)


def news(*states: State, id: UUID, key: str = "call-0", epoch: int = 1, **options: Any) -> TaskRunRecord:
    """What an engine tells of a task run."""
    return TaskRunRecord(
        id=id,
        flow_run_id=FLOW_RUN_ID,
        epoch=epoch,
        task_key="add",
        dynamic_key=key,
        name="add-1",
        run_count=len(states),
        states=list(states),
        **options,
    )


def line(message: str) -> LogRecord:
    """A log line of the flow run."""
    return LogRecord(
        id=uuid7(), name="headrace.flow_runs", level=20, message=message, timestamp=START, flow_run_id=FLOW_RUN_ID
    )


def record(store: Store, *task_runs: TaskRunRecord, logs: Sequence[LogRecord] = ()) -> Recorded:
    """Record one batch."""
    return LocalClient(store).call(RECORD, body=Records(task_runs=list(task_runs), logs=list(logs)))


def row(store: Store, id: UUID) -> Any:
    """The row of a task run."""
    return store.read(lambda tx: tx.execute(select(TASK_RUN).where(TASK_RUN.c.id == id)).one())


def states_of(store: Store, id: UUID) -> list[str]:
    """The types of all states of a task run, in order of time."""
    chosen = select(TASK_RUN_STATE.c.type).where(TASK_RUN_STATE.c.task_run_id == id)
    return store.read(lambda tx: list(tx.execute(chosen.order_by(TASK_RUN_STATE.c.timestamp)).scalars()))


def count(store: Store, table: Any) -> int:
    """How many rows a table has."""
    return store.read(lambda tx: int(tx.execute(select(func.count()).select_from(table)).scalar_one()))


def test_a_batch_is_stored(store: Store) -> None:
    """A task run has the fields its record says, its newest state in force, and all its states in its history."""
    id = uuid7()
    done = state(COMPLETED, 2, data={"type": "unpersisted"})
    task = news(
        state(PENDING, 0), state(RUNNING, 1), done, id=id, tags=["a"], task_inputs={"x": []}, total_run_time=1.0
    )

    answer = record(store, task, logs=[line("hello"), line("world")])

    stored = row(store, id)
    assert answer.refused == []
    assert (stored.state_type, stored.state_name, stored.state_id) == ("COMPLETED", "Completed", done.id)
    assert (stored.flow_run_id, stored.task_key, stored.dynamic_key) == (FLOW_RUN_ID, "add", "call-0")
    assert (stored.tags, stored.task_inputs, stored.total_run_time, stored.run_count) == (["a"], {"x": []}, 1.0, 3)
    assert states_of(store, id) == ["PENDING", "RUNNING", "COMPLETED"]
    assert count(store, LOG) == 2


def test_g11_a_batch_that_comes_twice_changes_nothing(store: Store) -> None:
    """The second arrival of a batch finds everything there: same rows, no state and no line twice."""
    id = uuid7()
    batch = news(state(PENDING, 0), state(RUNNING, 1), id=id)
    lines = [line("once")]
    record(store, batch, logs=lines)
    before = row(store, id)

    record(store, batch, logs=lines)

    assert row(store, id) == before
    assert states_of(store, id) == ["PENDING", "RUNNING"]
    assert count(store, LOG) == 1


def test_g11_older_news_do_not_replace_newer(store: Store) -> None:
    """A batch that comes late adds its states to the history, and the newest state stays in force."""
    id = uuid7()
    record(store, news(state(COMPLETED, 2), id=id, end_time=START + timedelta(seconds=2)))

    record(store, news(state(PENDING, 0), state(RUNNING, 1), id=id))

    assert row(store, id).state_type == "COMPLETED"
    assert row(store, id).end_time == START + timedelta(seconds=2)
    assert states_of(store, id) == ["PENDING", "RUNNING", "COMPLETED"]


def parts(states: Iterable[State], id: UUID, chance: random.Random) -> list[TaskRunRecord]:
    """The news of a task run, cut into batches at random places."""
    cut: list[list[State]] = [[]]
    for each in states:
        if cut[-1] and chance.random() < 0.5:
            cut.append([])
        cut[-1].append(each)
    return [news(*each, id=id, key=id.hex) for each in cut]


@pytest.mark.parametrize("seed", range(5))
def test_g11_any_order_and_any_repetition_end_the_same(store: Store, seed: int) -> None:
    """However batches are cut, mixed and repeated, every task run ends in its newest state with its whole history."""
    chance = random.Random(seed)
    types = [PENDING, RUNNING, StateType.FAILED, StateType.SCHEDULED, RUNNING, COMPLETED]
    lives = {uuid7(): [state(type, at) for at, type in enumerate(types[: chance.randint(1, 6)])] for _ in range(12)}
    batches = [part for id, states in lives.items() for part in parts(states, id, chance)]
    batches += chance.sample(batches, len(batches) // 2)
    chance.shuffle(batches)

    for batch in batches:
        record(store, batch)

    for id, states in lives.items():
        assert row(store, id).state_id == states[-1].id, f"seed {seed}"
        assert states_of(store, id) == [each.type for each in states], f"seed {seed}"


def test_states_of_the_same_moment_go_by_their_ids(store: Store) -> None:
    """Two states within one microsecond: the one made later is in force, whichever arrives first."""
    id, first, second = uuid7(), state(RUNNING, 1), state(COMPLETED, 1)

    record(store, news(second, id=id))
    record(store, news(first, id=id))

    assert row(store, id).state_type == "COMPLETED"


def test_g4_an_older_attempt_does_not_replace_a_newer_one(store: Store) -> None:
    """News of attempt 1, however late their time, do not change what attempt 2 has written."""
    id = uuid7()
    record(store, news(state(RUNNING, 5), id=id, epoch=2))

    record(store, news(state(COMPLETED, 9), id=id, epoch=1))

    assert (row(store, id).state_type, row(store, id).epoch) == ("RUNNING", 2)


def test_g4_a_newer_attempt_replaces_an_older_one(store: Store) -> None:
    """News of attempt 2 change what attempt 1 wrote, even if its clock was ahead."""
    id = uuid7()
    record(store, news(state(COMPLETED, 9), id=id, epoch=1))

    record(store, news(state(RUNNING, 5), id=id, epoch=2))

    assert (row(store, id).state_type, row(store, id).epoch) == ("RUNNING", 2)


@pytest.mark.parametrize("newer_first", [True, False])
def test_g10_g11_two_attempts_that_used_one_key_are_both_kept(store: Store, newer_first: bool) -> None:
    """When attempts recorded the same call under different ids, the key is the newer one's, whoever arrives first."""
    old, new = uuid7(), uuid7()
    batches = [news(state(RUNNING, 1), id=old, epoch=1), news(state(COMPLETED, 5), id=new, epoch=2)]

    answers = [record(store, batch) for batch in (reversed(batches) if newer_first else batches)]

    assert [answer.refused for answer in answers] == [[], []]
    assert row(store, new).dynamic_key == "call-0"
    assert row(store, old).dynamic_key == f"call-0-{old.hex}"
    assert (states_of(store, old), states_of(store, new)) == (["RUNNING"], ["COMPLETED"])


def test_one_key_twice_in_a_batch_harms_nobody(store: Store) -> None:
    """Of two task runs of a batch with one key, both are stored, under keys of their own."""
    first, second, other = uuid7(), uuid7(), uuid7()

    answer = record(
        store,
        news(state(RUNNING, 1), id=first),
        news(state(RUNNING, 1), id=second),
        news(state(RUNNING, 1), id=other, key="call-1"),
    )

    assert answer.refused == []
    assert len({row(store, id).dynamic_key for id in (first, second, other)}) == 3


def test_g6_late_news_replace_the_end_the_server_wrote(store: Store, clock: ManualClock) -> None:
    """The server closed an open task run of a dead process; news from the spool say what really happened."""
    id = uuid7()
    record(store, news(state(RUNNING, 1), id=id))
    clock.advance(60)
    store.write(lambda tx: close_inside(tx, FLOW_RUN_ID, CRASHED))

    record(store, news(state(COMPLETED, 2), id=id))

    assert row(store, id).state_type == "COMPLETED"


def test_g6_news_that_come_again_do_not_reopen_what_the_server_closed(store: Store, clock: ManualClock) -> None:
    """The last batch of a dead process arrives a second time: the end that the server wrote stays."""
    id = uuid7()
    last = news(state(PENDING, 0), state(RUNNING, 1), id=id)
    record(store, last)
    clock.advance(60)
    store.write(lambda tx: close_inside(tx, FLOW_RUN_ID, CRASHED))

    record(store, last)

    assert row(store, id).state_type == "CRASHED"


def test_a_scheduled_state_says_when_the_run_is_next(store: Store) -> None:
    """A task run that waits to be tried again shows for when; one that runs again does not."""
    id, then = uuid7(), START + timedelta(minutes=5)
    record(store, news(state(StateType.SCHEDULED, 1, state_details=StateDetails(scheduled_time=then)), id=id))
    waiting = row(store, id).next_scheduled_start_time

    record(store, news(state(RUNNING, 301), id=id))

    assert (waiting, row(store, id).next_scheduled_start_time) == (then, None)


def test_news_without_a_state_make_the_task_run_known(store: Store) -> None:
    """A record without states inserts the task run, and changes nothing of one that has a state."""
    fresh, known = uuid7(), uuid7()
    record(store, news(state(RUNNING, 1), id=known))

    record(store, news(id=fresh, key="call-1"), news(id=known, cache_key="k"))

    assert row(store, fresh).state_type is None
    assert (row(store, known).state_type, row(store, known).cache_key) == ("RUNNING", None)


def test_g7_the_end_of_a_task_run_frees_its_slots(store: Store) -> None:
    """A tagged task run that ended holds no slot any more; one that runs keeps its own."""
    ended, running = uuid7(), uuid7()
    for holder in (ended, running):
        lease = {
            "id": uuid7(),
            "limit_id": uuid7(),
            "slots": 1,
            "holder_id": holder,
            "acquired": START,
            "until": START + timedelta(days=1),
        }
        store.write(lambda tx, lease=lease: tx.execute(SLOT_LEASE.insert(), lease))

    record(
        store,
        news(state(RUNNING, 1), state(COMPLETED, 2), id=ended, tags=["database"]),
        news(state(RUNNING, 1), id=running, key="call-1", tags=["database"]),
    )

    assert store.read(lambda tx: tx.execute(select(SLOT_LEASE.c.holder_id)).scalars().all()) == [running]


@pytest.mark.parametrize("broken", [{"labels": {"a": object()}}, {"run_count": 2**70}, {"name": None}])
def test_g13_a_bad_record_harms_only_itself(store: Store, broken: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Of a hundred records one cannot be stored: it is named in the answer and in the log, ninety-nine are there."""
    records = [news(state(RUNNING, 1), id=uuid7(), key=f"call-{number}") for number in range(100)]
    for name, value in broken.items():
        setattr(records[37], name, value)

    with caplog.at_level(logging.ERROR):
        answer = record(store, *records, logs=[line("all the same")])

    assert [refused.id for refused in answer.refused] == [records[37].id]
    assert answer.refused[0].reason
    assert str(records[37].id) in caplog.text
    assert (count(store, TASK_RUN), count(store, TASK_RUN_STATE), count(store, LOG)) == (99, 99, 1)


def test_g13_a_bad_log_line_harms_only_itself(store: Store) -> None:
    """A line that no database keeps (half a character) is refused; those around it are stored."""
    lines = [line("one"), line("half \ud800 of a pair"), line("three")]

    answer = record(store, logs=lines)

    assert [refused.id for refused in answer.refused] == [lines[1].id]
    assert count(store, LOG) == 2


def test_an_empty_batch_is_fine(store: Store) -> None:
    """A batch without records is answered like any other."""
    assert record(store).refused == []


def test_a_batch_of_thousands_is_stored(store: Store) -> None:
    """A batch larger than what is written at once is stored whole, clashing keys and all."""
    ids = [uuid7() for _ in range(2500)]
    older = uuid7()
    record(store, news(state(RUNNING, 1), id=older, key="call-2400"))

    answer = record(
        store, *(news(state(RUNNING, 2), id=id, key=f"call-{number}", epoch=2) for number, id in enumerate(ids))
    )

    assert answer.refused == []
    assert count(store, TASK_RUN) == 2501
    assert row(store, older).dynamic_key == f"call-2400-{older.hex}"
