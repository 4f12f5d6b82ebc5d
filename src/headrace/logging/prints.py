"""`log_prints`: turning what users print into log lines of their run.

`print` is replaced only while a run with `log_prints` is in progress somewhere in the process; and even then, a print
goes to the log only where the context says that the code is in such a run.
"""

import builtins
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from headrace.context import FlowRunContext, TaskRunContext
from headrace.logging.loggers import get_run_logger

_original = builtins.print
_lock = threading.Lock()
_active = 0


def print_as_log(*args: Any, **kwargs: Any) -> None:
    """Log what would be printed, if the code is in a run with `log_prints`; else print it.

    Args:
        args: as of `print`.
        kwargs: as of `print`; with a `file` other than standard output or standard error, it is printed there.
    """
    context = TaskRunContext.get() or FlowRunContext.get()
    if context is None or not context.log_prints or kwargs.get("file") not in (None, sys.stdout, sys.stderr):
        _original(*args, **kwargs)
        return
    separator = kwargs.get("sep")
    get_run_logger().info("%s", (" " if separator is None else separator).join(map(str, args)))


@contextmanager
def patch_print() -> Iterator[None]:
    """While inside, `print` logs in runs with `log_prints`. Threads may enter it at once."""
    global _active, _original
    with _lock:
        _active += 1
        if _active == 1:
            _original, builtins.print = builtins.print, print_as_log
    try:
        yield
    finally:
        with _lock:
            _active -= 1
            if _active == 0 and builtins.print is print_as_log:
                builtins.print = _original
