"""Cache policies: what makes two runs of a task the same, so that one result serves for both.

A policy computes a key from a task run; two runs with one key have one result. Policies add up: `INPUTS + TASK_SOURCE`
has a key that differs when either differs, in whatever order they are added, however often. `- "name"` leaves an
input out. A policy whose key is None caches nothing; in a sum it does not count.
"""

import inspect
from collections.abc import Callable, Iterable
from copy import copy
from typing import Any, ClassVar, Self

from headrace.exceptions import HashError
from headrace.utilities.hashing import content_hash, stable_hash

STABLE_TRANSFORMS: dict[type, Callable[[Any], Any]] = {}
"""For inputs of these types, what to hash in their place."""


class CachePolicy:
    """What makes two runs of a task the same; base of all policies.

    Args:
        key_storage: where the records of keys are kept, apart from the results; a file system or a path.
        isolation_level: that of the transactions of tasks with this policy.
        lock_manager: what locks keys in SERIALIZABLE ones.
    """

    def __init__(self, key_storage: Any = None, isolation_level: Any = None, lock_manager: Any = None) -> None:
        self.key_storage = key_storage
        self.isolation_level = isolation_level
        self.lock_manager = lock_manager

    @classmethod
    def from_cache_key_fn(cls, cache_key_fn: Callable[[Any, dict[str, Any]], str | None]) -> "CacheKeyFnPolicy":
        """A policy whose key a function computes.

        Args:
            cache_key_fn: called with the task run's context and its inputs; None as its result means no caching.
        """
        return CacheKeyFnPolicy(cache_key_fn=cache_key_fn)

    def configure(self, key_storage: Any = None, lock_manager: Any = None, isolation_level: Any = None) -> Self:
        """A copy with other arguments; those that are None stay as they are."""
        changed = copy(self)
        changed.key_storage = self.key_storage if key_storage is None else key_storage
        changed.lock_manager = self.lock_manager if lock_manager is None else lock_manager
        changed.isolation_level = self.isolation_level if isolation_level is None else isolation_level
        return changed

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """The key of a task run; None when it is not to be cached.

        Args:
            task_ctx: its `TaskRunContext`.
            inputs: its inputs, by name.
            flow_parameters: the parameters of its flow run.
            kwargs: what later versions may add.

        Raises:
            HashError: an input has no content to compare; the message names it.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what its key is: give it `compute_key`.")

    def parts(self) -> "tuple[CachePolicy, ...]":
        """The policies that this one is the sum of."""
        return (self,)

    def __sub__(self, other: str) -> "CachePolicy":
        """Leave an input out; it makes no difference to a policy that looks at none."""
        _check_name(other)
        return self

    def __add__(self, other: "CachePolicy") -> "CachePolicy":
        """The policy whose key differs when that of either differs."""
        if not isinstance(other, CachePolicy):
            raise TypeError(f"Only cache policies can be added to one, not {type(other).__name__}.")
        parts = _merged((*self.parts(), *other.parts()))
        common = {name: _common(self, other, name) for name in ("key_storage", "isolation_level", "lock_manager")}
        if len(parts) < 2:
            return (parts[0] if parts else NONE).configure(**common)
        return CompoundCachePolicy(**common, policies=parts)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and _fields(other) == _fields(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if value)
        return f"{type(self).__name__}({said})"


class CacheKeyFnPolicy(CachePolicy):
    """The key that a function computes.

    Args:
        cache_key_fn: called with the task run's context and its inputs.
    """

    def __init__(
        self,
        key_storage: Any = None,
        isolation_level: Any = None,
        lock_manager: Any = None,
        cache_key_fn: Callable[[Any, dict[str, Any]], str | None] | None = None,
    ) -> None:
        super().__init__(key_storage, isolation_level, lock_manager)
        self.cache_key_fn = cache_key_fn

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """See `CachePolicy.compute_key`."""
        del flow_parameters, kwargs
        return self.cache_key_fn(task_ctx, inputs) if self.cache_key_fn is not None else None


class CompoundCachePolicy(CachePolicy):
    """The sum of several policies.

    Args:
        policies: the summands; sums among them count as theirs, and equal ones once.
    """

    def __init__(
        self,
        key_storage: Any = None,
        isolation_level: Any = None,
        lock_manager: Any = None,
        policies: Iterable[CachePolicy] = (),
    ) -> None:
        super().__init__(key_storage, isolation_level, lock_manager)
        self.policies = _merged(part for policy in policies for part in policy.parts())

    def parts(self) -> tuple[CachePolicy, ...]:
        """See `CachePolicy.parts`."""
        return tuple(self.policies)

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """See `CachePolicy.compute_key`."""
        keys = []
        for policy in self.policies:
            key = policy.compute_key(task_ctx=task_ctx, inputs=inputs, flow_parameters=flow_parameters, **kwargs)
            if key is not None:
                keys.append(f"{type(policy).__name__}:{key}")
        return stable_hash("\n".join(sorted(keys))) if keys else None

    def __sub__(self, other: str) -> CachePolicy:
        """Leave an input out."""
        _check_name(other)
        changed = copy(self)
        changed.policies = [policy - other for policy in self.policies]
        return changed

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CompoundCachePolicy) or len(self.policies) != len(other.policies):
            return False
        mine, others = _fields(self), _fields(other)
        return all(part in other.policies for part in self.policies) and mine == others | {"policies": self.policies}

    __hash__ = CachePolicy.__hash__


class _None(CachePolicy):
    """No key: nothing is cached."""

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """None."""
        del task_ctx, inputs, flow_parameters, kwargs
        return None

    def parts(self) -> tuple[CachePolicy, ...]:
        """Nothing."""
        return ()


class TaskSource(CachePolicy):
    """The source of the task's function; what it calls does not count."""

    _known: ClassVar[dict[Any, str]] = {}

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """See `CachePolicy.compute_key`."""
        del inputs, flow_parameters, kwargs
        function = task_ctx.task.fn
        known = self._known.get(code := getattr(function, "__code__", None))
        if known is None:
            known = _source_hash(function, getattr(task_ctx.task, "source_code", None))
            if code is not None:
                self._known[code] = known
        return known


class FlowParameters(CachePolicy):
    """The parameters of the flow run."""

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """See `CachePolicy.compute_key`."""
        del task_ctx, inputs, kwargs
        if not flow_parameters:
            return None
        return stable_hash(*(_hash_of("flow parameter", name, flow_parameters) for name in sorted(flow_parameters)))


class RunId(CachePolicy):
    """The flow run, or the task run when it is in none: results are used again within the run alone."""

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """See `CachePolicy.compute_key`."""
        del inputs, flow_parameters, kwargs
        run = task_ctx.task_run
        return str(run.flow_run_id or run.id)


class Inputs(CachePolicy):
    """The inputs of the task run.

    Args:
        exclude: names of inputs that do not count.
    """

    def __init__(
        self,
        key_storage: Any = None,
        isolation_level: Any = None,
        lock_manager: Any = None,
        exclude: Iterable[str] = (),
    ) -> None:
        super().__init__(key_storage, isolation_level, lock_manager)
        self.exclude = sorted(set(exclude))

    def compute_key(
        self, task_ctx: Any, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """See `CachePolicy.compute_key`."""
        del task_ctx, flow_parameters, kwargs
        if not inputs:
            return None
        wanted = sorted(inputs.keys() - set(self.exclude))
        return stable_hash(*(_hash_of("input", name, inputs) for name in wanted))

    def __sub__(self, other: str) -> "Inputs":
        """Leave an input out."""
        _check_name(other)
        changed = copy(self)
        changed.exclude = sorted({*self.exclude, other})
        return changed


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"Only the name of an input can be subtracted from a cache policy, not {type(name).__name__}.")


def _fields(policy: object) -> dict[str, Any]:
    return dict(vars(policy))


def _merged(policies: Iterable[CachePolicy]) -> list[CachePolicy]:
    """Policies without the doubles; several that look at inputs become one, which leaves out what any of them does."""
    found: list[CachePolicy] = []
    inputs: Inputs | None = None
    for policy in policies:
        if type(policy) is Inputs:
            inputs = Inputs(exclude=(*policy.exclude, *(inputs.exclude if inputs is not None else ())))
        elif policy not in found:
            found.append(policy)
    return [*found, inputs] if inputs is not None else found


def _common(one: CachePolicy, other: CachePolicy, name: str) -> Any:
    """The argument that two policies agree on."""
    first, second = getattr(one, name), getattr(other, name)
    if first is not None and second is not None and first != second:
        raise ValueError(f"Two cache policies with different `{name}` cannot be added: {first!r} and {second!r}.")
    return second if first is None else first


def _hash_of(kind: str, name: str, values: dict[str, Any]) -> bytes:
    value = values[name]
    for base, transform in STABLE_TRANSFORMS.items():
        if isinstance(value, base):
            value = transform(value)
    try:
        return content_hash((name, value))
    except HashError as error:
        raise HashError(
            f"No cache key can be made for this task run, as {kind} {name!r} cannot be hashed: {error}. Leave it out "
            f"(`cache_policy=INPUTS - {name!r}`), compute the key yourself (`cache_key_fn=...`), or cache nothing "
            "(`cache_policy=NO_CACHE`)."
        ) from error


def _source_hash(function: Any, source: str | None) -> str:
    """A hash of a function's source, or where there is none, of its compiled code."""
    try:
        return stable_hash(source or inspect.cleandoc(inspect.getsource(function)))
    except (OSError, TypeError):
        return content_hash(function).hex()


INPUTS = Inputs()
"""Runs with equal inputs are the same."""

NONE = _None()
"""No two runs are the same."""

NO_CACHE = NONE
"""No two runs are the same."""

TASK_SOURCE = TaskSource()
"""Runs of the same code are the same."""

FLOW_PARAMETERS = FlowParameters()
"""Runs in flow runs with equal parameters are the same."""

RUN_ID = RunId()
"""Runs in the same flow run are the same."""

DEFAULT = INPUTS + TASK_SOURCE + RUN_ID
"""Runs of the same code with equal inputs in the same flow run are the same."""
