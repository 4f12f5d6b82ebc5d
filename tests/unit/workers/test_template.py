"""The template process: forks, reports, and who dies with whom. Real processes, with a stub in place of the engine."""

import json
import os
import queue
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from headrace._internal.ids import uuid7
from headrace.runner.launcher import TEMPLATE_DIED, PlainLauncher, TemplateLauncher
from headrace.runner.protocol import Ended, Ready, Report, Start, Started

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
STUB = Path(__file__).with_name("stub_engine")
ReportT = TypeVar("ReportT", bound=Report)


class Scene:
    """A launcher, and what it reports."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self.launcher = TemplateLauncher(self.reports.put)

    def start(self, action: str = "", **options: Any) -> Start:
        """Start a run that does something."""
        run_id = uuid7()
        named = {"HEADRACE__FLOW_RUN_ID": str(run_id), "HEADRACE__FLOW_RUN_EPOCH": "3"}
        environment = {**named, "ACTION": action, "PLACE": str(self.place), **options.pop("environment", {})}
        order = Start(run_id, environment=environment, **options)
        self.launcher.start(order)
        return order

    def next(self, kind: type[ReportT]) -> ReportT:
        """The next report of a kind."""
        while not isinstance(report := self.reports.get(timeout=20), kind):
            pass
        return report

    def facts(self, order: Start) -> dict[str, Any]:
        """What the run wrote down."""
        found: dict[str, Any] = json.loads((self.place / str(order.id)).read_text())
        return found


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A template that is ready."""
    monkeypatch.setenv("PYTHONPATH", str(STUB))
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    scene = Scene(tmp_path)
    scene.next(Ready)
    yield scene
    scene.launcher.close()


def wait_until_gone(pid: int) -> None:
    """Wait for the end of a process that is not ours."""
    descriptor = os.pidfd_open(pid)
    try:
        assert select.select([descriptor], [], [], 20)[0], "the process lives on"
    finally:
        os.close(descriptor)


def test_a_run_is_forked_with_its_environment(scene: Scene) -> None:
    """It has the engine imported, its variables set or taken away, a group of its own, and no code but 0."""
    order = scene.start(environment={"LEVEL": "DEBUG", "HEADRACE_HOME": None})
    started, ended = scene.next(Started), scene.next(Ended)
    facts = scene.facts(order)

    assert (started.id, ended) == (order.id, Ended(order.id, 0, started.pid))
    assert facts["pid"] == facts["group"] == started.pid
    assert facts["environment"]["LEVEL"] == "DEBUG"
    assert "HEADRACE_HOME" not in facts["environment"]
    assert facts["epoch"] == 3
    assert "headrace.flows" in facts["warm"]


def test_a_run_begins_in_its_folder(scene: Scene, tmp_path: Path) -> None:
    """The template's own folder stays where it is."""
    (tmp_path / "a").mkdir()
    order = scene.start(directory=str(tmp_path / "a"))
    scene.next(Ended)

    assert scene.facts(order)["folder"] == str(tmp_path / "a")


@pytest.mark.parametrize(("action", "code"), [("exit:3", 3), ("kill:9", -9), ("kill:11", -11)])
def test_how_a_run_ended_is_reported(scene: Scene, action: str, code: int) -> None:
    """Exit codes as they are, signals as negative numbers."""
    order = scene.start(action)

    assert scene.next(Ended).code == code
    assert (scene.place / str(order.id)).exists()


def test_a_command_takes_the_place_of_the_engine(scene: Scene, tmp_path: Path) -> None:
    """It gets the environment too; one that does not exist ends with 127."""
    program = f"import os; open({str(tmp_path / 'out')!r}, 'w').write(os.environ['X'])"
    scene.start(command=[sys.executable, "-c", program], environment={"X": "y"})
    assert scene.next(Ended).code == 0
    assert (tmp_path / "out").read_text() == "y"

    scene.start(command=["no-such-command"], quiet=True)
    assert scene.next(Ended).code == 127


def test_a_folder_that_is_missing_ends_the_run(scene: Scene) -> None:
    """It is not run somewhere else."""
    scene.start(directory="/no/such/folder", quiet=True)

    assert scene.next(Ended).code == 126


def test_g12_a_signal_reaches_the_run_and_a_kill_all_it_has_started(scene: Scene, tmp_path: Path) -> None:
    """A run that ignores TERM, and its own child, go by a KILL of the group."""
    order = scene.start("stubborn")
    scene.next(Started)
    child = wait_for_file(tmp_path / f"{order.id}.child")
    scene.launcher.signal(order.id, signal.SIGTERM)
    scene.launcher.signal(order.id, signal.SIGKILL, group=True)

    assert scene.next(Ended).code == -signal.SIGKILL
    wait_until_gone_if_there(int(child))


def wait_for_file(path: Path) -> str:
    """The content of a file that another process is about to write."""
    for _ in range(2000):
        if path.exists() and (text := path.read_text()):
            return text
        time.sleep(0.01)  # nothing tells of a new file
    raise AssertionError(f"{path} was not written")


def wait_until_gone_if_there(pid: int) -> None:
    """The same for one that may have gone already."""
    try:
        wait_until_gone(pid)
    except ProcessLookupError:
        return


def test_g6_a_template_that_dies_takes_its_runs_along_and_is_replaced(scene: Scene) -> None:
    """Their end is reported, and the next run starts."""
    order = scene.start("stay")
    pid = scene.next(Started).pid
    wait_for_file(scene.place / str(order.id))
    os.kill(scene.facts(order)["parent"], signal.SIGKILL)

    ended = scene.next(Ended)
    assert (ended.id, ended.error) == (order.id, TEMPLATE_DIED)
    wait_until_gone_if_there(pid)
    again = scene.start()
    assert scene.next(Ended) == Ended(again.id, 0, scene.facts(again)["pid"])


def test_g6_runs_die_with_their_worker(tmp_path: Path) -> None:
    """A worker that is killed leaves neither a template nor a run behind."""
    program = """
        import sys
        from headrace._internal.ids import uuid7
        from headrace.runner.launcher import TemplateLauncher
        from headrace.runner.protocol import Start, Started
        from threading import Event
        def listen(report):
            if isinstance(report, Started):
                print(report.id, flush=True)
        launcher = TemplateLauncher(listen)
        run = uuid7()
        named = {"HEADRACE__FLOW_RUN_ID": str(run), "HEADRACE__FLOW_RUN_EPOCH": "3"}
        launcher.start(Start(run, environment=named | {"ACTION": "stay", "PLACE": sys.argv[1]}))
        Event().wait()
    """
    environment = {**os.environ, "PYTHONPATH": str(STUB), "HEADRACE_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        place = tmp_path / worker.stdout.readline().strip()
        wait_for_file(place)
        facts = json.loads(place.read_text())
        worker.kill()

    wait_until_gone_if_there(facts["pid"])
    wait_until_gone_if_there(facts["parent"])


def test_the_second_run_of_a_kind_finds_its_packages_imported(scene: Scene) -> None:
    """The first tells what it has imported; a specialist has it then. Other kinds do not get it."""
    first = scene.start("import:xml.sax.expatreader", kind="a")
    scene.next(Ended)
    second = first
    for _ in range(200):  # until the specialist is ready
        second = scene.start(kind="a")
        scene.next(Ended)
        if scene.facts(second)["parent"] != scene.facts(first)["parent"]:
            break
    other = scene.start(kind="b")
    scene.next(Ended)

    assert "xml.sax.expatreader" in scene.facts(second)["warm"]
    assert "xml.sax.expatreader" not in scene.facts(first)["warm"]
    assert "xml.sax.expatreader" not in scene.facts(other)["warm"]


def test_g6_a_specialist_that_dies_takes_its_runs_along(scene: Scene) -> None:
    """Their end is reported by the template, which serves the kind itself from then on."""
    first = scene.start("import:xml.sax.expatreader", kind="a")
    scene.next(Ended)
    template = scene.facts(first)["parent"]
    for _ in range(200):
        order = scene.start(kind="a")
        scene.next(Ended)
        if scene.facts(order)["parent"] != template:
            break
    staying = scene.start("stay", kind="a")
    pid = scene.next(Started).pid
    wait_for_file(scene.place / str(staying.id))
    os.kill(scene.facts(staying)["parent"], signal.SIGKILL)

    ended = scene.next(Ended)
    assert (ended.id, ended.error) == (staying.id, TEMPLATE_DIED)
    wait_until_gone_if_there(pid)
    again = scene.start(kind="a")
    assert scene.next(Ended).code == 0
    assert scene.facts(again)["parent"] == template


def test_without_a_template_each_run_is_a_process_of_its_own(tmp_path: Path) -> None:
    """The launcher for platforms that cannot fork reports the same."""
    reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
    launcher = PlainLauncher(reports.put)
    order = Start(uuid7(), command=[sys.executable, "-c", "raise SystemExit(4)"])
    launcher.start(order)
    started, ended = reports.get(timeout=20), reports.get(timeout=20)
    missing = Start(uuid7(), command=["no-such-command"])
    launcher.start(missing)
    refused = reports.get(timeout=20)
    launcher.close()

    assert isinstance(started, Started)
    assert ended == Ended(order.id, 4, started.pid)
    assert isinstance(refused, Ended)
    assert refused.error is not None
