"""The recorder: batches, order, merging, and what it does while the API is away."""

import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
import pytest

from headrace._internal.ids import uuid7
from headrace.engine import leftovers
from headrace.engine import recorder as recording
from headrace.engine.delivery import LARGEST_LINE
from headrace.engine.recorder import Recorder
from headrace.exceptions import ApiUnreachable, ObjectNotFound, ValidationFailed
from headrace.schemas.flow_runs import SET_FLOW_RUN_STATE, SetFlowRunState
from headrace.schemas.recording import RECORD, LogRecord, Recorded, Records, RefusedRecord, TaskRunRecord
from headrace.schemas.states import (
    OrchestrationResult,
    SetStateStatus,
    State,
    StateAcceptDetails,
    StateCreate,
    StateType,
)
from headrace.settings import temporary_settings

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Api:
    """An API that keeps what it is given, and can be taken away.

    Args:
        local: whether it says that it runs in this process.
    """

    def __init__(self, *, local: bool) -> None:
        self.local = local
        self.calls: list[Any] = []
        self.refuses: Any = lambda _: None
        self.strange: list[UUID] = []
        self.open = threading.Event()
        self.open.set()
        self.called = threading.Event()
        self.down: Exception | None = None

    def call(self, endpoint: Any, *, body: Any = None, **arguments: Any) -> Recorded | None:
        self.called.set()
        assert self.open.wait(20)
        if self.down is not None:
            raise self.down
        if endpoint is RECORD:
            if isinstance(body, msgspec.Raw):
                assert not self.local
                body = msgspec.json.decode(body, type=Records)
            self.refuses(body)
            self.calls.append(body)
            return Recorded(refused=[RefusedRecord(id=one, reason="too strange") for one in self.strange])
        else:
            assert endpoint is SET_FLOW_RUN_STATE
            self.calls.append((arguments["id"], body))
        return None

    @property
    def logs(self) -> list[str]:
        """All messages, in the order in which they arrived."""
        return [log.message for call in self.calls if isinstance(call, Records) for log in call.logs]

    @property
    def task_runs(self) -> list[TaskRunRecord]:
        """All news of task runs, in the order in which they arrived."""
        return [run for call in self.calls if isinstance(call, Records) for run in call.task_runs]


def log(message: object) -> LogRecord:
    return LogRecord(id=uuid7(), level=20, message=str(message), name="headrace.flow_runs", timestamp=NOW)


def state(kind: StateType) -> State:
    return State(id=uuid7(), type=kind, name=kind.title(), timestamp=NOW)


def news(id: UUID, *kinds: StateType) -> TaskRunRecord:
    return TaskRunRecord(id=id, task_key="t", dynamic_key="0", name="t-0", states=[state(kind) for kind in kinds])


@pytest.fixture(params=["local", "http"])
def api(request: pytest.FixtureRequest) -> Api:
    """An API in this process, and one behind HTTP."""
    return Api(local=request.param == "local")


@pytest.fixture
def recorder(api: Api, tmp_path: Path) -> Iterator[Recorder]:
    """A recorder for that API."""
    made = Recorder(api, folder=tmp_path / "spool")
    yield made
    api.open.set()
    api.down = None
    assert made.close()


def test_what_is_reported_arrives_in_order(recorder: Recorder, api: Api) -> None:
    """After a flush everything reported before it is stored, in the order of the reports."""
    for number in range(2_500):
        recorder.log(log(number))

    assert recorder.flush(20)
    assert api.logs == [str(number) for number in range(2_500)]


def test_batches_hold_at_most_what_the_setting_says(recorder: Recorder, api: Api) -> None:
    """No call carries more than 1 000 records."""
    for number in range(3_000):
        recorder.log(log(number))
    assert recorder.flush(20)

    assert max(len(call.logs) for call in api.calls) <= 1_000


def test_records_leave_without_a_flush(recorder: Recorder, api: Api) -> None:
    """A record is delivered soon by itself."""
    recorder.log(log("alone"))

    assert api.called.wait(20)


def test_a_flush_of_nothing_is_done_at_once(recorder: Recorder, api: Api) -> None:
    """With nothing reported there is nothing to wait for, and no thread is started for it."""
    assert recorder.flush(0)
    assert api.calls == []


def test_news_of_one_task_run_are_merged(recorder: Recorder, api: Api) -> None:
    """Within a batch a task run is sent once, as it stands last, with all its states in order."""
    id = uuid7()
    recorder.task_run(news(id, StateType.PENDING))
    recorder.task_run(news(uuid7(), StateType.PENDING))
    recorder.task_run(news(id, StateType.RUNNING))
    recorder.task_run(news(id, StateType.COMPLETED))
    assert recorder.flush(20)

    mine = [run for run in api.task_runs if run.id == id]
    assert [one.type for run in mine for one in run.states] == ["PENDING", "RUNNING", "COMPLETED"]
    assert len(mine) < 3


def test_the_same_object_reported_twice_keeps_its_states_once(recorder: Recorder, api: Api) -> None:
    """Reporting an object again does not double what is in it."""
    record = news(uuid7(), StateType.PENDING)
    recorder.task_run(record)
    recorder.task_run(record)
    assert recorder.flush(20)

    assert {len(run.states) for run in api.task_runs} == {1}


def test_g11_an_api_that_is_away_gets_everything_later(recorder: Recorder, api: Api, tmp_path: Path) -> None:
    """While the API is away nothing is lost; when it is back all of it arrives, in order and once."""
    api.down = ApiUnreachable("nobody answers")
    recorder.log(log(0))
    assert not recorder.flush(0.3)
    for number in range(1, 1_500):
        recorder.log(log(number))
    assert not recorder.flush(0.3)
    assert recorder.behind
    assert list((tmp_path / "spool").glob("*.jsonl"))

    api.down = None

    assert recorder.flush(20)
    assert api.logs == [str(number) for number in range(1_500)]
    assert not recorder.behind


def test_g11_an_api_that_is_back_at_the_end_gets_everything(recorder: Recorder, api: Api) -> None:
    """Closing waits half a second for an API that is away; one that answers by then is waited for as always."""
    api.down = ApiUnreachable("nobody answers")
    for number in range(3):
        recorder.log(log(number))
        assert not recorder.flush(0.1)  # so that each is delivered by a call of its own
    api.refuses = lambda _: time.sleep(0.25)
    api.down = None

    assert recorder.close()
    assert api.logs == ["0", "1", "2"]


def test_g11_a_final_state_comes_after_the_records(recorder: Recorder, api: Api) -> None:
    """A state that could not be proposed arrives after all that was reported before it."""
    api.down = ApiUnreachable("nobody answers")
    run, body = uuid7(), SetFlowRunState(state=StateCreate(type=StateType.COMPLETED))
    recorder.log(log("before"))
    recorder.flow_run_state(run, body)
    recorder.log(log("after"))
    assert not recorder.flush(0.3)

    api.down = None

    assert recorder.flush(20)
    assert api.logs == ["before", "after"]
    assert api.calls[1] == (run, body)


class Ending(Api):
    """An API in this process that also answers proposals, and undoes what was done together with one it refuses."""

    def call(self, endpoint: Any, *, body: Any = None, **arguments: Any) -> Any:
        recorded = super().call(endpoint, body=body, **arguments)
        if endpoint is RECORD:
            return recorded
        return OrchestrationResult(details=StateAcceptDetails(), state=None, status=SetStateStatus.ACCEPT)

    def together(self, calls: Any) -> Any:
        before = list(self.calls)
        try:
            return calls(self)
        except Exception:
            self.calls, self.down = before, None
            raise


def test_g11_the_last_records_and_the_final_state_go_together(tmp_path: Path) -> None:
    """In this process' own database they are one transaction, the records first."""
    api = Ending(local=True)
    recorder = Recorder(api, folder=tmp_path / "spool")
    run, body = uuid7(), SetFlowRunState(state=StateCreate(type=StateType.COMPLETED))
    recorder.log(log("last"))

    stored, answer = recorder.flush_and_propose(run, body, 20)

    assert stored
    assert answer is not None
    assert answer.status is SetStateStatus.ACCEPT
    assert [type(call) for call in api.calls] == [Records, tuple]
    assert api.calls[1] == (run, body)
    assert recorder.close()


def test_g11_records_arrive_once_when_the_final_state_cannot(tmp_path: Path) -> None:
    """When the two cannot go together the records arrive alone, and the state is left to the caller."""
    api = Ending(local=True)
    recorder = Recorder(api, folder=tmp_path / "spool")
    recorder.log(log("last"))
    body = SetFlowRunState(state=StateCreate(type=StateType.COMPLETED))
    refusals = [ObjectNotFound("Flow run", "x")]
    api.refuses = lambda _: setattr(api, "down", refusals.pop() if refusals else None)  # for the call after this one

    assert recorder.flush_and_propose(uuid7(), body, 20) == (True, None)
    assert api.logs == ["last"]
    assert recorder.close()


def test_a_proposal_to_a_server_is_left_to_the_caller(tmp_path: Path) -> None:
    """Over HTTP the records are flushed, and nothing is proposed; with nothing to flush neither is done."""
    api = Ending(local=False)
    recorder = Recorder(api, folder=tmp_path / "spool")
    body = SetFlowRunState(state=StateCreate(type=StateType.COMPLETED))
    recorder.log(log("last"))

    assert recorder.flush_and_propose(uuid7(), body, 20) == (True, None)
    assert recorder.flush_and_propose(uuid7(), body, 20) == (True, None)
    assert api.logs == ["last"]
    assert len(api.calls) == 1
    assert recorder.close()


def test_a_state_of_a_run_that_is_gone_holds_up_nothing(recorder: Recorder, api: Api, tmp_path: Path) -> None:
    """When the run was deleted meanwhile, its state is set aside and the next records arrive."""
    api.down = ObjectNotFound("Flow run", "x")
    recorder.flow_run_state(uuid7(), SetFlowRunState(state=StateCreate(type=StateType.COMPLETED)))
    assert recorder.flush(20)
    api.down = None
    recorder.log(log("next"))

    assert recorder.flush(20)
    assert api.logs == ["next"]
    assert len(list((tmp_path / "spool" / "set-aside").iterdir())) == 1


@pytest.mark.parametrize("error", [ValidationFailed("level is not a number"), TypeError("a bug of the server")])
def test_g13_one_bad_record_harms_only_itself(recorder: Recorder, api: Api, tmp_path: Path, error: Exception) -> None:
    """A record the API cannot take is set aside with the reason; the other 99 arrive."""

    def refuse(records: Records) -> None:
        if any(log.message == "bad" for log in records.logs):
            raise error

    api.refuses = refuse
    for number in range(100):
        recorder.log(log("bad" if number == 37 else number))

    assert recorder.flush(20)
    assert api.logs == [str(number) for number in range(100) if number != 37]
    (kept,) = (tmp_path / "spool" / "set-aside").iterdir()
    assert str(error) in kept.read_text()


def test_g13_what_the_api_names_as_refused_is_set_aside(recorder: Recorder, api: Api, tmp_path: Path) -> None:
    """A record that the API stores the rest of the batch without is kept with the reason, and not sent again."""
    bad = log("strange")
    api.strange = [bad.id]
    recorder.log(log("good"))
    recorder.log(bad)

    assert recorder.flush(20)
    (kept,) = (tmp_path / "spool" / "set-aside").iterdir()
    assert "too strange" in kept.read_text()
    assert "strange" in kept.read_text()


def test_g14_a_full_queue_makes_the_flow_wait(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When neither the API nor the spool takes more, whoever reports waits, and goes on when there is room again."""
    monkeypatch.setattr(recording, "QUEUE", 100)
    with temporary_settings({"recording.batch_size": 10, "recording.spool_limit_bytes": 1}):
        recorder = Recorder(api, folder=tmp_path / "spool")
    api.open.clear()
    done = threading.Event()

    def report() -> None:
        for number in range(500):
            recorder.log(log(number))
        done.set()

    threading.Thread(target=report, daemon=True).start()
    waited = not done.wait(0.5)
    api.open.set()

    assert waited
    assert done.wait(20)
    assert recorder.close()
    assert api.logs == [str(number) for number in range(500)]


def test_a_closed_recorder_can_be_used_again(recorder: Recorder, api: Api) -> None:
    """What is reported after a close (at the end of the process, say) is delivered too."""
    recorder.log(log(1))
    assert recorder.close()
    recorder.log(log(2))

    assert recorder.close()
    assert api.logs == ["1", "2"]


def test_g11_what_cannot_be_delivered_at_the_end_is_left_for_later(api: Api, tmp_path: Path) -> None:
    """A process that ends while the API is away leaves its records, and a later one delivers them, once."""
    recorder = Recorder(api, folder=tmp_path / "spool")
    api.down = ApiUnreachable("nobody answers")
    for number in range(10):
        recorder.log(log(number))
    assert not recorder.close(0.3)

    api.down = None

    assert leftovers.deliver_leftovers(api, tmp_path / "spool") >= 1
    assert leftovers.deliver_leftovers(api, tmp_path / "spool") == 0
    assert api.logs == [str(number) for number in range(10)]


def test_leftovers_stay_while_the_api_is_away(api: Api, tmp_path: Path) -> None:
    """An attempt to deliver leftovers that fails loses nothing."""
    recorder = Recorder(api, folder=tmp_path / "spool")
    api.down = ApiUnreachable("nobody answers")
    recorder.log(log("kept"))
    assert not recorder.close(0.3)

    assert leftovers.deliver_leftovers(api, tmp_path / "spool") == 0
    api.down = None

    assert leftovers.deliver_leftovers(api, tmp_path / "spool") == 1
    assert api.logs == ["kept"]


def test_large_batches_are_sent_in_parts(tmp_path: Path) -> None:
    """No call is larger than a server takes, however long the lines are."""
    api = Api(local=False)
    recorder = Recorder(api, folder=tmp_path / "spool")
    for number in range(20):
        recorder.log(log(f"{number}" + "x" * 1_000_000))

    assert recorder.close(20)
    assert [message.rstrip("x") for message in api.logs] == [str(number) for number in range(20)]
    assert max(len(msgspec.json.encode(call)) for call in api.calls) <= LARGEST_LINE


def test_g13_a_record_that_is_no_json_harms_only_itself(tmp_path: Path) -> None:
    """A label that JSON cannot hold is set aside with its record; the others arrive."""
    api = Api(local=False)
    recorder = Recorder(api, folder=tmp_path / "spool")
    recorder.log(log("before"))
    recorder.task_run(TaskRunRecord(id=uuid7(), task_key="t", dynamic_key="0", name="t", labels={"x": object()}))
    recorder.log(log("after"))

    assert recorder.close(20)
    assert api.logs == ["before", "after"]
    assert "object object" in next((tmp_path / "spool" / "set-aside").iterdir()).read_text()


def test_a_forked_child_starts_with_nothing(recorder: Recorder, api: Api) -> None:
    """After a fork the child has no records of its parent, and the parent delivers them as if nothing had been."""
    api.open.clear()
    for number in range(10):
        recorder.log(log(number))

    child = os.fork()
    if child == 0:
        os._exit(0 if recorder.flush(0) and not api.calls else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    api.open.set()

    assert code == 0
    assert recorder.flush(20)
    assert api.logs == [str(number) for number in range(10)]


def test_g11_the_next_process_delivers_leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorder of a process that starts later gives the API what an earlier one could not."""
    api = Api(local=True)
    arrived = threading.Event()
    api.refuses = lambda records: arrived.set() if records.logs else None
    with temporary_settings({"home": str(tmp_path)}):
        api.down = ApiUnreachable("nobody answers")
        earlier = Recorder(api)
        earlier.log(log("left"))
        assert not earlier.close(0.3)
        api.down = None
        monkeypatch.setattr(recording, "get_client", lambda: api)

        recording.reset()
        recording.current()

        assert arrived.wait(20)
        recording.reset()
    assert api.logs == ["left"]


@pytest.mark.parametrize(("url", "expected"), [(None, {"home", "U"}), ("U", {"home", "U"}), ("V", {"V"})])
def test_the_server_of_a_home_is_its_database(
    monkeypatch: pytest.MonkeyPatch, url: str | None, expected: set[str]
) -> None:
    """What was left for the home's database is delivered to the home's server, and the other way round."""
    monkeypatch.setattr(leftovers, "read_note", lambda _: SimpleNamespace(alive=True, url="http://U/api"))
    with temporary_settings({"api.url": url and f"http://{url}/api"}):
        names = leftovers.same_destination()

    assert names == {name if name == "home" else f"http://{name}/api" for name in expected}
