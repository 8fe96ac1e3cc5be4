# SPDX-License-Identifier: Apache-2.0
"""From grants to what a container must get, and to the variables that tell of it and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_memory.driver import environment
from dynamic_memory.driver.environment import Allocation
from dynamic_memory.driver.grants import Grant, Owner
from dynamic_memory.driver.records import ClaimRecord, Prepared
from dynamic_memory.driver.settings import Mode, Settings
from dynamic_memory.driver.settlement import hugetlb_name, settings_of
from dynamic_memory.errors import InvalidInput

UID = "0b7f7a8c-6f0a-4b0e-8f43-5b3b0a3f2c22"
MIB = 1 << 20
OWNER = Owner(name="p", uid="pod", containers={"": ("app",)})


def grant(request="mem", size=512 * MIB, numa=0, **more):
    return Grant(request=request, pool="n1/mem", device=f"numa{numa}-4ki", size=size, numa=numa, **more)


def record(*grants, owner=None, uid=UID):
    prepared = Prepared(tag="", cdi_id="", spec="", grants=tuple(grants))
    return ClaimRecord(key=uid, uid=uid, namespace="app", name="c", local=tuple(grants), owner=owner, prepared=prepared)


def test_a_claim_that_is_not_prepared_gives_nothing():
    assert settings_of(ClaimRecord(key=UID, uid=UID)) == ()
    assert settings_of(record(grant(), owner=None)) == ()


def test_a_claim_gives_its_one_device_everything():
    (found,) = settings_of(record(grant(mode=Mode.PROTECT), owner=OWNER))
    assert found == Settings(
        device=f"claim-{UID}",
        claim=UID,
        pod="pod",
        containers=("app",),
        nodes=(0,),
        memory=512 * MIB,
        mode=Mode.PROTECT,
        env={f"DRAMEMORY_{UID}_NUMANodes": "0", f"DRAMEMORY_{UID}_memory": "numanode:0,size:512Mi"},
    )


def test_R9_two_nodes_of_one_claim_are_both_counted():
    (found,) = settings_of(record(grant(numa=0), grant(numa=2, size=256 * MIB), owner=OWNER))
    assert (found.nodes, found.memory) == ((0, 2), 768 * MIB)


def test_R10_two_page_sizes_of_one_claim_are_both_counted():
    given_ = [grant(size=64 * MIB, page=2 * MIB), grant(size=1 << 30, page=1 << 30, numa=1), grant(size=32 * MIB)]
    (found,) = settings_of(record(*given_, grant(size=2 * MIB, page=2 * MIB, numa=1), owner=OWNER))
    assert found.hugepages == {"2MB": 66 * MIB, "1GB": 1 << 30}
    assert (found.memory, found.nodes, found.hugepage_nodes) == (32 * MIB, (0,), (0, 1))


def test_the_strictest_mode_of_a_device_counts():
    (found,) = settings_of(record(grant(mode=Mode.ADVISE), grant(mode=Mode.LIMIT), owner=OWNER))
    assert found.mode is Mode.LIMIT
    (found,) = settings_of(record(grant(page=2 * MIB), owner=OWNER))
    assert (found.mode, found.memory) == (Mode.ADVISE, 0)


def test_fabric_memory_is_told_apart():
    (found,) = settings_of(record(grant(numa=3, far=True), grant(request="mem", numa=0), owner=OWNER))
    assert (found.nodes, found.far, found.memory) == ((0, 3), (3,), 1024 * MIB)
    assert found.env == {f"DRAMEMORY_{UID}_NUMANodes": "0", f"DRAMEMORY_{UID}_memory": "numanode:0,size:512Mi"}


def test_S10_each_request_has_a_device_of_its_own_where_there_are_several():
    owner = Owner(name="p", uid="pod", containers={"a": ("one",), "b": ("two",), "": ("whole",)})
    found = {one.device: one for one in settings_of(record(grant("a"), grant("b", numa=1), owner=owner))}
    assert {name: one.containers for name, one in found.items()} == {
        f"claim-{UID}.a": ("whole", "one"),
        f"claim-{UID}.b": ("whole", "two"),
    }
    assert found[f"claim-{UID}.b"].nodes == (1,)


@pytest.mark.parametrize(
    ("page", "name"), [(2 * MIB, "2MB"), (1 << 30, "1GB"), (64 << 10, "64KB"), (16 << 30, "16GB"), (32 * MIB, "32MB")]
)
def test_huge_pages_are_named_as_cgroups_do(page, name):
    assert hugetlb_name(page) == name


grants_of_a_claim = st.lists(
    st.builds(
        grant,
        request=st.just("mem"),
        size=st.integers(1, 1 << 20).map(lambda n: n << 21),
        numa=st.integers(0, 63),
        page=st.sampled_from([0, 64 << 10, 2 * MIB, 32 * MIB, 1 << 30]),
    ),
    min_size=1,
    max_size=8,
)


@given(st.dictionaries(st.uuids().map(str), grants_of_a_claim, min_size=1, max_size=4))
def test_C7_the_environment_says_what_was_granted(claims):
    env = {name: value for key, given_ in claims.items() for name, value in environment.render(key, given_).items()}
    told = environment.parse([f"{name}={value}" for name, value in env.items()] + ["PATH=/bin", "DRAMEMORYX=1"])
    assert told.keys() == claims.keys()
    for key, given_ in claims.items():
        assert told[key].nodes == tuple(sorted({g.numa for g in given_}))
        expected = sorted(Allocation(page=g.page, numa=g.numa, size=g.size) for g in given_)
        assert sorted(told[key].allocations) == expected


@pytest.mark.parametrize(
    "entry",
    [
        "DRAMEMORY_=1",
        "DRAMEMORY_u1_NUMANodes=",
        "DRAMEMORY_u1_NUMANodes=0;1",
        "DRAMEMORY_u1_NUMANodes=all",
        "DRAMEMORY_u1_memory=1Gi",
        "DRAMEMORY_u1_memory=numanode:0,size:-1",
        "DRAMEMORY_u1_memory=numanode:0,size:1.5Gi",
        "DRAMEMORY_u1_hugepages_=numanode:0,size:2Mi",
        "DRAMEMORY_u1_hugepages_two=numanode:0,size:2Mi",
        "DRAMEMORY_u1_gpu=1",
        "DRAMEMORY_u/1_memory=numanode:0,size:2Mi",
    ],
)
def test_N8_a_malformed_entry_with_our_prefix_is_refused(entry):
    with pytest.raises(InvalidInput) as caught:
        environment.parse([entry])
    assert caught.value.path == entry.partition("=")[0]
