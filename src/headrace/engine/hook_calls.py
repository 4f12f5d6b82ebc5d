"""Calling users' hooks when a run enters a state.

A hook that raises harms nothing: the error goes to the log and the next hook is called.
"""

from collections.abc import Callable, Iterable
from typing import Any

from headrace.engine import run_log
from headrace.engine.steps import Call, Steps


def call_hooks(hooks: Iterable[Callable[..., Any]], owner: Any, run: Any, state: Any) -> Steps[None]:
    """Call hooks one after the other.

    Args:
        hooks: the functions.
        owner: the flow or task.
        run: the engine's record of the run; hooks get the run as the API shows it.
        state: the state entered.
    """
    for hook in hooks:
        outcome = yield Call(hook, (owner, run.shown_to_hooks(), state), finish=True)
        if outcome.error is not None:
            run_log.hook_failed(run, hook, outcome.error)
