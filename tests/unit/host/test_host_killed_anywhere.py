# SPDX-License-Identifier: Apache-2.0
"""A process that changes the host may die at any system call: whoever comes next reaches the same end."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import traceback

import pytest

from dynamic_memory.host.errors import StillOnline
from dynamic_memory.host.simulated.files import Files
from dynamic_memory.host.simulated.host import SimulatedHost

MIB = 1 << 20
GIB = 1 << 30
TAG = "5be13bce-ae34-4a77-b6c3-16df975fcf1a"
OTHER = "0f0f0f0f-0000-4000-8000-000000000001"
SIZE = 256 * MIB
RANGES = [(0, 128 * MIB), (512 * MIB, 128 * MIB)]

STEPS = {
    "create": lambda host: host.create_region(TAG, SIZE, RANGES),
    "online": lambda host: host.online(TAG),
    "offline": lambda host: host.offline(TAG),
    "destroy": lambda host: host.destroy_region(TAG),
}


class MortalFiles(Files):
    """Kills its process after a number of system calls."""

    def __init__(self, calls: int) -> None:
        self._left = calls

    def __getattribute__(self, name: str) -> object:
        if name in {"mkdir", "write", "rename", "symlink", "unlink", "rmdir"}:
            self._left -= 1
            if self._left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().__getattribute__(name)


def in_child(act) -> int:
    """Run `act` in a process of its own; return the signal that ended it, 0 if it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            act()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - whatever it is must not run the parent's code
            traceback.print_exc()
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    assert os.WEXITSTATUS(status) == 0, "the step failed"
    return 0


def run(config, step, files=None):
    async def main():
        return await STEPS[step](SimulatedHost(config, files=files))

    return asyncio.run(main())


def read_all(config):
    async def main():
        host = SimulatedHost(config)
        return await host.memory(), await host.regions(), await host.boot_id()

    return asyncio.run(main())


async def take_over(host, step):
    regions = await host.regions()  # a reader meets whatever is there, and is not disturbed
    assert regions[OTHER].complete
    assert (await host.memory()).fabric_online >= 128 * MIB
    if TAG in regions and regions[TAG].any_online:
        with pytest.raises(StillOnline):  # I2
            await host.destroy_region(TAG)
    await STEPS[step](host)


@pytest.mark.parametrize("step", list(STEPS))
def test_I5_killed_at_any_system_call_and_repeated_ends_alike(host_config, root, tmp_path, tree_of, step):
    config = host_config(each=128 * MIB)
    run(config, "create")
    other = SimulatedHost(config)
    asyncio.run(other.create_region(OTHER, 128 * MIB, [(GIB, 128 * MIB)]))
    asyncio.run(other.online(OTHER))
    asyncio.run(other.destroy_region(TAG))
    for before in list(STEPS)[: list(STEPS).index(step)]:
        run(config, before)
    start = tmp_path / "start"
    shutil.copytree(root, start, symlinks=True)
    run(config, step)
    wanted = tree_of(root)
    assert wanted != tree_of(start)

    gc.freeze()
    calls = 0
    while True:
        shutil.rmtree(root)
        shutil.copytree(start, root, symlinks=True)
        died = in_child(lambda calls=calls: run(config, step, MortalFiles(calls)))
        asyncio.run(take_over(SimulatedHost(config), step))
        assert tree_of(root) == wanted, f"killed after {calls} calls"
        if not died:
            break
        calls += 1
    assert calls > 5


def test_making_the_tree_killed_at_any_moment_is_made_up_for(host_config, root, monkeypatch, tree_of):
    config = host_config(each=128 * MIB)
    calls = 0
    while True:
        shutil.rmtree(root, ignore_errors=True)

        def make(calls=calls):
            monkeypatch.setattr("dynamic_memory.host.simulated.tree.Files", lambda: MortalFiles(calls))
            SimulatedHost(config)

        died = in_child(make)
        host = SimulatedHost(config)
        asyncio.run(host.destroy_region(TAG))
        assert asyncio.run(host.memory()).total == 128 * MIB
        assert not (root / ".building").exists() or died
        if not died:
            break
        calls += 1
    assert calls > 20


def test_many_processes_may_make_the_tree_at_once(host_config, root):
    config = host_config(each=128 * MIB)
    children = []
    for _ in range(8):
        child = os.fork()
        if child == 0:
            try:
                SimulatedHost(config)
                os._exit(0)
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
                os._exit(1)
        children.append(child)
    assert [os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children] == [0] * 8
    assert asyncio.run(SimulatedHost(config).memory()).total == 128 * MIB
    assert sorted(path.name for path in root.iterdir() if not path.name.startswith(".")) == ["proc", "sys"]


def test_readers_are_never_disturbed_by_a_writer(host_config):
    config = host_config(each=128 * MIB)
    SimulatedHost(config)
    child = os.fork()
    if child == 0:
        try:
            for _ in range(8):
                for step in STEPS:
                    run(config, step)
            os._exit(0)
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
            os._exit(1)
    seen = set()
    while not os.waitpid(child, os.WNOHANG)[0]:
        memory, regions, _ = read_all(config)
        seen.add(memory.fabric_online)
        for region in regions.values():
            assert region.tag == TAG
            assert region.size == SIZE
    assert seen <= {0, 128 * MIB, SIZE}
