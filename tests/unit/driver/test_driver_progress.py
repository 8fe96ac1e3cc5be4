# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio

import pytest

from dynamic_memory.driver.progress import Outcome, Progress, Verdict
from dynamic_memory.process import clock

READY = {"t": Outcome(verdict=Verdict.READY)}
WAITING = {"t": Outcome(verdict=Verdict.WAITING, reason="r")}


@pytest.mark.looptime
async def test_only_outcomes_of_handlings_that_began_after_the_question_count():
    progress = Progress()
    early = progress.begin("u")
    ticket = progress.ask("u")
    progress.finish("u", early, READY)
    assert await progress.wait("u", ticket, 0, clock.monotonic() + 1) is None
    progress.finish("u", progress.begin("u"), WAITING)
    assert await progress.wait("u", ticket, 0, clock.monotonic() + 1) == (1 + 1, WAITING)


@pytest.mark.looptime
async def test_each_wait_gives_the_next_outcome():
    progress = Progress()
    ticket = progress.ask("u")

    async def work():
        for outcome in (WAITING, WAITING, READY):
            await clock.sleep(1)
            progress.finish("u", progress.begin("u"), outcome)

    task = asyncio.create_task(work())
    seen, got = 0, []
    while (answer := await progress.wait("u", ticket, seen, 10.0)) is not None and got[-1:] != [READY]:
        seen, outcomes = answer
        got.append(outcomes)
    assert got == [WAITING, WAITING, READY]
    await task


async def test_nothing_is_kept_for_nobody():
    progress = Progress()
    progress.finish("u", 0, READY)
    progress.ask("u")
    progress.ask("u")
    progress.leave("u")
    assert progress._claims
    progress.leave("u")
    assert not progress._claims
