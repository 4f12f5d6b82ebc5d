"""What flows written for Prefect use besides tasks: pauses, inputs, variables, artifacts, blocks and limits."""

import asyncio
from pathlib import Path

from checking import eventually, fresh, last_run, meanwhile, raises, run
from prefect import flow, get_client, task
from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.objects import StateType
from prefect.concurrency.asyncio import concurrency as aconcurrency
from prefect.concurrency.sync import concurrency, rate_limit
from prefect.filesystems import LocalFileSystem
from prefect.flow_runs import pause_flow_run, resume_flow_run, wait_for_flow_run
from prefect.input import RunInput, receive_input, send_input
from prefect.states import Cancelled

client = get_client(sync_client=True)


def check_pause_and_resume():
    @flow(name=fresh("paused"))
    def paused() -> str:
        pause_flow_run(timeout=60, poll_interval=1)
        return "went on"

    def resume():
        made = eventually(lambda: (one := last_run(paused)) and one.state.type is StateType.PAUSED and one)
        assert made.state.state_details.pause_timeout
        resume_flow_run(made.id)

    with meanwhile(resume):
        assert paused() == "went on"
    made = last_run(paused)
    assert made.state.type is StateType.COMPLETED
    assert "Paused" in [one.name for one in client.read_flow_run_states(made.id)]


class Approval(RunInput):
    approved: bool
    reason: str = "none"


def check_pause_with_input():
    @flow(name=fresh("asking"))
    def asking() -> str:
        answer = pause_flow_run(wait_for_input=Approval, timeout=60, poll_interval=1)
        return f"{answer.approved} {answer.reason}"

    def answer():
        made = eventually(lambda: (one := last_run(asking)) and one.state.type is StateType.PAUSED and one)
        refused = client.resume_flow_run(made.id, run_input={"approved": {"not": "a bool"}})
        assert refused.status.value == "REJECT", refused
        resume_flow_run(made.id, run_input={"approved": True, "reason": "fine"})

    with meanwhile(answer):
        assert asking() == "True fine"


def check_input_while_running():
    @flow(name=fresh("listening"))
    def listening() -> list:
        heard = []
        for one in receive_input(str, timeout=60, poll_interval=1):
            heard.append(one)
            if len(heard) == 2:
                return heard
        return heard

    def speak():
        made = eventually(lambda: (one := last_run(listening)) and one.state.type is StateType.RUNNING and one)
        send_input("one", flow_run_id=made.id)
        send_input("two", flow_run_id=made.id)

    with meanwhile(speak):
        assert sorted(listening()) == ["one", "two"]


def check_cancelled_run_stays_cancelled():
    @flow(name=fresh("cancelled"))
    def cancelled():
        return Cancelled(message="enough")

    assert cancelled(return_state=True).type is StateType.CANCELLED
    assert last_run(cancelled).state.message == "enough"


def check_waiting_for_a_run():
    made = client.create_flow_run(flow(lambda: None, name=fresh("waited")))

    def end():
        client.set_flow_run_state(made.id, Cancelled(), force=True)

    with meanwhile(end):
        ended = asyncio.run(wait_for_flow_run(made.id, timeout=30, poll_interval=1))
    assert ended.state.type is StateType.CANCELLED


class Inner(Block):
    _block_type_slug = "compat-inner"
    host: str


class Outer(Block):
    _block_type_slug = "compat-outer"
    inner: Inner
    size: int = 1


def check_blocks():
    name = fresh("block")
    Secret(value="geheim").save(name)
    assert Secret.load(name).get() == "geheim"
    inner = Inner(host="here")
    inner.save(name)
    Outer(inner=inner, size=3).save(name)
    read = Outer.load(name)
    assert (read.inner.host, read.size) == ("here", 3)
    Inner(host="there").save(name, overwrite=True)
    assert Outer.load(name).inner.host == "there"
    assert Block.load(f"compat-outer/{name}").size == 3
    with raises(ValueError):
        Secret(value="other").save(name)
    Outer.delete(name)
    with raises(ValueError):
        Outer.load(name)


def check_block_as_result_storage():
    name = fresh("results")
    LocalFileSystem(basepath=str(Path(name).absolute())).save(name)

    @flow(name=fresh("stored"), persist_result=True, result_storage=f"local-file-system/{name}")
    def stored() -> int:
        return 5

    assert stored() == 5
    assert last_run(stored).state.result() == 5


def check_global_concurrency():
    name = fresh("limit")
    client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
    inside, most = [], []

    @task
    def guarded(n: int):
        with concurrency(name, occupy=1, timeout_seconds=60, strict=True):
            inside.append(n)
            most.append(len(inside))
            inside.remove(n)

    @flow(name=fresh("limited"))
    def limited():
        guarded.map(range(3)).wait()
        with concurrency(name, occupy=1), raises(TimeoutError), concurrency(name, occupy=1, timeout_seconds=0.5):
            pass

    limited()
    assert most == [1, 1, 1]
    assert client.read_global_concurrency_limit_by_name(name).active_slots == 0

    async def again():
        async with aconcurrency(name, occupy=1):
            return client.read_global_concurrency_limit_by_name(name).active_slots

    assert asyncio.run(again()) == 1


def check_rate_limits():
    name = fresh("rate")
    client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=2, slot_decay_per_second=5.0))
    for _ in range(4):
        rate_limit(name, timeout_seconds=30)


def check_unknown_limits():
    with concurrency(fresh("unknown"), occupy=1):
        pass
    with raises(Exception, "unknown"), concurrency(fresh("unknown"), occupy=1, strict=True):
        pass


def check_tag_concurrency():
    tag = fresh("tag")
    client.create_concurrency_limit(tag, 1)
    inside, most = [], []

    @task(tags=[tag])
    def guarded(n: int):
        inside.append(n)
        most.append(len(inside))
        inside.remove(n)

    @flow(name=fresh("tagged"))
    def tagged():
        guarded.map(range(3)).wait()

    tagged()
    assert most == [1, 1, 1]
    assert client.read_concurrency_limit_by_tag(tag).active_slots == []


if __name__ == "__main__":
    run(globals())
