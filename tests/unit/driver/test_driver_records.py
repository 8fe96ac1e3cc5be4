# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import msgspec
import pytest

from dynamic_memory.driver.claims import Pod
from dynamic_memory.driver.planner import State
from dynamic_memory.driver.records import ClaimRecord, Failure, Prepared, Records, ShareRecord
from dynamic_memory.errors import InvalidInput
from dynamic_memory.process import durable

TAG = "6f1f2a0e-3c3e-4a7e-9f0c-1d2f6f1c9a11"


def share(tag: str = TAG, state: State = State.ATTACHING) -> ShareRecord:
    return ShareRecord(tag=tag, pool="fabric/rack-1", device="cxl0", size=1 << 29, state=state)


def record(key: str = "u1", *shares: ShareRecord) -> ClaimRecord:
    return ClaimRecord(key=key, uid=key, namespace="app", name="far", shares=shares or (share(),))


@pytest.fixture
async def records(tmp_path):
    made = Records(tmp_path / "claims")
    await made.load()
    return made


async def test_what_was_written_is_read_by_the_next_process(records, tmp_path):
    full = msgspec.structs.replace(
        record(
            "u1",
            msgspec.structs.replace(share(), failure=Failure(reason="r", message="m", at=1.0), pods=(Pod("p", "q"),)),
        ),
        prepared=Prepared(tag=TAG, cdi_id="dra.memory/claim=claim-u1", spec="{}\n"),
    )
    await records.update("u1", lambda _: full)
    again = Records(tmp_path / "claims")
    await again.load()
    assert again.get("u1") == full
    assert again.key_of(TAG) == "u1"
    assert again.all() == [full]


async def test_rule_8_a_record_is_on_the_disk_when_update_returns(records, tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())), real(fd)))
    await records.update("u1", lambda _: record())
    assert (tmp_path / "claims" / "u1.json").exists()
    assert str(tmp_path / "claims") in synced  # the rename
    assert any(".tmp" in path for path in synced)  # the content, before it


async def test_a_change_that_changes_nothing_writes_nothing(records, tmp_path):
    await records.update("u1", lambda _: record())
    before = (tmp_path / "claims" / "u1.json").stat().st_ino
    await records.update("u1", lambda r: r)
    assert (tmp_path / "claims" / "u1.json").stat().st_ino == before


async def test_the_last_share_takes_the_file_with_it(records, tmp_path):
    await records.update("u1", lambda _: record("u1", share(), share("b" * 8)))
    await records.update("u1", lambda r: r.without_share(TAG))
    assert records.key_of(TAG) is None
    assert records.key_of("b" * 8) == "u1"
    await records.update("u1", lambda r: r.without_share("b" * 8))
    assert records.get("u1") is None
    assert not (tmp_path / "claims" / "u1.json").exists()


@pytest.mark.parametrize("content", [b"", b"{", b'{"key": 1}', b"\xff\xfe", b'{"key":"u1","shares":[{}]}'])
async def test_a_file_that_cannot_be_read_is_put_aside_and_the_others_are_served(tmp_path, content):
    folder = tmp_path / "claims"
    folder.mkdir()
    (folder / "u1.json").write_bytes(content)
    (folder / "u2.json").write_bytes(msgspec.json.encode(record("u2")))
    records = Records(folder)
    await records.load()
    assert records.get("u1") is None
    assert records.get("u2") == record("u2")
    assert records.quarantined == 1
    assert (folder / "u1.corrupt").read_bytes() == content
    await records.update("u1", lambda _: record("u1"))
    assert records.get("u1") == record("u1")


async def test_a_file_that_the_disk_does_not_give_costs_its_claim_alone(tmp_path, monkeypatch, caplog):
    folder = tmp_path / "claims"
    records = Records(folder)
    await records.load()
    for key in ("u1", "u2"):
        await records.update(key, lambda _, k=key: record(k))
    (folder / "u3.json").mkdir()
    read = durable.read

    def broken(path):
        if path.stem == "u2":
            raise OSError(5, "Input/output error", str(path))
        return read(path)

    monkeypatch.setattr(durable, "read", broken)
    await records.load()
    assert records.get("u2") == record("u2"), "what is known of it is still true"
    assert records.get("u1") == record("u1")
    assert {entry.path for entry in caplog.records} == {str(folder / "u2.json"), str(folder / "u3.json")}
    with pytest.raises(OSError, match="Input/output"):
        await records.refresh("u2")
    fresh = Records(folder)
    await fresh.load()
    assert [each.key for each in fresh.all()] == ["u1"]
    assert fresh.quarantined == 0, "it may be read the next time"


async def test_two_processes_do_not_lose_each_others_changes(tmp_path):
    old, new = Records(tmp_path / "claims"), Records(tmp_path / "claims")
    await old.load()
    await new.load()
    await old.update("u1", lambda _: record())
    prepared = Prepared(tag=TAG, cdi_id="c", spec="{}")
    await new.update("u1", lambda r: msgspec.structs.replace(r, prepared=prepared))
    await old.update("u1", lambda r: r.with_share(share(state=State.ATTACHED)))
    assert old.get("u1").prepared == prepared
    assert (await new.refresh("u1")).share(TAG).state is State.ATTACHED


async def test_changes_of_many_claims_at_once(records):
    keys = [f"u{i}" for i in range(40)]
    await asyncio.gather(*(records.update(key, lambda _, k=key: record(k, share(f"t-{k}"))) for key in keys))
    assert {r.key for r in records.all()} == set(keys)
    assert records.key_of("t-u7") == "u7"


@pytest.mark.parametrize("key", ["", "../x", "a/b", "." * 3, "x" * 200])
async def test_a_uid_that_is_no_file_name_is_refused(records, key):
    with pytest.raises(InvalidInput):
        await records.update(key, lambda _: record())


async def test_a_file_with_the_name_of_no_record_is_left_alone(records, tmp_path):
    await records.update("u1", lambda _: record())
    for name in ("a copy.json", ".hidden.json"):
        (tmp_path / "claims" / name).write_text("{}")
    again = Records(tmp_path / "claims")
    await again.load()
    assert [found.key for found in again.all()] == ["u1"]
    assert (tmp_path / "claims" / "a copy.json").exists()


async def test_reading_all_anew_hides_nothing_meanwhile_and_takes_no_change_back(records, monkeypatch):
    for key in ("u1", "u2", "u3"):
        await records.update(key, lambda _, k=key: record(k, share(f"t-{k}")))
    reading, go_on = threading.Event(), threading.Event()
    read = durable.read

    def held_up_at_the_last(path):
        if path.stem == "u3":
            reading.set()
            go_on.wait(30)
        return read(path)

    monkeypatch.setattr(durable, "read", held_up_at_the_last)
    load = asyncio.create_task(records.load())
    try:
        assert await asyncio.to_thread(reading.wait, 30)
        assert [found.key for found in records.all()] == ["u1", "u2", "u3"]
        assert records.key_of("t-u3") == "u3"
        # both were read by now, as they were
        await records.update("u1", lambda _: None)
        await records.update("u2", lambda r: r.with_share(share("t-u2", State.ATTACHED)))
    finally:
        go_on.set()
        await load
    assert [found.key for found in records.all()] == ["u2", "u3"]
    assert records.get("u2").share("t-u2").state is State.ATTACHED
    assert records.key_of("t-u1") is None


async def test_reading_all_anew_shows_what_another_process_wrote_and_removed(records, tmp_path):
    await records.update("u1", lambda _: record("u1", share("t-u1")))
    other = Records(tmp_path / "claims")
    await other.load()
    await other.update("u1", lambda _: None)
    await other.update("u2", lambda _: record("u2", share("t-u2")))
    await records.load()
    assert [found.key for found in records.all()] == ["u2"]
    assert (records.key_of("t-u1"), records.key_of("t-u2")) == (None, "u2")


async def test_what_killed_writers_left_is_swept_and_nothing_that_is_being_written(tmp_path):
    folder = tmp_path / "claims"
    records = Records(folder)
    await records.load()
    await records.update("u1", lambda _: record("u1"))
    left = [folder / ".u1.json.7-0a.tmp", folder / ".orphan-t.json.7-0a.tmp"]
    others = [folder / ".note.tmp", folder / "u1.json.tmp"]
    for path in (*left, *others):
        path.write_text("{")
    seen = []

    def change(before):
        # here another process would have its temporary file
        waits = threading.Thread(target=records._sweep)
        waits.start()
        waits.join(0.05)
        seen.append(left[0].exists())
        return msgspec.structs.replace(before, name="changed")

    await records.update("u1", change)
    await records.sweep()
    assert seen == [True]
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in others)
    await records.load()
    assert records.get("u1").name == "changed"
