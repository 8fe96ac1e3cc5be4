# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from dynamic_memory.driver.lock import LedgerLock, NodeLock

HOLDER = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(fd, fcntl.LOCK_EX)
os.write(fd, b"driver-old\\n")
print("held", flush=True)
sys.stdin.read()
"""


async def test_rule_13_one_of_two_holds_the_lock_and_the_other_one_gets_it_afterwards(tmp_path):
    path = tmp_path / "state" / "node.lock"
    first, second = NodeLock(path, poll=0.01), NodeLock(path, poll=0.01)
    waited, asked = [], asyncio.Event()
    order = []

    async def other():
        async with second.hold("second", lambda: (waited.append(second.holder()), asked.set())):
            order.append("second")

    async with first.hold("first", lambda: waited.append("never")):
        task = asyncio.create_task(other())
        await asked.wait()
        assert not second.held
        order.append("first")
    await task
    assert order == ["first", "second"]
    assert waited == ["first"]
    assert second.holder() == "second"


async def test_rule_13_the_lock_of_a_killed_process_is_free(tmp_path):
    path = tmp_path / "node.lock"
    process = subprocess.Popen(  # noqa: ASYNC220 - it answers at once
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"held\n"
        lock = NodeLock(path, poll=0.01)
        assert lock.holder() == "driver-old"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), lock.hold("new", lambda: None):
                pytest.fail("two holders")
    finally:
        process.kill()
        process.communicate()
    async with asyncio.timeout(30), lock.hold("new", lambda: None):
        assert lock.held
    assert not lock.held


async def test_what_the_holder_tells_counts_while_it_holds_the_lock(tmp_path):
    path = tmp_path / "node.lock"
    first, second = NodeLock(path), NodeLock(path)
    assert second.told() == ""
    async with first.hold("first", lambda: None):
        assert second.told() == ""
        first.tell('{"a": 1}')
        second.tell("nobody listens to one that does not hold it")
        assert (second.holder(), second.told()) == ("first", '{"a": 1}')
        first.tell("short")
        assert (second.holder(), second.told()) == ("first", "short")
    assert (second.holder(), second.told()) == ("first", "")
    async with second.hold("second", lambda: None):
        assert (first.holder(), first.told()) == ("second", "")


async def test_a_full_disk_does_not_keep_a_driver_from_the_lock(tmp_path, monkeypatch):
    """The name is for people, the lock is the kernel's."""

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    lock = NodeLock(tmp_path / "node.lock")
    async with lock.hold("first", lambda: None):
        assert lock.held


async def test_the_ledgers_lock_of_a_killed_process_is_free_and_what_it_wrote_is_read(tmp_path):
    path = tmp_path / "ledger"
    lock, read = LedgerLock(path), []

    async def read_again() -> None:
        read.append(path.read_bytes())

    for _ in range(2):
        async with lock.hold(read_again):
            assert len(read) == 1, "nobody else has held it"
    process = subprocess.Popen(  # noqa: ASYNC220 - it answers at once
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), lock.hold(read_again):
                pytest.fail("two holders")
        hasty = LedgerLock(path, patience=0.05)
        with pytest.raises(TimeoutError, match="another driver of this node does not let go"):
            async with asyncio.timeout(20), hasty.hold(read_again):
                pytest.fail("two holders")
    finally:
        process.kill()
        process.communicate()
    async with asyncio.timeout(5), lock.hold(read_again):
        assert len(read) == 2
        assert read[1].startswith(b"driver-old")


async def test_who_could_not_read_again_has_to_do_it_the_next_time(tmp_path):
    lock, tries = LedgerLock(tmp_path / "ledger"), []

    async def fails() -> None:
        tries.append(1)
        raise OSError(5, "Input/output error")

    for _ in range(2):
        with pytest.raises(OSError, match="Input/output"):
            async with lock.hold(fails):
                pytest.fail("nothing was read")
    assert len(tries) == 2
