# SPDX-License-Identifier: Apache-2.0
"""Each key once, never two workers on one, failed ones again with back-off."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from dynamic_memory.kube.queue import WorkQueue, work
from dynamic_memory.process import clock

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


async def drain(queue, seconds=0.01):
    found = []
    try:
        async with asyncio.timeout(seconds):
            while True:
                found.append(await queue.get())
                queue.done(found[-1])
    except TimeoutError:
        return found


async def test_a_key_that_waits_is_there_once_and_keys_come_in_order():
    queue = WorkQueue()
    for key in ("a", "b", "a", "c", "b"):
        queue.add(key)
    assert len(queue) == 3
    assert await drain(queue) == ["a", "b", "c"]


async def test_a_delay_is_kept_and_an_earlier_wish_wins():
    queue = WorkQueue()
    began = clock.monotonic()
    queue.add("late", 10)
    queue.add("sooner", 20)
    queue.add("sooner", 5)
    queue.add("sooner", 30)
    for expected in (("sooner", 5), ("late", 10)):
        key = await queue.get()
        assert (key, round(clock.monotonic() - began, 3)) == expected
        queue.done(key)
    assert len(queue) == 0


async def test_a_key_added_while_it_is_worked_on_comes_again_afterwards_only():
    queue = WorkQueue()
    queue.add("a")
    key = await queue.get()
    queue.add("a")
    queue.add("a")
    assert await drain(queue, 1) == []
    queue.done(key)
    assert await drain(queue, 1) == ["a"]


async def test_a_failed_key_comes_again_later_and_later_until_it_succeeds():
    queue = WorkQueue(initial=1, maximum=60)
    queue.add("a")
    times = []
    for _ in range(10):
        key = await queue.get()
        times.append(clock.monotonic())
        queue.done(key, failed=True)
    waits = [round(b - a, 2) for a, b in itertools.pairwise(times)]
    assert all(0.75 * 2**n <= wait <= 1.25 * 2**n for n, wait in enumerate(waits[:6]))
    assert all(45 <= wait <= 60 for wait in waits[6:])
    queue.done(await queue.get())
    queue.add("a")
    queue.done(await queue.get(), failed=True)
    began = clock.monotonic()
    await queue.get()
    assert clock.monotonic() - began < 1.3


async def test_news_about_a_failed_key_are_worked_on_without_the_wait():
    queue = WorkQueue(initial=50)
    queue.add("a")
    queue.done(await queue.get(), failed=True)
    queue.add("a")
    assert await drain(queue, 1) == ["a"]


async def test_two_workers_are_never_on_one_key_and_nothing_is_lost():
    queue = WorkQueue(initial=0.01)
    running, done, wanted = set(), {}, {}

    async def handle(key):
        assert key not in running
        running.add(key)
        wants = wanted[key]
        await clock.sleep(0.3)
        running.discard(key)
        if done.get(key, 0) % 3 == 1:
            done[key] += 1
            raise RuntimeError("once in a while")
        done[key] = done.get(key, 0) + 1
        if wanted[key] == wants:
            wanted.pop(key)

    task = asyncio.create_task(work(queue, handle, workers=3))
    for number in range(200):
        key = "abcd"[number % 4]
        wanted[key] = number
        queue.add(key)
        await clock.sleep(0.05)
    await clock.sleep(20)
    assert wanted == {}
    assert set(done) == set("abcd")
    assert len(queue) == 0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_several_waiting_workers_all_get_work():
    queue = WorkQueue()
    started = []

    async def handle(key):
        started.append((key, clock.monotonic()))
        await clock.sleep(10)

    task = asyncio.create_task(work(queue, handle, workers=3))
    await clock.sleep(1)
    began = clock.monotonic()
    for key in "abc":
        queue.add(key)
    await clock.sleep(1)
    assert [key for key, at in started if at - began < 0.1] == list("abc")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_cancelling_work_gives_its_key_back():
    queue = WorkQueue(initial=0.1)
    queue.add("a")

    async def forever(_):
        await clock.sleep(1000)

    task = asyncio.create_task(work(queue, forever))
    await clock.sleep(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await drain(queue, 1) == ["a"]
