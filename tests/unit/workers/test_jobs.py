"""From a pool's template and job variables to the job of a run."""

import sys
from typing import Any

import pytest

from headrace.exceptions import InfrastructureError
from headrace.workers.jobs import ProcessJob, merged, process_job
from headrace.workers.process import TEMPLATE


def job(*layers: dict[str, Any], template: dict[str, Any] = TEMPLATE) -> ProcessJob:
    """The job of a run named `swift-otter`."""
    return process_job(template, *layers, context={"flow_run": {"name": "swift-otter"}})


def test_without_variables_the_engine_is_forked() -> None:
    """The template's defaults make the plainest job."""
    assert job() == ProcessJob()
    assert job().argv(warm=True) is None
    assert job().argv(warm=False) == [sys.executable, "-m", "headrace.engine"]


def test_the_run_goes_before_the_deployment_and_that_before_the_pool() -> None:
    """`env` is merged name by name, everything else is replaced."""
    template = {
        "variables": {
            "properties": {"env": {"default": {"A": "pool", "B": "pool"}}, "stream_output": {"default": False}}
        }
    }
    deployment = {"env": {"B": "deployment", "C": "deployment"}, "stream_output": True}
    values = merged(template, deployment, {"env": {"C": "run"}})

    assert values == {"env": {"A": "pool", "B": "deployment", "C": "run"}, "stream_output": True}


def test_dots_lead_inside() -> None:
    """`env.X` sets one variable of the environment."""
    assert job({"env.LEVEL": "DEBUG"}, {"env": {"OTHER": "1"}}).env == {"LEVEL": "DEBUG", "OTHER": "1"}


def test_the_name_may_speak_of_the_run() -> None:
    """`ctx` stands for the run in the job variable `name`."""
    assert job({"name": "p-{{ ctx.flow_run.name }}"}).name == "p-swift-otter"


@pytest.mark.parametrize(
    ("variables", "argv"),
    [
        ({"command": "python my.py --x 'a b'"}, ["python", "my.py", "--x", "a b"]),
        ({"command": "python -m prefect.engine"}, None),
        ({"command": "/other/python -m prefect.engine"}, ["/other/python", "-m", "prefect.engine"]),
        ({"working_dir": "/data"}, [sys.executable, "-m", "headrace.engine"]),
        ({"env": {"PYTHONPATH": "/x"}}, [sys.executable, "-m", "headrace.engine"]),
        ({"env": {"LEVEL": "DEBUG"}}, None),
    ],
)
def test_what_a_fork_cannot_give_gets_a_fresh_process(variables: dict[str, Any], argv: list[str] | None) -> None:
    """A command, a folder, variables for the interpreter: these need a process of their own."""
    assert job(variables).argv(warm=True) == argv


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"env": "x"}, "env"),
        ({"stream_output": {}}, "stream_output"),
    ],
)
def test_wrong_variables_are_said(variables: dict[str, Any], message: str) -> None:
    """The run that has them crashes with these words."""
    with pytest.raises(InfrastructureError, match=message):
        job(variables)
