# SPDX-License-Identifier: Apache-2.0
"""A46, rights: RBAC, the roles that are always there, reviews."""

from __future__ import annotations

import pytest
from tests.embedded.support.asking import Refused, refused
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


async def test_who_may_read_one_object_may_list_and_watch_it_by_its_name():
    async with world(rbac=True) as made:
        one = role("one", rule("get,list,watch,deletecollection", resources="configmaps", names=["a"]))
        await made.admin.create(one)
        await made.admin.create(binding("one", "ClusterRole/one", "User/jane"))
        jane, maps = made.admin.as_("jane"), "/api/v1/namespaces/default/configmaps"
        await jane.call("GET", maps, fieldSelector="metadata.name=a")
        known = len(made.security.decider._known)
        await jane.call("GET", maps, fieldSelector="metadata.name=a,metadata.namespace=x")
        assert len(made.security.decider._known) == known, "what a client makes up is not remembered"
        for method, selector in (
            ("GET", ""),
            ("GET", "metadata.name=b"),
            ("GET", "metadata.name!=a"),
            ("GET", "nonsense"),
            ("DELETE", "metadata.name=a"),
        ):
            with pytest.raises(Refused) as caught:
                await jane.call(method, maps, fieldSelector=selector)
            assert caught.value.code == 403, selector


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
        assert error.message.endswith(f': rbac: RBAC: clusterrole.{RBAC} "reader" not found')
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


@pytest.mark.parametrize(
    ("review", "spec", "why"),
    [
        (
            "SelfSubjectAccessReview",
            {"resourceAttributes": "x"},
            (
                "string into Go struct field SelfSubjectAccessReviewSpec.spec.resourceAttributes of type "
                "v1.ResourceAttributes"
            ),
        ),
        (
            "SubjectAccessReview",
            {"user": "u", "resourceAttributes": {"verb": 1}},
            "number into Go struct field ResourceAttributes.spec.resourceAttributes.verb of type string",
        ),
        (
            "SubjectAccessReview",
            {"groups": "g", "resourceAttributes": {}},
            "string into Go struct field SubjectAccessReviewSpec.spec.groups of type []string",
        ),
        (
            "SelfSubjectRulesReview",
            {"namespace": []},
            "array into Go struct field SelfSubjectRulesReviewSpec.spec.namespace of type string",
        ),
    ],
)
async def test_reviews_of_the_wrong_type_are_refused(review, spec, why):
    async with world(rbac=True) as made:
        error = await refused(made.admin, "POST", f"{REVIEW}/{review.lower()}s", {"spec": spec})
        text = f'{review} in version "v1" cannot be handled as a {review}: json: cannot unmarshal {why}'
        assert (error.code, error.message) == (400, text)


async def test_reviews_ask_with_field_selectors():
    async with world(rbac=True) as made:
        who = {"user": "system:node:n", "groups": ["system:nodes"]}
        for selector, allowed in (
            (None, False),
            ({"rawSelector": "spec.nodeName=n"}, True),
            ({"rawSelector": "spec.nodeName!=n"}, False),
            ({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n"]}]}, True),
            ({"requirements": [{"key": "spec.nodeName", "operator": "NotIn", "values": ["n"]}]}, False),
            ({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n", "m"]}]}, False),
        ):
            body = asked("list", "pods", **who)
            body["spec"]["resourceAttributes"]["fieldSelector"] = selector
            answer = await made.admin.call("POST", f"{REVIEW}/subjectaccessreviews", body)
            assert answer["status"]["allowed"] is allowed, selector


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
