# SPDX-License-Identifier: Apache-2.0
"""What is missing for pods to profit: found, explained, and with a way to mend it."""

from __future__ import annotations

import msgspec
import pytest

from dynamic_memory.api import kinds
from dynamic_memory.api.core import Pod
from dynamic_memory.api.meta import ObjectMeta
from dynamic_memory.capacity import limits
from dynamic_memory.capacity.preflight import Check, Facts, PodLimit, findings
from dynamic_memory.kube.errors import Unavailable

GIB = 1 << 30
MIB = 1 << 20


@pytest.mark.parametrize(
    ("facts", "check", "texts"),
    [
        (Facts(auto_online="offline", ceiling=2, ceiling_wanted=2), None, []),
        (Facts(auto_online="online_movable", ceiling=None, ceiling_wanted=None), None, []),
        (Facts(ceiling=3 * GIB, ceiling_wanted=2 * GIB), None, []),
        (Facts(ceiling_kept=False, ceiling_error="never looked"), None, []),
        (
            Facts(pods=[PodLimit(pod="d/p", limit=None, claimed=GIB), PodLimit(pod="d/q", limit=GIB, claimed=GIB)]),
            None,
            [],
        ),
        (Facts(auto_online="online"), Check.AUTO_ONLINE, ["auto_online_blocks is online", "write offline to"]),
        (Facts(ceiling=GIB, ceiling_wanted=2 * GIB), Check.CEILING, ["is 1Gi, 2Gi would be right"]),
        (
            Facts(ceiling=GIB, ceiling_wanted=2 * GIB, ceiling_error="memory.max: Permission denied"),
            Check.CEILING,
            ["Permission denied", "let the updater write"],
        ),
        (Facts(ceiling_error="memory.max: no number"), Check.CEILING, ["unknown", "no number"]),
        (Facts(ceiling_missing=True, ceiling_error="none below /x"), Check.CEILING_MISSING, ["/x", "cgroupRoot"]),
        (Facts(host_error="no meminfo"), Check.HOST, ["no meminfo", "mount"]),
        (
            Facts(pods=[PodLimit(pod="d/p", limit=512 * MIB, claimed=GIB)]),
            Check.POD_LIMIT,
            ["pod d/p has a memory limit of 512Mi and claims 1Gi", "raise its memory limit"],
        ),
    ],
)
def test_findings(facts, check, texts):
    found = findings(facts)
    assert [finding.check for finding in found] == ([] if check is None else [check])
    for text in texts:
        assert text in str(found[0])
    for finding in found:
        assert finding.what
        assert finding.why
        assert finding.mend


def test_all_findings_the_worst_first():
    found = findings(
        Facts(
            auto_online="online",
            ceiling=1,
            ceiling_wanted=2,
            host_error="x",
            pods=[PodLimit(pod=f"d/{n}", limit=1, claimed=2) for n in "ba"],
        )
    )
    assert [finding.check for finding in found] == [
        Check.HOST,
        Check.CEILING,
        Check.AUTO_ONLINE,
        Check.POD_LIMIT,
        Check.POD_LIMIT,
    ]
    assert "d/a" in found[3].what


def pod(spec, *, uid="u", phase="Running", made=None):
    statuses = [{"name": name, "resourceClaimName": claim} for name, claim in (made or {}).items()]
    return msgspec.convert(
        {
            "metadata": {"name": "p", "namespace": "d", "uid": uid},
            "spec": spec,
            "status": {"phase": phase, "resourceClaimStatuses": statuses},
        },
        Pod,
    )


def container(limit=None, **more):
    return {"name": "c", "resources": {"limits": {"memory": limit} if limit else {}}, **more}


@pytest.mark.parametrize(
    ("spec", "limit"),
    [
        ({"containers": [container("1Gi"), container("512Mi")]}, 1536 * MIB),
        ({"containers": [container("1Gi"), container()]}, None),
        ({"containers": [container()], "resources": {"limits": {"memory": "2Gi"}}}, 2 * GIB),
        ({"containers": [container("1Gi")], "resources": {"limits": {"cpu": "1"}}}, GIB),
        (
            {
                "containers": [container("1Gi")],
                "initContainers": [container("1Gi", restartPolicy="Always"), container("9Gi")],
            },
            2 * GIB,
        ),
        ({"containers": []}, None),
        # what no quantity of ours can hold must not keep the updater from its node
        ({"containers": [container("1Gi")], "resources": {"limits": {"memory": "1e99999"}}}, None),
    ],
)
def test_the_limit_of_a_pod(spec, limit):
    assert limits.memory_limit(pod(spec)) == limit


def claim(name, *results):
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": "d"},
        "spec": {},
        "status": {"allocation": {"devices": {"results": list(results)}}} if results else {},
    }


def result(pool="fabric/a", driver="dra.memory", size="1Gi"):
    return {
        "request": "r",
        "driver": driver,
        "pool": pool,
        "device": "x",
        "shareID": "s",
        "consumedCapacity": {"size": size},
    }


async def test_what_pods_claim_is_read_once_and_forgotten_with_them(fake_kube):
    fake_kube.put(
        kinds.RESOURCE_CLAIMS, claim("mine", result(), result("n1/windows"), result(driver="other", size="8Gi"))
    )
    fake_kube.put(kinds.RESOURCE_CLAIMS, claim("waiting"))
    claims = limits.Claims(fake_kube)
    mine = pod(
        {
            "containers": [container("512Mi")],
            "resourceClaims": [
                {"name": "a", "resourceClaimTemplateName": "t"},
                {"name": "b", "resourceClaimName": "waiting"},
            ],
        },
        made={"a": "mine"},
    )
    ended = pod(
        {"containers": [container("1")], "resourceClaims": [{"name": "a", "resourceClaimName": "mine"}]}, phase="Failed"
    )
    for _ in range(3):
        assert await claims.limits([mine, ended]) == [PodLimit(pod="d/p", limit=512 * MIB, claimed=GIB)]
    assert [call.name for call in fake_kube.calls].count("mine") == 1
    assert [call.name for call in fake_kube.calls].count("waiting") == 3
    assert await claims.limits([]) == []
    await claims.limits([mine])
    assert [call.name for call in fake_kube.calls].count("mine") == 2


async def test_a_claim_that_cannot_be_read_counts_the_next_time(fake_kube):
    fake_kube.put(kinds.RESOURCE_CLAIMS, claim("mine", result()))
    fake_kube.fail(Unavailable(503, "Down", "no"), verb="get")
    claims = limits.Claims(fake_kube)
    user = pod({"containers": [container("1Mi")], "resourceClaims": [{"name": "a", "resourceClaimName": "mine"}]})
    assert await claims.limits([user]) == []
    assert len(await claims.limits([user])) == 1


def test_a_claim_of_a_template_that_is_not_made_yet_is_none():
    spec = {"containers": [], "resourceClaims": [{"name": "a", "resourceClaimTemplateName": "t"}]}
    assert limits.claim_names(pod(spec)) == []
    assert limits.claim_names(Pod(metadata=ObjectMeta(name="p"))) == []
