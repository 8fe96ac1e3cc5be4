# SPDX-License-Identifier: Apache-2.0
"""A46: what kubelets may do, for their node and its pods alone."""

from __future__ import annotations

import pytest
from tests.embedded.support.asking import Refused, refused
from tests.embedded.support.secured import world

from dynamic_memory.embedded.apiserver.rbac import Attributes
from dynamic_memory.embedded.apiserver.request import UserInfo


def pod(name="p", node="n", **spec):
    containers = [{"name": "c", "image": "i"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": containers, "nodeName": node, **spec},
    }


async def test_kubelets_have_the_rights_that_their_node_and_its_pods_need():
    async with world(rbac=True) as made:
        volumes = [{"name": "v", "configMap": {"name": "conf"}}, {"name": "w", "secret": {"secretName": "sec"}}]
        env = [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}]
        await made.admin.create(
            pod(
                volumes=volumes,
                imagePullSecrets=[{"name": "pull"}],
                containers=[{"name": "c", "image": "i", "env": env}],
                resourceClaims=[{"name": "r", "resourceClaimName": "claim"}],
            ),
            "default",
        )
        kubelet = UserInfo("system:node:n", ("system:nodes", "system:authenticated"))

        def may(verb, group, resource, name="", sub="", namespace="default"):
            return made.security.decider.decide(
                kubelet, Attributes(verb, group, resource, sub, namespace, name)
            ).allowed

        assert all(may("get", "", "secrets", name) for name in ("sec", "env", "pull"))
        assert may("get", "", "configmaps", "conf")
        assert may("get", "resource.k8s.io", "resourceclaims", "claim")
        assert may("create", "", "serviceaccounts", "default", "token")
        assert not may("create", "", "serviceaccounts", "other", "token")
        assert not may("get", "", "secrets", "other")
        assert not may("get", "", "secrets", "sec", namespace="kube-system")
        assert not may("list", "", "secrets")
        assert not may("get", "resource.k8s.io", "resourceclaims", "other")
        assert may("patch", "", "nodes", "n", "status", "")
        assert not may("patch", "", "nodes", "m", "status", "")
        assert may("update", "coordination.k8s.io", "leases", "n", namespace="kube-node-lease")
        assert not may("update", "coordination.k8s.io", "leases", "m", namespace="kube-node-lease")
        assert not may("update", "coordination.k8s.io", "leases", "n")
        assert may("patch", "", "pods", "p", "status")
        assert may("create", "resource.k8s.io", "resourceslices", namespace="")
        assert not may("delete", "apps", "deployments", "d")
        kubelet = UserInfo("system:node:n", ("system:authenticated",))
        assert not may("get", "", "secrets", "sec")


def mirror(node="n", **spec):
    made = pod("m", node, **spec)
    made["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "hash"}
    return made


@pytest.mark.parametrize(
    "made",
    [
        pod("m", "n"),
        mirror("other"),
        mirror(serviceAccountName="default"),
        mirror(imagePullSecrets=[{"name": "s"}]),
        mirror(volumes=[{"name": "v", "secret": {"secretName": "s"}}]),
        mirror(volumes=[{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}]),
        mirror(volumes=[{"name": "v", "configMap": {"name": "s"}}]),
        mirror(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "s"}}]),
        mirror(resourceClaims=[{"name": "r", "resourceClaimName": "c"}]),
    ],
)
async def test_kubelets_make_no_pods_that_would_give_them_rights(made):
    async with world(rbac=True) as server:
        kubelet = server.admin.as_("system:node:n", "system:nodes")
        assert (await refused(kubelet, "POST", "/api/v1/namespaces/default/pods", made)).code == 403


async def test_kubelets_make_mirror_pods_that_give_no_rights():
    async with world(rbac=True) as server:
        kubelet = server.admin.as_("system:node:n", "system:nodes")
        made = await kubelet.create(mirror(), "default")
        bound = {"kind": "Pod", "apiVersion": "v1", "name": "m", "uid": made["metadata"]["uid"]}
        path = "/api/v1/namespaces/default/serviceaccounts/default/token"
        assert (await refused(kubelet, "POST", path, {"spec": {"boundObjectRef": bound}})).code == 403


async def test_kubelets_get_tokens_only_for_pods_of_their_node():
    async with world(rbac=True) as server:
        for name in ("a", "b"):
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
            await server.admin.create(account, "default")
        kubelet = server.admin.as_("system:node:n", "system:nodes")
        uids = {}
        for name, node, account in (("p", "n", "a"), ("q", "n", "b"), ("far", "other", "a")):
            made = await server.admin.create(pod(name, node, serviceAccountName=account), "default")
            uids[name] = made["metadata"]["uid"]

        def asked(name, **more):
            reference = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uids.get(name, "u"), **more}
            return {"spec": {"boundObjectRef": reference}}

        path = "/api/v1/namespaces/default/serviceaccounts/a/token"
        assert (await kubelet.call("POST", path, asked("p")))["status"]["token"]
        bodies = ({}, asked("q"), asked("far"), asked("none"), asked("p", uid=""), asked("p", uid="x"))
        for body in (*bodies, {"spec": {"boundObjectRef": {"kind": "Node", "name": "n"}}}):
            assert (await refused(kubelet, "POST", path, body)).code == 403, body


async def test_kubelets_change_only_what_is_of_their_node():
    async with world(rbac=True) as server:
        admin, kubelet = server.admin, server.admin.as_("system:node:n", "system:nodes")
        slices = "/apis/resource.k8s.io/v1/resourceslices"

        def piece(name, node):
            pool = {"name": name, "generation": 1, "resourceSliceCount": 1}
            spec = {"driver": "d.example.com", "nodeName": node, "pool": pool, "devices": [{"name": "m"}]}
            kind = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice"}
            return {**kind, "metadata": {"name": name}, "spec": spec}

        await admin.create(piece("far", "other"))
        await kubelet.create(piece("own", "n"))
        await kubelet.patch(piece("own", "n"), {"metadata": {"labels": {"a": "b"}}})
        for name in ("own", "far"):
            wanted = [{"name": "r", "resourceClaimTemplateName": "t"}]
            await admin.create(pod(name, "n" if name == "own" else "other", resourceClaims=wanted), "default")
        status = {"status": {"phase": "Running"}}
        await kubelet.patch(pod("own"), status, "default", sub="status")
        pods = "/api/v1/namespaces/default/pods"
        claims = {"status": {"resourceClaimStatuses": [{"name": "r", "resourceClaimName": "c"}]}}
        for method, path, body in (
            ("POST", slices, piece("new", "other")),
            ("PATCH", f"{slices}/far", {"metadata": {"labels": {"a": "b"}}}),
            ("DELETE", f"{slices}/far", None),
            ("DELETE", slices, None),
            ("PATCH", f"{pods}/far/status", status),
            ("PATCH", f"{pods}/own/status", {"metadata": {"labels": {"a": "b"}}}),
            ("PATCH", f"{pods}/own/status", claims),
            ("DELETE", f"{pods}/far", None),
            ("POST", f"{pods}/far/eviction", {"metadata": {"name": "far"}}),
            ("POST", "/api/v1/nodes", {"metadata": {"name": "other"}}),
            ("POST", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", {"metadata": {"name": "other"}}),
        ):
            media = {"media": "application/strategic-merge-patch+json"} if method == "PATCH" and "pods" in path else {}
            if method == "PATCH" and not media:
                media = {"media": "application/merge-patch+json"}
            with pytest.raises(Refused) as caught:
                await kubelet.call(method, path, body, **media)
            assert caught.value.code == 403, (method, path, caught.value.message)
        for selector in ("spec.nodeName=other", "spec.nodeName!=n", "spec.driver=d.example.com"):
            with pytest.raises(Refused) as caught:
                await kubelet.call("DELETE", slices, fieldSelector=selector)
            assert caught.value.code == 403
        await kubelet.call("DELETE", slices, fieldSelector="spec.nodeName=n")
        left = (await admin.call("GET", slices))["items"]
        assert [item["metadata"]["name"] for item in left] == ["far"]
