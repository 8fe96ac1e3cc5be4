# SPDX-License-Identifier: Apache-2.0
"""A46: what kubelets may do, for their node and its pods alone."""

from __future__ import annotations

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
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


async def grant(admin, verb, *resources):
    """Give all kubelets a right beside those that they have."""
    group = "rbac.authorization.k8s.io"
    kind, name = {"apiVersion": f"{group}/v1"}, {"metadata": {"name": "more"}}
    rules = [{"verbs": [verb], "apiGroups": [""], "resources": list(resources)}]
    await admin.create({**kind, "kind": "ClusterRole", **name, "rules": rules})
    role = {"apiGroup": group, "kind": "ClusterRole", "name": "more"}
    subjects = [{"apiGroup": group, "kind": "Group", "name": "system:nodes"}]
    await admin.create({**kind, "kind": "ClusterRoleBinding", **name, "roleRef": role, "subjects": subjects})


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
        assert may("update", "coordination.k8s.io", "leases", "n", namespace="kube-node-lease")
        assert not may("update", "coordination.k8s.io", "leases", "m", namespace="kube-node-lease")
        assert not may("update", "coordination.k8s.io", "leases", "n")
        assert may("patch", "", "pods", "p", "status")
        assert may("create", "resource.k8s.io", "resourceslices", namespace="")
        assert not may("delete", "apps", "deployments", "d")
        kubelet = UserInfo("system:node:n", ("system:authenticated",))
        assert not may("get", "", "secrets", "sec")


NO_RELATION = "no relationship found between node 'n' and this object"
PODS_OF = "can only list/watch pods with spec.nodeName field selector"
SLICES_OF = "can only list/watch/deletecollection resourceslices with nodeName field selector"
ALL_NODES = "node 'n' cannot read all nodes, only its own Node object"
INDIVIDUAL = "can only get individual resources of this type"


@pytest.mark.parametrize(
    ("path", "selector", "why"),
    [
        ("/api/v1/pods", "", PODS_OF),
        ("/api/v1/namespaces/default/pods", "spec.nodeName=other", PODS_OF),
        ("/api/v1/pods", "spec.nodeName!=n", PODS_OF),
        ("/api/v1/pods", "spec.nodeName=n,status.phase=Running", None),
        ("/api/v1/namespaces/default/pods", "metadata.name=own", None),
        ("/api/v1/namespaces/default/pods", "metadata.name=far", NO_RELATION),
        ("/api/v1/namespaces/default/pods/own", "", None),
        ("/api/v1/namespaces/default/pods/far", "", NO_RELATION),
        ("/api/v1/namespaces/default/pods/none", "", NO_RELATION),
        ("/api/v1/nodes", "", ALL_NODES),
        ("/api/v1/nodes", "metadata.name=other", "node 'n' cannot read 'other', only its own Node object"),
        ("/api/v1/nodes", "metadata.name=n", None),
        ("/api/v1/nodes/n", "", None),
        ("/api/v1/nodes/other", "", "node 'n' cannot read 'other', only its own Node object"),
        ("/apis/resource.k8s.io/v1/resourceslices", "", SLICES_OF),
        ("/apis/resource.k8s.io/v1/resourceslices", "spec.driver=d.example.com", SLICES_OF),
        ("/apis/resource.k8s.io/v1/resourceslices", "spec.nodeName=n", None),
        ("/apis/resource.k8s.io/v1/resourceslices/far", "", NO_RELATION),
        ("/api/v1/persistentvolumes/bound", "", None),
        ("/api/v1/persistentvolumes/other", "", NO_RELATION),
        ("/api/v1/persistentvolumes/free", "", NO_RELATION),
        ("/api/v1/persistentvolumes", "", INDIVIDUAL),
        ("/api/v1/namespaces/default/secrets/csi", "", None),
        ("/api/v1/namespaces/default/secrets/azure", "", None),
        ("/api/v1/namespaces/default/secrets/free", "", NO_RELATION),
        ("/api/v1/namespaces/default/secrets", "metadata.name=csi", None),
        ("/api/v1/secrets", "", "can only read namespaced object of this type"),
        ("/api/v1/namespaces/default/secrets", "", "No Object name found"),
        ("/apis/resource.k8s.io/v1/resourceclaims", "", INDIVIDUAL),
        ("/api/v1/namespaces/default/serviceaccounts/default", "", None),
        ("/api/v1/namespaces/default/serviceaccounts/other", "", NO_RELATION),
        ("/api/v1/namespaces/default/serviceaccounts", "", "can only create tokens for individual service accounts"),
        ("/api/v1/services", "", None),
    ],
)
async def test_kubelets_read_what_is_of_their_node_and_its_pods(path, selector, why):
    async with world(rbac=True) as server:
        admin, kubelet = server.admin, server.admin.as_("system:node:n", "system:nodes")
        await admin.create(NODE_N)
        volumes = [
            {"name": "a", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "b", "csi": {"driver": "d.example.com", "nodePublishSecretRef": {"name": "csi"}}},
            {"name": "c", "azureFile": {"shareName": "s", "secretName": "azure"}},
        ]
        await admin.create(pod("own", "n", volumes=volumes), "default")
        await admin.create(pod("far", "other"), "default")
        pool = {"name": "far", "generation": 1, "resourceSliceCount": 1}
        piece = {"driver": "d.example.com", "nodeName": "other", "pool": pool, "devices": [{"name": "m"}]}
        kind = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "far"}}
        await admin.create({**kind, "spec": piece})
        size = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}
        for name, claim in (("bound", "c"), ("other", "x"), ("free", None)):
            of = {"claimRef": {"namespace": "default", "name": claim}} if claim else {}
            kind = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}}
            await admin.create({**kind, "spec": {**size, **of}})
        wanted = {
            "resources": {"requests": {"storage": "1Gi"}},
            "accessModes": ["ReadWriteOnce"],
            "volumeName": "free",  # it is not the claim that says so
        }
        kind = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}}
        await admin.create({**kind, "spec": wanted}, "default")
        for name in ("csi", "azure", "free"):
            await admin.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}, "default")
        query = {"fieldSelector": selector} if selector else {}
        if why is None:
            await kubelet.call("GET", path, **query)
            return
        with pytest.raises(Refused) as caught:
            await kubelet.call("GET", path, **query)
        assert (caught.value.code, caught.value.message.partition(": node: ")[2]) == (403, why)


async def test_what_follows_from_a_slice_ends_with_it():
    async with world(rbac=True) as server:
        kubelet = server.admin.as_("system:node:n", "system:nodes")
        pool = {"name": "p", "generation": 1, "resourceSliceCount": 1}
        kind = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "s"}}
        made = {**kind, "spec": {"driver": "d.example.com", "pool": pool, "devices": [{"name": "m"}]}}
        path = "/apis/resource.k8s.io/v1/resourceslices/s"
        for node, code in (("n", 200), ("other", 403)):
            await server.admin.create({**made, "spec": {**made["spec"], "nodeName": node}})
            if code == 200:
                await kubelet.call("GET", path)
            else:
                assert (await refused(kubelet, "GET", path)).code == code
            await server.admin.delete(made)


async def test_a_kubelet_that_names_no_node_may_nothing():
    async with world(rbac=True) as server:
        nobody = server.admin.as_("system:node:", "system:nodes")
        error = await refused(nobody, "GET", "/api/v1/services")
        assert error.message.endswith(': node: unknown node for user "system:node:"')
        nobody = server.admin.as_("system:node:", "system:nodes", "system:masters")
        error = await refused(nobody, "POST", "/api/v1/nodes", NODE_N)
        assert (error.code, error.message) == (
            403,
            'nodes "n" is forbidden: could not determine node from user "system:node:"',
        )


async def test_what_kubelets_write_is_judged_as_it_came_before_anything_else_is():
    async with world(rbac=True) as server:
        admin, kubelet = server.admin, server.admin.as_("system:node:n", "system:nodes")
        # before the fields: none of these is valid
        error = await refused(kubelet, "POST", "/api/v1/namespaces/default/pods", {"metadata": {"name": "x"}})
        assert (error.code, "can only create mirror pods" in error.message) == (403, True)
        bad = certificate_request("n", "kubernetes.io/kubelet-serving", b"garbage")
        with pytest.raises(Refused) as caught:
            await kubelet.create(bad)
        why = ": unable to parse csr: PEM block type must be CERTIFICATE REQUEST"
        assert (caught.value.code, caught.value.message.endswith(why)) == (403, True)
        # and before policies: what they add is not the kubelet's doing
        group = "admissionregistration.k8s.io"
        kind = {"apiVersion": f"{group}/v1", "metadata": {"name": "label"}}
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["nodes"]}
        text = 'Object{metadata: Object.metadata{labels: {"node-restriction.kubernetes.io/a": "b"}}}'
        spec = {
            "matchConstraints": {"resourceRules": [rule]},
            "reinvocationPolicy": "Never",
            "failurePolicy": "Fail",
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": text}}],
        }
        await admin.create({**kind, "kind": "MutatingAdmissionPolicy", "spec": spec})
        await admin.create({**kind, "kind": "MutatingAdmissionPolicyBinding", "spec": {"policyName": "label"}})
        made = await kubelet.create(NODE_N)
        assert made["metadata"]["labels"]["node-restriction.kubernetes.io/a"] == "b"


@pytest.mark.parametrize("sub", ["", "status"])
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}, 'node "n" is not allowed to modify taints'),
        (
            {"spec": {"configSource": {"configMap": {"name": "x", "namespace": "y", "kubeletConfigKey": "k"}}}},
            'node "n" is not allowed to update configSource to a new non-nil configSource',
        ),
        (
            {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "m", "uid": "u"}]}},
            'node "n" is not allowed to modify ownerReferences',
        ),
        ({"metadata": {"labels": {"x.kubernetes.io/y": "z"}}}, "is not allowed to modify labels: x.kubernetes.io/y"),
        ({"spec": {"unschedulable": True, "podCIDR": "10.0.0.0/24"}}, None),
        ({"metadata": {"labels": {"a": "b", "kubernetes.io/hostname": "n"}}}, None),
    ],
)
async def test_a_kubelet_is_told_what_it_may_not_write_even_where_it_would_be_ignored(sub, change, why):
    async with world(rbac=True) as server:
        await server.admin.create(NODE_N)
        kubelet = server.admin.as_("system:node:n", "system:nodes")
        for style, body in (("merge", change), ("strategic", change), ("apply", {**NODE_N, **change})):
            if style == "apply":
                body["metadata"] = {"name": "n", **change.get("metadata", {})}
            if why is None:
                made = await kubelet.patch(NODE_N, body, style=style, sub=sub, fieldManager="k")
                assert ("spec" in made) == ("spec" in change and not sub)
                continue
            with pytest.raises(Refused) as caught:
                await kubelet.patch(NODE_N, body, style=style, sub=sub, fieldManager="k")
            assert (caught.value.code, caught.value.message) == (403, f'nodes "n" is forbidden: {why}')


OWN_LEASE = "can only access node lease with the same name as the requesting node"


async def test_a_kubelet_does_not_make_up_names():
    async with world(rbac=True) as server:
        kubelet = server.admin.as_("system:node:n", "system:nodes")
        for path, why in (
            ("/api/v1/nodes", 'nodes "n-" is forbidden: node "n" is not allowed to modify node ""'),
            (
                "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
                f'leases.coordination.k8s.io "n-" is forbidden: {OWN_LEASE}',
            ),
        ):
            error = await refused(kubelet, "POST", path, {"metadata": {"generateName": "n-"}})
            assert (error.code, error.message) == (403, why)


async def test_what_is_a_mirror_pod_stays_one():
    async with world(rbac=True) as server:
        node = await server.admin.create(NODE_N)
        kubelet = server.admin.as_("system:node:n", "system:nodes")
        made = await kubelet.create(mirror(owners=[{**OWNER, "uid": node["metadata"]["uid"]}]), "default")
        await server.admin.create(pod("p", "n"), "default")
        plain = {**made, "metadata": {"name": "p"}}
        path, why = (
            "metadata.annotations[kubernetes.io/config.mirror]",
            "may not remove or update mirror pod annotation",
        )
        for of, asking, sub, value in (
            (made, kubelet, "status", "other"),
            (made, kubelet, "status", None),
            (made, server.admin, "", None),
            (plain, kubelet, "status", "hash"),
            (plain, server.admin, "", "hash"),
        ):
            change = {"metadata": {"annotations": {"kubernetes.io/config.mirror": value}}}
            with pytest.raises(Refused) as caught:
                await asking.patch(of, change, "default", sub=sub)
            name = of["metadata"]["name"]
            assert (caught.value.code, caught.value.message) == (
                422,
                f'Pod "{name}" is invalid: {path}: Forbidden: {why}',
            )


OWNER = {"apiVersion": "v1", "kind": "Node", "name": "n", "controller": True}
NODE_N = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
ONLY = 'node "n" can only create pods with'
REFERS = 'node "n" can not create pods that reference'


def mirror(node="n", owners=None, **spec):
    made = pod("m", node, **spec)
    made["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "hash"}
    made["metadata"]["ownerReferences"] = [dict(owner) for owner in ([OWNER] if owners is None else owners)]
    return made


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (
            pod("m", "n"),
            'pod does not have "kubernetes.io/config.mirror" annotation, node "n" can only create mirror pods',
        ),
        (mirror("other"), f"{ONLY} spec.nodeName set to itself"),
        (mirror(owners=[]), f"{ONLY} an owner reference set to itself"),
        (mirror(owners=[{**OWNER, "name": "m"}]), f"{ONLY} an owner reference set to itself"),
        (mirror(owners=[{**OWNER, "kind": "Pod"}]), f"{ONLY} an owner reference set to itself"),
        (
            mirror(owners=[OWNER, {**OWNER, "uid": "x", "controller": False}]),
            f"{ONLY} a single owner reference set to itself",
        ),
        (mirror(owners=[{**OWNER, "controller": False}]), f"{ONLY} a controller owner reference set to itself"),
        (
            mirror(owners=[{**OWNER, "blockOwnerDeletion": True}]),
            'node "n" must not set blockOwnerDeletion on an owner reference',
        ),
        (mirror(owners=[{**OWNER, "uid": "x"}]), "node n UID mismatch: expected x got {uid}"),
        (mirror(serviceAccountName="default"), "a mirror pod may not reference service accounts"),
        (mirror(imagePullSecrets=[{"name": "s"}]), "a mirror pod may not reference secrets"),
        (
            mirror(volumes=[{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s"}}}]),
            "a mirror pod may not reference secrets",
        ),
        (
            mirror(volumes=[{"name": "v", "azureFile": {"shareName": "s", "secretName": "s"}}]),
            "a mirror pod may not reference secrets",
        ),
        (mirror(volumes=[{"name": "v", "secret": {"secretName": "s"}}]), "a mirror pod may not reference secrets"),
        (
            mirror(volumes=[{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}]),
            "a mirror pod may not reference secrets",
        ),
        (
            mirror(
                "other", volumes=[{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]
            ),
            "a mirror pod may not use ServiceAccountToken volume projections",
        ),
        (mirror(volumes=[{"name": "v", "configMap": {"name": "s"}}]), f"{REFERS} configmaps"),
        (
            mirror(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "s"}}]),
            f"{REFERS} persistentvolumeclaims",
        ),
        (mirror(resourceClaims=[{"name": "r", "resourceClaimName": "c"}]), f"{REFERS} resourceclaims"),
    ],
)
async def test_kubelets_make_no_pods_that_would_give_them_rights(made, why):
    async with world(rbac=True) as server:
        uid = (await server.admin.create(NODE_N))["metadata"]["uid"]
        for owner in made["metadata"].get("ownerReferences", ()):
            owner.setdefault("uid", uid)
        kubelet = server.admin.as_("system:node:n", "system:nodes")
        error = await refused(kubelet, "POST", "/api/v1/namespaces/default/pods", made)
        assert (error.code, error.message) == (403, f'pods "m" is forbidden: {why.format(uid=uid)}')
        if why.startswith("a mirror pod"):  # whoever makes it
            error = await refused(server.admin, "POST", "/api/v1/namespaces/default/pods", made)
            assert (error.code, error.message) == (403, f'pods "m" is forbidden: {why}')


async def test_kubelets_make_mirror_pods_that_give_no_rights():
    async with world(rbac=True) as server:
        kubelet = server.admin.as_("system:node:n", "system:nodes")
        error = await refused(
            kubelet, "POST", "/api/v1/namespaces/default/pods", mirror(owners=[{**OWNER, "uid": "u"}])
        )
        assert (error.code, error.message) == (404, 'node "n" not found')
        node = await server.admin.create(NODE_N)
        made = await kubelet.create(mirror(owners=[{**OWNER, "uid": node["metadata"]["uid"]}]), "default")
        bound = {"kind": "Pod", "apiVersion": "v1", "name": "m", "uid": made["metadata"]["uid"]}
        path = "/api/v1/namespaces/default/serviceaccounts/default/token"
        assert (await refused(kubelet, "POST", path, {"spec": {"boundObjectRef": bound}})).code == 403
        # with the right on the account, by another pod, it still is not the mirror pod's
        await server.admin.create(pod("p", "n"), "default")
        assert (await refused(kubelet, "POST", path, {"spec": {"boundObjectRef": bound}})).code == 400


async def test_kubelets_get_tokens_only_for_pods_of_their_node():
    async with world(rbac=True) as server:
        for name in ("a", "b"):
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
            await server.admin.create(account, "default")
        kubelet = server.admin.as_("system:node:n", "system:nodes")
        uids = {}
        volume = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "vault"}}]}}
        for name, node, account in (("p", "n", "a"), ("q", "n", "b"), ("far", "other", "a")):
            spec = {"serviceAccountName": account, "volumes": [volume]}
            uids[name] = (await server.admin.create(pod(name, node, **spec), "default"))["metadata"]["uid"]

        def asked(name, *audiences, **more):
            reference = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uids.get(name, "u"), **more}
            return {"spec": {"boundObjectRef": reference, "audiences": list(audiences)}}

        path = "/api/v1/namespaces/default/serviceaccounts/a/token"
        for body in (asked("p"), asked("p", "vault")):
            assert (await kubelet.call("POST", path, body))["status"]["token"]
        forbidden = 'serviceaccounts "a" is forbidden: '
        for body, code, why in (
            ({}, 403, "node requested token not bound to a pod"),
            (
                {"spec": {"boundObjectRef": {"kind": "Node", "name": "n"}}},
                403,
                "node requested token not bound to a pod",
            ),
            (asked("p", uid=""), 403, "node requested token with a pod binding without a uid"),
            (
                asked("p", uid="x"),
                403,
                (
                    "the UID in the bound object reference (x) does not match the UID in record. "
                    "The object might have been deleted and then recreated"
                ),
            ),
            (asked("far"), 403, "node requested token bound to a pod scheduled on a different node"),
            (asked("none"), 404, 'pod "none" not found'),
            (asked("p", "x", "y"), 403, "node may only request 0 or 1 audiences"),
            (
                asked("p", "x"),
                403,
                'system:node:n is not authorized to request tokens for audience "x"',
            ),
            (
                asked("q"),
                400,
                'cannot bind token for serviceaccount "a" to pod running with different serviceaccount name.',
            ),
        ):
            error = await refused(kubelet, "POST", path, body)
            assert (error.code, error.message) == (code, forbidden + why if code == 403 else why)
        into = 'TokenRequest in version "v1" cannot be handled as a TokenRequest: json: cannot unmarshal'
        for spec, why in (
            ({"boundObjectRef": "x"}, "string into Go struct field TokenRequestSpec.spec.boundObjectRef of type"),
            ({"audiences": "x"}, "string into Go struct field TokenRequestSpec.spec.audiences of type []string"),
            ({"audiences": [1]}, "number into Go struct field TokenRequestSpec.spec.audiences of type string"),
            ({"expirationSeconds": "x"}, "string into Go struct field TokenRequestSpec.spec.expirationSeconds of type"),
        ):
            for who in (kubelet, server.admin):
                error = await refused(who, "POST", path, {"spec": spec})
                assert (error.code, error.message[: len(f"{into} {why}")]) == (400, f"{into} {why}")
        await grant(server.admin, "request-serviceaccounts-token-audience", "x")
        assert (await kubelet.call("POST", path, asked("p", "x")))["status"]["token"]


FREE = ("a", "example.com/x", "kubernetes.io/hostname", "topology.kubernetes.io/zone", "x.kubelet.kubernetes.io/y")
FREE_TOO = ("node.kubernetes.io/instance-type", "node.kubernetes.io/anything", "beta.kubernetes.io/os")
KEPT = ("kubernetes.io/x", "node-role.kubernetes.io/worker", "node-restriction.kubernetes.io/x", "foo.k8s.io/bar")


async def test_kubelets_label_and_taint_their_nodes_as_far_as_pods_are_not_steered_by_it():
    async with world(rbac=True) as server:
        admin, kubelet = server.admin, server.admin.as_("system:node:n", "system:nodes")
        labels = dict.fromkeys((*FREE, *FREE_TOO, *KEPT, "x.node-restriction.kubernetes.io/y"), "v")
        body = {**NODE_N, "metadata": {"name": "n", "labels": labels}}
        listed = ", ".join(sorted((*KEPT, "x.node-restriction.kubernetes.io/y")))
        error = await refused(kubelet, "POST", "/api/v1/nodes", body)
        assert (error.code, error.message) == (
            403,
            f'nodes "n" is forbidden: node "n" is not allowed to set the following labels: {listed}',
        )
        await kubelet.create({**NODE_N, "metadata": {"name": "n", "labels": dict.fromkeys((*FREE, *FREE_TOO), "v")}})
        await admin.patch(NODE_N, {"metadata": {"labels": dict.fromkeys(KEPT, "v")}})
        taint = {"key": "k", "effect": "NoSchedule"}
        await admin.patch(NODE_N, {"spec": {"taints": [taint]}})
        await kubelet.patch(NODE_N, {"metadata": {"labels": dict.fromkeys((*FREE, *FREE_TOO))}})
        await kubelet.patch(NODE_N, {"metadata": {"labels": {"a": "c"}}, "status": {"phase": "x"}}, sub="status")
        for patch, why in (
            ({"metadata": {"labels": {KEPT[1]: None}}}, f"is not allowed to modify labels: {KEPT[1]}"),
            ({"metadata": {"labels": {KEPT[2]: "w"}}}, f"is not allowed to modify labels: {KEPT[2]}"),
            ({"metadata": {"labels": {"k8s.io/new": "w"}}}, "is not allowed to modify labels: k8s.io/new"),
            ({"spec": {"taints": None}}, 'node "n" is not allowed to modify taints'),
            ({"spec": {"taints": [{**taint, "value": "x"}]}}, 'node "n" is not allowed to modify taints'),
            (
                {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "x"}]}},
                'node "n" is not allowed to modify ownerReferences',
            ),
        ):
            with pytest.raises(Refused) as caught:
                await kubelet.patch(NODE_N, patch)
            assert (caught.value.code, caught.value.message) == (403, f'nodes "n" is forbidden: {why}')
        other = {**NODE_N, "metadata": {"name": "other"}}
        await admin.create({**NODE_N, "metadata": {"name": "third"}})
        with pytest.raises(Refused) as caught:
            await kubelet.patch({**NODE_N, "metadata": {"name": "third"}}, {"status": {"phase": "x"}}, sub="status")
        assert caught.value.message == 'nodes "third" is forbidden: node "n" is not allowed to modify node "third"'
        error = await refused(kubelet, "POST", "/api/v1/nodes", other)
        assert error.message == 'nodes "other" is forbidden: node "n" is not allowed to modify node "other"'


def certificate_request(name, signer, text=b""):
    if not text:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{name}")])
        made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        text = made.public_bytes(serialization.Encoding.PEM)
    spec = {"request": base64.b64encode(text).decode(), "signerName": signer, "usages": ["digital signature"]}
    kind = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
    return {**kind, "metadata": {"generateName": "csr-"}, "spec": spec}


async def test_kubelets_ask_for_certificates_of_their_own_node_alone():
    async with world(rbac=True) as server:
        kubelet = server.admin.as_("system:node:n", "system:nodes")
        for signer in ("kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"):
            await kubelet.create(certificate_request("n", signer))
            with pytest.raises(Refused) as caught:
                await kubelet.create(certificate_request("m", signer))
            assert caught.value.code == 403
            assert caught.value.message.endswith("is forbidden: can only create a node CSR with CN=system:node:n")
        await kubelet.create(certificate_request("m", "example.com/signer"))


async def test_kubelets_write_nothing_of_their_pods_but_the_status():
    async with world(rbac=True) as server:
        kubelet = server.admin.as_("system:node:n", "system:nodes")
        # rights beyond those of the role do not help
        await grant(server.admin, "*", "pods", "pods/status", "pods/resize", "pods/binding")
        for name, node in (("own", "n"), ("far", "other")):
            await server.admin.create(pod(name, node), "default")
        pods, merge = "/api/v1/namespaces/default/pods", "application/merge-patch+json"
        status, claim = {"status": {"phase": "Running"}}, {"extendedResourceClaimStatus": {"resourceClaimName": "c"}}
        for method, path, body, why in (
            (
                "PATCH",
                "own",
                {"metadata": {"labels": {"a": "b"}}},
                'unexpected operation "UPDATE", node "n" can only create and delete mirror pods',
            ),
            ("DELETE", "far", None, 'node "n" can only delete pods with spec.nodeName set to itself'),
            (
                "PATCH",
                "own/resize",
                {"metadata": {"labels": {"a": "b"}}},
                "unexpected pod subresource \"resize\", only 'status' and 'eviction' are allowed",
            ),
            (
                "PATCH",
                "far/status",
                status,
                'node "n" can only update pod status for pods with spec.nodeName set to itself',
            ),
            (
                "PATCH",
                "own/status",
                {"metadata": {"labels": {"a": "b"}}},
                'node "n" cannot update labels through pod status',
            ),
            ("PATCH", "own/status", {"status": claim}, 'node "n" cannot update extended resource claim status'),
            (
                "POST",
                "far/eviction",
                {"metadata": {"name": "far"}},
                "node n can only evict pods with spec.nodeName set to itself",
            ),
        ):
            with pytest.raises(Refused) as caught:
                await kubelet.call(method, f"{pods}/{path}", body, **({"media": merge} if method == "PATCH" else {}))
            name = path.partition("/")[0]
            assert (caught.value.code, caught.value.message) == (403, f'pods "{name}" is forbidden: {why}')
        await kubelet.call("DELETE", f"{pods}/own")


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
