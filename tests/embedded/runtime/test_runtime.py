# SPDX-License-Identifier: Apache-2.0
"""Containers of a node: their ends, their limits, their cgroups; in virtual time, and as real processes."""

from __future__ import annotations

import asyncio

import looptime  # noqa: F401 - the plugin of virtual time
import pytest

from dynamic_memory.embedded.runtime.commands import plan
from dynamic_memory.embedded.runtime.container import ContainerSpec
from dynamic_memory.embedded.runtime.curves import parse
from dynamic_memory.embedded.runtime.runtime import Runtime

MI = 1 << 20


def spec(*command, memory="10Mi", limit=None, exit_after=None, name="main", **more):
    env = more.pop("env", {})
    return ContainerSpec(
        name=name,
        command=command,
        env=env,
        limit=limit,
        model=parse(memory),
        plan=plan(command, env, exit_after),
        **more,
    )


@pytest.fixture
def made(tmp_path):
    """Make a runtime in the time of the test: a fixture's loop has another."""
    found = []

    def make():
        runtime = Runtime(tmp_path, refresh=1.0)
        runtime.cgroups.start(1 << 30)
        runtime.ended = []
        runtime.start(runtime.ended.append)
        runtime.make_pod("u", "Burstable", 100 * MI)
        found.append(runtime)
        return runtime

    return make


def files(runtime, container):
    folder = runtime.cgroups.pods / "burstable" / "podu" / container.id
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.looptime
async def test_a_command_ends_by_itself(made):
    runtime = made()
    container = runtime.run("u", spec("sh", "-c", "sleep 5; exit 3"))
    await asyncio.sleep(4.9)
    assert container.ended is None
    await asyncio.sleep(0.2)
    assert (container.ended.code, container.ended.reason) == (3, "Error")
    assert runtime.ended == ["u"]


@pytest.mark.looptime
@pytest.mark.parametrize(("command", "after", "code"), [(("nginx",), 0.1, 0), (("sleep", "99"), 7.1, 137)])
async def test_sigterm_ends_what_heeds_it_and_the_grace_the_others(made, command, after, code):
    runtime = made()
    container = runtime.run("u", spec(*command))
    container.stop(7)
    await asyncio.sleep(after)
    assert container.ended.code == code


@pytest.mark.looptime
async def test_memory_above_the_limit_kills_at_that_moment_and_a_raised_limit_saves(made):
    runtime = made()
    first = runtime.run("u", spec(memory="ramp 0..200Mi 20s", limit=100 * MI, name="first"))
    second = runtime.run("u", spec(memory="ramp 0..200Mi 20s", limit=100 * MI, name="second"))
    await asyncio.sleep(9.9)
    assert first.ended is None
    runtime.set_limit("u", "second", 300 * MI)
    await asyncio.sleep(0.3)
    assert (first.ended.code, first.ended.reason) == (137, "OOMKilled")
    await asyncio.sleep(30)
    assert second.ended is None
    assert files(runtime, second)["memory.current"] == f"{200 * MI}\n"
    assert files(runtime, second)["memory.max"] == f"{300 * MI}\n"
    assert "oom_kill 1" in files(runtime, first)["memory.events"]


@pytest.mark.looptime
async def test_when_all_together_use_more_than_pods_may_the_largest_is_killed(made):
    runtime = made()
    small = runtime.run("u", spec(memory="300Mi", name="small"))
    large = runtime.run("u", spec(memory="steps 10Mi 5s, 900Mi", name="large"))
    await asyncio.sleep(4)
    assert (runtime.cgroups.pods / "memory.current").read_text() == f"{310 * MI}\n"
    await asyncio.sleep(3)
    assert small.ended is None
    assert large.ended.reason == "OOMKilled"


@pytest.mark.looptime
async def test_a_container_that_was_running_is_taken_over_at_its_age(made):
    runtime = made()
    container = runtime.run("u", spec("sleep", "100"), id_="abc", age=98)
    assert container.id == "abc"
    await asyncio.sleep(2.1)
    assert container.ended.code == 0


@pytest.mark.looptime
async def test_a_pod_that_is_removed_leaves_no_files(made):
    runtime = made()
    runtime.run("u", spec())
    runtime.remove_pod("u")
    assert not (runtime.cgroups.pods / "burstable" / "podu").exists()
    assert runtime.pods() == []


async def test_processes_are_real_have_the_environment_and_end(tmp_path):
    ended = asyncio.Queue()
    runtime = Runtime(tmp_path, processes=True)
    runtime.cgroups.start(1 << 30)
    runtime.start(ended.put_nowait)
    runtime.make_pod("u", "BestEffort", None)
    log = tmp_path / "logs" / "0.log"
    done = runtime.run("u", spec("env", env={"DYNAMIC_MEMORY_BYTES": "42"}, log=log))
    async with asyncio.timeout(30):
        await ended.get()
        assert (done.ended.code, done.ended.reason) == (0, "Completed")
        assert "DYNAMIC_MEMORY_BYTES=42" in log.read_text()
        stubborn = runtime.run("u", spec("sh", "-c", "trap '' TERM; echo on; while :; do sleep 0.1; done", log=log))
        while "on" not in log.read_text().splitlines():  # noqa: ASYNC110 - a child's file
            await asyncio.sleep(0.02)
        assert stubborn.read().current > 0
        stubborn.stop(0.2)
        await ended.get()
        assert stubborn.ended.code == 137
        missing = runtime.run("u", spec("no-such-program"))
        await ended.get()
        assert (missing.ended.code, missing.ended.reason) == (127, "StartError")
    runtime.stop()
