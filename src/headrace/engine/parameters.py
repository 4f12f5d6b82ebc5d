"""Parameters of flows: validated and coerced as pydantic does, and written down as JSON for the API.

pydantic takes 0.3 s to import. A value whose type is exactly what a plain annotation asks for (`x: int` given an int,
`names: list[str]` given a list of str, ...) comes out of pydantic as it went in, so it is not asked. Everything else
goes through a `TypeAdapter` of the annotation, made once for each function.
"""

import inspect
import types
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec

from headrace.engine.signature import FunctionSignature
from headrace.exceptions import ParameterTypeError

_EXACT = frozenset({int, str, float, bool, bytes, list, dict, set, frozenset, tuple, type(None), datetime, date, time})
_ALSO_EXACT = frozenset({timedelta, UUID, Decimal, complex})
_LARGEST = 256 << 10
"""Bytes of JSON that one parameter may take in the API's record of a run; larger values are described instead."""


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function's parameters, names in quotes resolved; unknown names count as no annotation."""
    target = inspect.unwrap(function)
    try:
        return get_type_hints(target, include_extras=True)
    except Exception:  # noqa: BLE001 - whatever an annotation raises when it is evaluated
        raw = getattr(target, "__annotations__", {})
        return {name: hint for name, hint in raw.items() if not isinstance(hint, str)}


def fits(value: Any, hint: Any) -> bool:
    """Whether pydantic would hand out `value` unchanged for this annotation; False when that takes pydantic to tell."""
    kind = type(value)
    if hint is Any or hint is inspect.Parameter.empty or hint is object:
        return True
    if hint is None:
        return value is None
    if kind is hint:
        return hint in _EXACT or hint in _ALSO_EXACT
    origin = get_origin(hint)
    if origin is None:
        return False
    arguments = get_args(hint)
    if origin is Union or origin is types.UnionType:
        return any(fits(value, choice) for choice in arguments)
    if origin is Literal:
        return any(value is choice or (kind is type(choice) and value == choice) for choice in arguments)
    if kind is not origin:
        return False
    if kind in (list, set, frozenset):
        return all(fits(item, arguments[0]) for item in value)
    if kind is dict:
        return all(fits(key, arguments[0]) and fits(item, arguments[1]) for key, item in value.items())
    return False


class ParameterValidator:
    """Validates the parameters of one function.

    Args:
        signature: the function's.
        what: what receives the parameters, as messages call it.
    """

    def __init__(self, signature: FunctionSignature, what: str = "Flow run") -> None:
        self._signature = signature
        self._what = what
        hints = hints_of(signature.function)
        single = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        parameters = signature.signature.parameters.items()
        self._hints = {name: hints[name] for name, p in parameters if name in hints and p.kind not in single}
        self._adapters: dict[str, Any] = {}

    def __call__(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters as the function shall get them.

        Raises:
            ParameterTypeError: some do not fit their annotation; the message has a line for each fault.
        """
        validated = dict(parameters)
        faults: list[str] = []
        for name, value in parameters.items():
            hint = self._hints.get(name, Any)
            described = hasattr(self._signature.defaults.get(name), "annotation")  # a default made by pydantic's Field
            if described or not fits(value, hint):
                validated[name] = self._coerce(name, hint, value, faults)
        if faults:
            raise ParameterTypeError(f"{self._what} received invalid parameters:\n" + "\n".join(faults))
        return validated

    def _coerce(self, name: str, hint: Any, value: Any, faults: list[str]) -> Any:
        from pydantic import ValidationError  # costs 0.3 s: only those who need it pay

        adapter = self._adapters.get(name)
        if adapter is None:
            adapter = self._adapters[name] = self._adapter(name, hint)
        default = self._signature.defaults.get(name)
        try:
            if value is default and hasattr(default, "annotation"):
                return default.get_default(call_default_factory=True)
            return adapter.validate_python(value)
        except ValidationError as error:
            for fault in error.errors(include_url=False):
                place = ".".join(map(str, (name, *fault["loc"])))
                faults.append(f" - {place}: {fault['msg']}")
            return value

    def _adapter(self, name: str, hint: Any) -> Any:
        from pydantic import ConfigDict, TypeAdapter
        from pydantic.errors import PydanticUserError

        default = self._signature.defaults.get(name)
        if hasattr(default, "annotation"):
            hint = Annotated[hint, default]
        try:
            return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
        except PydanticUserError:  # models and dataclasses bring a configuration of their own
            return TypeAdapter(hint)


def jsonable(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as plain data for the API's record of the run; what has no such form is described in a few words."""
    return {name: value if type(value) in _SHORT else _plain(value) for name, value in parameters.items()}


_SHORT = frozenset({int, bool, type(None), float})


def _plain(value: Any) -> Any:
    if type(value) is str and len(value) < _LARGEST:
        return value
    try:
        encoded = msgspec.json.encode(value, enc_hook=_described)
        if len(encoded) > _LARGEST:
            return _description(value)
        return msgspec.json.decode(encoded)
    except Exception:  # noqa: BLE001 - whatever a user's type raises when it is looked at
        return _description(value)


def _described(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if dump is not None else _description(value)


def _description(value: Any) -> str:
    size = f", {len(value)} long" if hasattr(value, "__len__") else ""
    return f"<{type(value).__module__}.{type(value).__qualname__}{size}>"
