"""Asynchronous flows and tasks, with the same features."""

import asyncio

from headrace import flow, task


@task(timeout_seconds=5)
async def fetch(number: int) -> int:
    await asyncio.sleep(0.01)
    return number


@flow
async def gather() -> list[int]:
    return await asyncio.gather(*(fetch(number) for number in range(3)))


if __name__ == "__main__":
    assert asyncio.run(gather()) == [0, 1, 2]
