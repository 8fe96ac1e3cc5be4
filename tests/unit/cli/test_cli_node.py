# SPDX-License-Identifier: Apache-2.0
"""The commands of a node, on machines made of files."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import yaml
from click.testing import CliRunner
from tests.support.machine import GIB, KIB, MIB, Node, build, put

from dynamic_memory.cli import cli
from dynamic_memory.driver.grants import Grant
from dynamic_memory.driver.records import ClaimRecord
from dynamic_memory.errors import InvalidInput
from dynamic_memory.host import containerd
from dynamic_memory.host.hugepages import Shrinks

EXAMPLES = Path(__file__).parents[3] / "examples/provision"
V2 = "30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"


@pytest.fixture
def root(tmp_path):
    made = build(tmp_path / "root", [Node(0, 16 * GIB, pools={2 * MIB: 8}), Node(1, 16 * GIB, cpus="4-7")])
    put(made / "proc/self/mountinfo", V2)
    put(made / "sys/fs/cgroup/cgroup.controllers", "cpuset memory hugetlb")
    put(made / "config.toml", containerd.setup(""))
    return made


def run(*arguments, text=None, code=0):
    done = CliRunner().invoke(cli, [str(each) for each in arguments], input=text)
    if code is not None:
        assert done.exit_code == code, (done.output, done.exception)
    return done


def pages(root, node, page=2 * MIB):
    return int(
        (root / f"sys/devices/system/node/node{node}/hugepages/hugepages-{page // KIB}kB/nr_hugepages").read_text()
    )


def test_O1_a_file_is_provisioned(root, tmp_path):
    done = run("hugepages", "provision", EXAMPLES / "balanced-runtime.yaml", "--root", root, "--state-dir", tmp_path)
    assert (pages(root, 0), pages(root, 1)) == (2048, 2048)
    assert done.output.splitlines() == [
        "balanced-runtime",
        "NODE   PAGE   BEFORE   AFTER   MISSING",
        "0      2Mi    8        2048    0",
        "1      2Mi    0        2048    0",
    ]


def test_O1_standard_input_is_provisioned_and_several_files_in_order(root, tmp_path):
    text = (EXAMPLES / "balanced-runtime.yaml").read_text().replace("4096", "5000")
    run("hugepages", "provision", EXAMPLES / "balanced-runtime.yaml", "-", "--root", root, text=text)
    assert (pages(root, 0), pages(root, 1)) == (2500, 2500)


def test_O4_every_example_has_a_plan(root):
    for path in sorted(EXAMPLES.glob("*.yaml")):
        run("hugepages", "provision", path, "--root", root, "--dry-run")
    assert (pages(root, 0), pages(root, 1)) == (8, 0), "a dry run changes nothing"


def test_the_default_size_of_the_kernel_is_not_changed_without_a_word(root):
    text = "kind: HugePageProvision\nspec: {defaultHugepagesSize: 1G, pages: [{count: 1}]}\n"
    done = run("hugepages", "provision", "-", "--root", root, text=text)
    assert "boot with default_hugepagesz=1G" in done.stderr
    assert pages(root, 0, GIB) == 1


def test_pools_are_not_made_smaller_than_what_claims_hold(root, tmp_path):
    grant = Grant(request="h", pool="n1/mem", device="numa0-2mi", size=16 * MIB, numa=0, page=2 * MIB)
    record = ClaimRecord(key="u1", uid="u1", local=(grant,))
    put(tmp_path / "state/claims/u1.json", msgspec.json.encode(record).decode())
    text = "kind: HugePageProvision\nspec: {pages: [{size: 2M, count: 7, node: 0}]}\n"
    done = run("hugepages", "provision", "-", "--root", root, "--state-dir", tmp_path / "state", text=text, code=1)
    assert isinstance(done.exception, Shrinks)
    assert pages(root, 0) == 8


@pytest.mark.parametrize(
    "text", ["kind: Other\nspec: {pages: [{size: 2M, count: 1}]}\n", "kind: HugePageProvision\nspec: {page: []}\n"]
)
def test_O5_a_document_that_is_none_is_refused(root, text):
    done = run("hugepages", "provision", "-", "--root", root, text=text, code=1)
    assert isinstance(done.exception, InvalidInput)


def test_D17_inspect_prints_the_machine(root):
    summary = yaml.safe_load(run("inspect", "summary", "--root", root).output)
    assert summary == {
        "basePage": "4Ki",
        "hugePages": ["2Mi", "1Gi"],
        "cgroups": "v2",
        "nodes": [
            {"node": 0, "memory": "16Gi", "cpus": True, "distance": 10},
            {"node": 1, "memory": "16Gi", "cpus": True, "distance": 10},
        ],
        "devices": {"numa0-2mi": "16Mi", "numa0-4ki": "16368Mi", "numa1-4ki": "16Gi"},
    }
    raw = yaml.safe_load(run("inspect", "raw", "--root", root).output)
    assert raw["topology"]["nodes"][1]["distances"] == {0: 20, 1: 10}
    assert raw["topology"]["nodes"][0]["pools"][0] == {"page": 2 * MIB, "pages": 8, "free": 8, "surplus": 0}
    assert raw["cgroups"]["mode"] == "v2"


def test_D18_validate_passes_degrades_or_refuses(root):
    good = ("validate", "--root", root, "--containerd-config", root / "config.toml")
    done = run(*good)
    assert done.output.splitlines()[-1] == "PASS: this node is fit for claims of its memory"
    assert all(line.startswith("PASS ") for line in done.output.splitlines()[:-1])
    put(root / "config.toml", "version = 3")
    done = run(*good, code=1)
    assert "REFUSED runtime-hugetlb: containerd has disable_hugetlb_controller on" in done.output
    assert "dynamic-memory setup-runtime" in done.output
    assert "DEGRADED" in run("validate", "--root", root, "--containerd-config", root / "absent").output
    run("validate", "--root", root, "--containerd-config", root / "absent", "--strict", code=1)


def test_D16_manifests_have_names_that_the_api_server_takes(tmp_path):
    import re

    from tests.support.machine import ARM64_4K

    root = build(tmp_path, [Node(0, GIB)], sizes=ARM64_4K)
    found = list(yaml.safe_load_all(run("manifests", "--root", root).output))
    assert [item["metadata"]["name"] for item in found] == [
        "dra.memory",
        "dra.hugepages-64k",
        "dra.hugepages-2m",
        "dra.hugepages-32m",
        "dra.hugepages-1g",
    ]
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", item["metadata"]["name"]) for item in found)


def test_cgroups_shows_limits_and_failures(tmp_path):
    put(tmp_path / "cgroup.controllers", "memory hugetlb")
    pod = tmp_path / "kubepods/pod1"
    put(pod / "memory.max", "max")
    put(pod / "hugetlb.2MB.max", str(4 * MIB))
    put(pod / "hugetlb.2MB.rsvd.max", "0")
    put(pod / "hugetlb.2MB.current", str(2 * MIB))
    put(pod / "hugetlb.2MB.events", "max 3")
    done = run("cgroups", "/kubepods", "--cgroup-root", tmp_path)
    assert done.output.splitlines() == [
        "CGROUP   RESOURCE   RESERVED LIMIT   LIMIT   CURRENT   FAILURES   NODES",
        "  pod1   2MB        0                4Mi     2Mi       3",
    ]
    assert "memory" in run("cgroups", "--all", "--cgroup-root", tmp_path).output
    found = json.loads(run("cgroups", "-o", "json", "--cgroup-root", tmp_path).output)
    assert found["children"][0]["children"][0]["amounts"][1]["failures"] == 3
    run("cgroups", "/absent", "--cgroup-root", tmp_path, code=1)


def test_setup_runtime_shows_what_changes_and_changes_it_once(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("# mine\nversion = 3\n")
    done = run("setup-runtime", path, "--dry-run")
    assert "+  disable_hugetlb_controller = false" in done.output
    assert path.read_text() == "# mine\nversion = 3\n"
    run("setup-runtime", path)
    assert path.read_text().startswith("# mine\nversion = 3\n")
    assert "nothing to change" in run("setup-runtime", path).output
    assert run("setup-runtime", "-", text=path.read_text()).output == path.read_text()
    run("setup-runtime", tmp_path / "new/config.toml")
    assert containerd.runtime_facts(containerd.parse((tmp_path / "new/config.toml").read_text())).version == 3


def test_setup_runtime_refuses_what_is_no_text_and_leaves_it_alone(tmp_path):
    path = tmp_path / "config.toml"
    path.write_bytes(b"version = 3\n# \xff\n")
    done = run("setup-runtime", path, code=1)
    assert isinstance(done.exception, InvalidInput)  # which the command says, with the exit code of wrong input
    assert "UTF-8" in str(done.exception)
    assert str(path) in str(done.exception)
    assert path.read_bytes() == b"version = 3\n# \xff\n"


@pytest.mark.parametrize(
    "arguments",
    [["--size", "3Mi", "--hugetlb", "2Mi"], ["--size", "0"], ["--size", "x"], ["--size", "1Mi", "--numa", "near"]],
)
def test_memtest_refuses_what_cannot_be(arguments):
    run("memtest", *arguments, code=2)
