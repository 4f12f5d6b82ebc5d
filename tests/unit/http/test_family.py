"""A server of several processes: each answers, one that dies is replaced, and all end together."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace._internal.server_note import ServerNote, read_note
from headrace.client import close_clients
from headrace.server.http import family
from headrace.server.http.background import running, start_in_background, stop
from headrace.server.http.family import Board
from headrace.settings import temporary_settings
from tests.support import postgresql
from tests.support.serving import Answer, ask
from tests.support.talking import entered, heard
from tests.unit.http.test_process import wait_for_end

ENVIRONMENT = {"HEADRACE_SERVER_API_PORT": "0", "HEADRACE_SERVER_API_WORKERS": "2"}
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks its processes up in /proc")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[str]:
    """A home folder in which no server is left behind."""
    with temporary_settings(**{"home": str(tmp_path), "api.url": None}):
        yield str(tmp_path)
        close_clients()
        stop(str(tmp_path))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(home: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a server of two processes, on each database."""
    if request.param == "sqlite":
        yield start_in_background(home, ENVIRONMENT)
        return
    with postgresql.new_database() as database:
        yield start_in_background(home, ENVIRONMENT | {"HEADRACE_SERVER_DATABASE_CONNECTION_URL": database})
        stop(home)


def note_of(home: str) -> ServerNote:
    """The note of the server that runs."""
    note = running(home)
    assert note is not None
    return note


def members(home: str) -> list[int]:
    """The processes that answer calls, in the order they were started."""
    pid = note_of(home).pid
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until_there_are_two(home: str, *, without: int) -> list[int]:
    """Wait until the place of a process that died is taken."""
    deadline = time.monotonic() + 60
    while len(found := members(home)) < 2 or without in found:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def halted(pid: int) -> Iterator[None]:
    """A process does nothing while the block runs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def ask_without(pid: int, *call: Any) -> Answer:
    """Ask while a process is halted; anew if that was in the middle of a transaction, for whose locks all wait."""
    while True:
        with contextlib.suppress(TimeoutError), halted(pid):
            if (answer := ask(*call)).status != 503:
                return answer


def test_each_of_the_processes_answers(url: str, home: str) -> None:
    """What one of them has written the other one reads; both know how the services are, which run in one of them."""
    first, second = members(home)

    made = ask_without(first, url, "POST", "/flows/", {"name": "f"}).json()["id"]
    assert ask_without(second, url, "GET", f"/flows/{made}").json()["name"] == "f"
    assert [ask_without(each, url, "GET", "/ready").status for each in (first, second)] == [200, 200]


def test_g17_hints_reach_the_listeners_of_every_process(url: str, home: str) -> None:
    """That a run is to be cancelled is told at once to workers whose sockets are held by another process."""
    flow = ask(url, "POST", "/flows/", {"name": "f"}).json()["id"]
    ask(url, "POST", "/work_pools/", {"name": "p", "type": "process"})
    made = ask(url, "POST", "/flow_runs/", {"flow_id": flow, "work_pool_name": "p", "state": {"type": "RUNNING"}})
    run = made.json()["id"]

    async def listening(silent: int) -> Any:
        with halted(silent):
            return await entered(url + "/work_pools/p/runs")

    async def told() -> list[Any]:
        sockets = [await listening(silent) for silent in members(home)]
        for socket in sockets:
            assert await heard(socket) == {"type": "runs"}
        cancelling = {"state": {"type": "CANCELLING"}, "force": True}
        await asyncio.to_thread(ask, url, "POST", f"/flow_runs/{run}/set_state", cancelling)
        return [await heard(socket) for socket in sockets]

    assert asyncio.run(told()) == [{"type": "cancel", "flow_run_id": run}] * 2


def test_every_process_knows_the_servers_of_tasks(url: str, home: str) -> None:
    """To whichever of them they are connected."""

    def names(silent: int) -> list[str]:
        return [one["identifier"] for one in ask_without(silent, url, "POST", "/task_workers/filter", {}).json()]

    async def scene() -> list[list[str]]:
        wanted = {"type": "subscribe", "keys": ["m.f"], "client_id": "me"}
        socket = await entered(url + "/task_runs/subscriptions/scheduled", wanted)
        both = members(home)
        while not any([await asyncio.to_thread(names, each) for each in both]):
            await asyncio.sleep(0.05)
        known = [await asyncio.to_thread(names, each) for each in both]
        await socket.close()
        return known

    assert asyncio.run(scene()) == [["me"], ["me"]]


@pytest.mark.parametrize("number", [0, 1])
def test_a_process_that_dies_is_replaced(url: str, home: str, number: int) -> None:
    """Whichever it is, the other one goes on meanwhile, and the new one answers."""
    before = members(home)
    os.kill(before[number], signal.SIGKILL)

    after = until_there_are_two(home, without=before[number])

    assert ask(url, "GET", "/health").status == 200
    assert set(after) & set(before) == {before[1 - number]}
    assert ask_without(before[1 - number], url, "POST", "/flows/", {"name": "f"}).status == 201


def test_they_end_with_the_one_that_looks_after_them(url: str, home: str) -> None:
    """Also when it is killed; then another server of that home can start."""
    note, left = note_of(home), members(home)
    os.kill(note.pid, signal.SIGKILL)
    wait_for_end(note)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            wait_for_end(ServerNote(url, pid, 0.0))

    again = start_in_background(home, ENVIRONMENT)

    assert ask(again, "GET", "/health").status == 200


def test_they_are_stopped_together(url: str, home: str) -> None:
    """By the command that stops a server, which waits for all."""
    left = members(home)

    assert stop(home) is not None

    assert [pid for pid in left if Path(f"/proc/{pid}").exists()] == []
    assert read_note(home) is None


def run_family(code: str) -> subprocess.CompletedProcess[str]:
    """Run a program that has `look_after`; its output ends when the last of its processes has ended."""
    imports = "import os, signal\nfrom headrace.server.http import family\n"
    program = [sys.executable, "-c", f"{imports}from headrace.server.http.family import look_after\n{code}"]
    return subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)


def test_processes_that_cannot_begin_are_an_error() -> None:
    """The reason is in the log of the process; nothing is left running, and nothing is tried again and again."""
    said = run_family(
        "def work(place): raise RuntimeError('no such disk')\nlook_after(2, work, lambda: print('ready'))\n"
    )

    assert (said.returncode, said.stdout) == (1, "")
    assert "no such disk" in said.stderr
    assert "CannotShare: A process of the server ended as soon as it began (exit code 1)" in said.stderr


def test_one_that_is_told_to_end_as_it_begins_ends() -> None:
    """It does not take the signal for one of its parent's, which would wait for it and then use force."""
    said = run_family(
        "os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))\n"
        "look_after(2, lambda place: None, lambda: print('ready'))\n"
    )

    assert "CannotShare: A process of the server ended as soon as it began (signal 15: Terminated)" in said.stderr


def test_one_that_hangs_at_its_end_is_killed_also_when_its_parent_is_gone() -> None:
    """It would keep the address and the lock of the home, and no other server could start."""
    said = run_family(
        "family.PATIENCE = 0.1\n"
        "def work(place):\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    place.ready()\n"
        "    while True: signal.pause()\n"
        "look_after(2, work, lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
    )

    assert said.returncode == -signal.SIGKILL


def test_one_that_dies_while_it_is_told_that_all_are_ready_is_replaced() -> None:
    """Its death is seen, although nothing more happens after that."""
    said = run_family(
        "hears, tells = os.pipe()\n"
        "parent, times = os.getpid(), []\n"
        "os.register_at_fork(before=lambda: times.append(1))\n"
        "def work(place):\n"
        "    os.write(tells, b'%d ' % os.getpid())\n"
        "    place.ready()\n"
        "    if len(times) == 3: os.kill(parent, signal.SIGTERM)\n"
        "    signal.pause()\n"
        "def ready():\n"
        "    one = int(os.read(hears, 100).split()[0])\n"
        "    os.kill(one, signal.SIGKILL)\n"
        "    os.waitid(os.P_PID, one, os.WEXITED | os.WNOWAIT)\n"
        "look_after(2, work, ready)\n"
    )

    assert said.returncode == 0


def test_what_cannot_be_started_now_is_started_later() -> None:
    """A machine that has no room for a process at the moment does not end the others."""
    said = run_family(
        "fork, parent, times = os.fork, os.getpid(), 0\n"
        "def room_is_short():\n"
        "    global times\n"
        "    times += 1\n"
        "    if times == 3: raise BlockingIOError(11, 'no room')\n"
        "    return fork()\n"
        "os.fork = room_is_short\n"
        "def work(place):\n"
        "    place.ready()\n"
        "    if times == 4: os.kill(parent, signal.SIGTERM)\n"
        "    if times == 1: os.kill(os.getpid(), 35)\n"  # a signal that has no name
        "    signal.pause()\n"
        "look_after(2, work, lambda: None)\n"
    )

    assert (said.returncode, "no room" in said.stderr) == (0, True)


def test_g15_what_ails_the_services_is_known_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is that nothing was heard of them; what does not fit in is left out."""
    board = Board()
    unheard = board.read()
    board.write(["one"])
    known = board.read()
    board.write(["many " * 100] * 100)
    fitting = board.read()
    monkeypatch.setattr(family, "SILENCE", -1.0)

    assert unheard == ["the services have not been heard of"]
    assert known == ["one"]
    assert 1 <= len(fitting) < 100
    assert board.read() == ["the services have not been heard of for 0 s"]
