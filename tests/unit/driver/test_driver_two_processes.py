# SPDX-License-Identifier: Apache-2.0
"""Two processes that give of one node's memory at the same time, and one of them killed in the middle of it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys

from dynamic_memory.driver.records import Records

PAGES = 12
GIVES = """
import asyncio, sys
from pathlib import Path
from types import SimpleNamespace

from dynamic_memory.driver.calls import ClaimRef, NotReady
from dynamic_memory.driver.cdi import Specs
from dynamic_memory.driver.grants import Grant, Owner
from dynamic_memory.driver.ledger import Entry, Ledger
from dynamic_memory.driver.lock import LedgerLock
from dynamic_memory.driver.records import Prepared, Records

who, folder, pages = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])

async def main():
    records = Records(folder / "state/claims")
    await records.load()
    node = SimpleNamespace(
        records=records,
        ledger=LedgerLock(folder / "state/locks/ledger", poll=0.001),
        local=SimpleNamespace(devices={"numa0-4ki": SimpleNamespace(size=pages << 12)}),
        metadata=None,
        specs=Specs(folder / "cdi"),
    )
    ledger = Ledger(node)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(pages):
        uid = f"{who}-{number}"
        grant = Grant(request="mem", pool="n1/mem", device="numa0-4ki", size=1 << 12, numa=0)
        entry = Entry(
            ref=ClaimRef("app", uid, uid),
            claim=None,
            prepared=Prepared(tag="", cdi_id="c", spec=f'{{"of": "{uid}"}}', grants=(grant,)),
            owner=Owner(name=uid, uid=uid),
        )
        try:
            await ledger.commit(entry)
        except NotReady as error:
            print("full" if "do not fit" in str(error) else error, flush=True)
            return
        print("given", flush=True)

asyncio.run(main())
"""


@contextlib.contextmanager
def giving(folder, who):
    process = subprocess.Popen(
        [sys.executable, "-c", GIVES, who, str(folder), str(PAGES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def begin(process):
    process.stdin.write("\n")
    process.stdin.flush()


async def found(folder):
    records = Records(folder / "state/claims")
    await records.load()
    return records


async def test_R13_two_processes_give_no_more_than_there_is(tmp_path):
    with giving(tmp_path, "a") as one, giving(tmp_path, "b") as two:
        begin(one)
        begin(two)
        said = [*one.stdout.read().split(), *two.stdout.read().split()]
    assert said.count("given") == PAGES
    assert said.count("full") >= 1
    records = await found(tmp_path)
    assert records.taken("n1/mem", "numa0-4ki") == PAGES << 12
    files = {path.name for path in (tmp_path / "cdi").iterdir()}
    assert files == {f"dra.memory-claim-{record.uid}.json" for record in records.all()}
    assert all(json.loads(record.prepared.spec) == {"of": record.uid} for record in records.all())


async def test_R13_a_process_that_is_killed_leaves_no_lock_and_what_it_gave_counts(tmp_path):
    with giving(tmp_path, "a") as one, giving(tmp_path, "b") as two:
        begin(one)
        for _ in range(3):
            assert one.stdout.readline() == "given\n"
        one.kill()
        one.wait()
        begin(two)
        said = two.stdout.read().split()
    records = await found(tmp_path)
    by_killed = [record for record in records.all() if record.uid.startswith("a-")]
    assert len(by_killed) >= 3
    assert said.count("given") == PAGES - len(by_killed)
    assert said[-1] == "full"
    assert records.taken("n1/mem", "numa0-4ki") == PAGES << 12
