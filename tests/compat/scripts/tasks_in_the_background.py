"""Tasks that are handed over with `.delay()`, and a task worker that serves them."""

import subprocess
import sys
from pathlib import Path

from checking import eventually, fresh, run
from prefect import get_client, task
from prefect.client.schemas.objects import StateType
from prefect.task_worker import serve

client = get_client(sync_client=True)


@task(name="compat-deferred", persist_result=True)
def deferred(n: int) -> int:
    return n + 1


@task(name="compat-deferred-fragile", retries=1, retry_delay_seconds=0)
def fragile(marker: str) -> str:
    with open(marker, "a+") as file:
        file.seek(0)
        first = not file.read()
        file.write("x")
    if first:
        raise ValueError("not yet")
    return marker


def check_deferred_tasks_are_run_by_a_task_worker():
    worker = subprocess.Popen([sys.executable, __file__, "serve"])
    try:
        futures = [deferred.delay(n) for n in range(3)]
        assert [future.result(timeout=60) for future in futures] == [1, 2, 3]
        read = client.read_task_run(futures[0].task_run_id)
        assert read.flow_run_id is None
        assert eventually(lambda: client.read_task_run(read.id).state.type is StateType.COMPLETED)
        assert client.read_task_run_states(read.id)[0].type is StateType.SCHEDULED
        again = fragile.delay(str(Path(fresh("marker")).absolute()))
        again.wait(timeout=60)
        assert eventually(lambda: client.read_task_run(again.task_run_id).state.type is StateType.COMPLETED)
    finally:
        worker.terminate()
        worker.wait(20)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve(deferred, fragile)
    else:
        run(globals())
