"""Results that are persisted: how they are stored, under which key, and how a state finds its own again.

A result is stored as one JSON text, `{"metadata": {...}, "result": "..."}`, in the storage of its task or flow, by
default a folder of this machine (`results.local_storage_path`). The same metadata are the `data` of the run's state,
so whoever has the state can read the result: they name the key (a full path in local storage), the serializer and the
expiration. Results in memory never come this way.

Writing is atomic: a result is there whole or not at all. What is missing or cannot be read says where it was looked
for.
"""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

import msgspec

from headrace._internal.threads import finished, in_thread
from headrace.context import FlowRunContext, TaskRunContext
from headrace.exceptions import ConfigurationError, MissingResult, SerializationError
from headrace.filesystems import LocalFileSystem, NullFileSystem, WritableFileSystem
from headrace.locking.keys import KeyLocks
from headrace.locking.protocol import LockManager
from headrace.logging import get_logger
from headrace.result_records import ResultRecord, ResultRecordMetadata, result_key
from headrace.schemas.states import State, resolve_results_with
from headrace.serializers import Serializer, resolve_serializer
from headrace.settings import get_settings
from headrace.states import read_result

T = TypeVar("T")
ResultStorage = WritableFileSystem | str | os.PathLike[str]
ResultSerializer = Serializer | str


def DEFAULT_STORAGE_KEY_FN() -> str:
    """A key nobody used before."""
    return uuid4().hex


class ResultStore(KeyLocks):
    """Where and how results of a task, a flow or a transaction are kept.

    Args:
        result_storage: the storage; that of the settings when absent.
        metadata_storage: storage of its own for the metadata, or None to keep them with the results.
        lock_manager: locks keys for transactions that are SERIALIZABLE.
        cache_result_in_memory: whether the engine also holds results in memory.
        serializer: how results are written; that of the settings when absent.
        storage_key_fn: makes a key for a result that has none.
    """

    __slots__ = (
        "cache_result_in_memory",
        "lock_manager",
        "metadata_storage",
        "result_storage",
        "serializer",
        "storage_key_fn",
    )

    def __init__(
        self,
        *,
        result_storage: ResultStorage | None = None,
        metadata_storage: WritableFileSystem | NullFileSystem | None = None,
        lock_manager: LockManager | None = None,
        cache_result_in_memory: bool = True,
        serializer: ResultSerializer | None = None,
        storage_key_fn: Callable[[], str] = DEFAULT_STORAGE_KEY_FN,
    ) -> None:
        self.result_storage = (
            get_default_result_storage() if result_storage is None else resolve_result_storage(result_storage)
        )
        self.metadata_storage = metadata_storage
        self.lock_manager = lock_manager
        self.cache_result_in_memory = cache_result_in_memory
        self.serializer = get_default_result_serializer() if serializer is None else resolve_serializer(serializer)
        self.storage_key_fn = storage_key_fn

    def changed(self, **changes: Any) -> "ResultStore":
        """A copy with other arguments; those that are None stay as they are."""
        fields = {name: getattr(self, name) for name in ResultStore.__slots__}
        return ResultStore(**(fields | {name: value for name, value in changes.items() if value is not None}))

    def update_for_flow(self, flow: Any) -> "ResultStore":
        """A copy as the options of a flow want it."""
        return self.changed(
            result_storage=flow.result_storage,
            serializer=flow.result_serializer,
            cache_result_in_memory=flow.cache_result_in_memory,
        )

    def update_for_task(self, task: Any, context: Any = None, flow_context: Any = None) -> "ResultStore":
        """A copy as the options of a task and its cache policy want it.

        Args:
            task: the task.
            context: a `TaskRunContext` whose values a templated `result_storage_key` is filled with; when absent, the
                one that is active when the key is made.
            flow_context: likewise a `FlowRunContext`.
        """
        policy = task.cache_policy
        key_storage = getattr(policy, "key_storage", None)
        changed = self.changed(
            result_storage=task.result_storage,
            serializer=task.result_serializer,
            cache_result_in_memory=task.cache_result_in_memory,
            metadata_storage=None if key_storage is None else resolve_result_storage(key_storage),
            lock_manager=getattr(policy, "lock_manager", None),
        )
        if task.result_storage_key is not None:
            changed.storage_key_fn = lambda: result_key(task.result_storage_key, context, flow_context)
        return changed

    # Records

    def create_result_record(
        self, obj: T, key: str | None = None, expiration: datetime | None = None
    ) -> ResultRecord[T]:
        """A record of a value; nothing is stored yet.

        Args:
            obj: the value.
            key: its key; one is made when absent.
            expiration: until when it may be used.
        """
        metadata = ResultRecordMetadata(
            storage_key=self.full_key(key or self.storage_key_fn()),
            expiration=expiration,
            serializer=msgspec.to_builtins(self.serializer),
        )
        return ResultRecord(obj, metadata, self.serializer)

    def persist_result_record(self, result_record: ResultRecord[Any], holder: str | None = None) -> None:
        """Store a record.

        Args:
            result_record: made by `create_result_record` of this store.
            holder: who holds the lock of its key, if it is locked; this thread when absent.

        Raises:
            SerializationError: the serializer cannot write the value.
            RuntimeError: somebody else holds the lock of its key.
        """
        key = result_record.metadata.storage_key
        assert key is not None
        manager = self.lock_manager
        if manager is not None and manager.is_locked(key) and not self.is_lock_holder(key, holder):
            raise RuntimeError(f"The result {key!r} cannot be written: its key is locked by somebody else.")
        content = result_record.serialize()
        if self.metadata_storage is not None and not isinstance(self.metadata_storage, NullFileSystem):
            finished(self.metadata_storage.write_path(_name(key), msgspec.json.encode(result_record.metadata)))
        finished(self.result_storage.write_path(key, content))

    def write(
        self, obj: Any, key: str | None = None, expiration: datetime | None = None, holder: str | None = None
    ) -> None:
        """Store a value: `create_result_record` and `persist_result_record` in one."""
        self.persist_result_record(self.create_result_record(obj, key, expiration), holder)

    def read(self, key: str, holder: str | None = None) -> ResultRecord[Any]:
        """The record stored under a key.

        Args:
            key: its key.
            holder: who holds the lock of the key, if it is locked; this thread when absent. Others wait for it.

        Raises:
            MissingResult: there is none.
            SerializationError: it cannot be read.
        """
        full = self.full_key(key)
        if self.lock_manager is not None and not self.is_lock_holder(full, holder):
            self.lock_manager.wait_for_lock(full)
        return self._read(full)

    def _read(self, full_key: str) -> ResultRecord[Any]:
        try:
            content = finished(self.result_storage.read_path(full_key))
        except (ValueError, OSError) as error:
            raise _missing(full_key, self.result_storage, error) from error
        return ResultRecord.deserialize(content)

    def find(self, key: str) -> ResultRecord[Any] | None:
        """The record stored under a key, if it is there, can be read, and has not expired; else None.

        Locks are not waited for.
        """
        try:
            record = self._read(self.full_key(key))
        except MissingResult:
            return None
        except SerializationError as error:
            get_logger("results").warning("The result stored under %r is not used: %s", key, error)
            return None
        return None if record.is_expired() else record

    def exists(self, key: str) -> bool:
        """Whether a usable record is stored under a key. Locks are not waited for."""
        if self.metadata_storage is None or isinstance(self.metadata_storage, NullFileSystem):
            return self.find(key) is not None
        try:
            content = finished(self.metadata_storage.read_path(_name(key)))
            metadata = msgspec.json.decode(content, type=ResultRecordMetadata)
        except (ValueError, OSError):
            return False
        return metadata.expiration is None or metadata.expiration > datetime.now(UTC)

    create_record = create_result_record
    persist = persist_result_record

    # The same for coroutines

    async def aread(self, key: str, holder: str | None = None) -> ResultRecord[Any]:
        """The same as `read`, for coroutines."""
        return await in_thread(self.read, key, holder or self.generate_default_holder())

    async def awrite(
        self, obj: Any, key: str | None = None, expiration: datetime | None = None, holder: str | None = None
    ) -> None:
        """The same as `write`, for coroutines."""
        await in_thread(self.write, obj, key, expiration, holder or self.generate_default_holder())

    async def aexists(self, key: str) -> bool:
        """The same as `exists`, for coroutines."""
        return await in_thread(self.exists, key)

    async def apersist_result_record(self, result_record: ResultRecord[Any], holder: str | None = None) -> None:
        """The same as `persist_result_record`, for coroutines."""
        await in_thread(self.persist_result_record, result_record, holder or self.generate_default_holder())

    async def aupdate_for_flow(self, flow: Any) -> "ResultStore":
        """The same as `update_for_flow`, for coroutines."""
        return self.update_for_flow(flow)

    async def aupdate_for_task(self, task: Any) -> "ResultStore":
        """The same as `update_for_task`, for coroutines."""
        return self.update_for_task(task)

    def full_key(self, key: str) -> str:
        """A key as it is stored and locked: in local storage the whole path, which needs no settings to be found."""
        if isinstance(self.result_storage, LocalFileSystem):
            return str(self.result_storage.resolve(key))
        return key


def _name(key: str) -> str:
    """What metadata kept apart are named for: the last part of a key, as keys may be paths of another storage."""
    return key.replace("\\", "/").rpartition("/")[2]


def _missing(key: str, storage: Any, error: Exception) -> MissingResult:
    return MissingResult(
        f"The result stored under {key!r} is missing: {error} It was looked for in {storage!r}. If it was stored on "
        "another machine, choose a storage that both can reach (`result_storage=...`)."
    )


# What applies where


def get_result_store() -> ResultStore:
    """The store of the run that the code is in; outside of every run, or when it has none, that of the settings."""
    for context in (TaskRunContext.get(), FlowRunContext.get()):
        store = context.result_store if context is not None else None
        if isinstance(store, ResultStore):
            return store
    return ResultStore()


def should_persist_result() -> bool:
    """Whether results are persisted in the run that the code is in; outside of every run, by default."""
    context = TaskRunContext.get() or FlowRunContext.get()
    return context.persist_result if context is not None else get_default_persist_setting()


def get_default_persist_setting() -> bool:
    """Whether results of flows are persisted that do not say."""
    return get_settings().results.persist_by_default


def get_default_persist_setting_for_tasks() -> bool:
    """Whether results of tasks are persisted that do not say, in flows that do not say."""
    settings = get_settings()
    own = settings.tasks.default_persist_result
    return settings.results.persist_by_default if own is None else own


def get_default_result_storage() -> WritableFileSystem:
    """The storage that the settings name.

    Raises:
        ConfigurationError: they name a storage block, which cannot be loaded yet.
    """
    settings = get_settings().results
    if settings.default_storage_block is not None:
        return resolve_result_storage(settings.default_storage_block)
    return LocalFileSystem(settings.local_storage_path)


def get_default_result_serializer() -> Serializer:
    """The serializer that the settings name."""
    return resolve_serializer(get_settings().results.default_serializer)


def resolve_result_storage(result_storage: Any) -> WritableFileSystem:
    """The storage that is meant.

    Args:
        result_storage: a file system, or the path of a folder; as text, one that begins with `/`, `.` or `~`.

    Raises:
        ConfigurationError: it names a storage block, which cannot be loaded yet.
        TypeError: it is something else.
    """
    if hasattr(result_storage, "read_path") and hasattr(result_storage, "write_path"):
        found: WritableFileSystem = result_storage
        return found
    if isinstance(result_storage, os.PathLike) or str(result_storage).startswith(("/", ".", "~")):
        return LocalFileSystem(result_storage)
    if isinstance(result_storage, str):
        raise ConfigurationError(
            f"Result storage {result_storage!r} names a storage block; give the storage itself, for example "
            "LocalFileSystem(basepath=...), or a pathlib.Path."
        )
    raise TypeError(
        f"Result storage is a file system with read_path and write_path, or a pathlib.Path, "
        f"not {type(result_storage).__name__}."
    )


async def aresolve_result_storage(result_storage: Any) -> WritableFileSystem:
    """The same as `resolve_result_storage`, for coroutines."""
    return resolve_result_storage(result_storage)


async def aget_default_result_storage() -> WritableFileSystem:
    """The same as `get_default_result_storage`, for coroutines."""
    return get_default_result_storage()


# What `State.result` reads with


def load(data: Any) -> Any:
    """The result that a state's data tell of.

    Args:
        data: the metadata of a persisted result, as a record or as it came over the wire.

    Raises:
        MissingResult: there is none where they say.
        SerializationError: it cannot be read.
    """
    metadata = _metadata(data)
    if metadata is None or metadata.storage_key is None:
        raise MissingResult(
            "The result of this run was not persisted, and it is not in the memory of this process. "
            "Persist it: `persist_result=True`."
        )
    key = metadata.storage_key
    if metadata.storage_block_id is None and os.path.isabs(key):  # written by local storage, wherever that is now
        return ResultStore(result_storage=LocalFileSystem(os.path.dirname(key))).read(key).result
    return get_result_store().read(key).result


def _metadata(data: Any) -> ResultRecordMetadata | None:
    if not isinstance(data, dict) or "storage_key" not in data:
        return None
    try:
        return msgspec.convert(data, ResultRecordMetadata)
    except msgspec.ValidationError as error:
        raise SerializationError(f"The state tells nothing usable of its result: {error}") from error


def resolve(state: State, raise_on_failure: bool, retry_result_failure: bool) -> Any:
    """What `State.result` gives; see there. A storage that fails is asked three times, unless told otherwise."""
    if isinstance(state.data, ResultRecord):
        return state.data.result
    tries = 3 if retry_result_failure else 1
    return read_result(state, raise_on_failure, lambda data: _persistent(data, tries))


def _persistent(data: Any, tries: int) -> Any:
    for left in reversed(range(tries)):
        try:
            return load(data)
        except OSError:  # a local file that is not there is no such error: it will not come by waiting
            if not left:
                raise
            time.sleep(0.2)
    raise AssertionError("unreachable")


resolve_results_with(resolve)
