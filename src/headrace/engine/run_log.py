"""What the engine itself says in the log of a run.

Building a log record costs more than a small task run, so nothing is built when the logger would drop it.
"""

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.engine.flow_run import FlowRunning
    from headrace.engine.task_running import TaskRunning
    from headrace.schemas.flow_runs import FlowRun

_flow_runs = logging.getLogger("headrace.flow_runs")
_task_runs = logging.getLogger("headrace.task_runs")


def _log(logger: logging.Logger, level: int, run: Any, message: str, arguments: Any, error: Any = None) -> None:
    if logger.isEnabledFor(level):
        logger.log(level, message, *arguments, exc_info=error, extra=run.log_fields())


def task_info(run: "TaskRunning", message: str, *arguments: Any) -> None:
    """A line at level INFO in the log of a task run."""
    _log(_task_runs, logging.INFO, run, message, arguments)


def task_error(run: "TaskRunning", message: str, error: BaseException | None, *arguments: Any) -> None:
    """A line at level ERROR in the log of a task run, with the traceback of `error`."""
    _log(_task_runs, logging.ERROR, run, message, arguments, error)


def task_finished(run: "TaskRunning") -> None:
    """Which state a task run ended in.

    That it completed is a line for debugging: the states of task runs are recorded anyway, and in a flow of thousands
    of tasks such lines cost two thirds of the time of a task run, most of it for writing to the console.
    """
    _finished(_task_runs, run, logging.DEBUG)


def flow_begun(run: "FlowRunning") -> None:
    """That an attempt of a flow run begins."""
    _log(_flow_runs, logging.INFO, run, "Beginning flow run %r for flow %r", (run.flow_run.name, run.flow.name))


def flow_error(run: "FlowRunning", message: str, error: BaseException | None, *arguments: Any) -> None:
    """A line at level ERROR in the log of a flow run, with the traceback of `error`."""
    _log(_flow_runs, logging.ERROR, run, message, arguments, error)


def flow_finished(run: "FlowRunning") -> None:
    """Which state a flow run ended in."""
    _finished(_flow_runs, run, logging.INFO)


def flow_run_line(flow_run: "FlowRun", message: str) -> None:
    """A line at level ERROR in the log of a flow run that does not run in this process."""
    if _flow_runs.isEnabledFor(logging.ERROR):
        fields = {"flow_run_id": str(flow_run.id), "flow_run_name": flow_run.name, "flow_name": "<unknown>"}
        _flow_runs.error("%s", message, extra=fields)


def hook_failed(run: Any, hook: Any, error: BaseException) -> None:
    """That a user's hook raised."""
    logger = _task_runs if hasattr(run, "task") else _flow_runs
    _log(logger, logging.ERROR, run, "An error was encountered while running hook %r", (_name(hook),), error)


def _name(hook: Any) -> str:
    return getattr(hook, "__name__", None) or repr(hook)


def _finished(logger: logging.Logger, run: Any, completed: int) -> None:
    state = run.state
    if state is None or (state.is_pending() and state.name != "NotReady"):
        return
    level = completed if state.is_completed() else logging.ERROR
    if logger.isEnabledFor(level):
        logger.log(level, "Finished in state %s", state, extra=run.log_fields())
