"""Finding a flow by its entrypoint: `path/to/file.py:function` or `package.module:function`.

A file is loaded as a module named after its path, and stays loaded, so that what it defines can be pickled and loaded
again in the same process. Its folder is put first on `sys.path`, as Python does for a script.
"""

import importlib
import importlib.util
import sys
from functools import cache
from hashlib import md5
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from headrace.exceptions import MissingFlowError, ScriptError, UnspecifiedFlowError

if TYPE_CHECKING:
    from headrace.flows import Flow


@cache
def hash_of_file(path: str | None) -> str | None:
    """Thirty-two digits that change when the file does; None when it cannot be read. It is read once in a process."""
    if path is None:
        return None
    try:
        return md5(Path(path).read_bytes(), usedforsecurity=False).hexdigest()
    except OSError:
        return None


def load_module(place: str) -> ModuleType:
    """The module at a file or under a dotted name.

    Raises:
        MissingFlowError: there is none.
        ScriptError: it raised while it was loaded.
    """
    if place.endswith(".py") or any(sign in place for sign in "/\\"):
        return _load_file(Path(place).expanduser().resolve())
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name and place.startswith(error.name):
            raise MissingFlowError(
                f"There is no module {place!r}: {error}. Is it installed, or on PYTHONPATH?"
            ) from error
        raise ScriptError(error, place) from error
    except Exception as error:
        raise ScriptError(error, place) from error


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise MissingFlowError(f"There is no file {str(path)!r}.")
    name = "__headrace_loaded__." + path.with_suffix("").as_posix().strip("/").replace("/", ".").replace("-", "_")
    known = sys.modules.get(name)
    modified = path.stat().st_mtime_ns
    if known is not None and getattr(known, "__headrace_modified__", None) == modified:
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise MissingFlowError(f"{str(path)!r} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ScriptError(error, path) from error
    module.__dict__["__headrace_modified__"] = modified
    return module


def load_flow_from_entrypoint(entrypoint: str, use_placeholder_flow: bool = True) -> "Flow[..., Any]":
    """The flow at an entrypoint; a plain function there is an error.

    Args:
        entrypoint: `path/to/file.py:function` or `package.module:function`.
        use_placeholder_flow: taken for Prefect's sake; a file that cannot be loaded always raises.

    Raises:
        MissingFlowError: there is no such file, module or flow.
        ScriptError: loading it raised.
    """
    del use_placeholder_flow
    place, colon, name = entrypoint.rpartition(":")
    if not colon or not place:
        raise MissingFlowError(
            f"{entrypoint!r} is no entrypoint; write path/to/file.py:function or package.module:function."
        )
    found: Any = load_module(place)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise MissingFlowError(f"Flow function with name {name!r} not found in {place!r}.")
    if not hasattr(found, "carry_out"):
        raise MissingFlowError(f"Function with name {name!r} in {place!r} is not a flow. Decorate it with @flow.")
    if not getattr(found, "_entrypoint", None):
        found._entrypoint = entrypoint
    flow: Flow[..., Any] = found
    return flow


def select_flow(
    flows: "list[Flow[..., Any]]", flow_name: str | None = None, from_message: str | None = None
) -> "Flow[..., Any]":
    """The flow that is meant.

    Args:
        flows: those there are.
        flow_name: its name; may be absent when there is one only.
        from_message: where they come from, for messages.

    Raises:
        MissingFlowError: there is none, or none of that name.
        UnspecifiedFlowError: there are several and no name was given.
    """
    name, where = flow_name, f" {from_message}" if from_message else ""
    if not flows:
        raise MissingFlowError(f"No flows found{where}.")
    if name is not None:
        for flow in flows:
            if flow.name == name:
                return flow
        known = ", ".join(repr(flow.name) for flow in flows)
        raise MissingFlowError(f"Flow {name!r} not found{where}. Found the following flows: {known}")
    if len(flows) > 1:
        known = ", ".join(repr(flow.name) for flow in flows)
        raise UnspecifiedFlowError(f"Found {len(flows)} flows{where}: {known}. Specify a flow name to select one.")
    return flows[0]
