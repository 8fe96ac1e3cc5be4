# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dynamic_memory.driver import sockets
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
    sockets.make_room(path)
    assert not path.exists()
    path.write_text("precious")
    with pytest.raises(InvalidInput):
        sockets.make_room(path)
    assert path.read_text() == "precious"
