# SPDX-License-Identifier: Apache-2.0
"""What is done to pods and nodes over HTTP, and what the server says of itself: rows A36, A37, A39."""

from __future__ import annotations

from typing import Any

import pytest
from tests.embedded.support.client import STRATEGIC, Client

PODS = "/api/v1/namespaces/default/pods"
BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"


def bound(name: str, node: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "target": {"kind": "Node", "name": node}}


async def pod(client: Client, name: str = "p", *, ready: bool = True) -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": "i"}]}
    made = await client.create(PODS, {"metadata": {"name": name, "labels": {"app": "a"}}, "spec": spec})
    assert made.code == 201, made
    assert (await client.create(f"{PODS}/{name}/binding", bound(name, "n"))).code == 201
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    status = {"phase": "Running", "conditions": conditions}
    return (await client.patch(f"{PODS}/{name}/status", {"status": status}, STRATEGIC)).json


async def test_a_pod_is_bound_once(client: Client) -> None:
    made = await pod(client)
    assert made["spec"]["nodeName"] == "n"
    again = await client.create(f"{PODS}/p/binding", bound("p", "m"))
    assert (again.code, again.json["reason"]) == (409, "Conflict")
    assert 'pod p is already assigned to node "n"' in again.json["message"]
    assert (await client.create(f"{PODS}/p/binding", bound("p", ""))).code == 422
    assert (await client.create(f"{PODS}/q/binding", bound("q", "m"))).code == 404
    scheduled = [c for c in made["status"]["conditions"] if c["type"] == "PodScheduled"]
    assert [c["status"] for c in scheduled] == ["True"]


async def test_the_collection_of_bindings_binds_too(client: Client) -> None:
    await client.create(PODS, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
    assert (await client.create("/api/v1/namespaces/default/bindings", bound("p", "n"))).code == 201
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
        ("POST", "/version", 405),
        ("OPTIONS", PODS, 405),
        ("POST", "/api/v1/configmaps", 405),
        ("GET", f"{PODS}/p/eviction", 405),
        ("HEAD", PODS, 405),
        ("HEAD", f"{PODS}/p", 405),
        ("HEAD", "/version", 405),
        ("HEAD", "/apis", 200),
        ("HEAD", "/readyz", 200),
    ]:
        answer = await client.send(method, path, {} if method in {"PUT", "POST"} else None)
        assert answer.code == code, (method, path, answer)
        if method == "HEAD":
            assert answer.body == b""
        elif "nosuch" in path.partition("/api/")[0]:  # not even a group of the API
            assert (answer.text, answer.headers["Content-Type"]) == (
                "404 page not found\n",
                "text/plain; charset=utf-8",
            )
        else:
            what = {404: "could not find", 405: "does not allow this method on"}[code]
            message = f"the server {what} the requested resource"
            assert (answer.json["message"], answer.json["details"]) == (message, {}), (method, path, answer)


async def test_nothing_is_deleted_in_all_namespaces_at_once(client: Client) -> None:
    for namespace in ("default", "kube-system"):
        body = {"metadata": {"name": "a"}}
        assert (await client.create(f"/api/v1/namespaces/{namespace}/configmaps", body)).code == 201
    answer = await client.send("DELETE", "/api/v1/configmaps")
    assert (answer.code, answer.json["reason"]) == (405, "MethodNotAllowed")
    names = [item["metadata"]["name"] for item in (await client.get("/api/v1/configmaps")).json["items"]]
    assert names.count("a") == 2


@pytest.mark.parametrize(
    ("path", "body", "code", "text"),
    [
        ("p/eviction", {}, 400, "name in URL does not match name in Eviction object"),
        ("p/eviction", {"metadata": {"name": "q"}}, 400, "name in URL does not match name in Eviction object"),
        ("q/eviction", {}, 400, "name in URL does not match name in Eviction object"),
        ("p/eviction", {"metadata": {"name": "p", "namespace": "x"}}, 400, "the namespace of the provided object does"),
        (
            "p/eviction",
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}},
            400,
            'Pod in version "v1" cannot be handled as a Eviction: converting (v1.Pod) to (policy.Eviction): unknown',
        ),
        (
            "p/eviction",
            {"apiVersion": "policy/v1", "kind": "Foo", "metadata": {"name": "p"}},
            400,
            'Foo in version "v1" cannot be handled as a Eviction: no kind "Foo" is registered for version "policy/v1"',
        ),
        ("p/eviction?dryRun=All", {"apiVersion": "policy/v1beta1", "metadata": {"name": "p"}}, 201, ""),
        (
            "p/eviction",
            {"metadata": {"name": "p"}, "deleteOptions": {"preconditions": {"uid": "x"}}},
            409,
            'cannot be fulfilled on Pod "p": the UID in the precondition (x) does not match the UID in record',
        ),
        ("p/binding", {"target": {"kind": "Node", "name": "n"}}, 400, "name in URL does not match name in Binding"),
        ("p/binding", {**bound("p", "n"), "apiVersion": "v1", "kind": "Pod"}, 400, "converting (v1.Pod) to (core.Bind"),
        ("p/binding", {**bound("p", "n"), "apiVersion": "v2"}, 400, 'no kind "Binding" is registered for version "v2"'),
    ],
)
async def test_a_question_is_about_its_object_and_of_its_kind(
    client: Client, path: str, body: dict[str, Any], code: int, text: str
) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}]}
    await client.create(PODS, {"metadata": {"name": "p"}, "spec": spec})
    where, _, query = path.partition("?")
    answer = await client.create(f"{PODS}/{where}", body, **({"dryRun": "All"} if query else {}))
    assert answer.code == code, answer
    assert text in answer.json.get("message", "")
    assert (await client.get(f"{PODS}/p")).json["spec"].get("nodeName") is None


async def test_unknown_fields_of_a_question_are_told(client: Client) -> None:
    await client.create(PODS, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
    body = {"metadata": {"name": "p"}, "nope": 1}
    answer = await client.create(f"{PODS}/p/eviction", body, dryRun="All")
    assert (answer.code, answer.warnings) == (201, ['unknown field "nope"'])
    answer = await client.create(f"{PODS}/p/eviction", body, fieldValidation="Strict")
    assert answer.code == 400
    assert answer.json["message"].endswith('strict decoding error: unknown field "nope"')
