"""Many at once: a hundred flow processes on one SQLite file, and ten thousand tasks in one flow."""

import json
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CROWD = """
from headrace import flow, task

@task
def step(number):
    print("step", number)
    return number

@flow(log_prints=True)
def crowd():
    return sum(step(number) for number in range(5))

assert crowd() == 10
"""


def environment(home: Path) -> dict[str, str]:
    """An environment in which nothing but the home is configured."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HEADRACE_", "PREFECT_"))}
    return kept | {"HEADRACE_HOME": str(home)}


def test_a_hundred_flow_processes_share_a_file(tmp_path: Path) -> None:
    """Each of a hundred processes at once records its run without an error, and nothing is missing."""
    script = tmp_path / "crowd.py"
    script.write_text(CROWD)

    def run(_: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(script)], env=environment(tmp_path), capture_output=True, text=True, check=False
        )

    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(run, range(100)))

    assert [answer.stderr for answer in answers if answer.returncode] == []
    assert [answer.stderr for answer in answers if "locked" in answer.stderr] == []
    with sqlite3.connect(next(tmp_path.glob("*.db"))) as database:
        runs = database.execute("select count(*) from flow_run where state_type = 'COMPLETED'").fetchone()[0]
        tasks = database.execute("select count(*) from task_run where state_type = 'COMPLETED'").fetchone()[0]
        lines = database.execute("select count(*) from log where message like 'step %'").fetchone()[0]
    assert (runs, tasks, lines) == (100, 500, 500)


def test_ten_thousand_mapped_tasks_are_recorded(tmp_path: Path) -> None:
    """Ten thousand mapped tasks complete, each with its states, in less than 300 MB."""
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "workloads" / "ten_thousand.py"
    answer = subprocess.run(
        [sys.executable, str(script), "headrace", "10000"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )

    assert answer.returncode == 0, answer.stderr
    with sqlite3.connect(next(tmp_path.glob("*.db"))) as database:
        tasks = database.execute("select count(*) from task_run where state_type = 'COMPLETED'").fetchone()[0]
        states = database.execute("select count(distinct task_run_id), count(*) from task_run_state").fetchone()
    assert tasks == 10_000
    assert states[0] == 10_000
    assert states[1] >= 20_000
    assert json.loads(answer.stdout)["peak_mb"] < 300
