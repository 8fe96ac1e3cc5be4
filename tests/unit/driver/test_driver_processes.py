# SPDX-License-Identifier: Apache-2.0
"""More than one process: rolling update (rule 13) and reboot (rule 14)."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from dynamic_memory.driver.calls import NotReady
from dynamic_memory.driver.records import Records
from dynamic_memory.driver.unprepare import StillHeld
from dynamic_memory.process import clock

pytestmark = pytest.mark.looptime


async def test_rule_13_the_second_driver_prepares_what_is_ready_and_takes_over(rig):
    old = await rig.start(pod_uid="old")
    ref = await rig.attached()
    new = await rig.start(pod_uid="new")
    await rig.until(lambda: rig.registered == 2)
    assert old.node.active
    assert not new.node.active
    # `rig.driver` is the new one now: the kubelet calls the one that registered last
    assert len(await rig.prepare(ref)) == 2
    assert len(rig.specs()) == 1

    other = rig.add_claim(name="other")
    await rig.until(lambda: rig.api.conditions("other")["Attached"][0] == "True")
    assert len(await rig.prepare(other)) == 2
    with pytest.raises(StillHeld, match="another driver process works on this node"):
        await rig.unprepare(ref, seconds=2)
    assert len(await rig.extents()) == 2

    task = asyncio.create_task(rig.unprepare(ref))
    await clock.sleep(1)
    rig._tasks[0].cancel()
    await task
    assert new.node.active
    assert await rig.extents() == [rig.tag("other")]
    assert rig.driver.node.records.get(other.uid).prepared is not None


async def test_rule_13_the_second_driver_does_not_attach(rig):
    await rig.start(pod_uid="old")
    rig.host.arrival = 60
    ref = rig.add_claim()
    await rig.until(rig.driver.node.records.all)
    new = await rig.start(pod_uid="new")
    with pytest.raises(NotReady, match="another driver process attaches on this node"):
        await rig.prepare(ref, seconds=10)
    assert not new.node.active
    assert len([call for call in rig.fabric.calls if call[0] == "add_memory"]) == 1


async def test_rule_13_the_loop_writes_the_file_as_the_record_on_the_disk_has_it(rig):
    """Another driver may have prepared the claim since, in its own way."""
    driver = await rig.start()
    ref = await rig.attached()
    await rig.prepare(ref)
    [name] = rig.specs()
    path, others = rig.folder / "cdi" / name, Records(rig.folder / "state" / "claims")
    await others.load()

    def anew(record):
        return msgspec.structs.replace(record, prepared=msgspec.structs.replace(record.prepared, spec="{}\n"))

    await others.update(ref.uid, anew)
    for before in ("{}\n", ""):
        path.write_text(before)
        await driver._reconciler.handle(ref.uid)
        assert path.read_text() == "{}\n"
    await others.update(ref.uid, lambda record: msgspec.structs.replace(record, prepared=None))
    path.unlink()
    await driver._reconciler.handle(ref.uid)
    assert rig.specs() == [], "it was given back"


async def test_rule_14_after_a_reboot_everything_is_attached_again_before_the_driver_registers(rig):
    await rig.start()
    ref = await rig.attached()
    await rig.prepare(ref)
    [spec] = rig.specs()
    text = (rig.folder / "cdi" / spec).read_text()
    gone = await rig.attached(name="gone")
    await rig.prepare(gone)
    await rig.stop()
    rig.host.reboot()
    rig.api.delete_claim("gone")
    rig.host.arrival = 5
    registered = rig.registered
    said = []
    rig.api.before = lambda _: said.append((rig.api.conditions()["Attached"], rig.specs(), rig.registered - registered))
    await rig.start()
    await rig.until(lambda: rig.registered > registered)
    assert rig.api.conditions()["Attached"] == ("True", "ExtentOnline")
    assert (rig.folder / "cdi" / spec).read_text() == text
    assert rig.specs() == [spec]
    assert await rig.extents() == [rig.tag()]
    assert (("False", "NodeRebooted"), [], 0) in said
    assert rig.record(gone) is None


async def test_rule_14_a_fabric_that_is_away_does_not_keep_the_driver_from_registering_for_ever(rig):
    await rig.start()
    ref = await rig.attached()
    await rig.prepare(ref)
    await rig.stop()
    rig.host.reboot()
    rig.fabric.down()
    registered = rig.registered
    await rig.start()
    await clock.sleep(100)
    assert rig.registered == registered
    assert rig.specs() == []
    assert rig.api.conditions()["Attached"][0] == "False"
    await clock.sleep(40)
    assert rig.registered == registered + 1
    await rig.fabric.up()
    await rig.until(lambda: rig.api.conditions()["Attached"][0] == "True")
    await rig.until(rig.specs)


async def test_C6_stale_cdi_files_are_pruned_at_the_start_and_missing_ones_are_made(rig):
    await rig.start()
    ref = await rig.attached()
    await rig.prepare(ref)
    [spec] = rig.specs()
    await rig.stop()
    (rig.folder / "cdi" / "dra.memory-claim-stale.json").write_text("{}")
    (rig.folder / "cdi" / spec).unlink()
    await rig.start()
    await rig.until(lambda: rig.specs() == [spec])


async def test_R8_prepare_after_a_restart_of_the_driver(rig):
    await rig.start()
    ref = await rig.attached()
    await rig.stop()
    await rig.start()
    assert len(await rig.prepare(ref)) == 2
    await rig.stop()
    await rig.start()
    await rig.unprepare(ref)
    assert await rig.extents() == []
    assert rig.specs() == []
