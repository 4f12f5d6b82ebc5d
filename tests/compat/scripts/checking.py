"""Runs the checks of a script: each function whose name begins with `check_`, in the order of the file.

A script is run by the interpreter that has Prefect, in a process of its own. It prints one JSON line for each check,
with what went wrong or nothing, so that what was found before a process hangs or dies is still known.
"""

import asyncio
import inspect
import json
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from prefect import get_client
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.testing.cli import CycloptsCliRunner

HERE = str(Path(__file__).parent)
PATIENCE = 30.0  # seconds


def run(script: dict[str, Any]) -> None:
    """Run the checks among a script's globals; those named on the command line, else all."""
    wanted = sys.argv[1:]
    for name, check in list(script.items()):
        if name.startswith("check_") and (not wanted or name.removeprefix("check_") in wanted):
            print(json.dumps({"check": name.removeprefix("check_"), "failure": _failure(check)}), flush=True)


def _failure(check: Callable[[], Any]) -> str:
    try:
        answer = check()
        if inspect.isawaitable(answer):
            asyncio.run(_awaited(answer))
    except BaseException as error:
        return _told(error)
    return ""


def _told(error: BaseException) -> str:
    """The error, with the lines of the scripts alone: what Prefect is like inside is none of our business."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if HERE in frame.filename]
    return "".join([*traceback.format_list(frames), *traceback.format_exception_only(error)])


async def _awaited(answer: Any) -> None:
    await asyncio.wait_for(answer, PATIENCE)


def fresh(name: str) -> str:
    """A name that nobody used yet, for servers on which a script runs again."""
    return f"{name}-{uuid4().hex[:8]}"


def eventually(what: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Call until something true comes back, and return it; what is recorded in the background takes a moment."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.1)
    return found


@contextmanager
def raises(kind: type[BaseException], text: str = "") -> Any:
    """The block must raise an error of this kind whose message has this text."""
    try:
        yield
    except kind as error:
        assert text in str(error), f"{text!r} is not in {error}"
    else:
        raise AssertionError(f"{kind.__name__} was not raised")


client = get_client(sync_client=True)
cli = CycloptsCliRunner()


def last_run(of):
    """The newest run of a flow, as the server has it."""
    found = client.read_flow_runs(
        flow_filter=FlowFilter(name={"any_": [of.name]}), sort="EXPECTED_START_TIME_DESC", limit=1
    )
    return found[0] if found else None


def tasks_of(flow_run, count):
    """The task runs of a flow run, once all of them are known and have ended."""

    def ended():
        found = client.read_task_runs(flow_run_filter=FlowRunFilter(id={"any_": [flow_run.id]}))
        return found if len(found) == count and all(one.state.is_final() for one in found) else None

    return eventually(ended)


@contextmanager
def meanwhile(what):
    """Do something in another thread while the block runs, and raise what it raised."""
    failures = []

    def guarded():
        try:
            what()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    yield
    thread.join()
    assert not failures, failures


def prefect(*words, code=0):
    """A command of Prefect's, called in this process, for each start of it takes seconds; what it printed."""
    answer = cli.invoke(["--no-prompt", *words])
    assert answer.exit_code == code, (words, answer.exit_code, answer.stdout[-600:], answer.stderr.splitlines()[-1:])
    return answer.stdout


def shown(*words):
    """What a command printed, without the breaks that tables make in long words."""
    return re.sub(r"[\s│┃]+", "", prefect(*words))
