# SPDX-License-Identifier: Apache-2.0
"""The configuration of claims for the node's own memory: the mode, and memory as a file system."""

from __future__ import annotations

import pytest
from tests.support.machine import MIB
from tests.unit.driver.local_rig import local_claim, parameters, result, spec
from tests.unit.driver.nri_world import FACTS

from dynamic_memory.driver import settings
from dynamic_memory.driver.claims import RefusedClaim
from dynamic_memory.driver.config import LocalConfig
from dynamic_memory.driver.grants import Mode
from dynamic_memory.driver.nri_plan import Native, plan_container

pytestmark = pytest.mark.looptime


async def test_the_mode_comes_from_claim_class_and_driver_in_this_order(rig):
    plain = rig.add(local_claim(name="a"))
    by_class = parameters(mode="advise") | {"source": "FromClass"}
    from_class = rig.add(local_claim(name="b", config=[by_class], pods=("p2",)))
    from_claim = rig.add(local_claim(name="c", config=[parameters(mode="protect"), by_class], pods=("p3",)))
    modes = []
    for ref in (plain, from_class, from_claim):
        await rig.prepare(ref)
        modes.append(rig.record(ref).local[0].mode)
    assert modes == [Mode.LIMIT, Mode.ADVISE, Mode.PROTECT]
    await rig.stop()
    await rig.start(LocalConfig(root=rig.root, mode=Mode.ADVISE, preflight="off"))
    other = rig.add(local_claim(name="d", pods=("p4",)))
    await rig.prepare(other)
    assert rig.record(other).local[0].mode is Mode.ADVISE


async def test_a_configuration_is_for_the_requests_that_it_names(rig):
    config = [parameters(mode="advise") | {"requests": ["b"]}]
    ref = rig.add(local_claim(result(request="a"), result(request="b"), config=config))
    await rig.prepare(ref)
    assert [grant.mode for grant in rig.record(ref).local] == [Mode.LIMIT, Mode.ADVISE]


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": "most"},
        {"mod": "limit"},
        {"kind": "FarMemoryConfig"},
        {"apiVersion": "dynamicmemory.dev/v2"},
        {"fileSystem": {}},
        {"fileSystem": {"path": "mnt"}},
        {"fileSystem": {"path": "/mnt/../etc"}},
        {"fileSystem": {"path": "/proc/x"}},
        {"fileSystem": {"path": "/"}},
        {"fileSystem": {"path": "//proc/self"}},
        {"fileSystem": {"path": "//dev"}},
        {"fileSystem": {"path": "/mnt/a\n"}},
        {"fileSystem": {"path": "/mnt/\nb"}},
        {"fileSystem": None, "mode": ["limit"]},
        {"fileSystem": {"path": "/mnt/a,b"}},
    ],
)
async def test_a_configuration_that_is_none_is_refused_with_its_path(rig, fields):
    with pytest.raises(RefusedClaim, match=r"request mem: config\[0\].opaque.parameters"):
        await rig.prepare(rig.add(local_claim(config=[parameters(**fields)])))
    assert rig.specs() == []


@pytest.mark.parametrize("body", [None, "limit", 7, [], {}, {"apiVersion": 1, "kind": None}, {"mode": "limit"}])
async def test_a_configuration_of_another_form_is_refused(rig, body):
    config = parameters()
    config["opaque"]["parameters"] = body
    with pytest.raises(RefusedClaim, match=r"request mem: config\[0\].opaque.parameters"):
        await rig.prepare(rig.add(local_claim(config=[config])))
    assert rig.specs() == []


async def test_a_slash_at_the_end_is_no_other_path(rig):
    one, two = (parameters(fileSystem={"path": path}) for path in ("/mnt/m", "/mnt/m/"))
    one["requests"], two["requests"] = ["a"], ["b"]
    ref = rig.add(local_claim(result("a"), result("b"), config=[one, two]))
    with pytest.raises(RefusedClaim, match="requests a and b both want /mnt/m"):
        await rig.prepare(ref)


async def test_memory_as_a_file_system_has_the_claimed_size_and_node(rig):
    config = [parameters(fileSystem={"path": "/mnt/dynamic-memory"})]
    ref = rig.add(local_claim(result(), result(device="numa2-4ki", size="1Gi"), config=config))
    await rig.prepare(ref)
    assert spec(rig, ref)["devices"][0]["containerEdits"]["mounts"][0] == {
        "hostPath": "tmpfs",
        "containerPath": "/mnt/dynamic-memory",
        "type": "tmpfs",
        "options": ["rw", "nosuid", "nodev", f"size={1536 * MIB}", "mpol=bind:0,2"],
    }


async def test_huge_pages_as_a_file_system_have_the_claimed_size_and_page(rig):
    config = [parameters(fileSystem={"path": "/mnt/huge"})]
    ref = rig.add(local_claim(result(device="numa0-2mi", size="64Mi"), config=config))
    await rig.prepare(ref)
    # nothing is reserved at the mount: no cgroup would count it
    assert spec(rig, ref)["devices"][0]["containerEdits"]["mounts"][0] == {
        "hostPath": "hugetlbfs",
        "containerPath": "/mnt/huge",
        "type": "hugetlbfs",
        "options": ["rw", "nosuid", "nodev", f"size={64 * MIB}", f"pagesize={2 * MIB}", "mode=1777"],
    }
    (request,) = settings.settings_of(rig.record(ref)).requests.values()
    assert (request.hugepages, request.files, request.memory) == ({2 * MIB: 64 * MIB}, 0, 0)


async def test_huge_pages_as_files_beside_ordinary_memory_leave_that_limited(rig):
    config = [parameters(fileSystem={"path": "/mnt/huge"}) | {"requests": ["huge"]}]
    results = (result(request="mem", size="32Mi"), result(request="huge", device="numa0-2mi", size="64Mi"))
    ref = rig.add(local_claim(*results, config=config))
    await rig.prepare(ref)
    plan = plan_container(list(settings.settings_of(rig.record(ref)).requests.values()), Native(), FACTS)
    assert (plan.memory, plan.hugepages[2 * MIB]) == (32 * MIB, 64 * MIB)


async def test_pages_of_two_sizes_are_not_one_file_system(rig):
    config = [parameters(fileSystem={"path": "/mnt/huge"})]
    results = (result(size="2Mi"), result(device="numa0-2mi", size="2Mi"))
    with pytest.raises(RefusedClaim, match="numa0-4ki and numa0-2mi have pages of different sizes"):
        await rig.prepare(rig.add(local_claim(*results, config=config)))
