"""Tasks: functions whose calls inside a flow are recorded, tried again, cached, run in parallel.

@task(retries=2)
def fetch(url: str) -> str: ...

fetch(url)              calls it and gives its result
fetch.submit(url)       starts it and gives a future
fetch.map(urls)         starts one run for each element and gives a list of futures
"""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, Self, TypeVar, overload

from headrace._internal.lazy import Lazy
from headrace.context import FlowRunContext, current_tags
from headrace.engine import parts
from headrace.engine.hooks import TaskHooks
from headrace.engine.naming import check_template, render_name
from headrace.engine.retries import Delays, check_retries, exponential_backoff
from headrace.engine.wrapping import FunctionWrapper
from headrace.exceptions import MissingContextError
from headrace.utilities.annotations import NotSet

if TYPE_CHECKING:
    from datetime import timedelta

    from headrace import futures as _futures
    from headrace.cache_policies import CachePolicy
    from headrace.schemas.states import State
else:
    _futures = Lazy("headrace.futures")

P = ParamSpec("P")
R = TypeVar("R")

Hook = Callable[..., Any]
"""A function that is called with the task, the task run and the state."""

NUM_CHARS_DYNAMIC_KEY = 8

_CAN_BE_NONE = frozenset(
    {"task_run_name", "persist_result", "result_storage", "result_serializer", "result_storage_key", "log_prints"}
    | {"cache_policy", "refresh_cache", "retries", "retry_delay_seconds", "retry_jitter_factor"}
)
"""The options that `with_options` sets to None when it is given None; for all others None means "as it is"."""

__all__ = ["NUM_CHARS_DYNAMIC_KEY", "Hook", "Task", "exponential_backoff", "task", "task_input_hash"]


class Task(FunctionWrapper, TaskHooks, Generic[P, R]):
    """A function as a task; `@task(...)` takes the same options.

    Args:
        fn: the function.
        name: its name for people; the function's when absent.
        description: what it does; the function's docstring when absent.
        tags: tags of its runs.
        version: its version.
        cache_policy: what makes two runs the same, so that one result serves for both; see `headrace.cache_policies`.
        cache_key_fn: an older way to say so: a function of context and parameters that makes the key.
        cache_expiration: for how long a result may serve.
        task_run_name: names its runs: text with `{parameter}` in it, or a function.
        retries: how often a run that fails is tried again.
        retry_delay_seconds: seconds before a retry: one number, a list, or `exponential_backoff(...)`.
        retry_jitter_factor: by how much of itself a delay may grow, at random.
        persist_result: store its result; as its flow says when absent, and implied by the options about caching.
        result_storage: where, as a folder's path or a file system.
        result_serializer: how: "pickle", "json", "compressed/pickle", ..., or a serializer.
        result_storage_key: under which name: text with `{parameters[x]}`, `{flow_run.name}` and the like in it.
        cache_result_in_memory: keep results in memory too.
        timeout_seconds: how long an attempt may take.
        log_prints: send what it prints to its log; as its flow says when absent.
        refresh_cache: run although there is a result, and replace it.
        on_completion: hooks `(task, task_run, state)` to call when a run has completed.
        on_failure: the same for a run that failed or crashed.
        on_running: the same for a run that begins, and at each retry.
        on_rollback: hooks `(transaction)` to call when what the run did is to be undone.
        on_commit: hooks `(transaction)` to call when it is kept.
        retry_condition_fn: says from task, run and failed state whether to try again.
        viz_return_value: what stands for its result where a flow is drawn without running.
        asset_deps: assets that it reads.

    Raises:
        TypeError: an option is of the wrong type.
        ValueError: there are more than 50 delays, or the jitter is negative.
    """

    _key = "task_key"
    _section = "tasks"

    def __init__(
        self,
        fn: Callable[P, R],
        name: str | None = None,
        description: str | None = None,
        tags: Iterable[str] | None = None,
        version: str | None = None,
        cache_policy: Any = NotSet,
        cache_key_fn: Callable[..., str | None] | None = None,
        cache_expiration: "timedelta | None" = None,
        task_run_name: str | Callable[..., str] | None = None,
        retries: int | None = None,
        retry_delay_seconds: Delays = None,
        retry_jitter_factor: float | None = None,
        persist_result: bool | None = None,
        result_storage: Any = None,
        result_serializer: Any = None,
        result_storage_key: str | None = None,
        cache_result_in_memory: bool = True,
        timeout_seconds: float | None = None,
        log_prints: bool | None = None,
        refresh_cache: bool | None = None,
        on_completion: list[Hook] | None = None,
        on_failure: list[Hook] | None = None,
        on_running: list[Hook] | None = None,
        on_rollback: list[Hook] | None = None,
        on_commit: list[Hook] | None = None,
        retry_condition_fn: Callable[..., bool] | None = None,
        viz_return_value: Any = None,
        asset_deps: Any = None,
    ) -> None:
        self._options = {key: value for key, value in locals().items() if key not in ("self", "fn", "__class__")}
        self._wrap(fn)
        self.name = str(name or getattr(self.fn, "__name__", type(self.fn).__name__))
        self.description = description or self._doc
        self.version = version
        self.tags = frozenset(tags or ())
        self.task_run_name = task_run_name
        check_template("task_run_name", task_run_name)
        check_retries(retries, retry_delay_seconds, retry_jitter_factor, retry_condition_fn)
        self.retry_jitter_factor = retry_jitter_factor
        self.retry_condition_fn = retry_condition_fn
        self._set_hooks(
            "task",
            on_completion=on_completion,
            on_failure=on_failure,
            on_running=on_running,
            on_rollback=on_rollback,
            on_commit=on_commit,
        )
        self.timeout_seconds = float(timeout_seconds) if timeout_seconds else None
        self.log_prints = log_prints
        self.viz_return_value = viz_return_value
        self.asset_deps = asset_deps
        self.cache_key_fn = cache_key_fn
        self.cache_expiration = cache_expiration
        self.refresh_cache = refresh_cache
        self.result_storage = result_storage
        self.result_serializer = result_serializer
        self.result_storage_key = result_storage_key
        self.cache_result_in_memory = cache_result_in_memory

    # What the engine asks. What takes settings, or modules that only a run needs, is worked out when it is asked for.

    @cached_property
    def policy(self) -> "parts.task_run_schema.TaskRunPolicy":
        """How runs are tried again, as the API's record of a run has it."""
        shown = list(self.delays) if len(self.delays) > 1 else (self.delays[0] if self.delays else 0)
        return parts.task_run_schema.TaskRunPolicy(
            retries=self.retries, retry_delay=shown, retry_jitter_factor=self.retry_jitter_factor
        )

    @cached_property
    def task_key(self) -> str:
        """What tells the task from all others."""
        return parts.identity.function_key(self.fn, self.name)

    @cached_property
    def _caching(self) -> "tuple[bool | None, CachePolicy]":
        storage = (self.result_storage, self.result_serializer, self.result_storage_key)
        given = self._options
        return parts.keeping.caching_options(given["persist_result"], given["cache_policy"], self.cache_key_fn, storage)

    @property
    def persist_result(self) -> bool | None:
        """Whether results are stored; None leaves it to the flow."""
        return self._caching[0]

    @property
    def cache_policy(self) -> "CachePolicy":
        """What makes two runs the same."""
        return self._caching[1]

    @cached_property
    def tag_list(self) -> list[str]:
        """The task's own tags, sorted."""
        return sorted(self.tags)

    @property
    def name_template(self) -> str | Callable[..., str] | None:
        """What names its runs, if anything does."""
        return self.task_run_name

    @property
    def refreshes(self) -> bool:
        """Whether results from before are not to be used."""
        own = self.refresh_cache
        return own if own is not None else parts.settings.get_settings().tasks.refresh_cache

    def run_name(self, parameters: dict[str, Any]) -> str:
        """The name of a run with these parameters."""
        assert self.task_run_name is not None
        return render_name("task_run_name", self.task_run_name, parameters)

    def hooks_for(self, state: "State") -> list[Hook]:
        """The hooks that a state calls."""
        if state.is_completed():
            return self.on_completion_hooks
        return self.on_failure_hooks if state.is_failed() or state.is_crashed() else []

    # What users call

    @overload
    def __call__(self, *args: Any, return_state: Literal[False] = False, wait_for: Any = None, **kwargs: Any) -> R: ...
    @overload
    def __call__(self, *args: Any, return_state: Literal[True], wait_for: Any = None, **kwargs: Any) -> "State": ...
    def __call__(self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any) -> Any:
        """Run the task and give its result; asynchronous tasks give a coroutine, generators what they yield.

        Args:
            args: arguments of the function; futures among them are waited for.
            return_state: give the final state in place of the result.
            wait_for: runs that must have completed before.
            kwargs: arguments of the function.

        Raises:
            Exception: what the function raised; not with `return_state`.
            ParameterBindError: the arguments do not fit.
        """
        parameters = self.signature.bind(args, kwargs)
        run = parts.task_running.TaskRunning(self, parameters, wait_for, current_tags())
        give = parts.ended.Ended.give_state if return_state else parts.ended.Ended.give
        if self.isgenerator and not return_state:
            across = parts.drivers.drive_generator_async if self.isasync else parts.drivers.drive_generator
            return across(parts.task_run.run_task(run), self.run_fn, self.fn, give)
        if self.isasync:
            return _give_later(run, give)
        return give(parts.drivers.drive(parts.task_run.run_task(run)))

    def submit(self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any) -> Any:
        """Start a run in the task runner of the flow and give its future.

        Args:
            args: arguments of the function; futures among them are waited for first.
            return_state: wait, and give the final state in place of the future.
            wait_for: runs that must have completed before.
            kwargs: arguments of the function.

        Raises:
            MissingContextError: called outside of a flow.
            ParameterBindError: the arguments do not fit.
        """
        future = self._task_runner().submit(self, self.signature.bind(args, kwargs), wait_for)
        if return_state:
            future.wait()
            return future.state
        return future

    def map(
        self, *args: Any, return_state: bool = False, wait_for: Any = None, deferred: bool = False, **kwargs: Any
    ) -> Any:
        """Start one run for each element of the lists among the arguments, and give their futures.

        Args:
            args: arguments of the function: lists of equal length, or values for all runs, `unmapped` if iterable.
            return_state: wait, and give the final states in place of the futures.
            wait_for: runs that must have completed before.
            deferred: hand the runs to a task worker; not available yet.
            kwargs: arguments of the function.

        Raises:
            MappingMissingIterable: there is no list.
            MappingLengthMismatch: the lists differ in length.
            MissingContextError: called outside of a flow.
        """
        if deferred:
            raise NotImplementedError("Deferred task runs are not available yet; use map without deferred=True.")
        runner, bind = self._task_runner(), self.signature.bind
        futures: _futures.PrefectFutureList[Any] = _futures.PrefectFutureList()
        for row, named in parts.mapping.calls_of_map(self.signature, args, kwargs):
            futures.append(runner.submit(self, bind(row, named), wait_for))
        if return_state:
            futures.wait()
            return [future.state for future in futures]
        return futures

    def _task_runner(self) -> Any:
        context = FlowRunContext.get()
        if context is None:
            raise MissingContextError(
                f"Task {self.name!r} can be submitted inside a flow only: call it directly, "
                "or put the call into a function decorated with @flow."
            )
        return context.task_runner

    def with_options(self, **options: Any) -> Self:
        """A task of the same function with other options; those not given stay as they are.

        Args:
            options: as of `@task`.

        Raises:
            TypeError: there is no such option.
        """
        if unknown := set(options) - set(self._options):
            raise TypeError(f"@task has no option {sorted(unknown)[0]!r}.")
        changed = {k: v for k, v in options.items() if v is not NotSet and (v is not None or k in _CAN_BE_NONE)}
        made = type(self)(self.fn, **(self._options | self.hook_lists() | changed))
        made._method = self._method
        return made

    def __repr__(self) -> str:
        return f"<Task {self.name!r}>"


async def _give_later(run: "parts.task_running.TaskRunning", give: "Callable[[parts.ended.Ended], Any]") -> Any:
    return give(await parts.drivers.drive_async(parts.task_run.run_task(run)))


@overload
def task(__fn: Callable[P, R]) -> Task[P, R]: ...
@overload
def task(__fn: None = None, **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(__fn: Any = None, **options: Any) -> Any:
    """Make a function a task.

    Args:
        __fn: the function; with options, `@task(...)` gives the decorator.
        options: see `Task`.
    """
    if __fn is not None:
        return Task(__fn, **options)

    def decorate(fn: Callable[P, R]) -> Task[P, R]:
        return Task(fn, **options)

    return decorate


def task_input_hash(context: Any, arguments: dict[str, Any]) -> str | None:
    """A cache key made of the task and its inputs, for `cache_key_fn`.

    Args:
        context: of the task run.
        arguments: its parameters.
    """
    return parts.hashing.hash_objects(context.task.task_key, context.task.fn.__code__.co_code, arguments)
