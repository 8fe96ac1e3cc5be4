# SPDX-License-Identifier: Apache-2.0
"""The life of a region on a simulated host, as a role sees it through the interface."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from dynamic_memory.errors import Kind
from dynamic_memory.host.errors import NoRegion, NotArrived, OnlineFailed, RegionFailed, StillOnline
from dynamic_memory.host.simulated.kernel import Kernel, reboot

MIB = 1 << 20
GIB = 1 << 30
TAG = "5be13bce-ae34-4a77-b6c3-16df975fcf1a"
BOOT_ID = "proc/sys/kernel/random/boot_id"
OTHER = "0f0f0f0f-0000-4000-8000-000000000001"


@pytest.mark.parametrize("nodes", [1, 2, 8])
@pytest.mark.parametrize("block", [128 * MIB, 2 * GIB], ids=["128Mi", "2Gi"])
async def test_memory_comes_online_and_goes_again(open_simulated, nodes, block):
    host = open_simulated(nodes=nodes, block=block)
    before = await host.memory()
    assert (before.block_size, before.total) == (block, nodes * max(GIB, block))
    assert [(node.id, node.cpus, node.movable) for node in before.nodes] == [(n, True, False) for n in range(nodes)]

    size = 4 * block
    created = await host.create_region(TAG, size, [(0, block), (10 * block, 3 * block)])
    assert (created.size, created.node, created.whole, created.any_online) == (size, nodes, True, False)
    assert {part.state for part in created.blocks} == {"offline"}
    assert (await host.memory()).total == before.total

    online = await host.online(TAG)
    assert online.complete
    assert {(part.state, part.zone) for part in online.blocks} == {("online", "Movable")}
    during = await host.memory()
    assert (during.total, during.fabric_online) == (before.total + size, size)
    far = during.nodes[nodes]
    assert (far.total, far.cpus, far.movable) == (size, False, True)

    assert not (await host.offline(TAG)).any_online
    await host.destroy_region(TAG)
    assert await host.memory() == before
    assert await host.regions() == {}


async def test_I5_each_step_repeated_changes_nothing(open_simulated, tree_of, root):
    host = open_simulated()
    steps = [
        lambda: host.create_region(TAG, 256 * MIB, [(0, 256 * MIB)]),
        lambda: host.online(TAG),
        lambda: host.offline(TAG),
        lambda: host.destroy_region(TAG),
    ]
    for step in steps:
        once = await step(), tree_of(root)
        assert (await step(), tree_of(root)) == once


async def test_I2_a_region_with_an_online_block_is_not_destroyed(open_simulated, tree_of, root):
    host = open_simulated()
    await host.create_region(TAG, 512 * MIB, [(0, 512 * MIB)])
    region = await host.online(TAG)
    kernel = Kernel(root)
    for block in region.blocks[1:]:
        kernel.write_state(block.index, "offline")
    kernel.settle({})
    before = tree_of(root)
    with pytest.raises(StillOnline) as caught:
        await host.destroy_region(TAG)
    assert caught.value.blocks == (region.blocks[0].index,)
    assert caught.value.kind is Kind.NEVER
    assert tree_of(root) == before
    with pytest.raises(StillOnline):  # nor does the kernel of files by itself
        kernel.unplug(TAG)


async def test_I2_a_block_whose_pages_are_being_moved_counts_as_online(open_simulated, root):
    host = open_simulated()
    await host.create_region(TAG, 128 * MIB, [(0, 128 * MIB)])
    region = await host.online(TAG)
    Kernel(root).mark(region.blocks[0].index, going=True)
    seen = (await host.regions())[TAG]
    assert (seen.blocks[0].state, seen.any_online, seen.online) == ("going-offline", True, 0)
    with pytest.raises(StillOnline):
        await host.destroy_region(TAG)


async def test_regions_share_the_window_without_overlap_and_reuse_holes(open_simulated):
    host = open_simulated(window=1 * GIB)
    first = await host.create_region(TAG, 512 * MIB, [(0, 512 * MIB)])
    second = await host.create_region(OTHER, 256 * MIB, [(0, 128 * MIB), (512 * MIB, 128 * MIB)])
    assert not {part.index for part in first.blocks} & {part.index for part in second.blocks}
    await host.destroy_region(TAG)
    third = await host.create_region("third", 384 * MIB, [(0, 384 * MIB)])
    assert third.blocks[0].index == first.blocks[0].index
    with pytest.raises(RegionFailed, match="no free addresses"):
        await host.create_region("fourth", 512 * MIB, [(0, 512 * MIB)])


@pytest.mark.parametrize(
    ("size", "ranges", "error", "text"),
    [
        (256 * MIB, [(0, 128 * MIB)], NotArrived, "sees 134217728 of 268435456 bytes"),
        (256 * MIB, [], NotArrived, "sees 0 of 268435456 bytes"),
        (128 * MIB, [(0, 256 * MIB)], RegionFailed, "268435456 bytes, 134217728 were asked for"),
        (128 * MIB, [(0, 64 * MIB), (64 * MIB, 64 * MIB)], RegionFailed, "not a whole number"),
        (100 * MIB, [(0, 100 * MIB)], RegionFailed, "not a whole number"),
        (0, [], RegionFailed, "more than 0"),
    ],
)
async def test_extents_that_are_no_region_are_refused_and_leave_nothing(
    open_simulated, tree_of, root, size, ranges, error, text
):
    host = open_simulated()
    await host.create_region(OTHER, 128 * MIB, [(0, 128 * MIB)])
    before = tree_of(root)
    with pytest.raises(error, match=text):
        await host.create_region(TAG, size, ranges)
    assert tree_of(root) == before


async def test_a_region_cannot_change_its_size(open_simulated):
    host = open_simulated()
    await host.create_region(TAG, 256 * MIB, [(0, 256 * MIB)])
    with pytest.raises(RegionFailed, match="exists with 268435456"):
        await host.create_region(TAG, 128 * MIB, [(0, 128 * MIB)])
    with pytest.raises(NotArrived):
        await host.create_region(TAG, 512 * MIB, [(0, 512 * MIB)])


async def test_without_a_region_there_is_nothing_to_online_and_nothing_to_destroy(open_simulated):
    host = open_simulated()
    for operation in (host.online, host.offline):
        with pytest.raises(NoRegion) as caught:
            await operation(TAG)
        assert caught.value.kind is Kind.RETRY
    await host.destroy_region(TAG)


@pytest.mark.parametrize("policy", ["online", "online_kernel"])
async def test_a_kernel_that_onlines_into_zone_normal_gets_no_region(open_simulated, policy):
    host = open_simulated(auto_online=policy)
    with pytest.raises(RegionFailed, match="auto_online_blocks is 'online") as caught:
        await host.create_region(TAG, 128 * MIB, [(0, 128 * MIB)])
    assert caught.value.kind is Kind.NOT_HERE
    assert await host.regions() == {}


async def test_a_kernel_that_onlines_into_zone_movable_does_half_of_the_work(open_simulated):
    host = open_simulated(auto_online="online_movable")
    created = await host.create_region(TAG, 256 * MIB, [(0, 256 * MIB)])
    assert created.complete
    assert (await host.online(TAG)).complete
    assert not (await host.offline(TAG)).any_online


async def test_blocks_in_zone_normal_do_not_pass_for_online(open_simulated, root):
    host = open_simulated()
    await host.create_region(TAG, 256 * MIB, [(0, 256 * MIB)])
    index = (await host.regions())[TAG].blocks[1].index
    Kernel(root).write_state(index, "online")
    with pytest.raises(OnlineFailed) as caught:
        await host.online(TAG)
    assert (caught.value.blocks, caught.value.kind) == ((index,), Kind.NOT_HERE)
    assert "busy" in str(caught.value).lower()
    seen = (await host.regions())[TAG]
    assert (seen.online, seen.complete) == (128 * MIB, False)


@pytest.mark.parametrize(
    ("values", "number"),
    [
        (["offline"], errno.EINVAL),
        (["online_movable", "online_movable"], errno.EINVAL),
        (["online", "offline"], errno.EBUSY),
    ],
)
async def test_the_kernel_refuses_as_linux_does(open_simulated, root, values, number):
    host = open_simulated()
    region = await host.create_region(TAG, 128 * MIB, [(0, 128 * MIB)])
    kernel = Kernel(root)
    *first, last = values
    for value in first:
        kernel.write_state(region.blocks[0].index, value)
    with pytest.raises(OSError, match=os.strerror(number)):
        kernel.write_state(region.blocks[0].index, last)


async def test_after_a_reboot_there_is_no_region_and_another_boot_id(open_simulated, root, tree_of):
    host = open_simulated()
    fresh, boot = tree_of(root), await host.boot_id()
    await host.create_region(TAG, 256 * MIB, [(0, 256 * MIB)])
    await host.online(TAG)
    reboot(root)
    assert await host.boot_id() != boot
    assert await host.regions() == {}
    await host.destroy_region(TAG)
    assert tree_of(root) | {BOOT_ID: boot} == fresh | {BOOT_ID: boot}
    assert (await host.memory()).total == GIB
    await host.create_region(TAG, 256 * MIB, [(0, 256 * MIB)])
    assert (await host.online(TAG)).complete


async def test_operations_on_several_tags_at_once_do_not_disturb_each_other(open_simulated):
    host = open_simulated()
    tags = [f"tag-{number}" for number in range(6)]

    async def life(tag):
        await host.create_region(tag, 256 * MIB, [(0, 128 * MIB), (512 * MIB, 128 * MIB)])
        await host.online(tag)

    await asyncio.gather(*map(life, tags))
    regions = await host.regions()
    assert sorted(regions) == tags
    assert all(region.complete for region in regions.values())
    indices = [block.index for region in regions.values() for block in region.blocks]
    assert len(indices) == len(set(indices)) == 12
    assert (await host.memory()).fabric_online == 6 * 256 * MIB


async def test_two_processes_see_one_tree(open_simulated):
    driver, updater = open_simulated(), open_simulated()
    await driver.create_region(TAG, 256 * MIB, [(0, 256 * MIB)])
    await driver.online(TAG)
    assert (await updater.memory()).fabric_online == 256 * MIB
    assert await updater.boot_id() == await driver.boot_id()
    assert updater.simulated
