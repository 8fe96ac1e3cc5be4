# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio

import pytest

from dynamic_memory.api.meta import ObjectMeta
from dynamic_memory.embedded.scheduler.queue import SchedulingQueue
from dynamic_memory.embedded.scheduler.types import Pod, PodSpec
from dynamic_memory.process import clock

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


def pod(name, priority=0):
    return Pod(metadata=ObjectMeta(name=name, uid=name), spec=PodSpec(priority=priority))


async def take(queue, seconds=0.0):
    """Return the name of the pod that is ready within some seconds, or None."""
    try:
        async with asyncio.timeout(seconds + 0.01):
            return await queue.get()
    except TimeoutError:
        return None


async def test_higher_priority_first_then_who_came_first():
    queue = SchedulingQueue()
    for name, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 5)):
        queue.add(pod(name, priority))
        await asyncio.sleep(0.001)
    assert [(await queue.get()).uid for _ in range(4)] == ["b", "d", "a", "c"]


async def test_a_pod_put_aside_comes_when_one_of_its_names_is_called():
    queue = SchedulingQueue()
    queue.add(pod("a"))
    queue.park(await queue.get(), {"x", "y"})
    assert queue.state("a") == "parked"
    queue.call("z")
    assert await take(queue, 100) is None
    queue.call("y")
    assert (await take(queue)).uid == "a"


async def test_a_call_during_the_decision_is_not_lost():
    queue = SchedulingQueue()
    queue.add(pod("a"))
    entry = await queue.get()
    queue.call("x")
    queue.park(entry, {"x"})
    assert (await take(queue)).uid == "a"


async def test_a_call_before_the_decision_does_not_count():
    queue = SchedulingQueue()
    queue.add(pod("a"))
    queue.call("x")
    queue.park(await queue.get(), {"x"})
    assert await take(queue, 100) is None


async def test_after_errors_the_wait_grows_to_ten_seconds_and_is_always_kept():
    queue = SchedulingQueue()
    queue.add(pod("a"))
    waits = []
    entry = await queue.get()
    for _ in range(6):
        began = clock.monotonic()
        queue.fail(entry)
        entry = await queue.get()
        waits.append(round(clock.monotonic() - began, 2))
    assert waits == [1, 2, 4, 8, 10, 10]


async def test_a_pod_that_only_did_not_fit_sits_out_its_wait_while_others_are_ready():
    queue = SchedulingQueue()
    queue.add(pod("a"))
    queue.park(await queue.get(), {"x"})
    queue.call("x")
    queue.add(pod("b"))
    assert (await take(queue)).uid == "b"
    assert queue.state("a") == "backoff"
    assert (await take(queue)).uid == "a"


async def test_a_call_shortens_the_wait_after_an_error_that_it_may_mend():
    queue = SchedulingQueue()
    queue.add(pod("a"))
    queue.fail(await queue.get(), {"x"})
    queue.call("y")
    assert await take(queue, 0.5) is None
    queue.call("x")
    entry = await take(queue)
    assert entry.uid == "a"
    queue.fail(entry)
    queue.call("x")
    assert await take(queue, 0.5) is None


async def test_a_gated_pod_was_not_tried_and_is_not_flushed():
    queue = SchedulingQueue()
    queue.gate(pod("gated"), {"x"})
    queue.add(pod("tried"))
    queue.park(await queue.get(), {"x"})
    await asyncio.sleep(301)
    queue.flush(300)
    assert (await take(queue)).uid == "tried"
    assert queue.state("gated") == "parked"
    queue.call("x")
    assert (await take(queue)).uid == "gated"


@pytest.mark.parametrize("state", ["ready", "parked", "backoff", "deciding"])
async def test_a_removed_pod_never_comes(state):
    queue = SchedulingQueue()
    queue.add(pod("a"))
    if state != "ready":
        entry = await queue.get()
        if state == "parked":
            queue.park(entry, {"x"})
        elif state == "backoff":
            queue.fail(entry)
    assert queue.state("a") == state
    queue.remove("a")
    if state == "deciding":
        queue.park(entry, {"x"})
    queue.call("x")
    assert await take(queue, 100) is None
    assert len(queue) == 0
