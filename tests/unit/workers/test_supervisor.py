"""The supervisor between stand-ins: claims, limits, ends, and what is reported."""

import signal
from datetime import timedelta
from pathlib import Path

import msgspec

from headrace.engine.spool import Header
from headrace.runner.protocol import Start
from headrace.runner.upkeep import Upkeep
from headrace.schemas.flow_runs import FlowRun
from headrace.schemas.leases import RunLeasesRenewed
from headrace.schemas.states import StateType
from headrace.settings import temporary_settings
from tests.unit.workers.stand_ins import Scene, new_run


def test_g4_a_run_is_claimed_before_it_is_started() -> None:
    """PENDING with a lease first; the process gets the epoch of the claim."""
    run = new_run()
    scene = Scene(run)
    scene.step()

    assert scene.api.proposed == [(run.id, StateType.PENDING, None)]
    assert [order.id for order in scene.launcher.started] == [run.id]
    assert scene.launcher.started[0].environment["HEADRACE__FLOW_RUN_EPOCH"] == "7"


def test_g4_a_run_that_somebody_else_has_is_left_alone() -> None:
    """A refused claim starts nothing."""
    run = new_run()
    scene = Scene(run)
    scene.api.refuse.add(run.id)
    scene.step()

    assert scene.launcher.started == []


def test_the_limit_holds_and_a_free_place_is_filled() -> None:
    """Never more processes than allowed; when one ends the next begins at once."""
    runs = [new_run(str(number)) for number in range(3)]
    scene = Scene(*runs, limit=2)
    scene.step()
    assert len(scene.launcher.started) == 2

    scene.api.runs[runs[0].id].state_type = StateType.COMPLETED
    scene.launcher.end(runs[0].id, 0)
    assert scene.supervisor.take_events()
    scene.step()

    assert [order.id for order in scene.launcher.started] == [run.id for run in runs]
    assert scene.source.limits[0] == 2


def test_g6_a_process_that_dies_makes_its_run_crashed() -> None:
    """The state says how it ended, and carries the epoch."""
    run = new_run()
    scene = Scene(run)
    scene.step()
    run.state_type = StateType.RUNNING
    scene.launcher.end(run.id, -9)
    scene.supervisor.take_events()
    scene.api.wait_for(run, StateType.CRASHED)

    assert scene.api.proposed[-1] == (run.id, StateType.CRASHED, 7)


def test_a_run_that_ended_by_itself_is_left_as_it_is() -> None:
    """Whatever its process's exit code."""
    run = new_run()
    scene = Scene(run)
    scene.step()
    run.state_type = StateType.FAILED
    scene.launcher.end(run.id, 1)
    scene.supervisor.take_events()
    scene.supervisor.close()

    assert run.state_type is StateType.FAILED


def test_g11_a_run_is_not_crashed_while_its_last_records_wait(tmp_path: Path) -> None:
    """Its final state may be among them, and arrive when the API takes them."""
    run = new_run()
    with temporary_settings({"home": str(tmp_path)}):
        scene = Scene(run)
        scene.step()
        run.state_type = StateType.RUNNING
        left = tmp_path / "spool" / "1000-1.jsonl"
        left.parent.mkdir()
        left.write_bytes(msgspec.json.encode(Header(destination="elsewhere", process=1000)) + b"\n")
        scene.launcher.end(run.id, 0)
        scene.supervisor.take_events()
        assert not scene.supervisor.reporter.close(0.2)

    assert run.state_type is StateType.RUNNING


def test_a_process_that_ends_well_without_ending_its_run_is_a_crash() -> None:
    """A command that never ran the engine must not leave its run PENDING for ever."""
    run = new_run()
    scene = Scene(run)
    scene.step()
    scene.launcher.end(run.id, 0)
    scene.supervisor.take_events()

    scene.api.wait_for(run, StateType.CRASHED)


def test_g12_cancelling_ends_the_process_and_the_run() -> None:
    """TERM first; when the process is gone the run is CANCELLED."""
    run = new_run()
    scene = Scene(run)
    scene.step()
    run.state_type = StateType.CANCELLING
    scene.supervisor.cancel(run.id)
    scene.supervisor.take_events()
    scene.supervisor.take_events()
    scene.api.wait_for(run, StateType.CANCELLED)

    assert scene.launcher.signals[run.id] == [(signal.SIGTERM, False)]


def test_g12_a_process_that_does_not_end_is_killed_with_its_children() -> None:
    """KILL goes to the whole group after the grace period."""
    run = new_run()
    scene = Scene(run, grace=0.0)
    scene.launcher.obedient = False
    scene.step()
    scene.supervisor.cancel(run.id)
    scene.supervisor.take_events()
    scene.supervisor.kill_overdue()

    assert scene.launcher.signals[run.id] == [(signal.SIGTERM, False), (signal.SIGKILL, True)]


def upkeep_of(scene: Scene) -> Upkeep:
    """The supervisor's upkeep, its thread not started."""
    return scene.supervisor.upkeep


def test_g4_a_run_taken_by_another_attempt_is_ended_here() -> None:
    """The renewal says it is lost, the run has a newer epoch: our process must go, and nothing is reported."""
    run = new_run()
    scene = Scene(run)
    scene.step()
    run.state_type, run.epoch = StateType.RUNNING, 8
    scene.api.renewed = RunLeasesRenewed(lost=[run.id], cancelling=[])
    upkeep_of(scene).renew()
    scene.supervisor.take_events()
    scene.supervisor.take_events()
    scene.supervisor.close()

    assert scene.launcher.signals[run.id][0] == (signal.SIGTERM, False)
    assert run.state_type is StateType.RUNNING


def test_a_run_that_has_just_ended_keeps_its_process() -> None:
    """Its lease ends with it, while its process still runs hooks: that is no reason to end the process."""
    run = new_run()
    scene = Scene(run)
    scene.step()
    run.state_type = StateType.COMPLETED
    scene.api.renewed = RunLeasesRenewed(lost=[run.id], cancelling=[])
    upkeep_of(scene).renew()
    scene.supervisor.take_events()

    assert scene.launcher.signals[run.id] == []


def test_the_renewal_tells_of_cancelling() -> None:
    """Without a websocket a run is cancelled all the same."""
    run = new_run()
    scene = Scene(run)
    scene.step()
    run.state_type = StateType.CANCELLING
    scene.api.renewed = RunLeasesRenewed(lost=[], cancelling=[run.id])
    upkeep_of(scene).renew()
    scene.supervisor.take_events()

    assert scene.launcher.signals[run.id] == [(signal.SIGTERM, False)]


def test_g13_one_bad_job_harms_only_its_run() -> None:
    """Its run is CRASHED with the reason, the next one starts."""
    bad, good = new_run("bad"), new_run("good")
    scene = Scene(bad, good)

    def prepare(run: FlowRun) -> tuple[Start, dict[str, str]]:
        if run is bad:
            raise ValueError("no such image")
        return Start(run.id), {}

    scene.supervisor.prepare = prepare
    scene.step()
    scene.api.wait_for(bad, StateType.CRASHED)

    assert [order.id for order in scene.launcher.started] == [good.id]


def test_a_run_in_the_near_future_is_waited_for() -> None:
    """A poll finds out when the next run is due, and the supervisor looks again at that time."""
    run = new_run()
    assert run.next_scheduled_start_time is not None
    run.next_scheduled_start_time += timedelta(seconds=8)
    scene = Scene(run)
    scene.step()

    assert scene.launcher.started == []
    assert 7 < scene.supervisor.seconds_to_next_look() <= 8


def test_an_api_that_is_away_stops_nothing() -> None:
    """Looking fails, and is tried again later."""
    scene = Scene(new_run())
    scene.api.away = True
    scene.step()
    scene.api.away = False
    scene.step()

    assert len(scene.launcher.started) == 1


def test_stopping_waits_first_and_ends_then() -> None:
    """The first stop takes no new run; the second ends what runs, which is then CRASHED because of it."""
    run = new_run()
    scene = Scene(run)
    scene.step()
    run.state_type = StateType.RUNNING
    later = new_run("later")
    scene.api.runs[later.id] = later
    scene.supervisor.stop()
    scene.supervisor.take_events()
    scene.step()
    assert len(scene.launcher.started) == 1
    assert scene.supervisor.running == 1

    scene.supervisor.stop()
    scene.supervisor.take_events()
    scene.supervisor.take_events()
    assert scene.supervisor.running == 0
    scene.api.wait_for(run, StateType.CRASHED)


def test_running_once_carries_out_what_is_due_and_returns() -> None:
    """Nothing that becomes due later is taken."""
    run = new_run()
    scene = Scene(run)
    scene.launcher.end_at_once = True
    scene.supervisor.run(once=True)

    assert len(scene.launcher.started) == 1
    assert scene.supervisor.running == 0
