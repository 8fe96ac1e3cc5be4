# SPDX-License-Identifier: Apache-2.0
"""HugePageProvision: from a document and a machine to pools."""

from __future__ import annotations

import pytest
from tests.support.machine import ARM64_64K, GIB, KIB, MIB, Node, build, put

from dynamic_memory.errors import InvalidInput
from dynamic_memory.host import hugepages
from dynamic_memory.host.hugepages import Provision, Shrinks, apply, plan
from dynamic_memory.host.topology import TopologyReader
from dynamic_memory.process.config import ConfigError, loads

README = b"""\
kind: HugePageProvision
metadata:
  name: balanced-runtime
spec:
  pages:
  - size: "2M"
    count: 4096
"""


def document(*pages, kind="HugePageProvision", default=""):
    body = {"kind": kind, "spec": {"defaultHugepagesSize": default, "pages": list(pages)}}
    import yaml

    return loads(yaml.safe_dump(body).encode(), Provision)


def steps(root, *pages, claimed=None, **more):
    found = plan(document(*pages, **more), TopologyReader(root).read(), claimed)
    return [(step.node, step.page, step.after) for step in found]


def nr(root, node, page):
    path = f"sys/devices/system/node/node{node}/hugepages/hugepages-{page // KIB}kB/nr_hugepages"
    return int((root / path).read_text())


def test_O1_the_document_of_the_readme_is_read():
    found = loads(README, Provision)
    assert found.metadata.name == "balanced-runtime"
    assert [(entry.size, entry.count, entry.node) for entry in found.spec.pages] == [("2M", 4096, None)]


def test_O3_one_node_gets_all(tmp_path):
    build(tmp_path, [Node(0, 16 * GIB)])
    found = plan(loads(README, Provision), TopologyReader(tmp_path).read())
    assert [(step.node, step.page, step.before, step.after) for step in found] == [(0, 2 * MIB, 0, 4096)]


@pytest.mark.parametrize(
    ("nodes", "count", "expected"),
    [
        ([0, 1, 2, 3], 4096, [1024, 1024, 1024, 1024]),
        ([0, 1], 5, [3, 2]),
        ([0, 2], 5, [3, 2]),
        ([1, 4, 6], 11, [5, 3, 3]),
    ],
)
def test_O3_pages_are_spread_evenly_and_the_rest_goes_to_the_first(tmp_path, nodes, count, expected):
    build(tmp_path, [Node(n, 4 * GIB) for n in nodes])
    found = steps(tmp_path, {"size": "2M", "count": count})
    assert found == [(node, 2 * MIB, each) for node, each in zip(nodes, expected, strict=True)]


def test_O3_a_node_without_processors_gets_none_unless_it_is_named(tmp_path):
    build(tmp_path, [Node(0, GIB), Node(1, GIB, cpus="")])
    assert steps(tmp_path, {"size": "2M", "count": 4}) == [(0, 2 * MIB, 4)]
    assert steps(tmp_path, {"size": "2M", "count": 4, "node": 1}) == [(1, 2 * MIB, 4)]


def test_O4_the_node_of_an_entry_is_honoured(tmp_path):
    build(tmp_path, [Node(0, GIB), Node(1, GIB)])
    assert steps(tmp_path, {"size": "2M", "count": 5, "node": 1}, {"size": "1G", "count": 1, "node": 0}) == [
        (0, GIB, 1),
        (1, 2 * MIB, 5),
    ]
    with pytest.raises(InvalidInput, match=r"spec.pages\[0\].node: expected a node that has pages of 2Mi \(0, 1\)"):
        steps(tmp_path, {"size": "2M", "count": 5, "node": 7})


@pytest.mark.parametrize("size", ["1G", "1Gi", "1g", "2M", "2Mi", "2m", "2MB"])
def test_O2_sizes_as_people_write_them(tmp_path, size):
    build(tmp_path, [Node(0, GIB)])
    assert steps(tmp_path, {"size": size, "count": 1})[0][1] == (GIB if size[0] == "1" else 2 * MIB)


@pytest.mark.parametrize("size", ["4k", "64k", "3M", "-2M", "2", "", "M", "2T"])
def test_O2_other_sizes_are_refused_with_what_there_is(tmp_path, size):
    build(tmp_path, [Node(0, GIB)])
    with pytest.raises(InvalidInput, match=r"spec.pages\[0\].size: expected a size of huge pages .*2Mi, 1Gi"):
        steps(tmp_path, {"size": size, "count": 1})


def test_O2_sizes_of_arm64_come_from_its_sysfs(tmp_path):
    build(tmp_path, [Node(0, 64 * GIB)], sizes=ARM64_64K, base_page=64 * KIB)
    assert steps(tmp_path, {"size": "512M", "count": 2}, {"size": "16G", "count": 1}) == [
        (0, 512 * MIB, 2),
        (0, 16 * GIB, 1),
    ]


@pytest.mark.parametrize("count", [-7, 1 << 31])
def test_O5_a_count_that_is_none_is_refused(tmp_path, count):
    build(tmp_path, [Node(0, GIB)])
    with pytest.raises(InvalidInput, match=r"spec.pages\[0\].count"):
        steps(tmp_path, {"size": "2M", "count": count})


def test_O5_a_wrong_kind_or_key_is_refused(tmp_path):
    build(tmp_path, [Node(0, GIB)])
    with pytest.raises(InvalidInput, match="kind: expected HugePageProvision, got 'HugePages'"):
        steps(tmp_path, {"size": "2M", "count": 1}, kind="HugePages")
    with pytest.raises(InvalidInput, match=r"spec.pages: expected at least one"):
        steps(tmp_path)
    with pytest.raises(ConfigError, match="sizes"):
        document({"sizes": "2M", "count": 1})
    with pytest.raises(ConfigError, match="count"):
        document({"size": "2M"})


def test_the_same_pool_twice_is_refused(tmp_path):
    build(tmp_path, [Node(0, GIB), Node(1, GIB)])
    with pytest.raises(InvalidInput, match="one entry for pages of 2Mi on node 1, not two"):
        steps(tmp_path, {"size": "2M", "count": 4}, {"size": "2Mi", "count": 4, "node": 1})


def test_the_default_size_is_that_of_entries_without_one(tmp_path):
    build(tmp_path, [Node(0, GIB)])
    assert steps(tmp_path, {"count": 3}, default="2M") == [(0, 2 * MIB, 3)]
    with pytest.raises(InvalidInput, match=r"spec\.defaultHugepagesSize"):
        steps(tmp_path, {"size": "2M", "count": 3}, default="4k")


def test_a_pool_is_not_made_smaller_than_what_is_used_of_it(tmp_path):
    build(tmp_path, [Node(0, GIB, pools={2 * MIB: 100}, free_pages={2 * MIB: 40})])
    assert steps(tmp_path, {"size": "2M", "count": 60}) == [(0, 2 * MIB, 60)]
    with pytest.raises(Shrinks, match="60 mapped, 0 claimed"):
        steps(tmp_path, {"size": "2M", "count": 59})
    with pytest.raises(Shrinks, match="60 mapped, 80 claimed"):
        steps(tmp_path, {"size": "2M", "count": 79}, claimed={(0, 2 * MIB): 160 * MIB})
    assert steps(tmp_path, {"size": "2M", "count": 80}, claimed={(0, 2 * MIB): 160 * MIB})


def test_a_plan_is_carried_out_and_read_back(tmp_path):
    build(tmp_path, [Node(0, GIB, pools={2 * MIB: 9}), Node(1, GIB)])
    found = plan(document({"size": "2M", "count": 8}), TopologyReader(tmp_path).read())
    results = apply(tmp_path, found)
    assert [(result.step.node, result.reached, result.missing) for result in results] == [(0, 4, 0), (1, 4, 0)]
    assert (nr(tmp_path, 0, 2 * MIB), nr(tmp_path, 1, 2 * MIB), nr(tmp_path, 0, GIB)) == (4, 4, 0)


class Kernel:
    """Finds no more pages than there is room for; compaction makes room."""

    def __init__(self, root, room, more) -> None:
        self.root, self.room, self.more = root, room, more
        put(root / "sys/devices/system/node/node0/compact", "0")

    def settle(self):
        compact = self.root / "sys/devices/system/node/node0/compact"
        if compact.read_text() == "1\n":
            compact.write_text("0\n")
            self.room += self.more
        path = self.root / "sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages"
        path.write_text(f"{min(int(path.read_text()), self.room)}\n")


@pytest.mark.parametrize(("more", "reached", "missing"), [(30, 100, 0), (10, 70, 30), (0, 50, 50)])
def test_O6_a_shortfall_is_met_with_compaction_and_reported(tmp_path, monkeypatch, more, reached, missing):
    build(tmp_path, [Node(0, GIB)])
    kernel = Kernel(tmp_path, 50, more)
    from pathlib import Path

    read = Path.read_text

    def settled(self, *arguments, **keywords):
        if self.name == "nr_hugepages":
            monkeypatch.setattr(Path, "read_text", read)
            kernel.settle()
            monkeypatch.setattr(Path, "read_text", settled)
        return read(self, *arguments, **keywords)

    found = plan(document({"size": "2M", "count": 100}), TopologyReader(tmp_path).read())
    monkeypatch.setattr(Path, "read_text", settled)
    (result,) = apply(tmp_path, found)
    assert (result.reached, result.missing) == (reached, missing)


def test_sizes_without_huge_pages_are_refused():
    with pytest.raises(InvalidInput, match="none: the kernel has no huge pages"):
        hugepages.parse_size("2M", ())
