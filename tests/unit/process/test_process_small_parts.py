# SPDX-License-Identifier: Apache-2.0
"""Back-off, time, locks, readiness, fault points."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_memory.process import clock, faults
from dynamic_memory.process.backoff import Backoff
from dynamic_memory.process.locks import KeyedLocks
from dynamic_memory.process.readiness import Readiness


@given(
    initial=st.floats(0.01, 10),
    growth=st.floats(1, 100),
    factor=st.floats(1, 5),
    jitter=st.floats(0, 1),
    seed=st.integers(),
)
def test_no_wait_is_longer_than_the_maximum_and_all_grow(initial, growth, factor, jitter, seed):
    maximum = initial * growth
    backoff = Backoff(initial, maximum, factor, jitter, random.Random(seed))
    plain = initial
    for _ in range(20):
        wait = backoff.next()
        assert 0 <= wait <= maximum
        assert plain * (1 - jitter) - 1e-9 <= wait
        plain = min(maximum, plain * factor)


def test_reset_starts_again():
    backoff = Backoff(1, 100, 2, jitter=0)
    assert [backoff.next() for _ in range(4)] == [1, 2, 4, 8]
    backoff.reset()
    assert backoff.next() == 1


def test_two_backoffs_do_not_march_in_step():
    one, two = Backoff(), Backoff()
    assert [one.next() for _ in range(5)] != [two.next() for _ in range(5)]


def test_times_are_written_as_kubernetes_writes_them():
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, dt.timezone(dt.timedelta(hours=2)))
    assert clock.rfc3339(moment) == "2026-01-02T01:04:05Z"
    assert clock.rfc3339_micro(moment) == "2026-01-02T01:04:05.678901Z"
    assert clock.parse_rfc3339("2026-01-02T01:04:05.678901Z") == moment


@pytest.mark.looptime
async def test_equal_keys_wait_for_each_other_and_other_keys_do_not():
    locks, log = KeyedLocks(), []

    async def use(key, name):
        async with locks(key):
            log.append(f"+{name}")
            await clock.sleep(1)
            log.append(f"-{name}")

    await asyncio.gather(use("a", 1), use("a", 2), use("b", 3))
    assert log[:2] == ["+1", "+3"]
    assert log.index("-1") < log.index("+2")
    assert len(locks) == 0


@pytest.mark.looptime
async def test_a_lock_is_forgotten_also_when_waiting_for_it_is_cancelled():
    locks = KeyedLocks()

    async def hold():
        async with locks("a"):
            await clock.sleep(10)

    async with asyncio.TaskGroup() as group:
        holder, waiter = group.create_task(hold()), group.create_task(hold())
        await clock.sleep(1)
        assert locks.locked("a")
        assert not locks.locked("b")
        waiter.cancel()
        await clock.sleep(0.1)
        assert locks.locked("a")
        holder.cancel()
    assert len(locks) == 0


def test_a_check_may_be_good_enough_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    ready = Readiness()
    ready.set("nri", True, degraded="there is none")
    assert ready
    assert "[+]nri (degraded): there is none\n" == ready.report()
    assert "nri is degraded" in caplog.text
    ready.set("nri", False, "lost")
    assert not ready
    assert "[-]nri: lost\n" == ready.report()
    ready.set("nri", True)
    assert "[+]nri\n" == ready.report()


def test_ready_needs_at_least_one_check_and_all_good():
    ready = Readiness()
    assert not ready
    ready.set("api", True)
    assert ready
    ready.set("fabric", False, "no answer")
    assert not ready
    assert ready.report() == "[+]api\n[-]fabric: no answer\n"
    ready.set("fabric", True)
    assert ready


def test_a_point_that_was_not_declared_is_a_defect():
    faults.declare("roletest", "one", "two")
    assert faults.names("roletest") == ("roletest.one", "roletest.two")
    faults.point("roletest.one")
    with pytest.raises(KeyError):
        faults.point("roletest.three")


PASSES = """
from dynamic_memory.process import faults
faults.declare("r", "one", "two")
for n in range(3):
    for name in faults.names("r"):
        faults.point(name)
        print(n, name, flush=True)
"""


@pytest.mark.parametrize(
    ("fault", "lines"), [("r.one", 0), ("r.two", 1), ("r.one#3", 4), ("r.two#4", 6), ("other.one", 6), (None, 6)]
)
def test_a_process_dies_by_sigkill_at_its_fault_point(fault, lines):
    environment = {"PYTHONPATH": ":".join(sys.path)} | ({faults.VARIABLE: fault} if fault else {})
    ended = subprocess.run([sys.executable, "-c", PASSES], env=environment, capture_output=True, check=False, text=True)
    assert len(ended.stdout.splitlines()) == lines, ended.stderr
    assert ended.returncode == (0 if lines == 6 else -signal.SIGKILL)
