# SPDX-License-Identifier: Apache-2.0
"""What a node must have for claims of its own memory to be enforced: from facts to findings. Pure.

A finding either is fine, or names a degraded mode (what will not be enforced, and how to mend it), or refuses: then
limits would silently not be there at all, or be written in the wrong place.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from dynamic_memory.host.containerd import RuntimeFacts
from dynamic_memory.host.mounts import CgroupMode, CgroupMounts

__all__ = ["CONTROLLERS", "Check", "Finding", "NodeFacts", "Verdict", "findings", "worst"]

HUGETLB_SWITCH = "disable_hugetlb_controller"
CONTROLLERS = ("cpuset", "memory", "hugetlb")


class Verdict(enum.StrEnum):
    """What a finding means, the best first."""

    PASS = "PASS"  # noqa: S105 - a word that is printed
    DEGRADED = "DEGRADED"
    REFUSED = "REFUSED"


class Check(enum.StrEnum):
    """What is looked at."""

    CGROUPS = "cgroups"
    ACCOUNTING = "hugetlb-accounting"
    CONTROLLERS = "controllers"
    RUNTIME_HUGETLB = "runtime-hugetlb"
    RUNTIME_NRI = "runtime-nri"
    RUNTIME_CDI = "runtime-cdi"
    TOPOLOGY = "topology"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check: what was found, and for all but PASS what follows and how to mend it.

    Attributes:
        check: what was looked at.
        verdict: what it means.
        text: for people.
        missing: controllers that are not there.

    """

    check: Check
    verdict: Verdict
    text: str
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.verdict} {self.check}: {self.text}"


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a node.

    Attributes:
        mounts: how cgroups are mounted.
        controllers: of the cgroup version 2 root; None if they cannot be read.
        runtime: containerd's settings; None if its file is not there to read.
        runtime_path: where that file should be.
        runtime_error: why its file cannot be understood.
        topology_error: why the NUMA nodes cannot be read.
        nodes: how many NUMA nodes have memory.

    """

    mounts: CgroupMounts
    controllers: Sequence[str] | None = None
    runtime: RuntimeFacts | None = None
    runtime_path: str = ""
    runtime_error: str = ""
    topology_error: str = ""
    nodes: int = 0


def findings(facts: NodeFacts) -> list[Finding]:
    """Return one finding for each check that applies."""
    return [*_cgroups(facts), *_runtime(facts), _topology(facts)]


def worst(found: Sequence[Finding]) -> Verdict:
    """Return the worst verdict."""
    order = list(Verdict)
    return max((finding.verdict for finding in found), key=order.index, default=Verdict.PASS)


def _cgroups(facts: NodeFacts) -> list[Finding]:
    mode, mounts = facts.mounts.mode, facts.mounts
    if mode is CgroupMode.NONE:
        return [
            _finding(
                Check.CGROUPS,
                Verdict.REFUSED,
                "no cgroup file system is mounted: nothing can be limited; mount cgroup2 at /sys/fs/cgroup, and into "
                "the driver's container",
            )
        ]
    if mode is CgroupMode.AMBIGUOUS:
        return [
            _finding(
                Check.CGROUPS,
                Verdict.REFUSED,
                "cgroup2 is mounted more than once, and limits could land in the wrong one; name the right one with "
                "--cgroup-root (local.cgroupRoot of the driver)",
            )
        ]
    if mode is CgroupMode.V1 or mode is CgroupMode.HYBRID:
        where = (
            f"cgroup2 at {mounts.unified} has no controllers" if mode is CgroupMode.HYBRID else "there is no cgroup2"
        )
        return [
            _finding(
                Check.CGROUPS,
                Verdict.DEGRADED,
                f"cgroups are version 1 ({where}): nodes and huge pages are limited by the runtime alone, a claim's "
                "mode `protect` protects nothing; boot with systemd.unified_cgroup_hierarchy=1 for all of it",
            ),
            *_v1_controllers(mounts),
        ]
    return [
        _finding(Check.CGROUPS, Verdict.PASS, f"cgroup version 2 at {mounts.unified}"),
        _accounting(mounts),
        _controllers(facts),
    ]


def _v1_controllers(mounts: CgroupMounts) -> list[Finding]:
    missing = [name for name in CONTROLLERS if name not in mounts.v1]
    if not missing:
        return [_finding(Check.CONTROLLERS, Verdict.PASS, f"version 1 has {', '.join(CONTROLLERS)}")]
    return [
        Finding(
            check=Check.CONTROLLERS,
            verdict=Verdict.DEGRADED,
            text=f"version 1 has no {', '.join(missing)}: {_lost(missing)}; mount them, and enable them in the kernel",
            missing=tuple(missing),
        )
    ]


def _accounting(mounts: CgroupMounts) -> Finding:
    if not mounts.hugetlb_accounting:
        return _finding(Check.ACCOUNTING, Verdict.PASS, "huge pages are not counted as memory")
    return _finding(
        Check.ACCOUNTING,
        Verdict.DEGRADED,
        "cgroup2 is mounted with memory_hugetlb_accounting: huge pages count as memory as well, so limits of claims "
        "have room for both, but the kubelet's own memory limits must have, too; mount without the option",
    )


def _controllers(facts: NodeFacts) -> Finding:
    if facts.controllers is None:
        return _finding(
            Check.CONTROLLERS,
            Verdict.REFUSED,
            f"{facts.mounts.unified}/cgroup.controllers cannot be read: mount the host's cgroups into the container",
        )
    missing = [name for name in CONTROLLERS if name not in facts.controllers]
    if not missing:
        return _finding(Check.CONTROLLERS, Verdict.PASS, f"the root has {', '.join(CONTROLLERS)}")
    return Finding(
        check=Check.CONTROLLERS,
        verdict=Verdict.REFUSED,
        text=f"the root has no {', '.join(missing)}: {_lost(missing)}; enable them in the kernel (CONFIG_CPUSETS, "
        "CONFIG_MEMCG, CONFIG_CGROUP_HUGETLB) and do not keep them in version 1",
        missing=tuple(missing),
    )


def _lost(missing: Sequence[str]) -> str:
    lost = {
        "cpuset": "containers cannot be kept to their nodes",
        "memory": "memory cannot be limited",
        "hugetlb": "huge pages cannot be limited",
    }
    return ", ".join(lost[name] for name in missing)


def _runtime(facts: NodeFacts) -> list[Finding]:
    runtime, error = facts.runtime, facts.runtime_error
    if runtime is None:
        name = f" {facts.runtime_path}".rstrip()
        why = f"{name} cannot be understood ({error})" if error else f"{name} cannot be read"
        return [
            _finding(
                Check.RUNTIME_HUGETLB,
                Verdict.DEGRADED,
                f"containerd's configuration{why}: whether its hugetlb controller is on is not known (by default it is "
                "off); name the file with --containerd-config (local.containerdConfig of the driver)",
            )
        ]
    found = []
    if runtime.hugetlb_disabled:
        found.append(
            _finding(
                Check.RUNTIME_HUGETLB,
                Verdict.REFUSED,
                f"containerd has disable_hugetlb_controller on, its default{_at(runtime, HUGETLB_SWITCH)}: "
                "limits of huge pages, the kubelet's and ours, silently vanish; "
                f"{_mend(runtime, HUGETLB_SWITCH, 'false')}",
            )
        )
    else:
        found.append(_finding(Check.RUNTIME_HUGETLB, Verdict.PASS, "containerd sets limits of huge pages"))
    if runtime.nri_disabled:
        text = (
            f"NRI is off in containerd{_at(runtime, 'disable')}: containers are neither placed nor limited; "
            f"{_mend(runtime, 'disable', 'false')}"
        )
        found.append(_finding(Check.RUNTIME_NRI, Verdict.REFUSED, text))
    else:
        found.append(_finding(Check.RUNTIME_NRI, Verdict.PASS, "NRI is on in containerd"))
    if runtime.cdi_disabled:
        text = (
            f"CDI is off in containerd{_at(runtime, 'enable_cdi')}: containers do not learn of their claims; "
            f"{_mend(runtime, 'enable_cdi', 'true')}"
        )
        found.append(_finding(Check.RUNTIME_CDI, Verdict.REFUSED, text))
    else:
        found.append(_finding(Check.RUNTIME_CDI, Verdict.PASS, "CDI is on in containerd"))
    return found


def _at(runtime: RuntimeFacts, key: str) -> str:
    place = runtime.places.get(key, "")
    return f" ({place})" if place else ""


def _mend(runtime: RuntimeFacts, key: str, good: str) -> str:
    if key in runtime.imported:
        return f"set `{key} = {good}` there and restart containerd"
    command = f"dynamic-memory setup-runtime {runtime.path}".rstrip()
    return f"run `{command}` on the node and restart containerd"


def _topology(facts: NodeFacts) -> Finding:
    if facts.topology_error:
        return _finding(Check.TOPOLOGY, Verdict.REFUSED, f"{facts.topology_error}; name the root with --root")
    return _finding(Check.TOPOLOGY, Verdict.PASS, f"{facts.nodes} NUMA node(s) with memory")


def _finding(check: Check, verdict: Verdict, text: str) -> Finding:
    return Finding(check=check, verdict=verdict, text=text)
