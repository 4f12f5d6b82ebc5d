"""Where the running code is: in which flow run, in which task run, under which tags.

Each context lies in a context variable, so threads and coroutines that the engine starts have their own. `X.get()`
gives the innermost one or None.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token, copy_context
from datetime import datetime
from functools import wraps
from typing import Any, ClassVar, ParamSpec, Self, TypeVar

from headrace.exceptions import MissingContextError

P = ParamSpec("P")
R = TypeVar("R")

_flow_run: ContextVar["FlowRunContext | None"] = ContextVar("headrace_flow_run", default=None)
_task_run: ContextVar["TaskRunContext | None"] = ContextVar("headrace_task_run", default=None)
_tags: ContextVar[frozenset[str]] = ContextVar("headrace_tags", default=frozenset())


class RunContext:
    """What the contexts of flow runs and task runs have in common.

    Used with `with`, it is the active one inside the block.
    """

    _variable: ClassVar[ContextVar[Any]]
    _tokens: "list[Token[Any]]"

    @classmethod
    def get(cls) -> Self | None:
        """The active context of this kind, or None outside of such a run."""
        found: Self | None = cls._variable.get()
        return found

    def __enter__(self) -> Self:
        self._tokens.append(self._variable.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        self._variable.reset(self._tokens.pop())


class FlowRunContext(RunContext):
    """The flow run that the code runs in.

    Args:
        run: the engine's own record of the run, which the rest is read from.
    """

    _variable = _flow_run

    def __init__(self, run: Any) -> None:
        self.run = run
        self._tokens = []

    @property
    def flow(self) -> Any:
        """The flow."""
        return self.run.flow

    @property
    def flow_run(self) -> Any:
        """The flow run as the API knows it (`schemas.flow_runs.FlowRun`)."""
        return self.run.flow_run

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters it was called with, validated."""
        found: dict[str, Any] = self.run.parameters
        return found

    @property
    def task_runner(self) -> Any:
        """What runs its submitted tasks."""
        return self.run.task_runner

    @property
    def client(self) -> Any:
        """The client its states are proposed with."""
        return self.run.client

    @property
    def start_time(self) -> datetime:
        """When this attempt began."""
        found: datetime = self.run.started
        return found

    @property
    def log_prints(self) -> bool:
        """Whether `print` goes to the run's log."""
        return bool(self.run.log_prints)

    @property
    def result_store(self) -> Any:
        """Where its results are kept."""
        return self.run.result_store

    @property
    def persist_result(self) -> bool:
        """Whether its results are persisted."""
        return bool(self.run.persist_result)


class TaskRunContext(RunContext):
    """The task run that the code runs in.

    Args:
        run: the engine's own record of the run, which the rest is read from.
    """

    _variable = _task_run
    __slots__ = ("_tokens", "run")

    def __init__(self, run: Any) -> None:
        self.run = run
        self._tokens = []

    @property
    def task(self) -> Any:
        """The task."""
        return self.run.task

    @property
    def task_run(self) -> Any:
        """The task run as it stands now (`schemas.task_runs.TaskRun`)."""
        return self.run.as_task_run()

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters it was called with, with futures replaced by results."""
        found: dict[str, Any] = self.run.parameters
        return found

    @property
    def client(self) -> Any:
        """The client of its flow run, if it has one."""
        return self.run.flow_context.client if self.run.flow_context else None

    @property
    def start_time(self) -> datetime:
        """When it began."""
        found: datetime = self.run.start_time
        return found

    @property
    def log_prints(self) -> bool:
        """Whether `print` goes to the run's log."""
        return bool(self.run.log_prints)

    @property
    def result_store(self) -> Any:
        """Where its result is kept."""
        return self.run.result_store

    @property
    def persist_result(self) -> bool:
        """Whether its result is persisted."""
        return bool(self.run.persist_result)


class TagsContext:
    """The tags that runs started now get besides their own."""

    def __init__(self, current_tags: frozenset[str]) -> None:
        self.current_tags = set(current_tags)

    @classmethod
    def get(cls) -> "TagsContext":
        """The tags in force; none outside of every `with tags(...)`."""
        return cls(_tags.get())


def current_tags() -> frozenset[str]:
    """The tags in force."""
    return _tags.get()


@contextmanager
def tags(*new_tags: str) -> Iterator[set[str]]:
    """Give tags to every run that is started inside the block, those of enclosing blocks included.

    Args:
        new_tags: the tags to add.

    Yields:
        All tags in force inside the block.
    """
    both = _tags.get() | set(new_tags)
    token = _tags.set(both)
    try:
        yield set(both)
    finally:
        _tags.reset(token)


def get_run_context() -> FlowRunContext | TaskRunContext:
    """The context of the innermost run: of the task run if there is one, else of the flow run.

    Raises:
        MissingContextError: called outside of any run.
    """
    found = TaskRunContext.get() or FlowRunContext.get()
    if found is None:
        raise MissingContextError("No run context: this can only be called inside a flow or a task.")
    return found


def with_context(fn: Callable[P, R]) -> Callable[P, R]:
    """Bind a function to the context it is wrapped in, so that a thread that calls it knows its run.

    Args:
        fn: the function.

    Returns:
        A function that runs in a copy of the present context, wherever it is called.
    """
    context = copy_context()

    @wraps(fn)
    def bound(*args: P.args, **kwargs: P.kwargs) -> R:
        return context.copy().run(fn, *args, **kwargs)

    return bound


def serialize_context() -> Any:
    """The present context, to be entered in another thread of this process with `hydrated_context`."""
    return copy_context()


@contextmanager
def hydrated_context(serialized_context: Any = None) -> Iterator[None]:
    """Enter a context taken with `serialize_context`.

    Args:
        serialized_context: what that returned; None enters nothing.
    """
    if serialized_context is None:
        yield
        return
    variables: tuple[ContextVar[Any], ...] = (_flow_run, _task_run, _tags)
    known = [variable for variable in variables if variable in serialized_context]
    tokens = [(variable, variable.set(serialized_context[variable])) for variable in known]
    try:
        yield
    finally:
        for variable, token in reversed(tokens):
            variable.reset(token)
