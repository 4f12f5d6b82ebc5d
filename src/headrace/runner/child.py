"""What happens in the process of a flow run, between the fork and the engine."""

import ctypes
import os
import random
import signal
import sys
from collections.abc import Mapping

from headrace.engine.__main__ import main as engine
from headrace.runner.packages import MOST, imported
from headrace.runner.protocol import Start
from headrace.settings import forget_settings

PR_SET_PDEATHSIG = 1
NOT_FOUND, NOT_RUN = 127, 126  # as a shell has it

tells_imports: tuple[int, frozenset[str]] | None = None
"""Where to tell which packages this process has imported, and which of them the template has anyway."""


def become(order: Start, parent: int) -> None:
    """Make a freshly forked process that of a flow run: a session, a parent to die with, its environment and folder.

    Args:
        order: what to become.
        parent: the process that forked.
    """
    os.setsid()  # one group with all that the run starts, and no ^C of the worker's terminal
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    die_with_parent(parent)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2) if order.quiet else (0,):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    set_environment(order.environment)
    if order.directory:
        os.chdir(order.directory)


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent dies; where it cannot, the template must.  # G6"""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the kernel was asked
        os.kill(os.getpid(), signal.SIGKILL)


def set_environment(changes: Mapping[str, str | None]) -> None:
    """Set variables of the environment, and take away those whose value is None."""
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def execute(order: Start) -> None:
    """Replace this process by the order's command. Returns never.

    A command that cannot be run ends the process with 127 (not found) or 126, as a shell does.
    """
    command = order.command or []
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]!r} cannot be run: {error.strerror}\n".encode())
        os._exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUN)


def run() -> int:
    """Run the flow run that the environment names in this process, which has become its own.

    Returns:
        The exit code, as that of `python -m headrace.engine`.
    """
    sys.argv[1:] = []
    forget_settings()
    random.seed()
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:  # else every run forked from one template draws the same numbers
        numpy.seed()
    code = engine()
    if tells_imports is not None:
        pipe, known = tells_imports
        os.set_blocking(pipe, False)
        names = "\n".join(imported(since=known)).encode()
        if len(names) <= MOST:
            os.write(pipe, names)
        os.close(pipe)
    return code
