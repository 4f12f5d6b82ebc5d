"""A result and its metadata, the text they are stored as, and the key they are stored under."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec
from msgspec import Struct, field

from headrace._internal.version import version
from headrace.context import FlowRunContext, TaskRunContext
from headrace.exceptions import ConfigurationError, SerializationError
from headrace.serializers import Serializer, resolve_serializer

T = TypeVar("T")


class ResultRecordMetadata(Struct, kw_only=True):
    """What is known of a stored result.

    Args:
        storage_key: where it is.
        expiration: until when it may be used; None for ever.
        serializer: how it was written.
        prefect_version: version of the program that wrote it, under the name that Prefect's programs look for.
        storage_block_id: the storage block it is in, if it is in one.
    """

    storage_key: str | None = None
    expiration: datetime | None = None
    serializer: dict[str, Any] = field(default_factory=dict)
    prefect_version: str = field(default_factory=lambda: f"headrace-{version()}")
    storage_block_id: UUID | None = None


class _Stored(Struct):
    metadata: ResultRecordMetadata
    result: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Stored).decode


class ResultRecord(Generic[T]):
    """A result with its metadata.

    Args:
        result: the value.
        metadata: where and how it is stored.
        serializer: how it is written.
    """

    __slots__ = ("_serializer", "metadata", "result")

    def __init__(self, result: T, metadata: ResultRecordMetadata, serializer: Serializer | None = None) -> None:
        self.result, self.metadata = result, metadata
        self._serializer = serializer

    @property
    def expiration(self) -> datetime | None:
        """Until when it may be used."""
        return self.metadata.expiration

    @property
    def serializer(self) -> Serializer:
        """How it is written."""
        return self._serializer or resolve_serializer(self.metadata.serializer)

    @property
    def data(self) -> dict[str, Any]:
        """The metadata as the `data` of a state."""
        found: dict[str, Any] = msgspec.to_builtins(self.metadata)
        return found

    def is_expired(self) -> bool:
        """Whether it may not be used any more."""
        return self.metadata.expiration is not None and self.metadata.expiration <= datetime.now(UTC)

    def serialize(self) -> bytes:
        """The record as it is stored.

        Raises:
            SerializationError: the serializer cannot write the value.
        """
        return _encode(_Stored(self.metadata, self.serializer.dumps(self.result).decode()))

    @classmethod
    def deserialize(cls, data: bytes) -> "ResultRecord[Any]":
        """The record that was stored as `data`.

        Raises:
            SerializationError: it cannot be read.
        """
        try:
            stored = _decode(data)
            serializer = resolve_serializer(stored.metadata.serializer)
        except (msgspec.DecodeError, ValueError) as error:
            raise SerializationError(f"A stored result cannot be read: {error}") from error
        return cls(serializer.loads(stored.result.encode()), stored.metadata, serializer)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResultRecord) and (self.result, self.metadata) == (other.result, other.metadata)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ResultRecord(result={self.result!r}, metadata={self.metadata!r})"


class _Filled:
    """A run as a storage key's template sees it: `{flow_run.name}`, `{flow_run.flow_name}`, `{task_run.task_name}`."""

    def __init__(self, run: Any, names: dict[str, Any]) -> None:
        self._run, self._names = run, names

    def __getattr__(self, name: str) -> Any:
        return self._names[name] if name in self._names else getattr(self._run, name)


def result_key(template: str | Callable[..., str], context: Any = None, flow_context: Any = None) -> str:
    """The storage key that a template stands for.

    Args:
        template: text with fields such as `{parameters[x]}`, `{task_run.name}`, `{flow_run.id}`; or a function without
            parameters that gives the key.
        context: the task run; the active one when absent.
        flow_context: the flow run; the active one when absent.

    Raises:
        ConfigurationError: a field of the template is not known.
    """
    if callable(template):
        return template()
    if "{" not in template:
        return template
    task, flow = context or TaskRunContext.get(), flow_context or FlowRunContext.get()
    fields: dict[str, Any] = {"parameters": {}}
    if flow is not None:
        fields |= {"parameters": flow.parameters}
        fields["flow_run"] = _Filled(flow.flow_run, {"flow_name": flow.flow.name, "parameters": flow.parameters})
    if task is not None:
        fields |= {"parameters": task.parameters}
        fields["task_run"] = _Filled(task.task_run, {"task_name": task.task.name, "parameters": task.parameters})
    try:
        return template.format(**fields)
    except (KeyError, AttributeError, IndexError) as error:
        raise ConfigurationError(
            f"The result_storage_key {template!r} names {error}, which is not known here; known are "
            f"{', '.join(sorted(fields))} and their fields."
        ) from error
