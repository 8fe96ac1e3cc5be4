# SPDX-License-Identifier: Apache-2.0
"""A46, rights: RBAC, the roles that are always there, kubelets, claims, reviews."""

from __future__ import annotations

import pytest
from tests.embedded.support.asking import Refused
from tests.embedded.support.secured import world

from dynamic_memory.embedded.apiserver.rbac import Attributes, allows
from dynamic_memory.embedded.apiserver.request import UserInfo

RBAC = "rbac.authorization.k8s.io"
V1 = f"{RBAC}/v1"


def rule(verbs="get", groups="", resources="pods", names=None):
    found = {"verbs": verbs.split(","), "apiGroups": groups.split(","), "resources": resources.split(",")}
    return {**found, "resourceNames": names} if names else found


def paths(*urls):
    return {"verbs": ["get"], "nonResourceURLs": list(urls)}


@pytest.mark.parametrize(
    ("given", "wanted", "expected"),
    [
        (rule(), Attributes("get", "", "pods"), True),
        (rule(), Attributes("list", "", "pods"), False),
        (rule("*"), Attributes("list", "", "pods"), True),
        (rule(groups="apps"), Attributes("get", "", "pods"), False),
        (rule(groups="*"), Attributes("get", "apps", "pods"), True),
        (rule(), Attributes("get", "", "pods", "status"), False),
        (rule(resources="pods/status"), Attributes("get", "", "pods", "status"), True),
        (rule(resources="pods/status"), Attributes("get", "", "pods"), False),
        (rule(resources="*/status"), Attributes("get", "", "pods", "status"), True),
        (rule(resources="*/status"), Attributes("get", "", "pods"), False),
        (rule(resources="*"), Attributes("get", "", "pods", "status"), True),
        (rule(names=["a"]), Attributes("get", "", "pods", "", "n", "a"), True),
        (rule(names=["a"]), Attributes("get", "", "pods", "", "n", "b"), False),
        (rule(names=["a"]), Attributes("list", "", "pods", "", "n"), False),
        (rule("*", "*", "*"), Attributes("get", path="/metrics"), False),
        (paths("/metrics"), Attributes("get", path="/metrics"), True),
        (paths("/metrics"), Attributes("get", path="/metrics/x"), False),
        (paths("/api/*"), Attributes("get", path="/api/v1"), True),
        (paths("*"), Attributes("get", path="/x"), True),
        (paths("*"), Attributes("put", path="/x"), False),
        (paths("*"), Attributes("get", "", "pods"), False),
    ],
)
def test_rules_of_roles(given, wanted, expected):
    assert allows(given, wanted) is expected


def role(name, *rules, namespace="", **more):
    kind = "Role" if namespace else "ClusterRole"
    metadata = {"name": name, "labels": more.pop("labels", {})}
    return {"apiVersion": V1, "kind": kind, "metadata": metadata, "rules": list(rules), **more}


def binding(name, reference, *subjects, namespace=""):
    kind = "RoleBinding" if namespace else "ClusterRoleBinding"
    role_kind, _, role_name = reference.partition("/")
    return {
        "apiVersion": V1,
        "kind": kind,
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": role_kind, "name": role_name},
        "subjects": [subject(entry) for entry in subjects],
    }


def subject(text):
    kind, _, name = text.partition("/")
    if kind == "ServiceAccount":
        namespace, _, account = name.partition(":")
        return {"kind": kind, "name": account, **({"namespace": namespace} if namespace else {})}
    return {"kind": kind, "name": name, "apiGroup": RBAC}


async def refused(asking, method, path, body=None):
    with pytest.raises(Refused) as caught:
        await asking.call(method, path, body)
    return caught.value


async def test_A46_without_a_rule_nothing_is_allowed_and_the_text_is_that_of_the_real_server():
    async with world(rbac=True) as made:
        user = made.admin.as_("jane")
        error = await refused(user, "GET", "/api/v1/namespaces/default/pods")
        assert (error.code, error.reason) == (403, "Forbidden")
        assert error.message == (
            'pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default"'
        )
        error = await refused(user, "GET", "/api/v1/nodes/n")
        assert error.message == (
            'nodes "n" is forbidden: User "jane" cannot get resource "nodes" in API group "" at the cluster scope'
        )
        error = await refused(user, "PATCH", "/apis/apps/v1/namespaces/d/deployments/x/scale", {})
        assert error.message == (
            'deployments.apps "x" is forbidden: User "jane" cannot patch resource "deployments/scale" in API group '
            '"apps" in the namespace "d"'
        )
        error = await refused(user, "GET", "/metrics")
        assert error.message == 'forbidden: User "jane" cannot get path "/metrics"'
        assert (await user.call("GET", "/api/v1"))["kind"] == "APIResourceList"
        stranger = made.admin.as_("x")
        stranger.user = UserInfo("system:anonymous", ("system:unauthenticated",))
        assert (await refused(stranger, "GET", "/api/v1")).code == 403
        assert (await stranger.call("GET", "/version"))["major"] == "1"


async def test_A46_masters_may_do_everything():
    async with world(rbac=True) as made:
        master = made.admin.as_("root", "system:masters")
        assert (await master.call("GET", "/api/v1/nodes"))["items"] == []


async def test_bindings_are_for_users_groups_and_accounts_in_a_namespace_or_everywhere():
    async with world(rbac=True) as made:
        admin = made.admin
        await admin.create(role("reader", rule("get,list")))
        await admin.create(role("here", rule("get,list", resources="secrets"), namespace="default"), "default")
        await admin.create(binding("all", "ClusterRole/reader", "User/jane", "Group/team"))
        await admin.create(binding("some", "ClusterRole/reader", "ServiceAccount/:app", namespace="x"), "default")
        await admin.create(binding("own", "Role/here", "ServiceAccount/default:app", namespace="x"), "default")
        pods, secrets = "/api/v1/namespaces/{}/pods", "/api/v1/namespaces/{}/secrets"
        for name, groups in (("jane", ()), ("joe", ("team",))):
            await admin.as_(name, *groups).call("GET", pods.format("kube-system"))
        assert (await refused(admin.as_("joe"), "GET", pods.format("default"))).code == 403
        app = admin.as_("system:serviceaccount:default:app")
        await app.call("GET", pods.format("default"))
        await app.call("GET", secrets.format("default"))
        assert (await refused(app, "GET", pods.format("kube-system"))).code == 403
        assert (await refused(app, "GET", "/api/v1/pods")).code == 403
        other = admin.as_("system:serviceaccount:kube-system:app")
        assert (await refused(other, "GET", secrets.format("default"))).code == 403


async def test_decisions_follow_changes_at_once():
    async with world(rbac=True) as made:
        admin, user = made.admin, made.admin.as_("jane")
        path = "/api/v1/namespaces/default/pods"
        assert (await refused(user, "GET", path)).code == 403
        await admin.create(binding("all", "ClusterRole/reader", "User/jane"))
        error = await refused(user, "GET", path)
        assert error.message.endswith(f': RBAC: clusterrole.{RBAC} "reader" not found')
        await admin.create(role("reader", rule("list")))
        await user.call("GET", path)
        await admin.patch(role("reader"), {"rules": []})
        assert (await refused(user, "GET", path)).code == 403


@pytest.mark.parametrize(
    ("name", "can", "cannot"),
    [
        (
            "view",
            [("list", "", "pods"), ("get", RESOURCE := "resource.k8s.io", "resourceclaims")],
            [("get", "", "secrets"), ("create", "", "pods")],
        ),
        (
            "edit",
            [("create", "", "pods"), ("get", "", "secrets"), ("watch", "apps", "deployments")],
            [("create", RBAC, "roles")],
        ),
        (
            "admin",
            [("create", RBAC, "rolebindings"), ("delete", "batch", "jobs")],
            [("create", RBAC, "clusterroles"), ("get", "", "nodes")],
        ),
        ("cluster-admin", [("escalate", RBAC, "clusterroles"), ("delete", "x.example", "things")], []),
    ],
)
async def test_the_roles_that_are_always_there(name, can, cannot):
    async with world(rbac=True) as made:
        await made.admin.create(binding("b", f"ClusterRole/{name}", "User/jane"))
        jane = UserInfo("jane", ("system:authenticated",))
        decide = made.security.decider.decide
        for verb, group, resource in can:
            assert decide(jane, Attributes(verb, group, resource, "", "default")).allowed, (verb, resource)
        for verb, group, resource in cannot:
            assert not decide(jane, Attributes(verb, group, resource, "", "default")).allowed, (verb, resource)


async def test_roles_of_others_are_aggregated_by_label():
    async with world(rbac=True) as made:
        await made.admin.create(binding("b", "ClusterRole/view", "User/jane"))
        jane = UserInfo("jane")
        wanted = Attributes("get", "example.com", "things", "", "default")
        assert not made.security.decider.decide(jane, wanted).allowed
        labels = {f"{RBAC}/aggregate-to-view": "true"}
        await made.admin.create(role("things", rule(groups="example.com", resources="things"), labels=labels))
        decision = made.security.decider.decide(jane, wanted)
        assert decision.allowed
        assert decision.reason == 'RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "view" to User "jane"'


async def test_preparing_twice_keeps_what_was_changed():
    async with world(rbac=True) as made:
        view = {"apiVersion": V1, "kind": "ClusterRole", "metadata": {"name": "system:basic-user"}}
        await made.admin.patch(view, {"rules": []})
        await made.security.prepare()
        assert (await made.admin.call("GET", f"/apis/{V1}/clusterroles/system:basic-user"))["rules"] == []


# --- giving rights away


async def test_nobody_gives_rights_that_they_do_not_have():
    async with world(rbac=True) as made:
        admin = made.admin
        await admin.create(role("author", rule("*", RBAC, "clusterroles,clusterrolebindings"), rule("get,list")))
        await admin.create(role("large", rule("get,delete", resources="secrets")))
        await admin.create(binding("b", "ClusterRole/author", "User/jane"))
        jane = admin.as_("jane")
        # "*" on roles holds escalate and bind, so it is taken apart
        await admin.patch(
            role("author"),
            {"rules": [rule("create,update,get", RBAC, "clusterroles,clusterrolebindings"), rule("get,list")]},
        )
        await jane.create(role("small", rule("get")))
        error = await refused(
            jane, "POST", f"/apis/{V1}/clusterroles", role("more", rule("get,delete"), rule(resources="nodes"))
        )
        assert error.code == 403
        assert error.message == (
            f'clusterroles.{RBAC} "more" is forbidden: user "jane" (groups=["system:authenticated"]) is attempting to '
            "grant RBAC permissions not currently held:\n"
            '{APIGroups:[""], Resources:["nodes"], Verbs:["get"]}\n'
            '{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}'
        )
        await jane.create(binding("ok", "ClusterRole/small", "User/joe"))
        error = await refused(
            jane, "POST", f"/apis/{V1}/clusterrolebindings", binding("no", "ClusterRole/large", "User/joe")
        )
        assert "is attempting to grant RBAC permissions not currently held" in error.message
        error = await refused(
            jane, "POST", f"/apis/{V1}/clusterrolebindings", binding("no", "ClusterRole/none", "User/joe")
        )
        assert error.code == 403
        aggregating = role("all", aggregationRule={"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]})
        error = await refused(jane, "POST", f"/apis/{V1}/clusterroles", aggregating)
        assert "must have cluster-admin privileges" in error.message
        await admin.create(
            role("binder", rule("bind", RBAC, "clusterroles", ["large"]), rule("escalate", RBAC, "clusterroles"))
        )
        await admin.create(binding("binder", "ClusterRole/binder", "User/jane"))
        await jane.create(binding("now", "ClusterRole/large", "User/joe"))
        await jane.create(role("more", rule("get,delete")))


# --- kubelets


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
        (mirror(serviceAccountName="default"), f"{REFERS} a service account"),
        (mirror(imagePullSecrets=[{"name": "s"}]), f"{REFERS} secrets"),
        (mirror(volumes=[{"name": "v", "secret": {"secretName": "s"}}]), f"{REFERS} secrets"),
        (mirror(volumes=[{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}]), f"{REFERS} secrets"),
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
                (
                    'audience "x" not found in pod spec volume, '
                    "system:node:n is not authorized to request tokens for this audience"
                ),
            ),
            (
                asked("q"),
                400,
                'cannot bind token for serviceaccount "a" to pod running with different serviceaccount name.',
            ),
        ):
            error = await refused(kubelet, "POST", path, body)
            assert (error.code, error.message) == (code, forbidden + why if code == 403 else why)
        rules = {"rules": [rule("request-serviceaccounts-token-audience", "", "x")]}
        await server.admin.create({**role("audience", *rules["rules"])})
        await server.admin.create(binding("audience", "ClusterRole/audience", "Group/system:nodes"))
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
        error = await refused(kubelet, "POST", "/api/v1/nodes", other)
        assert error.message == 'nodes "other" is forbidden: node "n" is not allowed to modify node "other"'


async def test_kubelets_write_nothing_of_their_pods_but_the_status():
    async with world(rbac=True) as server:
        kubelet = server.admin.as_("system:node:n", "system:nodes")
        # rights beyond those of the role do not help
        rules = [rule("*", "", "pods,pods/status,pods/resize,pods/binding,persistentvolumeclaims")]
        await server.admin.create(role("more", *rules))
        await server.admin.create(binding("more", "ClusterRole/more", "Group/system:nodes"))
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


# --- statuses of claims

NODE = "n1"
CLAIM = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceClaim",
    "metadata": {"name": "c"},
    "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "memory"}}]}},
}
RESULT = {"request": "r", "driver": "dra.memory", "pool": "p", "device": "d"}
SELECTOR = {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [NODE]}]}]}
ALLOCATED = {"allocation": {"devices": {"results": [RESULT]}, "nodeSelector": SELECTOR}}
ENTRY = {"driver": "dra.memory", "pool": "p", "device": "d", "conditions": []}
DRIVER = "system:serviceaccount:dynamic-memory:driver"
STATUS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/c/status"


async def claim_of_a_node(made):
    await made.admin.load("deploy/00-namespace.yaml", "deploy/10-rbac.yaml")
    await made.admin.create(CLAIM, "default")
    await made.admin.patch(CLAIM, {"status": ALLOCATED}, "default", sub="status")


async def test_the_driver_of_deploy_writes_device_states_of_claims_on_its_node_alone():
    async with world(rbac=True) as made:
        await claim_of_a_node(made)
        patch = {"status": {"devices": [ENTRY]}}
        for elsewhere in (made.admin.as_(DRIVER, node="n2"), made.admin.as_(DRIVER)):
            with pytest.raises(Refused) as caught:
                await elsewhere.patch(CLAIM, patch, "default", sub="status")
            assert caught.value.code == 422
            assert caught.value.message == (
                'ResourceClaim.resource.k8s.io "c" is invalid: status.devices: Forbidden: changing status.devices '
                'requires resource="resourceclaims/driver", verb="[arbitrary-node:patch]" permission: '
                f'resourceclaims.resource.k8s.io "dra.memory" is forbidden: User "{DRIVER}" cannot '
                'arbitrary-node:patch resource "resourceclaims/driver" in API group "resource.k8s.io" in the namespace '
                '"default"'
            )
        own = made.admin.as_(DRIVER, node=NODE)
        done = await own.patch(CLAIM, patch, "default", sub="status")
        assert done["status"]["devices"][0]["device"] == "d"
        # a write that changes nothing needs no right at all
        await made.admin.as_(DRIVER, node="n2").patch(CLAIM, patch, "default", sub="status")


async def test_nobody_but_the_scheduler_allocates():
    async with world(rbac=True) as made:
        await claim_of_a_node(made)
        patch = {"status": {"reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]}}
        with pytest.raises(Refused) as caught:
            await made.admin.as_(DRIVER, node=NODE).patch(CLAIM, patch, "default", sub="status")
        assert caught.value.code == 422
        assert (
            "status.allocation: Forbidden: changing status.allocation or status.reservedFor requires"
            in caught.value.message
        )
        await made.admin.as_("system:kube-scheduler").patch(CLAIM, patch, "default", sub="status")


# --- questions about rights

REVIEW = "/apis/authorization.k8s.io/v1"


def asked(verb, resource, namespace="default", group="", **more):
    return {
        "spec": {
            "resourceAttributes": {"verb": verb, "resource": resource, "namespace": namespace, "group": group},
            **more,
        }
    }


async def test_A35_can_i():
    async with world(rbac=True) as made:
        await made.admin.create(binding("b", "ClusterRole/view", "User/jane", namespace="x"), "default")
        jane = made.admin.as_("jane")
        yes = await jane.call("POST", f"{REVIEW}/selfsubjectaccessreviews", asked("list", "pods"))
        assert yes["status"] == {
            "allowed": True,
            "reason": 'RBAC: allowed by RoleBinding "b/default" of ClusterRole "view" to User "jane"',
        }
        assert yes["kind"] == "SelfSubjectAccessReview"
        no = await jane.call("POST", f"{REVIEW}/selfsubjectaccessreviews", asked("delete", "pods"))
        assert no["status"] == {"allowed": False}
        url = {"spec": {"nonResourceAttributes": {"verb": "get", "path": "/version"}}}
        assert (await jane.call("POST", f"{REVIEW}/selfsubjectaccessreviews", url))["status"]["allowed"]
        for body in ({"spec": {}}, {"spec": {**asked("get", "pods")["spec"], **url["spec"]}}):
            assert (await refused(jane, "POST", f"{REVIEW}/selfsubjectaccessreviews", body)).code == 422
        other = asked("list", "pods", user="jane")
        assert (await made.admin.call("POST", f"{REVIEW}/subjectaccessreviews", other))["status"]["allowed"]
        assert (await refused(jane, "POST", f"{REVIEW}/subjectaccessreviews", other)).code == 403
        assert (await refused(made.admin, "POST", f"{REVIEW}/subjectaccessreviews", asked("get", "pods"))).code == 422
        local = f"{REVIEW}/namespaces/default/localsubjectaccessreviews"
        assert (await made.admin.call("POST", local, other))["status"]["allowed"]
        assert (await refused(made.admin, "POST", local, asked("get", "pods", "x", user="jane"))).code == 422
        rules = await jane.call("POST", f"{REVIEW}/selfsubjectrulesreviews", {"spec": {"namespace": "default"}})
        assert {"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["namespaces"]} in rules["status"][
            "resourceRules"
        ]
        assert rules["status"]["nonResourceRules"]
        assert not rules["status"]["incomplete"]


async def test_A35_who_am_i():
    async with world() as made:
        who = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        found = await made.admin.as_("jane", "team", node="n").call("POST", who, {})
        assert found["status"]["userInfo"] == {
            "username": "jane",
            "groups": ["team", "system:authenticated"],
            "extra": {
                "authentication.kubernetes.io/credential-id": ["JTI=1"],
                "authentication.kubernetes.io/node-name": ["n"],
            },
        }
        assert found["metadata"]["creationTimestamp"] == "2026-03-01T12:00:00Z"
        anything = await made.admin.as_("jane").call(
            "POST", f"{REVIEW}/selfsubjectaccessreviews", asked("get", "nodes")
        )
        assert anything["status"] == {"allowed": True}
        rules = await made.admin.call("POST", f"{REVIEW}/selfsubjectrulesreviews", {"spec": {"namespace": "x"}})
        assert rules["status"]["resourceRules"] == [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
