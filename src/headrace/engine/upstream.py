"""What a run needs from other runs: futures and states among its arguments are found, waited for and replaced.

Lists, tuples, sets, dicts, dataclasses and pydantic models are searched, at any depth; `quote(x)` keeps the search out
of `x`. Plain data is passed over quickly: a list of a million numbers costs one look at the types in it.

On the way it is noted which runs the arguments came from: by the futures and states, and for results that were passed
on as plain objects, by the object (`Provenance`). These are the edges of the run's graph.
"""

import dataclasses
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import UUID

from headrace.engine.identity import ATOMS
from headrace.schemas.states import State
from headrace.schemas.task_runs import FlowRunResult, TaskRunResult
from headrace.utilities.annotations import BaseAnnotation, allow_failure, opaque, quote

RunInput = TaskRunResult | FlowRunResult
_COLLECTIONS = frozenset({list, tuple, set, frozenset})


class RunFuture:
    """What stands for a run that may not have ended yet. The futures that users hold derive from it."""

    @property
    def state(self) -> State:
        """The state the run is in now, as far as this process knows."""
        raise NotImplementedError

    def wait(self, timeout: float | None = None) -> None:
        """Return once the run has ended, or after `timeout` seconds."""
        raise NotImplementedError

    def done(self) -> bool:
        """Whether the run has ended."""
        raise NotImplementedError

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:
        """The run's result, waited for."""
        raise NotImplementedError

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call `fn` with this future once the run has ended."""
        raise NotImplementedError

    def as_input(self) -> RunInput:
        """The run, as an input of another one."""
        raise NotImplementedError


class NotReady(Exception):
    """An upstream run ended, and not well.

    Args:
        upstream: that run.
        state: the state it is in.
    """

    def __init__(self, upstream: RunInput | None, state: State) -> None:
        self.upstream = upstream
        self.state = state
        kind = "flow run" if isinstance(upstream, FlowRunResult) else "task run"
        which = f" {str(upstream.id)!r}" if upstream is not None else ""
        super().__init__(f"Upstream {kind}{which} did not reach a 'COMPLETED' state.")


class Provenance:
    """Which run returned which object, for results that are passed on without a future.

    Objects are kept by weak reference where they allow one. The others are kept alive, so that their address is not
    used again, but only the latest thousand, and no large ones.
    """

    _MOST, _LARGE = 1000, 10_000

    def __init__(self) -> None:
        self._runs: OrderedDict[int, tuple[Any, RunInput]] = OrderedDict()

    def note(self, result: Any, run: RunInput) -> None:
        """Remember that `run` returned `result`; plain values are left out, as their address tells nothing."""
        if type(result) in ATOMS:
            return
        try:
            held: Any = weakref.ref(result)
        except TypeError:
            if hasattr(result, "__len__") and len(result) > self._LARGE:
                return
            held = result
        self._runs[id(result)] = (held, run)
        if len(self._runs) > self._MOST:
            self._runs.popitem(last=False)

    def of(self, value: Any) -> RunInput | None:
        """The run that returned this very object, if it is known."""
        found = self._runs.get(id(value))
        if found is None:
            return None
        held = found[0]() if isinstance(found[0], weakref.ref) else found[0]
        return found[1] if held is value else None


def is_simple(values: Iterable[Any]) -> bool:
    """Whether there can be nothing to look for: all values are numbers, text, bytes or None."""
    return set(map(type, values)) <= ATOMS


def search(values: Iterable[Any]) -> tuple[list[RunFuture], bool]:
    """The futures inside of values, and whether there is anything to replace, marks included.

    What contains itself, or is nested deeper than Python recurses, is taken for plain.
    """
    found: list[RunFuture] = []
    try:
        replace = [futures_in(value, found) for value in values]
    except RecursionError:
        return found, False
    return found, any(replace)


def futures_in(value: Any, found: list[RunFuture]) -> bool:
    """Put the futures inside `value` into `found`; return whether there is anything to replace, marks included."""
    kind = type(value)
    if kind in ATOMS:
        return False
    if isinstance(value, RunFuture):
        found.append(value)
        return True
    if isinstance(value, State):
        return True
    if isinstance(value, BaseAnnotation):
        if not isinstance(value, quote):
            futures_in(value.value, found)
        return True
    parts = _parts(value, kind)
    if parts is None or is_simple(parts):
        return False
    results = [futures_in(part, found) for part in parts]
    return any(results)


def _parts(value: Any, kind: type) -> Any:
    """The things directly inside `value`, as a collection; None if it is not searched."""
    if kind in _COLLECTIONS:
        return value
    if kind is dict:
        return value.values() if is_simple(value) else [*value.keys(), *value.values()]
    if isinstance(value, tuple):
        return value
    if isinstance(value, dict):
        return value.values()
    if dataclasses.is_dataclass(kind):
        return [getattr(value, f.name, None) for f in dataclasses.fields(kind)]
    if hasattr(kind, "__pydantic_fields__"):
        return list(vars(value).values())
    return None


class Resolver:
    """Replaces futures and states by results.

    Args:
        provenance: what is known about objects passed on as they are.

    `inputs` collects the runs that were found.
    """

    def __init__(self, provenance: Provenance | None) -> None:
        self._provenance = provenance
        self.inputs: list[RunInput] = []

    def resolve(self, value: Any) -> Any:
        """`value` with everything replaced; the same object when there was nothing to replace.

        Raises:
            NotReady: an upstream run did not complete, and it was not marked with `allow_failure`.
        """
        try:
            return self._resolved(value, False)
        except RecursionError:
            return value

    def _resolved(self, value: Any, failure_allowed: bool) -> Any:
        kind = type(value)
        if kind in ATOMS:
            return value
        if isinstance(value, RunFuture):
            return self._result(value.state, value.as_input(), failure_allowed)
        if isinstance(value, State):
            return self._result(value, input_of_state(value), failure_allowed)
        if isinstance(value, BaseAnnotation):
            return self._unmark(value, failure_allowed)
        parts = _parts(value, kind)
        self._note(value)
        if parts is None or is_simple(parts):
            return value
        return self._rebuilt(value, kind, failure_allowed)

    def _note(self, value: Any) -> None:
        if self._provenance is not None and (run := self._provenance.of(value)) is not None:
            self.inputs.append(run)

    def _result(self, state: State, run: RunInput | None, failure_allowed: bool) -> Any:
        if run is not None:
            self.inputs.append(run)
        if state.is_completed() or (failure_allowed and state.is_final()):
            return state.result(raise_on_failure=False)
        raise NotReady(run, state)

    def _unmark(self, value: BaseAnnotation[Any], failure_allowed: bool) -> Any:
        if isinstance(value, quote):
            return value.value
        if isinstance(value, opaque):
            return Resolver(None)._resolved(value.value, failure_allowed)
        return self._resolved(value.value, failure_allowed or isinstance(value, allow_failure))

    def _rebuilt(self, value: Any, kind: type, failure_allowed: bool) -> Any:
        def again(part: Any) -> Any:
            return self._resolved(part, failure_allowed)

        if isinstance(value, dict):
            items = {again(key): again(item) for key, item in value.items()}
            changed = any(items.get(key, self) is not item for key, item in value.items())
            return (kind(items) if kind is dict else _updated_dict(value, items)) if changed else value
        if dataclasses.is_dataclass(kind):
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(kind) if f.init}
            new = {name: again(item) for name, item in fields.items()}
            return dataclasses.replace(value, **new) if _differ(new, fields) else value
        if hasattr(kind, "__pydantic_fields__"):
            fields = dict(vars(value))
            new = {name: again(item) for name, item in fields.items()}
            return value.model_copy(update=new) if _differ(new, fields) else value
        parts = [again(part) for part in value]
        if all(new is old for new, old in zip(parts, value, strict=True)):
            return value
        return kind(*parts) if hasattr(kind, "_fields") else kind(parts)


def _differ(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    return any(new[name] is not old[name] for name in old)


def _updated_dict(value: Any, items: dict[Any, Any]) -> Any:
    copied = value.copy()
    copied.clear()
    copied.update(items)
    return copied


def input_of_state(state: State) -> RunInput | None:
    """The run that a state belongs to, as an input of another one."""
    details = state.state_details
    run: UUID | None = details.task_run_id
    if run is not None:
        return TaskRunResult(id=run)
    return FlowRunResult(id=details.flow_run_id) if details.flow_run_id is not None else None


def wait_for_all(futures: Iterable[RunFuture]) -> None:
    """Wait until all of them have ended."""
    for future in futures:
        future.wait()


def as_list(wait_for: Any) -> list[Any]:
    """What `wait_for` was given, as a list; a single future counts as a list of one."""
    if wait_for is None:
        return []
    return list(wait_for) if isinstance(wait_for, Iterable) and not isinstance(wait_for, RunFuture) else [wait_for]
