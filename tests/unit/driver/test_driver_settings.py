# SPDX-License-Identifier: Apache-2.0
"""From grants to what a container must get, and to the variables that tell of it and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_memory.driver import environment, settings
from dynamic_memory.driver.environment import Allocation
from dynamic_memory.driver.grants import Grant, Mode, Owner
from dynamic_memory.driver.records import ClaimRecord, Prepared
from dynamic_memory.errors import InvalidInput

UID = "0b7f7a8c-6f0a-4b0e-8f43-5b3b0a3f2c22"
MIB = 1 << 20


def grant(request="mem", size=512 * MIB, numa=0, **more):
    return Grant(request=request, pool="n1/mem", device=f"numa{numa}-4ki", size=size, numa=numa, **more)


def record(*grants, owner=None, uid=UID):
    prepared = Prepared(tag="", cdi_id="", spec="", grants=tuple(grants))
    return ClaimRecord(key=uid, uid=uid, namespace="app", name="c", local=tuple(grants), owner=owner, prepared=prepared)


def test_a_claim_that_is_not_prepared_gives_nothing():
    assert settings.settings_of(ClaimRecord(key=UID, uid=UID)) is None


def test_R9_two_nodes_of_one_claim_are_both_counted():
    found = settings.settings_of(record(grant(numa=0), grant(numa=2, size=256 * MIB)))
    assert found.requests[UID].memory_nodes == (0, 2)
    assert found.requests[UID].memory == 768 * MIB


def test_R10_two_page_sizes_of_one_claim_are_both_counted():
    found = settings.settings_of(
        record(grant(size=64 * MIB, page=2 * MIB), grant(size=1 << 30, page=1 << 30, numa=1), grant(size=32 * MIB))
    )
    request = found.requests[UID]
    assert request.hugepages == {2 * MIB: 64 * MIB, 1 << 30: 1 << 30}
    assert (request.memory, request.memory_nodes, request.hugepage_nodes) == (32 * MIB, (0,), (0, 1))
    assert request.nodes == (0, 1)


def test_R11_two_claims_of_a_container_are_added_up():
    first = settings.settings_of(record(grant(size=32 * MIB, page=2 * MIB, numa=0))).requests
    second = settings.settings_of(record(grant(size=64 * MIB, page=2 * MIB, numa=1), uid="u2")).requests
    both = settings.combine([*first.values(), *second.values()])
    assert both.hugepages == {2 * MIB: 96 * MIB}
    assert both.nodes == (0, 1)


def test_memory_is_added_up_by_its_mode():
    requests = [
        next(iter(settings.settings_of(record(grant(size=n * MIB, mode=mode), uid=f"u{n}")).requests.values()))
        for n, mode in ((1, Mode.LIMIT), (2, Mode.PROTECT), (4, Mode.ADVISE), (8, Mode.LIMIT))
    ]
    both = settings.combine(requests)
    assert (both.limit, both.protect, both.advised) == (9 * MIB, 2 * MIB, 4 * MIB)
    assert settings.combine([*requests, requests[0]]) == both, "the same claim counts once"


def test_fabric_memory_is_told_apart():
    found = settings.settings_of(record(grant(numa=3, far=True), grant(request="mem", numa=0)))
    request = found.requests[UID]
    assert (request.memory_nodes, request.far_nodes) == ((0,), (3,))
    assert (request.memory, request.far_memory) == (512 * MIB, 512 * MIB)
    assert request.env == {
        f"DRAMEMORY_{UID}_NUMANodes": "0",
        f"DRAMEMORY_{UID}_memory": "numanode:0,size:512Mi",
    }


def test_S10_each_request_has_a_device_of_its_own_where_there_are_several():
    owner = Owner(name="p", uid="pod", containers={"a": ("one",), "b": ("two",)})
    found = settings.settings_of(record(grant(request="a"), grant(request="b", numa=1), owner=owner))
    assert set(found.requests) == {f"{UID}.a", f"{UID}.b"}
    assert found.may_use("pod", "one", f"{UID}.a")
    assert not found.may_use("pod", "one", f"{UID}.b")
    assert not found.may_use("other", "one", f"{UID}.a")
    assert not found.may_use("pod", "one", UID)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"dra.memory/claim=claim-{UID}", (UID, UID)),
        (f"dra.memory/claim=claim-{UID}.huge", (UID, f"{UID}.huge")),
        (f"other.example/claim=claim-{UID}", None),
        ("dra.memory/claim=other", None),
        ("nonsense", None),
    ],
)
def test_a_cdi_device_names_its_claim(name, expected):
    assert settings.parse_device(name) == expected


@pytest.mark.parametrize(
    ("page", "name"), [(2 * MIB, "2MB"), (1 << 30, "1GB"), (64 << 10, "64KB"), (16 << 30, "16GB"), (32 * MIB, "32MB")]
)
def test_huge_pages_are_named_as_cgroups_do(page, name):
    assert settings.hugetlb_name(page) == name


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
