"""Loggers of runs.

`get_run_logger()` gives a logger whose lines belong to the run the code is in: the engine's context says which. Its
lines go to `headrace.flow_runs` or `headrace.task_runs`, with the run's ids and names as fields of the record.
"""

import io
import logging
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from headrace.context import FlowRunContext, TaskRunContext
from headrace.exceptions import MissingContextError
from headrace.logging.configuration import ensure_logging_setup

FLOW_RUNS, TASK_RUNS = "headrace.flow_runs", "headrace.task_runs"


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that says with each line which run it is of."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the run's fields to those of the call, which come first."""
        given = kwargs.get("extra")
        kwargs["extra"] = {**self.extra, **given} if given and self.extra else (given or self.extra)
        return msg, kwargs

    def getChild(self, suffix: str, extra: dict[str, Any] | None = None) -> "RunLogger":
        """A logger of the same run, with a longer name.

        Args:
            suffix: what is added to the name, behind a dot.
            extra: further fields of its lines.
        """
        return RunLogger(self.logger.getChild(suffix), {**(self.extra or {}), **(extra or {})})


PrefectLogAdapter = RunLogger
"""The name that code written for Prefect knows it by."""


def get_logger(name: str | None = None) -> logging.Logger:
    """A logger of headrace's: `headrace.NAME`, or `headrace` itself. Its lines belong to no run.

    Args:
        name: what comes behind `headrace.`; a name that begins so, or with `prefect.`, is taken as it is.
    """
    if name is None or name == "headrace":
        return logging.getLogger("headrace")
    if name.startswith(("headrace.", "prefect.")):
        return logging.getLogger(name)
    return logging.getLogger(f"headrace.{name}")


def get_run_logger(context: Any = None, **kwargs: Any) -> "RunLogger | logging.Logger":
    """The logger of the run that the code is in: the task run if there is one, else the flow run.

    Args:
        context: a context to use instead of the active one.
        kwargs: further fields of its lines.

    Raises:
        MissingContextError: the code is in no run.
    """
    ensure_logging_setup()
    flow = context if isinstance(context, FlowRunContext) else FlowRunContext.get()
    task = context if isinstance(context, TaskRunContext) else None if context is not None else TaskRunContext.get()
    if task is not None:
        return RunLogger(logging.getLogger(TASK_RUNS), {**task.run.log_fields(), **kwargs})
    if flow is not None:
        return RunLogger(logging.getLogger(FLOW_RUNS), {**flow.run.log_fields(), **kwargs})
    if logging.getLogger(FLOW_RUNS).disabled and logging.getLogger(TASK_RUNS).disabled:
        return logging.getLogger("null")
    raise MissingContextError(
        "There is no run to log for: get_run_logger() works inside a flow or a task. Elsewhere use "
        "headrace.logging.get_logger(), or in a test of a task's function `with disable_run_logger():`."
    )


def flow_run_logger(flow_run: Any = None, flow: Any = None, flow_run_id: Any = None, **kwargs: Any) -> RunLogger:
    """A logger for a flow run that the code is not in.

    Args:
        flow_run: the flow run.
        flow: its flow, if known.
        flow_run_id: its id, when it is not at hand itself.
        kwargs: further fields of its lines.

    Raises:
        ValueError: neither the run nor its id was given.
    """
    if flow_run is None and flow_run_id is None:
        raise ValueError("flow_run_logger() needs `flow_run` or `flow_run_id`.")
    ensure_logging_setup()
    fields = {
        "flow_run_name": getattr(flow_run, "name", None) or "<unknown>",
        "flow_run_id": str(flow_run.id if flow_run is not None else flow_run_id),
        "flow_name": getattr(flow, "name", None) or "<unknown>",
    }
    return RunLogger(logging.getLogger(FLOW_RUNS), {**fields, **kwargs})


def task_run_logger(
    task_run: Any, task: Any = None, flow_run: Any = None, flow: Any = None, **kwargs: Any
) -> RunLogger:
    """A logger for a task run that the code is not in.

    Args:
        task_run: the task run.
        task: its task, if known.
        flow_run: its flow run, if known.
        flow: its flow, if known.
        kwargs: further fields of its lines.
    """
    ensure_logging_setup()
    flow_run_id = task_run.flow_run_id
    fields = {
        "task_run_id": str(task_run.id),
        "task_run_name": task_run.name,
        "task_name": getattr(task, "name", None) or "<unknown>",
        "flow_run_id": str(flow_run_id) if flow_run_id is not None else None,
        "flow_run_name": getattr(flow_run, "name", None) or "<unknown>",
        "flow_name": getattr(flow, "name", None) or "<unknown>",
    }
    return RunLogger(logging.getLogger(TASK_RUNS), {**fields, **kwargs})


def get_worker_logger(worker: Any, name: str | None = None) -> RunLogger:
    """The logger of a worker: `headrace.workers.TYPE`, with its name in its lines.

    Args:
        worker: the worker.
        name: another name for the logger.
    """
    fields = {"worker_name": getattr(worker, "name", None), "work_pool_name": getattr(worker, "work_pool_name", None)}
    logger = logging.getLogger(name or f"headrace.workers.{getattr(worker, 'type', 'worker')}")
    backend_id = getattr(worker, "backend_id", None)
    return RunLogger(logger, fields if backend_id is None else {**fields, "worker_id": str(backend_id)})


@contextmanager
def disable_logger(name: str) -> Iterator[None]:
    """While inside, a logger says nothing.

    Args:
        name: of the logger.
    """
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


@contextmanager
def disable_run_logger() -> Iterator[None]:
    """While inside, `get_run_logger()` works outside of runs and says nothing: for tests of tasks' functions."""
    with disable_logger(FLOW_RUNS), disable_logger(TASK_RUNS), disable_logger("null"):
        yield


class LogEavesdropper(logging.Handler):
    """Keeps what a logger says, while inside of a `with` block.

    Args:
        eavesdrop_on: name of the logger.
        level: the least level that is kept.
    """

    def __init__(self, eavesdrop_on: str, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self.eavesdrop_on = eavesdrop_on
        self._lines = io.StringIO()

    def __enter__(self) -> Self:
        logging.getLogger(self.eavesdrop_on).addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger(self.eavesdrop_on).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self._lines.write(f"[{record.levelname}]: {record.getMessage()}\n")

    def text(self) -> str:
        """All that was kept, a line each."""
        return self._lines.getvalue()
