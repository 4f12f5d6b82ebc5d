"""Carrying out runs in processes of this machine: what `serve` and the workers are made of.

`supervisor` finds and claims runs and sees each to its end; `launcher` starts their processes, forked from the warm
`template`; `upkeep` renews leases, `reporting` tells the API what became of processes, `hints` hears of new runs at
once. `serving` and `storage` are what users call. Names are imported when they are first used: the template process
must stay small.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.runner.serving import Runner, serve, serve_flow

__all__ = ["Runner", "serve", "serve_flow"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("headrace.runner.serving"), name)
