"""Storing results: keys, metadata, expiration, what is missing, and how a state finds its own."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace import results
from headrace.exceptions import ConfigurationError, MissingResult, SerializationError
from headrace.filesystems import LocalFileSystem, WritableFileSystem
from headrace.result_records import ResultRecord, result_key
from headrace.results import ResultStore, get_result_store
from headrace.schemas.states import State, StateType
from headrace.settings import temporary_settings
from headrace.states import Completed


@pytest.fixture(autouse=True)
def storage(tmp_path: Path) -> Iterator[Path]:
    """The folder of results of the test."""
    with temporary_settings({"home": str(tmp_path)}):
        yield tmp_path / "storage"


def test_a_result_comes_back(storage: Path) -> None:
    """What is written under a key is read from it, by the same store or another one."""
    ResultStore().write({"a": [1, 2]}, key="numbers")

    assert get_result_store().read("numbers").result == {"a": [1, 2]}
    assert ResultStore().exists("numbers")
    assert (storage / "numbers").is_file()


def test_a_result_without_a_key_gets_one_of_its_own() -> None:
    """Keys are made so that nobody used them before."""
    store = ResultStore()
    first, second = store.create_result_record(1), store.create_result_record(2)
    store.persist_result_record(first)
    store.persist_result_record(second)

    assert first.metadata.storage_key is not None
    assert second.metadata.storage_key is not None
    assert store.read(first.metadata.storage_key).result == 1
    assert store.read(second.metadata.storage_key).result == 2


def test_a_missing_result_says_where_it_was_looked_for(storage: Path) -> None:
    """The error names the key, the storage, and what to do."""
    with pytest.raises(MissingResult, match=f"{storage}.*result_storage=") as caught:
        ResultStore().read("nothing")

    assert "'" + str(storage / "nothing") + "'" in str(caught.value)
    assert not ResultStore().exists("nothing")


def test_an_expired_result_is_not_used() -> None:
    """After its expiration a result is not found, though it can still be read."""
    store, now = ResultStore(), datetime.now(UTC)
    store.write(1, key="old", expiration=now - timedelta(seconds=1))
    store.write(2, key="new", expiration=now + timedelta(hours=1))

    assert not store.exists("old")
    assert store.find("old") is None
    assert store.read("old").result == 1
    assert store.exists("new")


def test_a_damaged_result_is_not_used(storage: Path) -> None:
    """A file that is no result is not found; reading it says so."""
    ResultStore().write(1, key="k")
    (storage / "k").write_bytes(b"not json")

    assert not ResultStore().exists("k")
    with pytest.raises(SerializationError, match="cannot be read"):
        ResultStore().read("k")


def test_writing_is_whole_or_not_at_all(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When writing fails in the middle, the old result stays and nothing else is left behind."""
    store = ResultStore()
    store.write("old", key="k")

    def fail(self: Path, content: bytes) -> int:
        with open(self, "wb") as file:
            file.write(content[:5])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail)
        with pytest.raises(OSError, match="No space"):
            store.write("new", key="k")

    assert store.read("k").result == "old"
    assert [path.name for path in storage.iterdir()] == ["k"]


def test_a_value_that_cannot_be_written_is_named() -> None:
    """The error names the type and the ways out."""
    with pytest.raises(SerializationError, match=r"'lock'.*result_serializer"):
        ResultStore().write(threading.Lock(), key="k")


@pytest.mark.parametrize("key", ["../outside", "/etc/passwd", "a/../../outside"])
def test_keys_stay_inside_of_the_storage(key: str) -> None:
    """A key cannot name a file outside of the storage's folder."""
    with pytest.raises(ValueError, match="outside of"):
        ResultStore().write(1, key=key)


def test_metadata_can_be_kept_apart(tmp_path: Path) -> None:
    """With a metadata storage, whether a result exists is seen without reading the result."""
    store = ResultStore(metadata_storage=LocalFileSystem(tmp_path / "meta"))
    store.write("big", key="a/k", expiration=datetime.now(UTC) + timedelta(hours=1))

    assert msgspec.json.decode((tmp_path / "meta" / "k").read_bytes())["storage_key"].endswith("a/k")
    assert store.exists("a/k")
    assert not store.exists("a/other")


def test_storage_may_be_asynchronous() -> None:
    """A file system whose methods are coroutine functions serves synchronous and asynchronous callers."""

    class Memory(WritableFileSystem):
        def __init__(self) -> None:
            self.files: dict[str, bytes] = {}

        async def read_path(self, path: str) -> bytes:
            await asyncio.sleep(0)
            return self.files[path]

        async def write_path(self, path: str, content: bytes) -> str:
            await asyncio.sleep(0)
            self.files[path] = content
            return path

    store = ResultStore(result_storage=Memory())
    store.write(1, key="sync")

    async def inside_of_a_loop() -> list[Any]:
        store.write(2, key="in loop")
        await store.awrite(3, key="async")
        assert await store.aexists("async")
        return [(await store.aread(key)).result for key in ("sync", "in loop", "async")]

    assert asyncio.run(inside_of_a_loop()) == [1, 2, 3]


def test_a_state_reads_its_result_from_storage(tmp_path: Path) -> None:
    """The metadata in a state's data are enough, in another process with other settings too."""
    store = ResultStore(serializer="json", result_storage=LocalFileSystem(tmp_path / "elsewhere"))
    record = store.create_result_record([1, "two"], key="k")
    store.persist_result_record(record)
    wire = msgspec.json.encode(Completed(data=record.data))

    state = msgspec.json.decode(wire, type=State)
    assert state.result() == [1, "two"]
    program = (
        "import sys, msgspec, headrace.results\n"
        "from headrace.schemas.states import State\n"
        "print(msgspec.json.decode(sys.stdin.read(), type=State).result())"
    )
    other = subprocess.run(
        [sys.executable, "-c", program],
        input=wire.decode(),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HEADRACE_HOME": str(tmp_path / "other-home")},
    )
    assert other.stdout.strip() == "[1, 'two']"


def test_a_state_whose_result_is_gone_says_so(storage: Path) -> None:
    """The error says where the result was."""
    record = ResultStore().create_result_record(1, key="k")
    ResultStore().persist_result_record(record)
    (storage / "k").unlink()

    with pytest.raises(MissingResult, match=str(storage / "k")):
        Completed(data=record.data).result()


def test_a_result_that_was_not_persisted_says_so() -> None:
    """A state that came from the API without a result says what to do."""
    state = State(type=StateType.COMPLETED, data={"storage_key": None, "serializer": {}})

    with pytest.raises(MissingResult, match="persist_result=True"):
        state.result()


def test_storage_that_fails_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A passing failure of storage does not reach whoever wants the result, unless they want it to."""
    record = ResultStore().create_result_record(1, key="k")
    answers: list[Any] = [ConnectionError("down"), ConnectionError("down"), 7]

    def load(_: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(results, "load", load)
    monkeypatch.setattr(results.time, "sleep", lambda _: None)

    assert Completed(data=record.data).result() == 7
    answers[:] = [ConnectionError("down")]
    with pytest.raises(ConnectionError):
        Completed(data=record.data).result(retry_result_failure=False)


def test_a_record_of_prefects_is_understood() -> None:
    """A result as Prefect 3.8 stores it can be read."""
    stored = (
        b'{"metadata":{"storage_key":"/s/k","expiration":null,"serializer":{"type":"pickle","picklelib":"cloudpickle",'
        b'"picklelib_version":null},"prefect_version":"3.8.8","storage_block_id":null},'
        b'"result":"gAWVCgAAAAAAAAB9lIwBYZRLAXMu\\n"}'
    )

    record = ResultRecord.deserialize(stored)

    assert record.result == {"a": 1}
    assert record.metadata.storage_key == "/s/k"


def test_a_json_record_of_prefects_is_understood() -> None:
    """Its functions for objects are found here under the names that Prefect gives them."""
    stored = (
        b'{"metadata":{"storage_key":"k","expiration":null,"serializer":{"type":"json","jsonlib":"json",'
        b'"object_encoder":"prefect.serializers.prefect_json_object_encoder",'
        b'"object_decoder":"prefect.serializers.prefect_json_object_decoder","dumps_kwargs":{},"loads_kwargs":{}},'
        b'"prefect_version":"3.8.8","storage_block_id":null},"result":"{\\"__class__\\": \\"builtins.set\\", '
        b'\\"data\\": [1, 2]}"}'
    )

    assert ResultRecord.deserialize(stored).result == {1, 2}


def test_storage_is_a_file_system_or_a_path(tmp_path: Path) -> None:
    """Anything else is refused with the ways out."""
    assert ResultStore(result_storage=tmp_path).result_storage == LocalFileSystem(tmp_path)
    assert ResultStore(result_storage=str(tmp_path)).result_storage == LocalFileSystem(tmp_path)
    with pytest.raises(ConfigurationError, match="storage block"):
        ResultStore(result_storage="s3-bucket/results")
    with pytest.raises(TypeError, match="not int"):
        results.resolve_result_storage(3)


class Run:
    """What a context says of a run."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


def test_storage_keys_are_templates() -> None:
    """Parameters and the runs' fields can stand in a key; an unknown field is named."""
    task = Run(task_run=Run(name="t-1"), task=Run(name="t"), parameters={"x": 5})
    flow = Run(flow_run=Run(name="f-1"), flow=Run(name="f"), parameters={"y": 6})

    key = result_key(
        "{flow_run.flow_name}/{flow_run.name}/{task_run.task_name}-{task_run.name}-{parameters[x]}.json", task, flow
    )

    assert key == "f/f-1/t-t-1-5.json"
    assert result_key("plain") == "plain"
    assert result_key(lambda: "made") == "made"
    with pytest.raises(ConfigurationError, match="nothing_known"):
        result_key("{nothing_known}", task, flow)
