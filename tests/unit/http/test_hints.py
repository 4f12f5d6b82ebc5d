"""Hints reach the subscribers of their topic, from any thread, and never more than fit."""

import asyncio
import threading

from headrace.server.events import hints


async def taken(subscription: hints.Subscription, count: int) -> list[int]:
    """The numbers of the next `count` hints."""
    return [(await anext(subscription))["number"] for _ in range(count)]


def test_publishing_without_subscribers_does_nothing() -> None:
    """Nobody listening is the usual case and no error."""
    hints.publish("nobody", {"number": 1})

    assert "nobody" not in hints._subscriptions


def test_every_subscriber_of_the_topic_hears_it_in_order() -> None:
    """Two subscribers of one topic hear all of it; one of another topic hears nothing of it."""

    async def scene() -> tuple[list[int], list[int], int]:
        with hints.subscribe("a") as first, hints.subscribe("a") as second, hints.subscribe("b") as other:
            for number in range(3):
                hints.publish("a", {"number": number})
            hints.publish("b", {"number": 9})
            return await taken(first, 3), await taken(second, 3), (await anext(other))["number"]

    assert asyncio.run(scene()) == ([0, 1, 2], [0, 1, 2], 9)


def test_hints_from_other_threads_wake_the_reader() -> None:
    """Hints published by writer threads arrive complete while the reader is within its capacity."""

    async def scene() -> list[int]:
        with hints.subscribe("a", capacity=400) as subscription:
            threads = [
                threading.Thread(target=lambda: [hints.publish("a", {"number": n}) for n in range(100)])
                for _ in range(4)
            ]
            for thread in threads:
                thread.start()
            return await asyncio.wait_for(taken(subscription, 400), 30)

    assert sorted(asyncio.run(scene())) == sorted(list(range(100)) * 4)


def test_g14_a_slow_reader_loses_the_oldest() -> None:
    """What waits is bounded: of many hints the newest are kept."""

    async def scene() -> list[int]:
        with hints.subscribe("a", capacity=3) as subscription:
            for number in range(10):
                hints.publish("a", {"number": number})
            return await taken(subscription, 3)

    assert asyncio.run(scene()) == [7, 8, 9]


def test_closing_ends_the_iteration_and_forgets_the_subscription() -> None:
    """A reader that waits is let go by `close`, and the topic is forgotten with its last subscriber."""

    async def scene() -> list[dict[str, object]]:
        subscription = hints.subscribe("a")
        asyncio.get_running_loop().call_later(0.01, subscription.close)
        return [hint async for hint in subscription]

    assert asyncio.run(scene()) == []
    assert "a" not in hints._subscriptions
