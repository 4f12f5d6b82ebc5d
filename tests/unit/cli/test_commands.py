"""The commands, in local mode, as a person or a program calls them."""

import json
from pathlib import Path
from typing import Any

import pytest

from headrace import flow, task
from headrace.cli.app import run
from headrace.client.connect import close_clients
from headrace.settings import forget_settings

FLOW = """
from headrace import flow

@flow
def greet(name: str = "you") -> str:
    return f"hello {name}"
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A home of its own, in whose folder commands run."""
    for name in ("HEADRACE_API_URL", "PREFECT_API_URL", "HEADRACE_PROFILE", "PREFECT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    forget_settings()
    yield tmp_path
    close_clients()
    monkeypatch.undo()
    forget_settings()


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run a command; returns its exit code and what it printed."""
    capsys.readouterr()
    code = run(list(words))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def call_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """Run a command that prints JSON, and read that."""
    code, out, err = call(capsys, *words, "--output", "json")
    assert code == 0, err
    return json.loads(out)


def run_a_flow() -> None:
    """A flow run with a task and a log line."""

    @task
    def shout(text: str) -> str:
        print(text.upper())
        return text.upper()

    @flow(name="loud", log_prints=True)
    def loud(text: str) -> str:
        return shout(text)

    assert loud("hey") == "HEY"


def test_runs_are_listed_and_inspected(capsys: pytest.CaptureFixture[str]) -> None:
    """A run made by hand is found by its flow, its state and its id."""
    run_a_flow()

    (listed,) = call_json(capsys, "flow-run", "ls", "--state-type", "COMPLETED", "--flow-name", "loud")
    inspected = call_json(capsys, "flow-run", "inspect", listed["id"])
    code, table, _ = call(capsys, "flow-run", "ls")

    assert inspected["state_name"] == "Completed"
    assert inspected["parameters"] == {"text": "hey"}
    assert code == 0
    assert listed["name"] in table
    assert [each["name"] for each in call_json(capsys, "flow", "ls")] == ["loud"]


def test_a_log_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """`flow-run logs` prints what a run said, and `--tail` only the end of it."""
    run_a_flow()
    (listed,) = call_json(capsys, "flow-run", "ls")

    lines = call_json(capsys, "flow-run", "logs", listed["id"])
    _, tail, _ = call(capsys, "flow-run", "logs", listed["id"], "--tail", "--num-logs", "1")

    assert "HEY" in [line["message"] for line in lines]
    assert len(tail.splitlines()) == 1


def test_a_run_is_deleted(capsys: pytest.CaptureFixture[str]) -> None:
    """After deleting a run, asking for it is an error that says so."""
    run_a_flow()
    (listed,) = call_json(capsys, "flow-run", "ls")

    deleted, _, _ = call(capsys, "flow-run", "delete", listed["id"])
    again, _, told = call(capsys, "flow-run", "inspect", listed["id"])

    assert (deleted, again) == (0, 1)
    assert "not found" in told


def test_a_flow_is_deployed_and_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pool, a deployment with a schedule, a run of it with parameters: all by commands."""
    (home / "greet.py").write_text(FLOW)

    assert call(capsys, "work-pool", "create", "main", "--type", "process")[0] == 0
    (made,) = call_json(capsys, "deploy", "greet.py:greet", "--name", "daily", "--pool", "main", "--cron", "0 6 * * *")
    asked = call_json(capsys, "deployment", "run", "greet/daily", "--param", "name=ann", "--start-in", "1h")

    assert made["schedules"][0]["schedule"]["cron"] == "0 6 * * *"
    assert asked["parameters"] == {"name": "ann"}
    assert asked["state_type"] == "SCHEDULED"
    assert len(call_json(capsys, "flow-run", "ls", "--state", "Scheduled")) == 4  # three of the schedule, and ours
    assert [pool["name"] for pool in call_json(capsys, "work-pool", "ls")] == ["main"]


def test_a_paused_deployment_makes_no_runs(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pausing takes back the runs made ahead, deploying again leaves it paused, and resuming makes them anew."""
    (home / "greet.py").write_text(FLOW)
    deploy = ("deploy", "greet.py:greet", "--name", "daily", "--pool", "main", "--interval", "3600")
    call(capsys, "work-pool", "create", "main")
    call(capsys, *deploy)

    call(capsys, "deployment", "pause", "greet/daily")
    call(capsys, *deploy)
    paused = call_json(capsys, "flow-run", "ls")
    call(capsys, "deployment", "resume", "greet/daily")

    assert paused == []
    assert len(call_json(capsys, "flow-run", "ls")) >= 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("deployment", "run", "nothing"), "FLOW NAME/DEPLOYMENT NAME"),
        (("deployment", "run", "no/such"), "not found"),
        (("work-pool", "inspect", "none"), "not found"),
        (("deploy", "missing.py:flow", "--pool", "p"), "missing.py"),
        (("deploy",), "headrace.yaml"),
        (("config", "set", "NONSENSE=1"), "NONSENSE"),
        (("config", "set", "HEADRACE_SERVER_API_PORT=many"), "HEADRACE_SERVER_API_PORT"),
        (("profile", "use", "none"), "none"),
        (("worker", "start"), "--pool"),
        (("server", "stop"), "No server"),
    ],
)
def test_mistakes_are_named_without_a_traceback(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong call ends with exit code 1 and a line that names what is wrong."""
    code, out, err = call(capsys, *words)

    assert code == 1, out + err
    assert told in err
    assert "Traceback" not in err


def test_settings_are_kept_in_profiles(capsys: pytest.CaptureFixture[str]) -> None:
    """A setting is set in the active profile, shown with its source, and gone when another profile is used."""
    call(capsys, "config", "set", "HEADRACE_LOGGING_LEVEL=DEBUG")
    _, shown, _ = call(capsys, "config", "view")
    call(capsys, "profile", "create", "other")
    call(capsys, "profile", "use", "other")

    assert "HEADRACE_LOGGING_LEVEL=DEBUG" in shown
    assert "profile" in shown
    assert "HEADRACE_LOGGING_LEVEL" not in call_json(capsys, "config", "view")
