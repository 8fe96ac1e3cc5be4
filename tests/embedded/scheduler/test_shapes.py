# SPDX-License-Identifier: Apache-2.0
"""What a shape has followed step by step is what one made anew sees."""

from __future__ import annotations

import random

import msgspec
from tests.embedded.support.scheduling import node, pod

from dynamic_memory.api.core import Node
from dynamic_memory.embedded.scheduler.nodes import NodeTable
from dynamic_memory.embedded.scheduler.shapes import Shape, Shapes
from dynamic_memory.embedded.scheduler.types import Pod


def as_node(body):
    return msgspec.convert(body, Node)


def as_pod(name, **more):
    body = pod(name, **more)
    body["metadata"]["uid"] = name
    return msgspec.convert(body, Pod)


def order(shape, allowed=None):
    return [info.node.metadata.name for info in shape.best(allowed)]


def test_a_followed_shape_equals_a_new_one_through_random_changes():
    rng = random.Random(3)
    table = NodeTable()
    shapes = Shapes(table)
    positions = {f"n{number:02}": number for number in range(60)}
    pods = 0
    for step in range(600):
        name = rng.choice(list(positions))
        match rng.randrange(6):
            case 0:
                cpu, cordoned = str(rng.choice([2, 4, 8])), rng.random() < 0.2
                table.put_node(as_node(node(name, cpu=cpu, pods="6", unschedulable=cordoned)), positions[name])
            case 1 if rng.random() < 0.3:
                table.remove_node(name)
            case 2:
                table.remove_pod(f"p{rng.randrange(pods + 1)}")
            case _:
                pods += 1
                table.put_pod(as_pod(f"p{pods}", cpu=rng.choice(["500m", "1", "2"])), name)
        wanted = as_pod("w", cpu=rng.choice(["1", "2"]))
        followed, fresh = shapes.of(wanted), Shape(wanted, table)
        allowed = rng.choice([None, rng.getrandbits(60), (1 << 60) - 1])
        assert order(followed, allowed) == order(fresh, allowed), step
        assert followed.reasons() == fresh.reasons()
        assert order(followed, allowed) == sorted(
            order(fresh, allowed), key=lambda name: (-fresh.score(positions[name]), name)
        )


def test_the_pod_of_a_daemon_is_tried_on_its_node_alone():
    table = NodeTable()
    for number in range(100):
        table.put_node(as_node(node(f"n{number:03}", pods="1")), number)
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n042"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    shape = Shape(as_pod("w", affinity={"nodeAffinity": required}), table)
    assert order(shape) == ["n042"]
    table.put_pod(as_pod("first"), "n042")
    assert order(shape) == []
    assert shape.reasons() == (
        {"Too many pods": 1, "node(s) didn't satisfy plugin(s) [NodeAffinity]": 99},
        {"resources"},
        1,
    )
    table.remove_pod("first")
    assert order(shape) == ["n042"]
    table.remove_node("n042")
    assert order(shape) == []


def test_looking_at_the_best_only_loses_nobody():
    table = NodeTable()
    for number in range(100):
        table.put_node(as_node(node(f"n{number:03}")), number)
    shape = Shape(as_pod("w"), table)
    for _ in range(3):
        for info in shape.best():
            assert info.node.metadata.name == "n000"
            break
    assert len(order(shape)) == 100


def test_state_after_changes_equals_state_made_anew():
    rng = random.Random(5)
    table = NodeTable()
    nodes, pods = {}, {}
    for step in range(500):
        name = f"n{rng.randrange(8)}"
        uid = f"p{rng.randrange(40)}"
        match rng.randrange(5):
            case 0:
                nodes[name] = as_node(node(name, cpu=str(rng.randrange(1, 9))))
                table.put_node(nodes[name], int(name[1:]))
            case 1:
                nodes.pop(name, None)
                table.remove_node(name)
            case 2:
                pods.pop(uid, None)
                table.remove_pod(uid)
            case _:
                pods[uid] = (as_pod(uid, cpu=rng.choice(["1", "250m"])), name)
                table.put_pod(*pods[uid])
        if step % 25 == 0:
            fresh = NodeTable()
            for held, where in pods.values():
                fresh.put_pod(held, where)
            for own in nodes.values():
                fresh.put_node(own, int(own.metadata.name[1:]))
            assert table.snapshot() == fresh.snapshot()
