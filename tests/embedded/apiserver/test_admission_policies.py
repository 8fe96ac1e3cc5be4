# SPDX-License-Identifier: Apache-2.0
"""ValidatingAdmissionPolicies and MutatingAdmissionPolicies, field by field, and what plugins do to pods."""

from __future__ import annotations

from typing import Any

import pytest
from tests.embedded.support.asking import Asking, Refused

from dynamic_memory.embedded.apiserver.admission import validating
from dynamic_memory.embedded.apiserver.admission.policies import Policies
from dynamic_memory.embedded.apiserver.api import Api
from dynamic_memory.embedded.apiserver.builtin import builtin_registry
from dynamic_memory.embedded.apiserver.clock import Clock
from dynamic_memory.embedded.apiserver.core import Core
from dynamic_memory.embedded.apiserver.store import Store

CONFIG_MAPS = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}


@pytest.fixture
async def api() -> Asking:
    core = Core(Store(), builtin_registry(), Clock())
    core.admission = Policies(core.store, core.registry)
    asking = Asking(Api(core))
    for name, labels in (("a", {"env": "prod"}), ("b", {})):
        await asking.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    return asking


def config_map(name: str = "x", data: Any = None, **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": data or {}}


def obj(kind: str, name: str, spec: Any) -> dict[str, Any]:
    return {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


async def validating_policy(api: Asking, *validations: Any, name: str = "p", binding: Any = None, **spec: Any) -> None:
    constraints = {"resourceRules": [CONFIG_MAPS]}
    checks = [{"expression": v} if isinstance(v, str) else v for v in validations]
    policy = {"matchConstraints": constraints, "validations": checks, **spec}
    await api.create(obj("ValidatingAdmissionPolicy", name, policy))
    bound = {"policyName": name, "validationActions": ["Deny"], **(binding or {})}
    await api.create(obj("ValidatingAdmissionPolicyBinding", f"{name}-binding", bound))


async def mutating_policy(api: Asking, *mutations: Any, name: str = "m", binding: Any = None, **spec: Any) -> None:
    constraints = {"resourceRules": [{**CONFIG_MAPS, "operations": ["CREATE", "UPDATE"]}]}
    policy = {"matchConstraints": constraints, "mutations": list(mutations), "reinvocationPolicy": "Never", **spec}
    await api.create(obj("MutatingAdmissionPolicy", name, policy))
    bound = {"policyName": name, **(binding or {})}
    await api.create(obj("MutatingAdmissionPolicyBinding", f"{name}-binding", bound))


def json_patch(expression: str) -> dict[str, Any]:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


def apply_configuration(expression: str) -> dict[str, Any]:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


async def refused(api: Asking, body: Any, namespace: str = "a") -> Refused:
    with pytest.raises(Refused) as caught:
        await api.create(body, namespace, dryRun="All")
    return caught.value


async def passes(api: Asking, body: Any, namespace: str = "a") -> Any:
    return await api.create(body, namespace, dryRun="All")


# --- what a refusal says


@pytest.mark.parametrize(
    ("validation", "code", "reason", "said"),
    [
        ({"expression": "false"}, 422, "Invalid", "failed expression: false"),
        ({"expression": "false", "message": " no "}, 422, "Invalid", "no"),
        ({"expression": "false", "message": "no", "reason": "Forbidden"}, 403, "Forbidden", "no"),
        ({"expression": "false", "message": "no", "reason": "Unauthorized"}, 401, "Unauthorized", "no"),
        (
            {"expression": "false", "reason": "RequestEntityTooLarge"},
            413,
            "RequestEntityTooLarge",
            "failed expression: false",
        ),
        ({"expression": "false", "messageExpression": "'no ' + object.metadata.name"}, 422, "Invalid", "no x"),
        ({"expression": "false", "message": "no", "messageExpression": "object.spec.x"}, 422, "Invalid", "no"),
        ({"expression": "false", "message": "no", "messageExpression": "'a\\nb'"}, 422, "Invalid", "no"),
        (
            {"expression": "object.spec.x"},
            422,
            "Invalid",
            "expression 'object.spec.x' resulted in error: no such key: spec",
        ),
    ],
)
async def test_a_refusal_says_why(api, validation, code, reason, said):
    await validating_policy(api, "true", validation)
    error = await refused(api, config_map())
    assert (error.code, error.reason) == (code, reason)
    assert error.message == (
        "configmaps \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p-binding' denied request: " + said
    )


async def test_the_first_refusal_is_the_answer(api):
    await validating_policy(api, {"expression": "false", "message": "two"}, name="b")
    await validating_policy(api, {"expression": "false", "message": "one"}, name="a")
    assert (await refused(api, config_map())).message.endswith("denied request: one")


async def test_failures_may_be_ignored(api):
    await validating_policy(api, "object.spec.x", failurePolicy="Ignore")
    await passes(api, config_map())
    await validating_policy(api, "false", failurePolicy="Ignore", name="q")
    await refused(api, config_map())


async def test_warnings_and_audit_annotations_refuse_nothing(api):
    actions = {"validationActions": ["Warn", "Audit"]}
    shown = [
        {"key": "name", "valueExpression": "request.name"},
        {"key": "nothing", "valueExpression": "null"},
    ]
    await validating_policy(api, {"expression": "false", "message": "no"}, binding=actions, auditAnnotations=shown)
    await passes(api, config_map())
    warning = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'p-binding': no"
    assert api.warnings == [warning]
    failure = (
        '[{"message":"no","policy":"p","binding":"p-binding","expressionIndex":0,"validationActions":["Warn","Audit"]}]'
    )
    wanted = {"validation.policy.admission.k8s.io/validation_failure": failure, "p/name": "x"}
    assert api.audit["annotations"] == wanted
    await api.create(config_map(), "a")
    await api.delete(config_map(), "a")
    assert (api.audit["annotations"], api.warnings) == (wanted, [warning])


async def test_a_policy_without_a_binding_does_nothing_and_cannot_lock_itself(api):
    await api.create(
        obj(
            "ValidatingAdmissionPolicy",
            "all",
            {
                "matchConstraints": {
                    "resourceRules": [
                        {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}
                    ]
                },
                "validations": [{"expression": "false"}],
            },
        )
    )
    await passes(api, config_map())
    binding = obj("ValidatingAdmissionPolicyBinding", "all", {"policyName": "all", "validationActions": ["Deny"]})
    await api.create(binding)
    await refused(api, config_map())
    await api.delete(binding)
    await passes(api, config_map())


# --- what a policy is about

RULES = {
    "everything": ({**CONFIG_MAPS, "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}, True),
    "another resource": ({**CONFIG_MAPS, "resources": ["secrets"]}, False),
    "another group": ({**CONFIG_MAPS, "apiGroups": ["apps"]}, False),
    "another version": ({**CONFIG_MAPS, "apiVersions": ["v2"]}, False),
    "creation": ({**CONFIG_MAPS, "operations": ["CREATE"]}, True),
    "update": ({**CONFIG_MAPS, "operations": ["UPDATE", "DELETE"]}, False),
    "status": ({**CONFIG_MAPS, "resources": ["configmaps/status"]}, False),
    "any subresource": ({**CONFIG_MAPS, "resources": ["configmaps/*"]}, True),
    "in a namespace": ({**CONFIG_MAPS, "scope": "Namespaced"}, True),
    "in none": ({**CONFIG_MAPS, "scope": "Cluster"}, False),
    "the name": ({**CONFIG_MAPS, "resourceNames": ["x", "y"]}, True),
    "another name": ({**CONFIG_MAPS, "resourceNames": ["y"]}, False),
}


@pytest.mark.parametrize("case", RULES)
@pytest.mark.parametrize("where", ["policy", "exclusion", "binding"])
async def test_rules_say_what_a_policy_is_about(api, case, where):
    rule, matches = RULES[case]
    all_of_them = {"resourceRules": [CONFIG_MAPS]}
    if where == "policy":
        await validating_policy(api, "false", matchConstraints={"resourceRules": [rule]})
    elif where == "exclusion":
        await validating_policy(api, "false", matchConstraints={**all_of_them, "excludeResourceRules": [rule]})
    else:
        await validating_policy(api, "false", binding={"matchResources": {"resourceRules": [rule]}})
    if matches == (where != "exclusion"):
        await refused(api, config_map())
    else:
        await passes(api, config_map())


SELECTORS = {
    "labels of the object": ({"objectSelector": {"matchLabels": {"l": "1"}}}, ["labelled a", "labelled b"]),
    "labels of the namespace": ({"namespaceSelector": {"matchLabels": {"env": "prod"}}}, ["plain a", "labelled a"]),
    "both": (
        {"objectSelector": {"matchLabels": {"l": "1"}}, "namespaceSelector": {"matchLabels": {"env": "prod"}}},
        ["labelled a"],
    ),
    "the name of the namespace": (
        {
            "namespaceSelector": {
                "matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["a"]}]
            }
        },
        ["plain b", "labelled b"],
    ),
    "empty": (
        {"objectSelector": {}, "namespaceSelector": {}},
        ["plain a", "plain b", "labelled a", "labelled b"],
    ),
}


@pytest.mark.parametrize("case", SELECTORS)
@pytest.mark.parametrize("where", ["policy", "binding"])
async def test_selectors_say_what_a_policy_is_about(api, case, where):
    selectors, expected = SELECTORS[case]
    constraints = {"resourceRules": [CONFIG_MAPS], **selectors}
    if where == "policy":
        await validating_policy(api, "false", matchConstraints=constraints)
    else:
        await validating_policy(api, "false", binding={"matchResources": selectors})
    found = []
    for kind, labels in (("plain", {}), ("labelled", {"l": "1"})):
        for namespace in ("a", "b"):
            try:
                await passes(api, config_map(labels=labels), namespace)
            except Refused:
                found.append(f"{kind} {namespace}")
    assert sorted(found) == sorted(expected)


async def test_a_namespace_is_selected_by_its_own_labels(api):
    rule = {**CONFIG_MAPS, "resources": ["namespaces"]}
    selector = {"namespaceSelector": {"matchLabels": {"env": "prod"}}}
    await validating_policy(api, "false", matchConstraints={"resourceRules": [rule], **selector})
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "c", "labels": {"env": "prod"}}}
    await refused(api, body, "")
    await passes(api, {**body, "metadata": {"name": "c"}}, "")


@pytest.mark.parametrize(("policy", "matches"), [("Equivalent", True), ("Exact", False), (None, True)])
async def test_other_versions_of_a_kind_are_the_same_kind(api, policy, matches):
    rule = {"apiGroups": ["resource.k8s.io"], "apiVersions": ["v1"], "operations": ["CREATE"]}
    constraints = {"resourceRules": [{**rule, "resources": ["resourceclaims"]}]}
    constraints |= {"matchPolicy": policy} if policy else {}
    seen = "object.spec.devices.requests.all(r, !has(r.exactly)) && request.kind.version == 'v1'"
    await validating_policy(
        api,
        {"expression": seen, "messageExpression": "request.kind.version + ' ' + request.requestKind.version"},
        matchConstraints=constraints,
    )
    request = {"name": "r", "deviceClassName": "c"}
    claim = {
        "apiVersion": "resource.k8s.io/v1beta1",
        "kind": "ResourceClaim",
        "metadata": {"name": "c"},
        "spec": {"devices": {"requests": [request]}},
    }
    if matches:
        assert (await refused(api, claim)).message.endswith("denied request: v1 v1beta1")
    else:
        await passes(api, claim)


async def test_match_conditions_come_first_and_one_that_is_false_decides(api):
    def conditions(*expressions: str) -> list[dict[str, str]]:
        return [{"name": f"c{number}", "expression": text} for number, text in enumerate(expressions)]

    await validating_policy(api, "false", matchConditions=conditions("object.spec.x", "object.metadata.name == 'y'"))
    await passes(api, config_map("x"))
    error = await refused(api, config_map("y"))
    assert error.message.endswith("denied request: expression 'object.spec.x' resulted in error: no such key: spec")
    lenient = conditions("object.spec.x")
    await validating_policy(api, "false", name="q", matchConditions=lenient, failurePolicy="Ignore")
    await passes(api, config_map("x"))


# --- what expressions see


@pytest.mark.parametrize(
    "expression",
    [
        "request.operation == 'CREATE' && request.name == 'x' && request.namespace == 'a'",
        "request.kind == {'group': '', 'version': 'v1', 'kind': 'ConfigMap'}",
        "request.resource.resource == 'configmaps' && !has(request.subResource)",
        "request.userInfo.username == 'jane' && request.userInfo.groups == ['staff', 'system:authenticated']",
        "request.userInfo.extra['authentication.kubernetes.io/node-name'] == ['n']",
        "request.dryRun && request.options.dryRun == ['All'] && request.options.kind == 'CreateOptions'",
        "oldObject == null && object.data.k == 'v'",
        "namespaceObject.metadata.labels.env == 'prod'",
        "variables.b == 'v!' && variables.a == 'v'",
    ],
)
async def test_expressions_see_the_request(api, expression):
    variables = [{"name": "a", "expression": "object.data.k"}, {"name": "b", "expression": "variables.a + '!'"}]
    await validating_policy(api, expression, variables=variables)
    user = api.as_("jane", "staff", node="n")
    await passes(user, config_map(data={"k": "v"}))


def saying(expression: str) -> dict[str, str]:
    return {"expression": "false", "messageExpression": expression}


NAMED = "'request=' + request.?name.orValue('-') + ' object=' + object.metadata.?name.orValue('-')"


async def test_a_generated_name_is_seen_when_an_object_is_checked_but_not_when_it_is_changed(api):
    said = f"{NAMED} + ' uid=' + string(has(object.metadata.uid))"
    annotated = f"Object{{metadata: Object.metadata{{annotations: {{'saw': {said}}}}}}}"
    await mutating_policy(api, apply_configuration(annotated))
    made = await passes(api, {**config_map(), "metadata": {"generateName": "g-"}})
    assert made["metadata"]["annotations"] == {"saw": "request=- object=- uid=false"}
    made = await passes(api, config_map())
    assert made["metadata"]["annotations"] == {"saw": "request=x object=x uid=false"}
    await validating_policy(api, saying(said))
    error = await refused(api, {**config_map(), "metadata": {"generateName": "g-"}})
    name = error.message.split('"')[1]
    assert name.startswith("g-")
    assert len(name) > len("g-")
    assert error.message.endswith(f"request={name} object={name} uid=true")


async def test_mutations_see_what_a_request_cannot_change_as_it_was_sent(api):
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"]}
    constraints = {"resourceRules": [{**rule, "resources": ["deployments", "deployments/status"]}]}
    text = "Object{metadata: Object.metadata{annotations: {'saw': string(object.?status.?replicas.orValue(-1))}}}"
    await mutating_policy(api, apply_configuration(text), matchConstraints=constraints)
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
        "status": {"replicas": 3},
    }
    made = await api.create(deployment, "a")
    assert (made["metadata"]["annotations"], made.get("status", {})) == ({"saw": "3"}, {})
    made = await api.patch(deployment, {"status": {"replicas": 4}, "spec": {"replicas": 2}}, "a")
    assert (made["metadata"]["annotations"], made.get("status", {})) == ({"saw": "4"}, {})
    assert made["metadata"]["generation"] == 2


async def test_the_namespace_of_a_namespace_is_itself(api):
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["namespaces"]}
    spec = {"matchConstraints": {"resourceRules": [rule]}}
    said = "request.name + ' in ' + request.?namespace.orValue('-') + ' ' + string(namespaceObject == null)"
    await validating_policy(api, saying(said), **spec)
    kind = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
    assert (await refused(api, kind, "")).message.endswith("n in n true")
    kind["metadata"] = {"name": "a"}
    with pytest.raises(Refused, match="a in a true"):
        await api.patch(kind, {"metadata": {"labels": {"x": "y"}}})
    with pytest.raises(Refused, match="a in a true"):
        await api.delete(kind)


async def test_a_collection_is_deleted_without_a_name(api):
    await api.create(config_map(), "a")
    await validating_policy(api, saying("'name=' + request.?name.orValue('-') + ' ' + oldObject.metadata.name"))
    with pytest.raises(Refused) as caught:
        await api.call("DELETE", "/api/v1/namespaces/a/configmaps")
    assert caught.value.message.startswith('configmaps "Unknown" is forbidden')
    assert caught.value.message.endswith("denied request: name=- x")


async def test_policies_see_token_requests_and_evictions_as_those_of_the_real_server_do(api):
    await api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "s"}}, "a")
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"]}
    constraints = {"resourceRules": [{**rule, "resources": ["pods/eviction", "serviceaccounts/token"]}]}
    text = "'name=' + object.metadata.name + ' namespace=' + object.metadata.?namespace.orValue('-')"
    said = {"expression": "false", "messageExpression": f"{text} + ' dry=' + string(request.dryRun)"}
    await validating_policy(api, said, matchConstraints=constraints)
    for path, body, query, why in (
        ("serviceaccounts/s/token", {"spec": {}}, {}, "name=s namespace=a dry=false"),
        ("serviceaccounts/s/token", {"spec": {}}, {"dryRun": "All"}, "name=s namespace=a dry=true"),
        # before the pod is looked for
        ("pods/none/eviction", {"metadata": {"name": "none"}}, {}, "name=none namespace=- dry=false"),
    ):
        with pytest.raises(Refused) as caught:
            await api.call("POST", f"/api/v1/namespaces/a/{path}", body, **query)
        assert caught.value.message.endswith(f"denied request: {why}")


async def test_expressions_see_the_old_object_and_on_deletion_only_that(api):
    await api.create(config_map(data={"k": "v"}), "a")
    update = {"expression": "request.operation != 'UPDATE' || object.data.k == oldObject.data.k", "message": "fixed"}
    deletion = {
        "expression": "request.operation != 'DELETE' || (object == null && oldObject.data.k == 'w')",
        "message": "kept",
    }
    await validating_policy(api, update, deletion)
    with pytest.raises(Refused, match="fixed"):
        await api.patch(config_map(), {"data": {"k": "w"}}, "a")
    await api.patch(config_map(), {"data": {"z": "w"}}, "a")
    with pytest.raises(Refused, match="kept"):
        await api.delete(config_map(), "a")


async def test_variables_are_evaluated_when_they_are_read_and_once(api, monkeypatch):
    variables = [{"name": "broken", "expression": "object.spec.x"}, {"name": "fine", "expression": "1"}]
    await validating_policy(api, "variables.fine == 1", variables=variables)
    await passes(api, config_map())
    await validating_policy(api, "variables.broken", variables=variables, name="q")
    assert "fails to evaluate" in (await refused(api, config_map())).message


async def test_a_policy_is_compiled_once_until_its_spec_changes(api, monkeypatch):
    compiled = []
    before = validating.ValidatingPolicy.__init__

    def counting(self: Any, source: Any) -> None:
        compiled.append(source["metadata"]["name"])
        before(self, source)

    monkeypatch.setattr(validating.ValidatingPolicy, "__init__", counting)
    await validating_policy(api, "true", name="one")
    await validating_policy(api, "true", name="two")
    for _ in range(3):
        await passes(api, config_map())
    policy = obj("ValidatingAdmissionPolicy", "one", {})
    await api.patch(policy, {"metadata": {"labels": {"l": "1"}}})
    await passes(api, config_map())
    assert compiled == ["one", "two"]
    await api.patch(policy, {"spec": {"validations": [{"expression": "false"}]}})
    await refused(api, config_map())
    assert compiled == ["one", "two", "one"]


# --- parameters

LIMIT = "int(object.data.n) <= int(params.data.max)"


async def with_params(api: Asking, ref: Any, kind: str = "ConfigMap") -> None:
    kinds = {"ConfigMap": "v1", "ResourceClaim": "resource.k8s.io/v1", "Node": "v1", "Nothing": "v1"}
    await validating_policy(
        api,
        {"expression": LIMIT, "messageExpression": "'at most ' + params.data.max"},
        paramKind={"apiVersion": kinds[kind], "kind": kind},
        matchConditions=[{"name": "asks", "expression": "has(object.data) && 'n' in object.data"}],
        binding={"paramRef": ref},
    )


async def test_a_parameter_is_found_by_name(api):
    await with_params(api, {"name": "limit", "parameterNotFoundAction": "Allow"})
    await api.create(config_map("limit", {"max": "5"}), "a")
    assert (await refused(api, config_map(data={"n": "6"}))).message.endswith("denied request: at most 5")
    await passes(api, config_map(data={"n": "5"}))
    await passes(api, config_map(data={"n": "6"}), "b")


async def test_a_parameter_may_be_in_another_namespace(api):
    await with_params(api, {"name": "limit", "namespace": "b", "parameterNotFoundAction": "Allow"})
    await api.create(config_map("limit", {"max": "5"}), "b")
    await refused(api, config_map(data={"n": "6"}))


async def test_all_parameters_that_a_selector_takes_count(api):
    await with_params(api, {"selector": {"matchLabels": {"limit": "yes"}}, "parameterNotFoundAction": "Allow"})
    await passes(api, config_map(data={"n": "9"}))
    for name, number in (("one", "7"), ("two", "5")):
        await api.create(config_map(name, {"max": number}, labels={"limit": "yes"}), "a")
    await api.create(config_map("three", {"max": "1"}), "a")
    assert (await refused(api, config_map(data={"n": "6"}))).message.endswith("at most 5")
    await passes(api, config_map(data={"n": "5"}))


PARAMS_REFUSED = {
    "none is there": ({"name": "no", "parameterNotFoundAction": "Deny"}, "ConfigMap", "no params found for policy"),
    "unknown kind": (
        {"name": "no", "parameterNotFoundAction": "Allow"},
        "Nothing",
        "paramKind kind `&ParamKind{APIVersion:v1,Kind:Nothing,}` not known",
    ),
    "namespace of a cluster's": (
        {"name": "no", "namespace": "a", "parameterNotFoundAction": "Allow"},
        "Node",
        "paramRef.namespace must not be provided for a cluster-scoped `paramKind`",
    ),
}


@pytest.mark.parametrize("case", PARAMS_REFUSED)
async def test_a_binding_whose_parameters_cannot_be_found_is_refused(api, case):
    ref, kind, text = PARAMS_REFUSED[case]
    await with_params(api, ref, kind)
    said = (await refused(api, config_map(data={"n": "1"}))).message
    assert f"with binding 'p-binding' denied request: failed to configure binding: {text}" in said


# --- mutation


async def test_json_patches_are_applied_in_order(api):
    await mutating_policy(
        api,
        json_patch("[JSONPatch{op: 'add', path: '/data/a', value: '1'}]"),
        json_patch(
            "[JSONPatch{op: 'test', path: '/data/a', value: '1'},"
            " JSONPatch{op: 'add', path: '/metadata/labels', value: {'from': object.data.a}}]"
        ),
        json_patch("[JSONPatch{op: 'test', path: '/data/a', value: '2'}, JSONPatch{op: 'remove', path: '/data/a'}]"),
    )
    made = await passes(api, config_map(data={"z": "1"}))
    assert made["data"] == {"a": "1", "z": "1"}
    assert made["metadata"]["labels"] == {"from": "1"}
    entries = made["metadata"]["managedFields"]
    assert [list(entry["fieldsV1"]) for entry in entries] == [["f:data"]], "what policies add belongs to nobody"


async def test_apply_configurations_are_merged_by_the_schema(api):
    rule = {**CONFIG_MAPS, "operations": ["CREATE"], "resources": ["pods"]}
    await mutating_policy(
        api,
        apply_configuration(
            "Object{spec: Object.spec{containers: ["
            "Object.spec.containers{name: 'side', image: 'i'},"
            "Object.spec.containers{name: object.spec.containers[0].name, imagePullPolicy: 'Never'}]}}"
        ),
        matchConstraints={"resourceRules": [rule]},
    )
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    made = await passes(api, {**pod, "spec": {"containers": [{"name": "main", "image": "m"}]}})
    found = {c["name"]: (c.get("image"), c["imagePullPolicy"]) for c in made["spec"]["containers"]}
    assert found == {"main": ("m", "Never"), "side": ("i", "Always")}, "defaults are filled in afterwards"


MUTATIONS_REFUSED = {
    "nothing to remove": (
        json_patch("[JSONPatch{op: 'remove', path: '/data/zz'}]"),
        "JSON Patch: error in remove for path: '/data/zz': Unable to remove nonexistent key: zz: missing value",
    ),
    "failing": (
        json_patch("[JSONPatch{op: 'add', path: '/x', value: object.nope}]"),
        "resulted in error: no such key: nope",
    ),
    "unknown field": (
        apply_configuration("Object{nope: 'x'}"),
        "error applying patch: failed to convert patch object to typed object: .nope: field not declared in schema",
    ),
    "wrong type name": (
        apply_configuration("Object{metadata: Object.meta{name: 'x'}}"),
        (
            'type mismatch: unexpected type name "Object.meta", expected "Object.metadata", '
            "which matches field name path from root Object type"
        ),
    ),
}


@pytest.mark.parametrize("case", MUTATIONS_REFUSED)
@pytest.mark.parametrize("fails", [True, False])
async def test_a_mutation_that_fails_refuses_unless_the_policy_ignores_it(api, case, fails):
    mutation, text = MUTATIONS_REFUSED[case]
    await mutating_policy(api, mutation, failurePolicy="Fail" if fails else "Ignore")
    if fails:
        error = await refused(api, config_map())
        assert text in error.message
        assert error.message.startswith("policy 'm' with binding 'm-binding' denied request: ")
        assert (error.code, error.reason) == (403, "Invalid")
    else:
        await passes(api, config_map())


async def test_atomic_fields_are_not_for_apply_configurations(api):
    rule = {**CONFIG_MAPS, "operations": ["CREATE"], "resources": ["pods"]}
    await mutating_policy(
        api,
        apply_configuration("Object{spec: Object.spec{nodeSelector: {'a': 'b'}}}"),
        matchConstraints={"resourceRules": [rule]},
    )
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    error = await refused(api, {**pod, "spec": {"containers": [{"name": "main", "image": "m"}]}})
    assert error.message.endswith("may not mutate atomic arrays, maps or structs: .spec.nodeSelector")


@pytest.mark.parametrize(("again", "seen"), [("IfNeeded", "yes"), ("Never", "no")])
async def test_a_policy_may_see_what_later_ones_change(api, again, seen):
    await mutating_policy(
        api,
        json_patch("[JSONPatch{op: 'add', path: '/data/seen', value: has(object.data.late) ? 'yes' : 'no'}]"),
        name="a",
        reinvocationPolicy=again,
    )
    await mutating_policy(api, json_patch("[JSONPatch{op: 'add', path: '/data/late', value: '1'}]"), name="b")
    made = await passes(api, config_map(data={"z": "1"}))
    assert made["data"] == {"z": "1", "late": "1", "seen": seen}


async def test_mutations_see_parameters_and_conditions(api):
    await mutating_policy(
        api,
        json_patch("[JSONPatch{op: 'add', path: '/data/from', value: params.data.value}]"),
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        matchConditions=[{"name": "wants", "expression": "has(object.data.wants)"}],
        binding={"paramRef": {"name": "settings", "parameterNotFoundAction": "Allow"}},
    )
    await api.create(config_map("settings", {"value": "v"}), "a")
    assert (await passes(api, config_map(data={"wants": "1"})))["data"]["from"] == "v"
    assert "from" not in (await passes(api, config_map(data={"other": "1"})))["data"]


async def test_a_mutated_object_is_validated(api):
    await mutating_policy(api, json_patch("[JSONPatch{op: 'add', path: '/data/a', value: 'x'}]"))
    await validating_policy(api, "!has(object.data.a)")
    await refused(api, config_map(data={"z": "1"}))


# --- pods


def pod(**spec: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": "m"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers, **spec}}


async def test_pods_get_account_priority_and_tolerations(api):
    made = (await passes(api, pod()))["spec"]
    assert (made["serviceAccountName"], made["priority"], made["preemptionPolicy"]) == (
        "default",
        0,
        "PreemptLowerPriority",
    )
    assert made["tolerations"] == [
        {"key": f"node.kubernetes.io/{why}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
        for why in ("not-ready", "unreachable")
    ]
    own = [{"operator": "Exists"}]
    assert (await passes(api, pod(tolerations=own)))["spec"]["tolerations"] == own


async def test_priority_comes_from_the_class(api):
    def priority_class(name: str, value: int, **more: Any) -> dict[str, Any]:
        kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass"}
        return {**kind, "metadata": {"name": name}, "value": value, **more}

    error = await refused(api, pod(priorityClassName="high"))
    assert error.message == 'pods "p" is forbidden: no PriorityClass with name high was found'
    await api.create(priority_class("high", 7, preemptionPolicy="Never"))
    await api.create(priority_class("usual", 3, globalDefault=True))
    made = (await passes(api, pod(priorityClassName="high")))["spec"]
    assert (made["priority"], made["preemptionPolicy"]) == (7, "Never")
    made = (await passes(api, pod()))["spec"]
    assert (made["priorityClassName"], made["priority"]) == ("usual", 3)
    assert (await passes(api, pod(priorityClassName="system-node-critical")))["spec"]["priority"] == 2_000_001_000
    assert "the integer value of priority (5) must not be provided" in (await refused(api, pod(priority=5))).message


async def test_an_account_must_exist_where_accounts_are_made(api):
    await passes(api, pod(serviceAccountName="robot"))
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    await api.create({**account, "imagePullSecrets": [{"name": "s"}]}, "a")
    assert (await passes(api, pod()))["spec"]["imagePullSecrets"] == [{"name": "s"}]
    assert (await refused(api, pod(serviceAccountName="robot"))).message == (
        'pods "p" is forbidden: error looking up service account a/robot: serviceaccount "robot" not found'
    )
