"""A headrace server on each database, and what came of running Prefect's scripts against it.

All scripts of a server are begun when its first result is asked for, a few at a time: they wait more than they work.
"""

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks import sides
from tests.support import postgresql

SCRIPTS = Path(__file__).parent / "scripts"
AT_ONCE = 3
TIME_LIMIT = 400.0  # seconds for one script
CLIENT_SETTINGS = {"LOGGING_LEVEL": "INFO", "WORKER_QUERY_SECONDS": "1", "RUNNER_POLL_FREQUENCY": "1"}
SERVER_SETTINGS = {"SERVER_TASKS_TAG_CONCURRENCY_SLOT_WAIT_SECONDS": "1"}


@dataclass(frozen=True)
class Outcome:
    """What went wrong in each check of a script that ended (an empty text if nothing), and the end of its output."""

    failures: dict[str, str]
    output: str


def run_script(script: str, url: str) -> Outcome:
    """Run a script by the interpreter that has Prefect, in a home of its own, against the server of this URL."""
    prefect = sides.prefect()
    with sides.fresh_home() as home:
        process = subprocess.Popen(
            [prefect.python, str(SCRIPTS / f"{script}.py")],
            env=prefect.environment(home, API_URL=url, **CLIENT_SETTINGS),
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=TIME_LIMIT)
        except subprocess.TimeoutExpired:
            sides.stop(process)
            output, _ = process.communicate()
    told = [json.loads(line) for line in output.splitlines() if line.startswith('{"check"')]
    return Outcome({one["check"]: one["failure"] for one in told}, output[-4000:])


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def outcomes(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Outcome]]]:
    """For each script, what it came to against a headrace server on this database."""
    sides.prefect()
    scripts = sorted(path.stem for path in SCRIPTS.glob("*.py") if path.stem != "checking")
    with (
        # of its own: the services of this server would meddle with what other tests do in theirs
        postgresql.new_database() if request.param == "postgresql" else nullcontext() as database,
        sides.server(sides.headrace(), database, **SERVER_SETTINGS) as server,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        yield {script: pool.submit(run_script, script, server.url) for script in scripts}
        pool.shutdown(cancel_futures=True)
