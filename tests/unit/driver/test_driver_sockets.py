# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc
import pytest

from dynamic_memory.driver import sockets
from dynamic_memory.driver.config import Timing
from dynamic_memory.driver.plugin import Plugin
from dynamic_memory.driver.registration import Registration
from dynamic_memory.driver.serving import Serving
from dynamic_memory.errors import InvalidInput


def test_R20_two_pods_have_sockets_of_their_own():
    one, two = (
        sockets.sockets(plugin_folder=Path("/p"), registry_folder=Path("/r"), pod_uid=uid) for uid in ("u1", "u2")
    )
    assert one.plugin == Path("/p/dra-u1.sock")
    assert one.registration == Path("/r/dra.memory-u1-reg.sock")
    assert {one.plugin, one.registration}.isdisjoint({two.plugin, two.registration})
    alone = sockets.sockets(plugin_folder=Path("/p"), registry_folder=Path("/r"), pod_uid="")
    assert alone.plugin == Path("/p/dra.sock")
    assert alone.registration == Path("/r/dra.memory-reg.sock")


def test_R19_the_default_paths_with_a_pod_uid_fit():
    paths = sockets.sockets(
        plugin_folder=Path("/var/lib/kubelet/plugins/dra.memory"),
        registry_folder=Path("/var/lib/kubelet/plugins_registry"),
        pod_uid="11111111-2222-3333-4444-555555555555",
    )
    assert len(bytes(paths.plugin)) <= sockets.MAX_PATH
    assert len(bytes(paths.registration)) <= sockets.MAX_PATH


@pytest.mark.parametrize(("length", "fits"), [(107, True), (108, False)])
def test_R19_the_limit_is_that_of_the_kernel(tmp_path, length, fits):
    path = Path("/") / ("x" * (length - 1))
    if fits:
        sockets.check_path(path)
        return
    with pytest.raises(InvalidInput) as refusal:
        sockets.check_path(path)
    assert "at most 107 bytes" in str(refusal.value)
    assert "kubeletRoot" in str(refusal.value)


def test_a_long_path_in_bytes_not_in_characters_is_refused():
    with pytest.raises(InvalidInput):
        sockets.check_path(Path("/") / ("ä" * 60))


def test_a_dead_socket_makes_room_and_anything_else_does_not(tmp_path):
    path = tmp_path / "s" / "dra.sock"
    sockets.make_room(path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
    dead = path.lstat().st_ino
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s" / ".new"))
        server.listen()
        sockets.make_room(path)
        mark = sockets.show(tmp_path / "s" / ".new", path)
        assert path.lstat().st_ino != dead
        assert names_in(path.parent) == ["dra.sock"]
        sockets.remove(path, mark)
    path.write_text("precious")
    with pytest.raises(InvalidInput):
        sockets.make_room(path)
    assert path.read_text() == "precious"


def test_a_socket_whose_backlog_is_full_is_alive(tmp_path):
    path = tmp_path / "dra.sock"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(str(path))
        server.listen(0)
        stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
        with pytest.raises(sockets.Served):
            sockets.make_room(path)
    assert path.is_socket()


def test_a_name_that_was_taken_since_it_was_free_stays_with_the_one_who_has_it(tmp_path):
    path = tmp_path / "dra.sock"
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        for server, name in ((first, path), (second, tmp_path / ".second")):
            server.bind(str(name))
            server.listen()
        mark = path.lstat().st_ino
        with pytest.raises(sockets.Served):
            sockets.show(tmp_path / ".second", path)
        assert path.lstat().st_ino == mark


def test_a_hidden_name_is_never_longer_than_the_shortest_name():
    path = Path("/p/dra.sock")
    names = {sockets.hidden(path).name for _ in range(50)}
    assert len(names) > 40
    assert all(name.startswith(".") and len(name) < len(path.name) for name in names)


def names_in(folder):
    return [path.name for path in Path(folder).iterdir()]


@contextlib.asynccontextmanager
async def serving(kind, path):
    made = Plugin(None, None, Timing()) if kind == "plugin" else Registration(Path("/p"), lambda *_: None)
    await made.start(path)
    try:
        yield made
    finally:
        await made.stop()


async def answers(path):
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        await asyncio.wait_for(channel.channel_ready(), 30)


@pytest.mark.parametrize("kind", ["plugin", "registration"])
async def test_a_second_driver_of_the_same_name_is_refused_and_told_what_to_do(kind):
    """Two drivers outside of pods have one name; the kubelet can call only one of them."""
    with tempfile.TemporaryDirectory(prefix="dm-") as folder:
        path = Path(folder) / "dra.sock"
        async with serving(kind, path):
            for _ in range(2):
                with pytest.raises(sockets.Served, match=rf"{path}.*stop it.*podUid"):
                    async with serving(kind, path):
                        pytest.fail("two serve")
            assert names_in(folder) == ["dra.sock"], "nothing else is left"
            await answers(path)
        assert names_in(folder) == []
        async with serving(kind, path):
            await answers(path)


@pytest.mark.parametrize("kind", ["plugin", "registration"])
async def test_one_of_two_that_start_at_once_serves(kind, monkeypatch):
    with tempfile.TemporaryDirectory(prefix="dm-") as folder:
        path = Path(folder) / "dra.sock"
        monkeypatch.setattr(sockets, "make_room", lambda _: None)  # the name is free when either looks
        async with serving(kind, path):
            with pytest.raises(sockets.Served):
                async with serving(kind, path):
                    pytest.fail("two serve")
            assert names_in(folder) == ["dra.sock"], "nothing else is left"
            await answers(path)


STARTS = """
import os, socket, sys
from pathlib import Path
from dynamic_memory.driver import sockets

path = Path(sys.argv[1])
listening = path.with_name(f".{os.getpid()}")
server = socket.socket(socket.AF_UNIX)
server.bind(str(listening))
server.listen()
unlink = Path.unlink

def slow(self, **how):
    if self == path:
        print("unlinks", flush=True)
        sys.stdin.readline()
    unlink(self, **how)

Path.unlink = slow
try:
    sockets.make_room(path)
    sockets.show(listening, path)
    print("serves", flush=True)
except sockets.Served:
    print("refused", flush=True)
sys.stdin.read()
"""


def waits_for_a_lock(process):
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and str(process.pid) in line.split() for line in lines)


def test_two_that_find_the_same_dead_socket_do_not_unlink_each_other(tmp_path):
    """Two processes; the first stands still when it has seen that the socket is dead, and is about to remove it."""
    path = tmp_path / "dra.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with contextlib.ExitStack() as stack:

        def start():
            process = subprocess.Popen(
                [sys.executable, "-c", STARTS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        first = start()
        assert first.stdout.readline() == "unlinks\n"
        second, end = start(), time.monotonic() + 30
        while not waits_for_a_lock(second) and not select.select([second.stdout], [], [], 0.01)[0]:
            assert time.monotonic() < end
        said = []
        for process in (first, second):
            process.stdin.write("\n")
            process.stdin.flush()
            line = process.stdout.readline()
            said.append(process.stdout.readline() if line == "unlinks\n" else line)
        assert said == ["serves\n", "refused\n"]
        assert sockets._is_served(path)


async def test_a_start_that_is_cancelled_leaves_nothing(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="dm-") as folder:
        server, reached = grpc.aio.server(), asyncio.Event()
        start = server.start

        async def slow():
            await start()
            reached.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(server, "start", slow)
        task = asyncio.create_task(Serving.start(server, Path(folder) / "dra.sock"))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert names_in(folder) == []


def test_sockets_of_pods_that_were_killed_are_removed_and_no_others(tmp_path):
    """Each pod has names of its own: nobody else would ever remove them."""
    plugins, registry = tmp_path / "p", tmp_path / "r"
    with contextlib.ExitStack() as stack:

        def bind(path, *, alive):
            path.parent.mkdir(exist_ok=True)
            server = socket.socket(socket.AF_UNIX)
            server.bind(str(path))
            server.listen()
            if alive:
                stack.enter_context(server)
            else:
                server.close()

        gone = [plugins / "dra-u1.sock", registry / "dra.memory-u1-reg.sock", plugins / "dra.sock"]
        kept = [plugins / "dra-u2.sock", registry / "dra.memory-u2-reg.sock"]
        others = [registry / "dra.memory.example-reg.sock", registry / "gpu.example.com-u1-reg.sock"]
        for path in (*gone, *others):
            bind(path, alive=False)
        for path in kept:
            bind(path, alive=True)
        (plugins / "dra-note.sock").write_text("precious")
        assert sockets.sweep(plugin_folder=plugins, registry_folder=registry) == sorted(gone)
        assert [path for path in gone if path.exists()] == []
        assert all(path.exists() for path in (*kept, *others, plugins / "dra-note.sock"))
        assert sockets.sweep(plugin_folder=tmp_path / "none", registry_folder=tmp_path / "none") == []


@pytest.mark.parametrize("kind", ["plugin", "registration"])
async def test_the_socket_that_a_killed_driver_left_is_replaced(kind):
    with tempfile.TemporaryDirectory(prefix="dm-") as folder:
        path = Path(folder) / "dra.sock"
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(path))
            killed.listen()
        async with serving(kind, path):
            await answers(path)
        assert names_in(folder) == []


@pytest.mark.parametrize("kind", ["plugin", "registration"])
async def test_a_driver_that_ends_leaves_the_socket_of_the_one_that_took_its_name(kind):
    """Somebody may remove a name by hand; gRPC too unlinks whatever has the name that it listened at."""
    with tempfile.TemporaryDirectory(prefix="dm-") as folder:
        path = Path(folder) / "dra.sock"
        async with serving(kind, path) as first:
            path.unlink()
            async with serving(kind, path):
                assert names_in(folder) == ["dra.sock"], "nothing else is left"
                await first.stop()
                await answers(path)
        assert names_in(folder) == []
