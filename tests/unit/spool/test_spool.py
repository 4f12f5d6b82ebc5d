"""The spool file: appending, reading back, emptying, and what a dead process leaves."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from headrace.engine import spool
from headrace.engine.spool import ProposedState, Spool
from headrace.schemas.flow_runs import SetFlowRunState
from headrace.schemas.recording import Records
from headrace.schemas.states import StateCreate, StateType

HERE = "http://127.0.0.1:1/api"

LEAVE_LINES_AND_DIE = """
import os, sys
from pathlib import Path
from headrace.engine.spool import Spool, records_line
spool = Spool(Path(sys.argv[1]), sys.argv[2])
for number in range(int(sys.argv[3])):
    spool.append(records_line(b'{"number":%d}' % number))
os._exit(9)
"""


def line(number: int) -> bytes:
    return spool.records_line(b'{"number":%d}' % number)


def leave(folder: Path, lines: int, destination: str = HERE) -> None:
    """A process that writes some lines and dies without a word."""
    subprocess.run([sys.executable, "-c", LEAVE_LINES_AND_DIE, str(folder), destination, str(lines)], check=False)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    """What was appended first is read first, and stays next until it is acknowledged."""
    mine = Spool(tmp_path, HERE)
    for number in range(3):
        mine.append(line(number))

    for number in range(3):
        assert mine.next_line() == line(number)
        assert mine.next_line() == line(number)
        mine.acknowledge(line(number))
    assert mine.next_line() is None
    mine.close()


def test_an_acknowledged_spool_is_emptied_and_used_again(tmp_path: Path) -> None:
    """Once all is acknowledged the file shrinks to its header; positions never go back."""
    mine = Spool(tmp_path, HERE)
    first = mine.append(line(1) * 1000)
    size = files(tmp_path)[0].stat().st_size
    for _ in range(1000):
        mine.acknowledge(line(1))

    assert files(tmp_path)[0].stat().st_size < 200 < size
    assert mine.append(line(2)) == first + len(line(2))
    assert mine.next_line() == line(2)
    mine.close()


def test_a_long_line_is_read_whole(tmp_path: Path) -> None:
    """A line longer than what is read at a time comes back complete."""
    mine = Spool(tmp_path, HERE)
    long = spool.records_line(b'"' + b"x" * 300_000 + b'"')
    mine.append(line(1))
    mine.append(long)
    mine.acknowledge(line(1))

    assert mine.next_line() == long
    mine.close()


def test_closing_removes_the_file_only_when_nothing_is_left(tmp_path: Path) -> None:
    """A file with lines that nobody acknowledged survives its process."""
    done, left = Spool(tmp_path / "done", HERE), Spool(tmp_path / "left", HERE)
    for one in (done, left):
        one.append(line(1))
    done.acknowledge(line(1))
    done.close()
    left.close()

    assert files(tmp_path / "done") == []
    assert len(files(tmp_path / "left")) == 1


def test_g11_lines_of_a_dead_process_are_found_once(tmp_path: Path) -> None:
    """What a process left behind is handed out in order, and its file is removed when all of it was taken."""
    leave(tmp_path, 3)

    taken = [list(lines) for lines in spool.leftovers(tmp_path, {HERE})]

    assert taken == [[line(0), line(1), line(2)]]
    assert files(tmp_path) == []
    assert list(spool.leftovers(tmp_path, {HERE})) == []


def test_g11_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    """A line that was being written when the process died does not count; the lines before it do."""
    leave(tmp_path, 2)
    path = files(tmp_path)[0]
    path.write_bytes(path.read_bytes() + line(3)[:-5])

    assert [list(lines) for lines in spool.leftovers(tmp_path, {HERE})] == [[line(0), line(1)]]


def test_a_file_without_a_whole_header_is_removed(tmp_path: Path) -> None:
    """A process that died while it made its file left nothing."""
    (tmp_path / "1-a.jsonl").write_bytes(b'{"destin')

    assert list(spool.leftovers(tmp_path, {HERE})) == []
    assert files(tmp_path) == []


def test_the_file_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    """A spool that is in use is locked, for other processes and for this one."""
    mine = Spool(tmp_path, HERE)
    mine.append(line(1))

    assert list(spool.leftovers(tmp_path, {HERE})) == []
    assert mine.next_line() == line(1)
    mine.close()


def test_two_deliverers_do_not_take_the_same_file(tmp_path: Path) -> None:
    """While one is busy with a file, another passes it by."""
    leave(tmp_path, 1)
    busy = spool.leftovers(tmp_path, {HERE})
    lines = next(busy)

    assert list(spool.leftovers(tmp_path, {HERE})) == []
    assert list(lines) == [line(0)]
    assert next(busy, None) is None


def test_a_deliverer_that_fails_leaves_the_file(tmp_path: Path) -> None:
    """An error in the middle of a file loses nothing of it."""
    leave(tmp_path, 2)

    def fail(lines: Iterator[bytes]) -> None:
        raise ConnectionError(next(lines))

    with pytest.raises(ConnectionError):
        list(map(fail, spool.leftovers(tmp_path, {HERE})))

    assert [list(lines) for lines in spool.leftovers(tmp_path, {HERE})] == [[line(0), line(1)]]


def test_lines_for_another_server_stay(tmp_path: Path) -> None:
    """Leftovers are handed out only for the API they were meant for."""
    leave(tmp_path, 1, destination="http://elsewhere/api")

    assert list(spool.leftovers(tmp_path, {HERE})) == []
    assert len(files(tmp_path)) == 1


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a line cannot be written whole, none of it stays, and the next one is readable."""
    mine = Spool(tmp_path, HERE)
    mine.append(line(1))
    real_write = os.write

    def half_then_full(descriptor: int, data: bytes) -> int:
        if len(data) > 5:
            return real_write(descriptor, bytes(data)[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half_then_full)
        with pytest.raises(OSError, match="No space"):
            mine.append(line(2))
    mine.append(line(3))
    mine.acknowledge(line(1))

    assert mine.next_line() == line(3)
    mine.close()


def test_entries_survive_the_way_through_a_line() -> None:
    """A batch comes back as it was encoded; a proposed state comes back equal."""
    encoded = msgspec.json.encode(Records())
    state = ProposedState(id=uuid4(), body=SetFlowRunState(state=StateCreate(type=StateType.COMPLETED, name="Done")))

    raw = spool.read_line(spool.records_line(encoded))

    assert isinstance(raw, msgspec.Raw)
    assert bytes(raw) == encoded
    assert spool.decode_records(raw) == Records()
    assert spool.read_line(spool.state_line(state)) == state
    assert spool.read_line(b"no json\n") is None
