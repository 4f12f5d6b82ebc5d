"""Pausing the garbage collector while much is imported."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Collect no garbage in the block.

    An import makes many objects that stay, and the collector looks at them again and again: importing SQLAlchemy takes
    a tenth longer for it.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
