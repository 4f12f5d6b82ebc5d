"""Which packages a process has imported, so that the next one of its kind can find them imported already.

Only what is installed counts: the standard library and site-packages. A user's own modules are imported anew in every
run, for they may read the clock, the environment or a file while they are imported, and they change.
"""

import contextlib
import functools
import importlib
import os
import sys
import sysconfig
import threading
from collections.abc import Iterable

MOST = 60_000  # bytes of names; a pipe takes so much without a reader


@functools.cache
def _installed_places() -> tuple[str, ...]:
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple({os.path.join(os.path.realpath(sysconfig.get_path(kind)), "") for kind in kinds})


def stamp() -> int:
    """A number that changes when a package is installed or removed."""
    times = []
    for kind in ("purelib", "platlib"):
        with contextlib.suppress(OSError):
            times.append(os.stat(sysconfig.get_path(kind)).st_mtime_ns)
    return max(times, default=0)


def imported(since: Iterable[str] = ()) -> list[str]:
    """Names of the installed modules this process has imported, in the order of their import.

    Args:
        since: names to leave out.
    """
    known, places = set(since), _installed_places()
    names = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name in known or name == "__main__" or not isinstance(file, str):
            continue
        if os.path.realpath(file).startswith(places):
            names.append(name)
    return names


def import_all(names: Iterable[str]) -> None:
    """Import modules; those that cannot be imported are left to the run that needs them."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def fit_to_fork() -> bool:
    """Whether this process may be forked: one thread of Python, no sockets but its own two, no strange threads.

    OpenBLAS makes threads when numpy is imported, and takes them down itself at a fork; others are not trusted.
    """
    if threading.active_count() != 1:
        return False
    try:
        threads = len(os.listdir("/proc/self/task"))
        sockets = sum(_is_socket(name) for name in os.listdir("/proc/self/fd"))
    except OSError:
        return False
    if sockets > 1 or (threads > 1 and threads > (os.cpu_count() or 1)):
        return False
    return threads == 1 or _uses_openblas()


def _is_socket(descriptor: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
    except OSError:
        return False


def _uses_openblas() -> bool:
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        return any("openblas" in line for line in maps)
