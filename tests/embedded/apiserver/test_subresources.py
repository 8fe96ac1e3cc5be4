# SPDX-License-Identifier: Apache-2.0
"""What is done to pods and nodes over HTTP, and what the server says of itself: rows A36, A37, A39."""

from __future__ import annotations

from typing import Any

import pytest
from tests.embedded.support.client import STRATEGIC, Client

PODS = "/api/v1/namespaces/default/pods"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"


async def pod(client: Client, name: str = "p", *, ready: bool = True) -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": "i"}]}
    made = await client.create(PODS, {"metadata": {"name": name, "labels": {"app": "a"}}, "spec": spec})
    assert made.code == 201, made
    assert (await client.create(f"{PODS}/{name}/binding", {"target": {"kind": "Node", "name": "n"}})).code == 201
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    status = {"phase": "Running", "conditions": conditions}
    return (await client.patch(f"{PODS}/{name}/status", {"status": status}, STRATEGIC)).json


async def test_a_pod_is_bound_once(client: Client) -> None:
    made = await pod(client)
    assert made["spec"]["nodeName"] == "n"
    again = await client.create(f"{PODS}/p/binding", {"target": {"kind": "Node", "name": "m"}})
    assert (again.code, again.json["reason"]) == (409, "Conflict")
    assert 'pod p is already assigned to node "n"' in again.json["message"]
    assert (await client.create(f"{PODS}/p/binding", {"target": {"kind": "Node"}})).code == 422
    assert (await client.create(f"{PODS}/q/binding", {"target": {"kind": "Node", "name": "m"}})).code == 404
    scheduled = [c for c in made["status"]["conditions"] if c["type"] == "PodScheduled"]
    assert [c["status"] for c in scheduled] == ["True"]


async def test_the_collection_of_bindings_binds_too(client: Client) -> None:
    await client.create(PODS, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
    assert (await client.create("/api/v1/namespaces/default/bindings", binding)).code == 201
    assert (await client.get(f"{PODS}/p")).json["spec"]["nodeName"] == "n"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("subresource", ["log", "exec", "attach", "portforward"])
async def test_A36_what_needs_a_kubelet_is_refused_clearly(client: Client, method: str, subresource: str) -> None:
    await pod(client)
    answer = await client.send(method, f"{PODS}/p/{subresource}", container="c", command="ls")
    if (method, subresource) == ("POST", "log"):
        assert answer.code == 405
        return
    assert (answer.code, answer.json["reason"]) == (501, "NotImplemented")
    assert "the nodes of this cluster are simulated" in answer.json["message"]
    assert (await client.send(method, f"{PODS}/q/{subresource}")).code == 404


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/healthz/ping", "/livez?verbose=true"])
async def test_A37_the_server_is_healthy(client: Client, path: str) -> None:
    answer = await client.get(path)
    assert (answer.code, answer.text) == (200, "ok")


async def test_A37_the_server_tells_its_version(client: Client) -> None:
    version = (await client.get("/version")).json
    assert (version["major"], version["minor"]) == ("1", "37")
    assert version["gitVersion"].startswith("v1.37.0")


async def test_A37_cluster_info_lists_services(client: Client) -> None:
    """What `kubectl cluster-info` asks."""
    answer = await client.get(
        "/api/v1/namespaces/kube-system/services", labelSelector="kubernetes.io/cluster-service=true"
    )
    assert (answer.code, answer.json["items"]) == (200, [])


async def test_A39_cordon_and_taint_change_a_node(client: Client) -> None:
    await client.create("/api/v1/nodes", {"metadata": {"name": "n"}})
    cordoned = await client.patch("/api/v1/nodes/n", {"spec": {"unschedulable": True}}, STRATEGIC)
    assert cordoned.json["spec"] == {"unschedulable": True}
    for key in ("a", "b"):
        taint = {"spec": {"taints": [{"key": key, "value": "1", "effect": "NoSchedule"}]}}
        tainted = await client.patch("/api/v1/nodes/n", taint, "application/merge-patch+json")
        assert [taint["key"] for taint in tainted.json["spec"]["taints"]] == [key]
    one = await client.get("/api/v1/nodes", fieldSelector="spec.unschedulable=true")
    assert [item["metadata"]["name"] for item in one.json["items"]] == ["n"]
    assert (await client.get("/api/v1/namespaces/default/nodes")).code == 404, "nodes have no namespace"


def eviction(name: str, **options: Any) -> dict[str, Any]:
    return {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}, "deleteOptions": options}


async def test_A39_an_eviction_honours_the_budget(client: Client) -> None:
    for name in ("a", "b"):
        await pod(client, name)
    budget = {"metadata": {"name": "x"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}}
    assert (await client.create(BUDGETS, budget)).code == 201
    first = await client.create(f"{PODS}/a/eviction", eviction("a", gracePeriodSeconds=0))
    assert (first.code, first.json["status"]) == (201, "Success"), first
    assert (await client.get(f"{PODS}/a")).code == 404
    second = await client.create(f"{PODS}/b/eviction", eviction("b"))
    assert (second.code, second.json["reason"]) == (429, "TooManyRequests")
    assert second.json["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    assert second.json["details"]["causes"] == [
        {
            "reason": "DisruptionBudget",
            "message": "The disruption budget x needs 1 healthy pods and has 1 currently",
        }
    ]
    await client.delete(f"{BUDGETS}/x")
    dry = await client.create(f"{PODS}/b/eviction", eviction("b", dryRun=["All"]))
    assert dry.code == 201
    assert "deletionTimestamp" not in (await client.get(f"{PODS}/b")).json["metadata"]
    assert (await client.create(f"{PODS}/b/eviction", eviction("b"))).code == 201
    assert (await client.get(f"{PODS}/b")).json["metadata"]["deletionTimestamp"]
    assert (await client.create(f"{PODS}/c/eviction", eviction("c"))).code == 404


async def test_A39_a_share_that_may_be_unavailable_counts_the_pods_that_are(client: Client) -> None:
    for name in ("a", "b", "c", "d"):
        await pod(client, name)
    budget = {"metadata": {"name": "x"}, "spec": {"maxUnavailable": "25%", "selector": {"matchLabels": {"app": "a"}}}}
    await client.create(BUDGETS, budget)
    codes = [(await client.create(f"{PODS}/{name}/eviction", eviction(name))).code for name in ("a", "b")]
    assert codes == [201, 429]
    assert (await client.get(f"{BUDGETS}/x")).json["status"]["desiredHealthy"] == 3


async def test_the_resources_of_a_pod_are_changed_by_resize_alone(client: Client) -> None:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}
    await client.create(PODS, {"metadata": {"name": "p"}, "spec": {"containers": [container]}})
    change = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"memory": "2Gi"}}}]}}
    resized = await client.patch(f"{PODS}/p/resize", change, STRATEGIC)
    assert resized.code == 200, resized
    assert resized.json["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "1", "memory": "2Gi"}
    assert resized.json["metadata"]["generation"] == 2
    assert (await client.patch(f"{PODS}/p", change, STRATEGIC)).code == 200, "the same once more changes nothing"


async def test_methods_and_paths_that_are_not_there(client: Client) -> None:
    for method, path, code in [
        ("GET", "/api/v1/nosuch", 404),
        ("GET", "/apis/nosuch.example.com/v1/things", 404),
        ("GET", f"{PODS}/p/nosuch", 404),
        ("PUT", PODS, 405),
        ("POST", f"{PODS}/p", 405),
        ("DELETE", f"{PODS}/p/status", 405),
        ("POST", f"{PODS}/p/status", 405),
        ("GET", "/nosuch", 404),
        ("POST", "/version", 404),
        ("OPTIONS", PODS, 405),
    ]:
        answer = await client.send(method, path, {} if method in {"PUT", "POST"} else None)
        assert (answer.code, answer.json["kind"]) == (code, "Status"), (method, path, answer)
