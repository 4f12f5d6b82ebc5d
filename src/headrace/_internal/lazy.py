"""Modules that are imported when something of them is first used.

Importing headrace shall cost next to nothing, as it happens in every script, worker and test that touches a flow, also
when none is run. So what only a run needs is named with `Lazy` by the modules that users import.
"""

import importlib
from typing import Any


class Lazy:
    """Stands for a module until it is needed; what was used once is found at the speed of an attribute.

    Args:
        name: the module's full name.
    """

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self.__name__), name)
        if not name.startswith("_"):
            self.__dict__[name] = value
        return value

    def __repr__(self) -> str:
        return f"<lazy module {self.__name__!r}>"
