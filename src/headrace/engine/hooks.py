"""Users' hooks on states, as flows and tasks hold them: functions called as `hook(flow_or_task, run, state)`."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar


def check_hooks(kind: str, event: str, hooks: Any) -> list[Callable[..., Any]]:
    """Check the option `on_<event>` of a decorator and return it as a list.

    Args:
        kind: "flow" or "task".
        event: the option's name.
        hooks: what was given.

    Raises:
        TypeError: it is no list of functions.
    """
    if hooks is None:
        return []
    example = f"@{kind}({event}=[hook1, hook2])\ndef my_{kind}():\n    ..."
    if not isinstance(hooks, Iterable):
        raise TypeError(
            f"Expected iterable for {event!r}; got {type(hooks).__name__} instead. "
            f"Please provide a list of hooks to {event!r}:\n\n{example}"
        )
    checked = list(hooks)
    for hook in checked:
        if not callable(hook):
            raise TypeError(
                f"Expected callables in {event!r}; got {type(hook).__name__} instead. "
                f"Please provide a list of hooks to {event!r}:\n\n{example}"
            )
    return checked


HookT = TypeVar("HookT", bound=Callable[..., Any])


class _Hooks:
    """The hooks of a flow or task; those of each event in a list called `<event>_hooks`."""

    def _set_hooks(self, kind: str, **hooks: Any) -> None:
        self._events = tuple(hooks)
        for event, given in hooks.items():
            setattr(self, f"{event}_hooks", check_hooks(kind, event, given))

    def hook_lists(self) -> dict[str, list[Callable[..., Any]]]:
        """All hooks by event, as options of the decorator."""
        return {event: list(getattr(self, f"{event}_hooks")) for event in self._events}

    on_completion_hooks: list[Callable[..., Any]]
    on_failure_hooks: list[Callable[..., Any]]
    on_running_hooks: list[Callable[..., Any]]

    def on_completion(self, fn: HookT) -> HookT:
        """Call `fn` when a run completes."""
        self.on_completion_hooks.append(fn)
        return fn

    def on_failure(self, fn: HookT) -> HookT:
        """Call `fn` when a run fails."""
        self.on_failure_hooks.append(fn)
        return fn

    def on_running(self, fn: HookT) -> HookT:
        """Call `fn` when a run begins, and at each retry."""
        self.on_running_hooks.append(fn)
        return fn


class TaskHooks(_Hooks):
    """The hooks of a task, and the decorators that add them."""

    on_rollback_hooks: list[Callable[..., Any]]
    on_commit_hooks: list[Callable[..., Any]]

    def on_rollback(self, fn: HookT) -> HookT:
        """Call `fn` with the transaction when the one that a run belongs to is rolled back."""
        self.on_rollback_hooks.append(fn)
        return fn

    def on_commit(self, fn: HookT) -> HookT:
        """Call `fn` with the transaction when the one that a run belongs to is committed."""
        self.on_commit_hooks.append(fn)
        return fn


class FlowHooks(_Hooks):
    """The hooks of a flow, and the decorators that add them."""

    on_cancellation_hooks: list[Callable[..., Any]]
    on_crashed_hooks: list[Callable[..., Any]]

    def on_cancellation(self, fn: HookT) -> HookT:
        """Call `fn` when a run is cancelled."""
        self.on_cancellation_hooks.append(fn)
        return fn

    def on_crashed(self, fn: HookT) -> HookT:
        """Call `fn` when a run crashes."""
        self.on_crashed_hooks.append(fn)
        return fn
