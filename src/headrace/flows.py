"""Flows: functions whose runs are recorded, with a state, parameters, logs and task runs.

@flow(retries=1)
def report(day: date) -> str: ...

report(date(2026, 1, 1))            runs it here and gives its result
report.submit(...), report.map()    inside a flow: run it beside others and give futures
report.deploy("nightly", ...)       have workers run it
"""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, Self, TypeVar, overload

from headrace._internal.lazy import Lazy
from headrace.context import FlowRunContext
from headrace.engine import parts
from headrace.engine.flow_deploying import FlowDeploying
from headrace.engine.hooks import FlowHooks
from headrace.engine.naming import check_name, check_template, render_name, source_of
from headrace.engine.retries import Delays, check_retries
from headrace.engine.wrapping import FunctionWrapper
from headrace.exceptions import MissingContextError
from headrace.utilities.annotations import NotSet

if TYPE_CHECKING:
    from headrace import futures as _futures
    from headrace import task_runners as _task_runners
    from headrace.engine.loading import load_flow_from_entrypoint as load_flow_from_entrypoint
    from headrace.engine.loading import select_flow as select_flow
    from headrace.schemas.states import State
else:
    _futures = Lazy("headrace.futures")
    _task_runners = Lazy("headrace.task_runners")

P = ParamSpec("P")
R = TypeVar("R")

Hook = Callable[..., Any]
"""A function that is called with the flow, the flow run and the state."""


class Flow(FunctionWrapper, FlowHooks, FlowDeploying, Generic[P, R]):
    """A function as a flow; `@flow(...)` takes the same options.

    Args:
        fn: the function.
        name: its name for people; made from the function's when absent.
        version: its version; a hash of the file it is in when absent.
        flow_run_name: names its runs: text with `{parameter}` in it, or a function.
        retries: how often a run that fails is tried again, in its process.
        retry_delay_seconds: seconds before a retry; a list gives each its own.
        task_runner: where its submitted tasks run; threads when absent.
        description: what it does; the function's docstring when absent.
        timeout_seconds: how long a run may take.
        validate_parameters: check and coerce parameters by their annotations, as pydantic does.
        persist_result: store its result, and those of its tasks that do not say.
        result_storage: where, as a folder's path or a file system.
        result_serializer: how: "pickle", "json", "compressed/pickle", ..., or a serializer.
        cache_result_in_memory: keep results in memory too.
        log_prints: send what it prints to its log.
        on_completion: hooks `(flow, flow_run, state)` to call when a run has completed.
        on_failure: the same for a run that failed.
        on_cancellation: the same for a run that was cancelled.
        on_crashed: the same for a run that crashed.
        on_running: the same for a run that begins, and at each retry.

    Raises:
        TypeError: an option is of the wrong type.
        InvalidNameError: the name has a character that would break a URL.
    """

    _key = "flow_key"
    _section = "flows"

    def __init__(
        self,
        fn: Callable[P, R],
        name: str | None = None,
        version: str | None = None,
        flow_run_name: str | Callable[..., str] | None = None,
        retries: int | None = None,
        retry_delay_seconds: Delays = None,
        task_runner: "_task_runners.TaskRunner[Any] | type[_task_runners.TaskRunner[Any]] | None" = None,
        description: str | None = None,
        timeout_seconds: float | None = None,
        validate_parameters: bool = True,
        persist_result: bool | None = None,
        result_storage: Any = None,
        result_serializer: Any = None,
        cache_result_in_memory: bool = True,
        log_prints: bool | None = None,
        on_completion: list[Hook] | None = None,
        on_failure: list[Hook] | None = None,
        on_cancellation: list[Hook] | None = None,
        on_crashed: list[Hook] | None = None,
        on_running: list[Hook] | None = None,
    ) -> None:
        self._options = {key: value for key, value in locals().items() if key not in ("self", "fn", "__class__")}
        self._wrap(fn)
        called = getattr(self.fn, "__name__", type(self.fn).__name__)
        self.name = check_name(name or ("unknown-lambda" if called == "<lambda>" else called.replace("_", "-")))
        self.description = description or self._doc
        self.flow_run_name = flow_run_name
        check_template("flow_run_name", flow_run_name)
        self._version = version
        check_retries(retries, retry_delay_seconds, None, None)
        self.timeout_seconds = float(timeout_seconds) if timeout_seconds else None
        _check_task_runner(task_runner)
        self.should_validate_parameters = validate_parameters
        self.log_prints = log_prints
        keeps = result_storage is not None or result_serializer is not None
        self.persist_result = True if persist_result is None and keeps else persist_result
        self.result_storage = result_storage
        self.result_serializer = result_serializer
        self.cache_result_in_memory = cache_result_in_memory
        self._set_hooks(
            "flow",
            on_completion=on_completion,
            on_failure=on_failure,
            on_cancellation=on_cancellation,
            on_crashed=on_crashed,
            on_running=on_running,
        )

    # What the engine asks. What takes settings, or modules that only a run needs, is worked out when it is asked for.

    @cached_property
    def policy(self) -> "parts.flow_run_schema.FlowRunPolicy":
        """How runs are tried again, as the API's record of a run has it."""
        return parts.flow_run_schema.FlowRunPolicy(
            retries=self.retries, retry_delay=int(self.delays[0]) if self.delays else 0
        )

    @cached_property
    def task_runner(self) -> "_task_runners.TaskRunner[Any]":
        """What runs the tasks that its runs submit; each run gets one of its own like this one."""
        given = self._options["task_runner"] or _task_runners.ThreadPoolTaskRunner
        made: _task_runners.TaskRunner[Any] = given() if isinstance(given, type) else given
        return made

    @cached_property
    def flow_key(self) -> str:
        """What tells the flow from all others, where a child run is looked for."""
        return parts.identity.function_key(self.fn, self.name)

    @cached_property
    def _validator(self) -> "parts.parameters.ParameterValidator":
        return parts.parameters.ParameterValidator(self.signature)

    @cached_property
    def version(self) -> str | None:
        """What was given as version, else a hash of the file that the function is in; None without a file."""
        return self._version or parts.loading.hash_of_file(source_of(self.fn))

    @property
    def name_template(self) -> str | Callable[..., str] | None:
        """What names its runs, if anything does."""
        return self.flow_run_name

    def run_name(self, parameters: dict[str, Any]) -> str:
        """The name of a run with these parameters."""
        assert self.flow_run_name is not None
        return render_name("flow_run_name", self.flow_run_name, parameters)

    def validated(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """The parameters as the function shall get them.

        Raises:
            ParameterTypeError: some do not fit their annotation.
        """
        return self._validator(parameters) if self.should_validate_parameters else parameters

    def log_prints_in(self, parent: "parts.flow_run.FlowRunning | None") -> bool:
        """Whether `print` goes to the log of its runs."""
        if self.log_prints is not None:
            return self.log_prints
        return parent.log_prints if parent is not None else parts.settings.get_settings().logging.log_prints

    def hooks_for(self, state: "State") -> list[Hook]:
        """The hooks that a state calls."""
        if state.is_completed():
            return self.on_completion_hooks
        if state.is_failed():
            return self.on_failure_hooks
        if state.is_crashed():
            return self.on_crashed_hooks
        return self.on_cancellation_hooks if state.is_cancelled() or state.is_cancelling() else []

    # What users call

    @overload
    def __call__(self, *args: Any, return_state: Literal[False] = False, wait_for: Any = None, **kwargs: Any) -> R: ...
    @overload
    def __call__(self, *args: Any, return_state: Literal[True], wait_for: Any = None, **kwargs: Any) -> "State": ...
    def __call__(self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any) -> Any:
        """Run the flow here and give its result; asynchronous flows give a coroutine, generators what they yield.

        Args:
            args: arguments of the function.
            return_state: give the final state in place of the result.
            wait_for: runs that must have completed before; for flows called in flows.
            kwargs: arguments of the function.

        Raises:
            Exception: what the function raised; not with `return_state`.
            ParameterBindError: the arguments do not fit.
            ParameterTypeError: an argument does not have the type that its annotation asks for.
            ApiUnreachable: the API does not answer, so the run cannot be recorded.
            Abort: the API does not let it run.
        """
        run = self._new_run(args, kwargs, wait_for)
        return self.carry_out(run, parts.ended.Ended.give_state if return_state else parts.ended.Ended.give)

    def carry_out(self, run: "parts.flow_run.FlowRunning", give: "Callable[[parts.ended.Ended], Any]") -> Any:
        """Run a flow run that was prepared; how `__call__` and the engine's entry do it.

        Args:
            run: the run.
            give: what to make of its end.
        """
        if self.isgenerator and give is parts.ended.Ended.give:
            across = parts.drivers.drive_generator_async if self.isasync else parts.drivers.drive_generator
            return across(parts.flow_run.run_flow(run), self.run_fn, self.fn, give)
        if self.isasync:
            return _give_later(run, give)
        with parts.interrupts.signals_raise():
            ended = parts.drivers.drive(parts.flow_run.run_flow(run))
        return give(ended)

    def _new_run(self, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any) -> "parts.flow_run.FlowRunning":
        parameters = self.signature.bind(args, kwargs)
        context = FlowRunContext.get()
        client = context.client if context is not None else parts.client.get_client()
        return parts.flow_run.FlowRunning(self, parameters, client, parts.recorder.current(), wait_for=wait_for)

    def submit(self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any) -> Any:
        """Run the flow as a child of this one, beside it, and give its future.

        Args:
            args: arguments of the function; futures among them are waited for first.
            return_state: wait, and give the final state in place of the future.
            wait_for: runs that must have completed before.
            kwargs: arguments of the function.

        Raises:
            MissingContextError: called outside of a flow.
            ParameterBindError: the arguments do not fit.
        """
        future = self._submit(args, kwargs, wait_for)
        if return_state:
            future.wait()
            return future.state
        return future

    def _submit(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any
    ) -> "_futures.PrefectConcurrentFuture[Any]":
        context = FlowRunContext.get()
        if context is None:
            raise MissingContextError(
                f"Flow {self.name!r} can be submitted inside a flow only: call it directly, "
                "or put the call into a function decorated with @flow."
            )
        run = self._new_run(args, kwargs, wait_for)
        needs, _ = parts.upstream.search((*run.parameters.values(), wait_for))
        steps, as_input = parts.flow_run.run_flow(run), _futures.flow_run_input
        return context.run.flow_runner.start(run, steps, self.isasync, as_input, needs)  # type: ignore[no-any-return]

    def map(self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any) -> Any:
        """Run the flow once for each element of the lists among the arguments, and give the futures.

        Args:
            args: arguments of the function: lists of equal length, or values for all runs, `unmapped` if iterable.
            return_state: wait, and give the final states in place of the futures.
            wait_for: runs that must have completed before.
            kwargs: arguments of the function.

        Raises:
            MappingMissingIterable: there is no list.
            MappingLengthMismatch: the lists differ in length.
            MissingContextError: called outside of a flow.
        """
        calls = parts.mapping.calls_of_map(self.signature, args, kwargs)
        futures: _futures.PrefectFutureList[Any] = _futures.PrefectFutureList()
        futures.extend(self._submit(row, named, wait_for) for row, named in calls)
        if return_state:
            futures.wait()
            return [future.state for future in futures]
        return futures

    def with_options(self, **options: Any) -> Self:
        """A flow of the same function with other options; those not given, or given as None, stay as they are.

        Args:
            options: as of `@flow`.

        Raises:
            TypeError: there is no such option.
        """
        if unknown := set(options) - set(self._options):
            raise TypeError(f"@flow has no option {sorted(unknown)[0]!r}.")
        clears = ("persist_result", "result_storage", "result_serializer", "log_prints")
        changed = {
            key: value for key, value in options.items() if value is not NotSet and (value is not None or key in clears)
        }
        made = type(self)(self.fn, **(self._options | self.hook_lists() | changed))
        made._method = self._method
        vars(made).update({k: v for k, v in vars(self).items() if k in ("_storage", "_entrypoint", "_path")})
        return made

    def validate_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Parameters checked and coerced by the function's annotations.

        Args:
            parameters: by name.

        Raises:
            ParameterTypeError: some do not fit.
        """
        return self._validator(parameters)

    def serialize_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Parameters as plain data, as the API's record of a run has them.

        Args:
            parameters: by name.
        """
        return parts.parameters.jsonable(parameters)

    def __repr__(self) -> str:
        return f"<Flow {self.name!r}>"


async def _give_later(run: "parts.flow_run.FlowRunning", give: "Callable[[parts.ended.Ended], Any]") -> Any:
    with parts.interrupts.cancels_this_coroutine(run):
        ended = await parts.drivers.drive_async(parts.flow_run.run_flow(run))
    return give(ended)


def _check_task_runner(given: Any) -> None:
    if given is not None and not hasattr(given, "submit"):
        raise TypeError(f"Expected a task runner for 'task_runner'; got {type(given).__name__} instead.")


class FlowDecorator:
    """What `flow` is: a decorator, with and without arguments, and the way to flows whose code is kept elsewhere."""

    def from_source(self, source: Any, entrypoint: str) -> Flow[..., Any]:
        """See `Flow.from_source`."""
        return Flow.from_source(source, entrypoint)

    @overload
    def __call__(self, __fn: Callable[P, R]) -> Flow[P, R]: ...
    @overload
    def __call__(self, __fn: None = None, **options: Any) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
    def __call__(self, __fn: Any = None, **options: Any) -> Any:
        """Make a function a flow.

        Args:
            __fn: the function; with options, `@flow(...)` gives the decorator.
            options: see `Flow`.
        """
        if __fn is not None:
            return Flow(__fn, **options)

        def decorate(fn: Callable[P, R]) -> Flow[P, R]:
            return Flow(fn, **options)

        return decorate


flow = FlowDecorator()


_ELSEWHERE = {
    "aserve": "headrace.runner",
    "load_flow_from_entrypoint": "headrace.engine.loading",
    "select_flow": "headrace.engine.loading",
    "serve": "headrace.runner",
}


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(Lazy(_ELSEWHERE[name]), name)
