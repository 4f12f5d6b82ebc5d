"""How results become bytes and come back: pickle, JSON, and either of them compressed.

Formats are Prefect's, so that results stored by one can be read by the other. A serializer is named by its type
(`pickle`, `json`, `compressed/pickle`, ...); a subclass of `Serializer` with a `type` of its own can be named likewise.
"""

import base64
import binascii
import importlib
import io
import json
import pickle
from collections.abc import Callable
from types import FunctionType
from typing import Any

import msgspec
from msgspec import Struct, field

from headrace.exceptions import SerializationError

OBJECT_ENCODER = "prefect.serializers.prefect_json_object_encoder"
OBJECT_DECODER = "prefect.serializers.prefect_json_object_decoder"
"""Prefect's names for the two functions below: they are stored with each result, and both must know them."""


class Serializer(Struct, kw_only=True):
    """Turns objects into bytes and back; base of all serializers.

    Args:
        type: names the kind of serializer.
    """

    type: str

    def dumps(self, obj: Any) -> bytes:
        """The object as bytes.

        Raises:
            SerializationError: it cannot be written in this format.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how to write an object: give it `dumps`.")

    def loads(self, blob: bytes) -> Any:
        """The object that `dumps` made these bytes of.

        Raises:
            SerializationError: they are not of this format, or a class they need is not to be found.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how to read an object: give it `loads`.")


class PickleSerializer(Serializer, kw_only=True):
    """Pickles, as base64 text.

    Plain `pickle` is used where it will do, as it is several times faster. Functions and classes that another process
    cannot import (those of `__main__`, and those defined in functions) go by value, by cloudpickle.

    Args:
        picklelib: module with `dumps` and `loads` to use instead.
        picklelib_version: accepted; noted by Prefect.
    """

    type: str = "pickle"
    picklelib: str = "cloudpickle"
    picklelib_version: str | None = None

    def dumps(self, obj: Any) -> bytes:
        """See `Serializer.dumps`."""
        try:
            return base64.b64encode(self._pickle(obj))
        except Exception as error:
            raise _cannot_write(obj, "pickle", error) from error

    def _pickle(self, obj: Any) -> bytes:
        if self.picklelib == "cloudpickle":
            try:
                return pickle_by_name(obj)
            except _ByValue:
                pass
        content: bytes = importlib.import_module(self.picklelib).dumps(obj)
        return content

    def loads(self, blob: bytes) -> Any:
        """See `Serializer.loads`."""
        try:
            content = base64.b64decode(blob)
            if self.picklelib == "cloudpickle":
                return pickle.loads(content)  # noqa: S301  a result of the user's own; the server never does this: S11
            return importlib.import_module(self.picklelib).loads(content)
        except Exception as error:
            raise _cannot_read("pickle", error) from error


class JSONSerializer(Serializer, kw_only=True):
    """JSON text. What JSON does not know is written with the name of its class, in the form pydantic gives it.

    Args:
        jsonlib: module with `dumps` and `loads` to use instead of `json`.
        object_encoder: dotted name of a function that makes JSON values of other objects; None for none.
        object_decoder: dotted name of a function that looks at every JSON object that is read; None for none.
        dumps_kwargs: further arguments of the module's `dumps`.
        loads_kwargs: further arguments of the module's `loads`.
    """

    type: str = "json"
    jsonlib: str = "json"
    object_encoder: str | None = OBJECT_ENCODER
    object_decoder: str | None = OBJECT_DECODER
    dumps_kwargs: dict[str, Any] = field(default_factory=dict)
    loads_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "default" in self.dumps_kwargs:
            raise ValueError("`default` cannot be in dumps_kwargs; use `object_encoder` for it.")
        if "object_hook" in self.loads_kwargs:
            raise ValueError("`object_hook` cannot be in loads_kwargs; use `object_decoder` for it.")

    def dumps(self, obj: Any) -> bytes:
        """See `Serializer.dumps`."""
        options = dict(self.dumps_kwargs)
        if self.object_encoder:
            options["default"] = _named(self.object_encoder)
        try:
            text = self._module().dumps(obj, **options)
        except Exception as error:
            raise _cannot_write(obj, "json", error) from error
        return text.encode() if isinstance(text, str) else bytes(text)

    def loads(self, blob: bytes) -> Any:
        """See `Serializer.loads`."""
        options = dict(self.loads_kwargs)
        if self.object_decoder:
            options["object_hook"] = _named(self.object_decoder)
        try:
            return self._module().loads(blob.decode(), **options)
        except Exception as error:
            raise _cannot_read("json", error) from error

    def _module(self) -> Any:
        return json if self.jsonlib == "json" else importlib.import_module(self.jsonlib)


class CompressedSerializer(Serializer, kw_only=True):
    """What another serializer makes, compressed, as base64 text.

    Args:
        serializer: the other one, or its type.
        compressionlib: module with `compress` and `decompress`: lzma, gzip, bz2, zlib, ...
    """

    serializer: Any
    type: str = "compressed"
    compressionlib: str = "lzma"

    def __post_init__(self) -> None:
        self.serializer = resolve_serializer(self.serializer)
        module = importlib.import_module(self.compressionlib)
        if not callable(getattr(module, "compress", None)) or not callable(getattr(module, "decompress", None)):
            raise ValueError(f"The module {self.compressionlib!r} has no `compress` and `decompress`.")

    def dumps(self, obj: Any) -> bytes:
        """See `Serializer.dumps`."""
        content = resolve_serializer(self.serializer).dumps(obj)
        return base64.b64encode(importlib.import_module(self.compressionlib).compress(content))

    def loads(self, blob: bytes) -> Any:
        """See `Serializer.loads`."""
        try:
            content = importlib.import_module(self.compressionlib).decompress(base64.b64decode(blob))
        except (OSError, EOFError, ValueError, binascii.Error) as error:
            raise _cannot_read(self.compressionlib, error) from error
        return resolve_serializer(self.serializer).loads(content)


class CompressedPickleSerializer(CompressedSerializer, kw_only=True):
    """Compressed pickles."""

    type: str = "compressed/pickle"
    serializer: Any = field(default_factory=PickleSerializer)


class CompressedJSONSerializer(CompressedSerializer, kw_only=True):
    """Compressed JSON."""

    type: str = "compressed/json"
    serializer: Any = field(default_factory=JSONSerializer)


def resolve_serializer(serializer: Serializer | str | dict[str, Any]) -> Serializer:
    """The serializer that is meant.

    Args:
        serializer: itself, its type, or its fields as a dict.

    Raises:
        ValueError: there is none of that type.
        TypeError: it is something else.
    """
    if isinstance(serializer, Serializer):
        return serializer
    fields = {"type": serializer} if isinstance(serializer, str) else serializer
    if not isinstance(fields, dict):
        raise TypeError(f"A serializer is a Serializer or its type as text, not {type(serializer).__name__}.")
    kind = fields.get("type", "")
    known = _kinds(Serializer)
    if kind in known:
        return msgspec.convert(fields, known[kind])
    raise ValueError(f"There is no serializer of type {kind!r}; known are {', '.join(sorted(known))}.")


def _kinds(base: type[Serializer]) -> dict[str, type[Serializer]]:
    """Every serializer class by its type, those of users included."""
    found = {}
    for kind in base.__subclasses__():
        default = next((one.default for one in msgspec.structs.fields(kind) if one.name == "type"), None)
        if isinstance(default, str):
            found[default] = kind
        found.update(_kinds(kind))
    return found


class _ByValue(Exception):
    """The object holds something that other processes cannot import."""


class _NamePickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type | FunctionType) and (obj.__module__ == "__main__" or "<" in obj.__qualname__):
            raise _ByValue
        return NotImplemented


def pickle_by_name(obj: Any) -> bytes:
    """Pickle an object whose classes and functions other processes can import.

    Raises:
        _ByValue: it holds some that they cannot.
        Exception: it cannot be pickled.
    """
    file = io.BytesIO()
    try:
        _NamePickler(file, protocol=5).dump(obj)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise _ByValue from error  # a lambda, say, or a module: cloudpickle knows more
    return file.getvalue()


def prefect_json_object_encoder(obj: Any) -> Any:
    """JSON for an object that JSON does not know: its class by name, and its content as pydantic sees it."""
    if isinstance(obj, BaseException):
        return {"__exc_type__": _name_of(type(obj)), "message": str(obj)}
    from pydantic_core import to_jsonable_python

    return {"__class__": _name_of(type(obj)), "data": to_jsonable_python(obj, fallback=_refuse)}


def prefect_json_object_decoder(result: dict[str, Any]) -> Any:
    """The object that `prefect_json_object_encoder` wrote; any other dict as it is."""
    if set(result) == {"__class__", "data"}:
        from pydantic import TypeAdapter

        kind: Any = _named(result["__class__"])
        return TypeAdapter(kind).validate_python(result["data"])
    if set(result) == {"__exc_type__", "message"}:
        return _named(result["__exc_type__"])(result["message"])
    return result


def _refuse(obj: Any) -> Any:
    raise TypeError(f"an object of type {type(obj).__name__!r} cannot be written as JSON")


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _named(dotted: str) -> Callable[..., Any]:
    """The object with a dotted name, of a module or in a class of one. Prefect's own are ours here."""
    if dotted.startswith("prefect.serializers."):
        dotted = "headrace" + dotted.removeprefix("prefect")
    module, _, name = dotted.partition(".")
    found: Any = importlib.import_module(module)
    while name:
        step, _, name = name.partition(".")
        if not hasattr(found, step):
            importlib.import_module(f"{found.__name__}.{step}")
        found = getattr(found, step)
    result: Callable[..., Any] = found
    return result


def _cannot_write(obj: Any, format: str, error: Exception) -> SerializationError:
    return SerializationError(
        f"An object of type {type(obj).__name__!r} cannot be written as {format}: {error}. "
        "Return something else, choose another serializer (`result_serializer=...`), or do not persist the result."
    )


def _cannot_read(format: str, error: Exception) -> SerializationError:
    return SerializationError(f"A stored result cannot be read as {format}: {type(error).__name__}: {error}")
