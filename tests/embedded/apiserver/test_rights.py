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
