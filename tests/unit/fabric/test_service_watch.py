# SPDX-License-Identifier: Apache-2.0
"""Watch of the service (rule 7): a snapshot, then changes; and the sessions of nodes."""

from __future__ import annotations

import pytest
from tests.support.fake_fabric import share_of

from dynamic_memory.fabric.backends.faults import Faults
from dynamic_memory.fabric.errors import (
    Unreachable,
)
from dynamic_memory.fabric.identity import Identity
from dynamic_memory.fabric.model import Snapshot
from dynamic_memory.process import clock

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


async def test_rule_7_watch_is_a_snapshot_then_changes(rig):
    first, second = share_of("n1"), share_of("n2")
    await rig.as_node("n1").add_memory(**first)
    all_of_it, own = aiter(rig.as_controller().watch()), aiter(rig.as_node("n1").watch())
    snapshot = await anext(all_of_it)
    assert isinstance(snapshot, Snapshot)
    assert [share.tag for share in snapshot.shares] == [first["tag"]]
    assert await anext(own) == snapshot

    await rig.as_node("n2").add_memory(**second)
    await rig.as_node("n1").remove_memory(first["tag"])

    changes = [await anext(all_of_it), await anext(all_of_it)]
    assert [change.share and change.share.tag for change in changes] == [second["tag"], None]
    assert changes[1].removed_tag == first["tag"]
    assert snapshot.revision < changes[0].revision < changes[1].revision
    assert (await anext(own)) == changes[1]
    await all_of_it.aclose()
    await own.aclose()


async def test_rule_7_revisions_grow_over_a_restart(rig):
    driver = rig.as_node("n1")
    for _ in range(3):
        wanted = share_of()
        await driver.add_memory(**wanted)
        await driver.remove_memory(wanted["tag"])
    before = (await driver.list_extents()).revision

    await rig.up()

    assert (await driver.list_extents()).revision > before


async def test_rule_7_health_is_in_the_capacity_and_its_change_on_the_watch(rig):
    watch = aiter(rig.as_node("n1").watch())
    await anext(watch)

    rig.inject(Faults(devices_down={"rack-1/cxl1": "lost link"}, hosts_down={"h1": "no power"}))

    change = await anext(watch)
    assert change.capacity is not None
    assert [(each.device, each.healthy, each.why) for each in change.capacity.pools] == [
        ("cxl0", True, ""),
        ("cxl1", False, "lost link"),
    ]
    assert [(each.node, each.healthy, each.why) for each in change.capacity.hosts] == [("n1", False, "no power")]
    assert await rig.as_node("n1").get_capacity() == change.capacity
    await watch.aclose()


async def test_the_watch_of_a_node_is_its_session(rig):
    await rig.up()
    driver, controller = rig.as_node("n1"), rig.as_controller()

    async def session(node="n1"):
        host = next(each for each in (await controller.get_capacity()).hosts if each.node == node)
        return host.session, host.session_age, host.session_lapsed

    assert await session() == (False, None, False)
    first, second = aiter(driver.watch()), aiter(driver.watch())
    await anext(first)
    await anext(second)
    await clock.sleep(5)
    assert await session() == (True, 0.0, False)
    await first.aclose()
    assert await session() == (True, 0.0, False)
    await second.aclose()
    await clock.sleep(61)
    assert await session() == (False, 61.0, True)
    assert await session("n2") == (False, None, True)


async def test_a_watch_of_the_controller_is_nobodys_session(rig):
    watch = aiter(rig.as_controller().watch())
    await anext(watch)

    assert not any(host.session for host in (await rig.as_controller().get_capacity()).hosts)
    await watch.aclose()


async def test_a_watcher_that_does_not_read_is_cut_off(rig):
    driver = rig.as_node("n1")
    rig.service._limits = type(rig.service._limits)(backlog=3)
    watcher = await rig.service.watch(Identity.node("c1", "n1"))
    for _ in range(4):
        wanted = share_of()
        await driver.add_memory(**wanted)

    with pytest.raises(Unreachable, match="fell behind"):
        await watcher.next()
    rig.service.unwatch(watcher)


async def test_watches_are_bounded(rig):
    caller = Identity.node("c1", "n1")
    watchers = [await rig.service.watch(caller) for _ in range(8)]

    with pytest.raises(Unreachable, match="too many watches"):
        await rig.service.watch(caller)

    rig.service.unwatch(watchers.pop())
    watchers.append(await rig.service.watch(caller))
    for watcher in watchers:
        rig.service.unwatch(watcher)
    assert rig.service.watches == 0


async def test_a_watch_ends_when_the_service_goes_away(rig):
    watch = aiter(rig.as_node("n1").watch())
    await anext(watch)
    rig.down()

    with pytest.raises(Unreachable):
        await anext(watch)
