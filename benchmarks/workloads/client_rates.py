"""How many calls a second several of Prefect's own clients get answered, each a process that calls again and again.

Runs with the interpreter that has Prefect, against the server of PREFECT_API_URL. Prints one JSON object: for each kind
the calls a second, the milliseconds of CPU that the server's processes took for each, and how many were refused.
Arguments: how many clients, seconds for each kind, process ids of the server.
"""

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Completed, Pending, Running

CLIENTS, SECONDS, SERVER = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
KINDS = ("create", "read", "filter", "set_state")
SETTLE = 3.0  # a server may still be busy with the events of what was just made


@flow
def bench(x: int) -> None: ...


def calls_of(client: SyncPrefectClient) -> dict[str, Callable[[], Any]]:
    """The calls of each kind."""
    made: list[Any] = []

    def create() -> Any:
        made.append(client.create_flow_run(bench, parameters={"x": 1}, state=Pending()).id)
        return made[-1]

    def changes() -> Iterator[tuple[Any, Any]]:
        """Two for each of the runs that were created before, as long as there are any."""
        while True:
            id = made.pop() if made else create()
            yield from ((id, Running()), (id, Completed()))

    ids, change = cycle([create() for _ in range(20)]), changes()
    pending = FlowRunFilter.model_validate({"state": {"type": {"any_": ["PENDING"]}}})
    return {
        "create": create,
        "read": lambda: client.read_flow_run(next(ids)),
        "filter": lambda: client.read_flow_runs(flow_run_filter=pending, sort=FlowRunSort.START_TIME_DESC, limit=20),
        "set_state": lambda: client.set_flow_run_state(*next(change)),
    }


def client(start: Any, results: Any) -> None:
    """One client: calls of one kind after the other, each begun together with all clients."""
    with get_client(sync_client=True) as connected:
        calls = calls_of(connected)
        for kind in KINDS:
            start.wait()
            time.sleep(SETTLE)
            results.put(counted(calls[kind]))


def counted(call: Callable[[], Any]) -> tuple[int, int, float]:
    """How many calls succeeded, how many were refused, and the seconds they took."""
    done, refused, began = 0, 0, time.monotonic()
    while time.monotonic() - began < SECONDS:
        try:
            call()
            done += 1
        except PrefectHTTPStatusError:
            refused += 1
    return done, refused, time.monotonic() - began


def server_cpu() -> float:
    """Seconds of CPU that the server's processes have taken so far."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in SERVER]
    return sum(int(field[11]) + int(field[12]) for field in fields) / os.sysconf("SC_CLK_TCK")


def measured(start: Any, results: Any) -> dict[str, float]:
    """The figures of one kind of calls."""
    start.wait()
    time.sleep(SETTLE)
    before = server_cpu()
    answers = [results.get() for _ in range(CLIENTS)]
    done = sum(count for count, _, _ in answers)
    return {
        "rate": sum(count / taken for count, _, taken in answers),
        "cpu": (server_cpu() - before) / done * 1000,
        "refused": sum(refused for _, refused, _ in answers),
    }


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(CLIENTS + 1), context.SimpleQueue()
    for _ in range(CLIENTS):
        context.Process(target=client, args=(start, results)).start()
    print(json.dumps({kind: measured(start, results) for kind in KINDS}))
