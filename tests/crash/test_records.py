"""G11 with real processes: what a process recorded arrives without hole or double, whoever is killed.  # G11"""

import os
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from headrace._internal.ids import uuid7
from tests.crash.processes import Installation

pytestmark = pytest.mark.slow

WRITE_LINES = """
import os, sys, time
from datetime import UTC, datetime
from uuid import UUID
from headrace._internal.ids import uuid7
from headrace.engine import recorder
from headrace.schemas.recording import LogRecord

run, pause = UUID(sys.argv[1]), float(sys.argv[2])
for number in range(1000):
    recorder.current().log(LogRecord(
        id=uuid7(), name="headrace.flow_runs", level=20, message=str(number), timestamp=datetime.now(UTC),
        flow_run_id=run,
    ))
    print(number, flush=True)
    if pause:
        time.sleep(pause)
sys.stdin.read()
"""

DELIVER = """
from headrace.client import get_client
from headrace.engine.leftovers import deliver_leftovers
print(deliver_leftovers(get_client()))
"""


class Writer:
    """A process that records 1 000 numbered lines and then waits, and the run it records them for."""

    def __init__(self, headrace: Installation, url: str | None, pause: float = 0.0) -> None:
        self.run = uuid7()
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITE_LINES, str(self.run), str(pause)],
            env=headrace.environment | ({"HEADRACE_API_URL": url} if url else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, number: int) -> None:
        """Wait until that line was recorded."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if int(line) == number:
                return
        raise AssertionError("The process ended before.")

    def kill(self) -> None:
        """End it with -9."""
        self.process.kill()
        self.process.wait()


def deliver(headrace: Installation) -> subprocess.Popen[str]:
    """A later process of the same home that delivers what is left."""
    return subprocess.Popen(
        [sys.executable, "-c", DELIVER],
        env=headrace.environment | {"HEADRACE_API_URL": headrace.url},
        stdout=subprocess.PIPE,
        text=True,
    )


def stored(headrace: Installation, writer: Writer) -> list[int]:
    """The numbers that the API has, in order of time."""
    return [int(message) for message in headrace.logs(str(writer.run))]


def test_g11_lines_older_than_a_second_survive_a_kill(headrace: Installation) -> None:
    """All 1 000 lines are there although their process was killed and never flushed, each once."""
    writer = Writer(headrace, headrace.url)
    writer.wait_for(999)
    time.sleep(1.0)  # the guarantee's own second
    writer.kill()

    assert deliver(headrace).wait() == 0
    assert stored(headrace, writer) == list(range(1000))


@pytest.mark.parametrize("seed", range(4))
def test_g11_a_kill_at_any_moment_leaves_a_prefix(headrace: Installation, seed: int) -> None:
    """Killed in the middle: what arrives is the beginning, without hole or double."""
    chance = random.Random(seed)
    writer = Writer(headrace, headrace.url, pause=0.001)
    writer.wait_for(chance.randrange(300, 900))
    writer.kill()

    assert deliver(headrace).wait() == 0
    numbers = stored(headrace, writer)
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 0


def test_g11_a_server_that_was_away_gets_everything(headrace: Installation) -> None:
    """The server is killed in the middle and comes back: the process delivers all its lines itself."""
    server = headrace.processes[0]
    writer = Writer(headrace, headrace.url, pause=0.001)
    writer.wait_for(200)
    server.kill()
    server.wait()
    writer.wait_for(999)
    headrace.start_server()
    deadline = time.monotonic() + 60
    while len(stored(headrace, writer)) < 1000 and time.monotonic() < deadline:
        time.sleep(0.05)

    assert stored(headrace, writer) == list(range(1000))
    writer.process.communicate("end", timeout=60)
    assert writer.process.returncode == 0
    assert list((headrace.home / "spool").glob("*.jsonl")) == []


def test_g11_both_killed_and_two_deliverers_at_once(headrace: Installation) -> None:
    """Server and writer die; later two processes deliver at the same time: each line is there once."""
    server = headrace.processes[0]
    writer = Writer(headrace, headrace.url)
    writer.wait_for(100)
    server.kill()
    server.wait()
    writer.wait_for(999)
    time.sleep(1.0)  # the guarantee's own second
    writer.kill()
    assert list((headrace.home / "spool").glob("*.jsonl"))
    headrace.start_server()

    deliverers = [deliver(headrace) for _ in range(2)]

    assert [one.wait() for one in deliverers] == [0, 0]
    assert stored(headrace, writer) == list(range(1000))
    assert list((headrace.home / "spool").glob("*.jsonl")) == []


def test_g11_local_mode_keeps_what_is_older_than_a_second(tmp_path: Path) -> None:
    """Without a server too: lines are in the database a second later."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HEADRACE_", "PREFECT_"))}
    headrace = Installation(tmp_path, 0)
    headrace.environment = environment | {"HEADRACE_HOME": str(tmp_path)}
    writer = Writer(headrace, None)
    writer.wait_for(999)
    time.sleep(1.0)  # the guarantee's own second
    writer.kill()

    with closing(sqlite3.connect(tmp_path / "headrace.db")) as database:
        found = database.execute("select message from log where flow_run_id = ? order by id", (writer.run.bytes,))
        assert [int(message) for (message,) in found] == list(range(1000))
