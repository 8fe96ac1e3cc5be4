# SPDX-License-Identifier: Apache-2.0
"""Cgroups of pods: where they are, which of two limits is written first, and what a kernel cannot do."""

from __future__ import annotations

import os

import pytest

from dynamic_memory.errors import InvalidInput
from dynamic_memory.host.mounts import CgroupMode, CgroupMounts
from dynamic_memory.host.pod_cgroups import PodCgroups, expand_slice

POD = "kubepods/burstable/pod1"


def v2(root, controllers="cpuset memory hugetlb"):
    (root / POD).mkdir(parents=True)
    (root / "cgroup.controllers").write_text(controllers)
    return PodCgroups(CgroupMounts(mode=CgroupMode.V2, unified=str(root)))


@pytest.mark.parametrize(
    ("parent", "path"),
    [
        ("/kubepods/burstable/pod1", "kubepods/burstable/pod1"),
        ("kubepods/pod1", "kubepods/pod1"),
        ("kubepods-pod1_2.slice", "kubepods.slice/kubepods-pod1_2.slice"),
        (
            "kubepods-besteffort-podx_y.slice",
            "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podx_y.slice",
        ),
        ("/kubepods.slice/kubepods-podx.slice", "kubepods.slice/kubepods-podx.slice"),
        ("/custom", "custom"),
    ],
)
def test_the_path_of_a_pod_follows_from_what_the_runtime_calls_it(parent, path):
    assert expand_slice(parent) == path


@pytest.mark.parametrize("parent", ["", "/", "/kubepods/../../etc", ".."])
def test_what_is_no_path_of_a_cgroup_is_refused(parent):
    with pytest.raises(InvalidInput, match="cgroup_parent"):
        expand_slice(parent)


@pytest.mark.parametrize(
    ("path", "above"),
    [
        ("kubepods.slice/kubepods-burstable.slice/x", ["kubepods.slice", "kubepods.slice/kubepods-burstable.slice"]),
        ("kubepods/pod1", ["kubepods"]),
        ("elsewhere/pod1", []),
        ("kubepods-of-others/pod1", []),
        # a kubelet with a cgroupRoot, as kind has
        ("kubelet/kubepods/pod1", ["kubelet", "kubelet/kubepods"]),
        (
            "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod1.slice",
            ["kubelet.slice", "kubelet.slice/kubelet-kubepods.slice"],
        ),
    ],
)
def test_cgroups_above_a_pod_are_those_of_pods(path, above):
    assert PodCgroups.above(path) == above


def test_reservations_are_limited_first(tmp_path, monkeypatch):
    cgroups = v2(tmp_path)
    for size in ("2MB", "1GB"):
        for kind in ("max", "rsvd.max"):
            (tmp_path / POD / f"hugetlb.{size}.{kind}").write_text("0\n")
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: opened.append(str(path).rsplit("/", 1)[1]) or real(path, *rest))
    assert cgroups.set_hugepages(POD, {"2MB": 4 << 20, "1GB": 0}) == []
    assert opened == [f"hugetlb.{size}.{kind}" for size in ("1GB", "2MB") for kind in ("rsvd.max", "max")]
    assert cgroups.hugepages(POD, "2MB") == 4 << 20


def test_a_limit_below_what_is_in_use_is_tried_again_later(tmp_path, monkeypatch):
    cgroups = v2(tmp_path)
    for kind in ("max", "rsvd.max"):
        (tmp_path / POD / f"hugetlb.2MB.{kind}").write_text("8388608\n")

    def busy(_descriptor, _data):
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(os, "write", busy)
    assert cgroups.set_hugepages(POD, {"2MB": 0}) == []


def test_a_pod_that_is_gone_is_a_problem_with_a_name(tmp_path):
    cgroups = v2(tmp_path)
    problems = cgroups.set_hugepages("kubepods/gone", {"2MB": 0})
    assert len(problems) == 2
    assert all("kubepods/gone/hugetlb.2MB" in problem and "No such file" in problem for problem in problems)
    assert len(cgroups.protect("kubepods/gone", 1)) == 1


@pytest.mark.parametrize(
    ("controllers", "limits", "protects"),
    [("cpuset memory hugetlb", True, True), ("memory", False, True), ("hugetlb", True, False), ("", False, False)],
)
def test_version_2_can_what_its_controllers_can(tmp_path, controllers, limits, protects):
    cgroups = v2(tmp_path, controllers)
    assert (cgroups.limits_hugepages, cgroups.protects) == (limits, protects)
    if not limits:
        assert cgroups.set_hugepages("kubepods/gone", {"2MB": 0}) == []
    if not protects:
        assert cgroups.protect("kubepods/gone", 1) == []


@pytest.mark.parametrize("mode", [CgroupMode.V1, CgroupMode.HYBRID])
def test_version_1_limits_in_its_own_tree_and_protects_nothing(tmp_path, mode):
    (tmp_path / "hugetlb" / POD).mkdir(parents=True)
    for kind in ("limit_in_bytes", "rsvd.limit_in_bytes"):
        (tmp_path / "hugetlb" / POD / f"hugetlb.2MB.{kind}").write_text("9223372036854771712\n")
    mounts = CgroupMounts(mode=mode, unified=str(tmp_path / "unified"), v1={"hugetlb": str(tmp_path / "hugetlb")})
    cgroups = PodCgroups(mounts)
    assert cgroups.hugepages(POD, "2MB") is None
    assert cgroups.set_hugepages(POD, {"2MB": 2 << 20}) == []
    assert cgroups.hugepages(POD, "2MB") == 2 << 20
    assert cgroups.protect(POD, 1) == []
    assert cgroups.protected(POD) == 0


@pytest.mark.parametrize("mounts", [CgroupMounts(mode=CgroupMode.NONE), CgroupMounts(mode=CgroupMode.AMBIGUOUS)])
def test_without_cgroups_nothing_is_written(mounts):
    cgroups = PodCgroups(mounts)
    assert (cgroups.limits_hugepages, cgroups.protects) == (False, False)
    assert cgroups.set_hugepages(POD, {"2MB": 0}) == []
    assert cgroups.hugepages(POD, "2MB") is None
