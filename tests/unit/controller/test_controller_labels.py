# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import msgspec
import pytest
from tests.unit.controller.server import Server

from dynamic_memory.api import names
from dynamic_memory.api.core import Node
from dynamic_memory.controller.labels import NodeLabels
from dynamic_memory.fabric.model import Capacity, HostWindow

LABEL = names.FABRIC_DOMAIN_LABEL


def capacity(**domains):
    hosts = tuple(
        HostWindow(
            node=node,
            host=node,
            domain=domain,
            device="port0",
            total=1,
            max_extents=1,
            used=0,
            used_extents=0,
            healthy=True,
        )
        for node, domain in domains.items()
    )
    return Capacity(revision=1, pools=(), hosts=hosts, simulated=False)


class World:
    def __init__(self, *nodes) -> None:
        self.server = Server()
        for name in nodes:
            self.server.have("nodes", {"metadata": {"name": name, "labels": {"other": "kept"}}})
        self.capacity = None
        self.labels = NodeLabels(self.server, nodes=self.nodes, capacity=lambda: self.capacity)

    def nodes(self):
        return [msgspec.convert(body, Node) for body in self.server.all("nodes")]

    async def label(self, **domains):
        self.capacity = capacity(**domains)
        self.server.calls.clear()
        await self.labels.label()
        return {
            body["metadata"]["name"]: body["metadata"].get("labels", {}).get(LABEL) for body in self.server.all("nodes")
        }


@pytest.fixture
def world():
    return World("n1", "n2")


async def test_nodes_get_the_domain_of_their_host_and_lose_it_with_the_host(world):
    assert await world.label(n1="rack-a", n2="rack-b") == {"n1": "rack-a", "n2": "rack-b"}
    assert await world.label(n1="rack-b") == {"n1": "rack-b", "n2": None}
    assert world.server.find("nodes", "n2")["metadata"]["labels"] == {"other": "kept"}


async def test_labels_that_are_right_are_not_written_again(world):
    await world.label(n1="rack-a")
    await world.label(n1="rack-a")
    assert world.server.calls == []


async def test_a_host_without_a_node_is_no_reason_to_make_one(world):
    assert await world.label(n1="rack-a", n9="rack-a") == {"n1": "rack-a", "n2": None}
    # Also if the node goes away between the look and the write.
    world.server.before = lambda call: world.server.lose("nodes", "n2") if call.verb == "apply" else None
    assert await world.label(n1="rack-a", n2="rack-a") == {"n1": "rack-a"}


async def test_a_label_that_somebody_else_set_is_not_taken_off(world):
    world.server.change("nodes", "n2", metadata={"labels": {LABEL: "by-hand"}})
    assert await world.label(n1="rack-a") == {"n1": "rack-a", "n2": "by-hand"}
    assert await world.label(n1="rack-a") == {"n1": "rack-a", "n2": "by-hand"}
    assert world.server.calls == []


async def test_a_label_of_an_earlier_process_is_taken_off(world):
    await world.label(n1="rack-a", n2="rack-a")
    world.labels = NodeLabels(world.server, nodes=world.nodes, capacity=lambda: world.capacity)
    assert await world.label(n1="rack-a") == {"n1": "rack-a", "n2": None}


async def test_a_label_that_somebody_changed_comes_back(world):
    await world.label(n1="rack-a")
    world.server.change("nodes", "n1", metadata={"labels": {LABEL: "wrong"}})
    assert (await world.label(n1="rack-a"))["n1"] == "rack-a"


async def test_nothing_is_labelled_while_the_fabric_is_not_known(world):
    await world.labels.label()
    assert world.server.calls == []
