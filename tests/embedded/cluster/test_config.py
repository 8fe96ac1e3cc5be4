# SPDX-License-Identifier: Apache-2.0
"""What a `cluster.yaml` may not ask for is refused before anything starts, with the field."""

from __future__ import annotations

import pytest

from dynamic_memory.embedded.cluster.cluster import Cluster
from dynamic_memory.embedded.cluster.config import ClusterConfig
from dynamic_memory.errors import InvalidInput
from dynamic_memory.process import config


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("nodes: 3", 1, "nodes: expected `array`, got `int`"),
        ("nodes:\n- name: a\n  cpus: -1", 3, "nodes[0].cpus: expected at least 1, got -1"),
        (
            "nodes:\n- {name: A_b}",
            2,
            "nodes[0].name: expected a DNS subdomain: lower case letters, digits, '-' and '.'",
        ),
        ("nodes:\n- {memory: []}", 2, "nodes[0].memory: expected 1 to 64 sizes, got 0"),
        ("nodes:\n- {memory: [1Gi, 0]}", 2, "nodes[0].memory[1]: expected a multiple of 134217728 bytes, got 0"),
        ("nodes:\n- {name: a}\n- {name: a}", 1, "nodes: expected names that stand once, got ['a']"),
        ("nodes:\n- {count: -1}", 2, "nodes[0].count: expected 0 to 5000, got -1"),
        ("nodes:\n- {memory: [1Gi], reserved: 2Gi}", 2, "nodes[0].reserved: expected less than the memory of the node"),
        (
            "nodes:\n- {hugepages: {hugepages-3Mi: 1Gi}}",
            2,
            "nodes[0].hugepages: expected hugepages-2Mi and hugepages-1Gi",
        ),
        ("nodes:\n- {hugepages: {hugepages-2Mi: 3Mi}}", 2, "nodes[0].hugepages.hugepages-2Mi: expected a multiple of"),
        ("nodes:\n- {memory: [1Gi], hugepages: {hugepages-2Mi: 2Gi}}", 2, "nodes[0].hugepages: expected no more than"),
        ("nodes:\n- labels: {'bad key!': x}", 2, 'nodes[0].labels: expected labels: Invalid value: "bad key!"'),
        ("nodes:\n- {window: 100}", 2, "nodes[0].window: expected a multiple of 134217728 bytes, more than 0, got 100"),
        ("nodes:\n- {maxExtents: 0}", 2, "nodes[0].maxExtents: expected at least 1, got 0"),
        ("nodes:\n- {fabric: nope}", 2, "nodes[0].fabric: expected one of ['rack-a'], or an empty text, got 'nope'"),
        (
            "fabric:\n- {size: 100Mi}",
            2,
            "fabric[0].size: expected a multiple of 134217728 bytes, more than 0, got 104857600",
        ),
        ("fabric:\n- {extentSize: 100}", 2, "fabric[0].size: expected a multiple of 3355443200 bytes"),
        ("fabric:\n- {blockSize: 100Mi}", 2, "fabric[0].blockSize: expected a power of two of at least 128Mi"),
        ("fabric:\n- {name: N_o}", 2, "fabric[0].name: expected a DNS subdomain"),
        ("fabric:\n- {device: a.b}", 2, "fabric[0].device: expected a DNS label, got 'a.b'"),
        ("port: 70000", 1, "port: expected 0 to 65535, got 70000"),
        ("kubelet: {prepare: 0s}", 1, "kubelet.prepare: expected more than 0 seconds, got 0.0"),
        ("control: {nodeGrace: 0}", 1, "control.nodeGrace: expected more than 0 seconds, got 0.0"),
        ("faults: {hosts: {nope: {faults: []}}}", 1, "faults.hosts.nope: expected the name of a node, got 'nope'"),
        ("foo: 1", 1, "foo: expected a documented key, this one is unknown"),
    ],
)
def test_what_cannot_be_is_refused_with_line_and_field(text, line, said):
    with pytest.raises(config.ConfigError) as refused:
        config.loads(text.encode(), ClusterConfig, name="cluster.yaml")
    assert str(refused.value).startswith(f"cluster.yaml:{line}: {said}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("driver: {nonsense: 1}", "driver.nonsense: expected a documented key, this one is unknown"),
        ("driver: {timing: {hold: soon}}", "driver.timing.hold: expected a time such as 1.5s or 10m, got 'soon'"),
        ("updater: {ceiling: 1}", "updater.ceiling: expected `object | null`, got `int`"),
        ("service: {backend: {simulated: {domains: []}}}\ncontroller: {election: 5}", "controller.election: expected"),
    ],
)
def test_what_a_role_could_not_read_is_refused_before_anything_is_made(text, said, folder):
    cluster = Cluster(folder / "c", config.loads(text.encode(), ClusterConfig))
    with pytest.raises(InvalidInput) as refused:
        cluster.check()
    assert str(refused.value).startswith(said)
    assert not (folder / "c").exists()
