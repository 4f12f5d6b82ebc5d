"""What becomes of results: held in memory, persisted, found again.

Each task run is a transaction: inside another one, or inside another task, what it made is kept or undone with that.

A persisted task has a key for its result: made by its cache policy from its inputs, its source, its run, or whatever
the policy says. A result under that key that has not expired ends the run as "Cached". Without a key, or when a policy
fails to make one, the result is stored under a key of its own, which only the run's state knows.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from headrace.cache_policies import DEFAULT, NO_CACHE, CacheKeyFnPolicy, CachePolicy
from headrace.context import FlowRunContext, TaskRunContext
from headrace.engine import run_log
from headrace.engine.steps import Blocking, Call, Steps
from headrace.logging import get_logger, get_run_logger
from headrace.results import ResultStore, get_default_persist_setting_for_tasks
from headrace.schemas.states import State, StateType
from headrace.settings import get_settings
from headrace.states import Held
from headrace.transactions import IsolationLevel, Transaction, TransactionState, get_transaction
from headrace.utilities.annotations import NotSet

if TYPE_CHECKING:
    from headrace.engine.ended import Ended
    from headrace.engine.flow_run import FlowRunning
    from headrace.engine.task_running import TaskRunning

_logger = get_logger("transactions")

Keep = Callable[[Any], Steps[BaseException | None]]
Attempts = Callable[["TaskRunning", Keep], Steps["Ended"]]
Finish = Callable[["TaskRunning", Any, BaseException | None], Steps["Ended"]]
Fail = Callable[["TaskRunning", BaseException], Steps["Ended"]]


def shown(state: State, value: Any) -> State:
    """A state as users get it: with the result in it."""
    return replace(state, data=Held(value))


def is_persisted(data: Any) -> bool:
    """Whether a state's data tell where its result is stored."""
    return isinstance(data, dict) and bool(data.get("storage_key"))


def caching_options(
    persist: bool | None, policy: Any, key_fn: Any, storage: tuple[Any, ...]
) -> tuple[bool | None, CachePolicy]:
    """The options `persist_result` and `cache_policy` of a task as they are in force.

    Args:
        persist: the option as given; any option about caching or storage implies it.
        policy: the option as given.
        key_fn: the option `cache_key_fn`, an older way to give a policy.
        storage: the options that say where results go.
    """
    chosen = policy is not NotSet and policy is not None and policy != NO_CACHE
    if persist is None and (chosen or key_fn is not None or any(item is not None for item in storage)):
        persist = True
    if policy is None or persist is False:
        policy = NO_CACHE
    elif policy is NotSet and key_fn is not None:
        policy = CacheKeyFnPolicy(cache_key_fn=key_fn)
    elif policy is NotSet:
        policy = NO_CACHE if storage[-1] is not None or get_settings().tasks.default_no_cache else DEFAULT
    return persist, policy


def persists(task: Any, flow: "FlowRunning | None") -> bool:
    """Whether the result of a task run is persisted: as the task says, else as its flow, else as the settings."""
    if task.persist_result is not None:
        return bool(task.persist_result)
    if flow is not None and flow.persist_result is not None:
        return flow.persist_result
    return get_default_persist_setting_for_tasks()


def flow_persists(flow: Any, parent: "FlowRunning | None") -> bool | None:
    """Whether results of a flow, and of its tasks that do not say, are persisted; None leaves it to the settings."""
    if flow.persist_result is not None:
        return bool(flow.persist_result)
    return parent.persist_result if parent is not None else None


def store_of_flow(flow: Any) -> ResultStore:
    """Where a flow's results are kept: as it says, else as the flow around it, else as the settings."""
    outer = FlowRunContext.get()
    around = outer.result_store if outer is not None else None
    return (around or ResultStore()).update_for_flow(flow)


def run_kept(run: "TaskRunning", attempts: Attempts, finish: Finish, fail: Fail) -> Steps["Ended"]:
    """Carry on a task run inside a transaction of its own: find its result under its key, or make it and store it.

    Args:
        run: the run.
        attempts: what calls the function.
        finish: ends the run in its present state.
        fail: ends it by an error.
    """
    work = yield from _transaction(run)
    if work.key is None:
        work.begin()
    else:
        begun = yield Blocking(work.begin)
        if begun.error is not None:
            return (yield from fail(run, begun.error))
        found = (yield Blocking(work.read)).value if work.is_committed() else None
        if found is not None:
            yield Blocking(work._end, None)
            run.enter(StateType.COMPLETED, "Cached", data=found.data)
            return (yield from finish(run, found.result, None))
        work.state = TransactionState.ACTIVE  # also when its result was there a moment ago, and is not any more

    def keep(value: Any) -> "Steps[BaseException | None]":  # quoted, as it is evaluated with every call
        return _keep(run, work, value)

    work._enter()
    try:
        ended = yield from attempts(run, keep)
    finally:
        work._leave()
    if work.is_active():
        yield from _end(work, ended.error)
    return ended


def _transaction(run: "TaskRunning") -> Steps[Transaction]:
    task = run.task
    logger = get_run_logger() if task.on_rollback_hooks or task.on_commit_hooks else _logger
    if not run.persist:
        return Transaction(write_on_commit=False, logger=logger)
    work = Transaction(
        store=_store_of_task(run),
        key=(yield from _key(run)),
        overwrite=task.refreshes,
        isolation_level=task.cache_policy.isolation_level,
        logger=logger,
    )
    if work.key is not None and _level(work) is IsolationLevel.SERIALIZABLE:
        work._holder = str(run.id)  # the default holder is a thread, and each step may run in another one
    return work


def _keep(run: "TaskRunning", work: Transaction, value: Any) -> Steps[BaseException | None]:
    """End the transaction well, and enter the state that says where the result is; gives what went wrong, if it did."""
    task, store = run.task, work.store if run.persist else None
    record = None
    if store is not None:
        expires = task.cache_expiration
        until = datetime.now(UTC) + expires if expires is not None else None
        record = store.create_result_record(value, work.key, until)
    work.stage(record if record is not None else value, task.on_rollback_hooks, task.on_commit_hooks)
    error = yield from _end(work, None)
    if error is None and store is not None and record is not None and work.key is None and not work.is_rolled_back():
        error = (yield Blocking(store.persist_result_record, record)).error
    if error is None and record is not None and not work.is_rolled_back():
        run.enter(StateType.COMPLETED, "Completed", data=record.data)
    elif error is None:
        run.enter(StateType.COMPLETED, "Completed", untrackable_result=True)
    return error


def _level(work: Transaction) -> IsolationLevel | None:
    outer = get_transaction()
    return work.isolation_level or (outer.isolation_level if outer is not None else None)


def _end(work: Transaction, error: BaseException | None) -> Steps[BaseException | None]:
    """End a transaction; what only lives in memory is ended at once, without the detour over a thread."""
    if work.key is None and not work.children and not work.on_commit_hooks and not work.on_rollback_hooks:
        work._end(error)
        return None
    outcome = yield Blocking(work._end, error)
    return outcome.error


def _store_of_task(run: "TaskRunning") -> ResultStore:
    store: ResultStore = run.flow.result_store if run.flow is not None else ResultStore()
    run.result_store = store.update_for_task(run.task)
    found: ResultStore = run.result_store
    return found


def _key(run: "TaskRunning") -> Steps[str | None]:
    """The key of the run's result; None when it gets one of its own."""
    task = run.task
    if task.result_storage_key is not None:
        formatted = yield Call(_formatted_key, (task.result_storage_key, run))
        return formatted.unwrap()  # type: ignore[no-any-return]
    if get_settings().tasks.disable_caching:
        return None
    flow_parameters = run.flow.parameters if run.flow is not None else {}
    context = TaskRunContext.get()
    made = yield Call(
        task.cache_policy.compute_key,
        (),
        {"task_ctx": context, "inputs": run.parameters, "flow_parameters": flow_parameters},
    )
    if made.error is not None:
        run_log.task_error(run, "No cache key could be made, so the task runs without a cache.", made.error)
        return None
    key: str | None = made.value
    run.cache_key = key
    return key


def _formatted_key(template: str, run: "TaskRunning") -> str:
    parameters = run.parameters
    return template.format(**parameters, parameters=parameters, flow_run=_Lazy(run, "flow"), task_run=run.as_task_run())


class _Lazy:
    """`{flow_run.name}` in a key, looked up when it is there."""

    def __init__(self, run: "TaskRunning", _: str) -> None:
        self._run = run

    def __getattr__(self, name: str) -> Any:
        assert self._run.flow is not None
        return getattr(self._run.flow.flow_run, name)


def keep_of_flow(run: "FlowRunning", value: Any) -> Steps[Any]:
    """Persist the result of a flow run; gives the data for its state, None, or why it cannot be stored."""
    if not (run.persist_result if run.persist_result is not None else get_settings().results.persist_by_default):
        return None
    store: ResultStore = run.result_store
    record = store.create_result_record(value)
    written = yield Blocking(store.persist_result_record, record)
    return written.error or record.data
