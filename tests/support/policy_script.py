# SPDX-License-Identifier: Apache-2.0
"""Admission policies of all sorts, and requests that they are asked about: any API server answers the same.

A script is the policies and then the requests; the policies are about config maps of the script's own namespace. What
is sent last is refused or changed by the policies, so a server has come to know them when its answer is the expected.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.support.patch_script import Step

__all__ = ["SCRIPTS", "PolicyScript"]

GROUP = "/apis/admissionregistration.k8s.io/v1"
MAPS = "/api/v1/namespaces/{ns}/configmaps"
DRY = {"dryRun": "All", "fieldManager": "creator"}
WITH = "configmaps"


class PolicyScript(NamedTuple):
    """Policies to create, and then requests."""

    policies: list[Step]
    requests: list[Step]


def _rules(**more: Any) -> dict[str, Any]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": [WITH], **more}
    here = {"matchLabels": {"kubernetes.io/metadata.name": "{ns}"}}
    return {"resourceRules": [rule], "namespaceSelector": here}


def validating(*validations: Any, binding: Any = None, rules: Any = None, **spec: Any) -> list[Step]:
    checks = [{"expression": check} if isinstance(check, str) else check for check in validations]
    policy = {"matchConstraints": rules or _rules(), "validations": checks, **spec}
    bound = {"policyName": "v-{ns}", "validationActions": ["Deny"], **(binding or {})}
    return _objects("ValidatingAdmissionPolicy", "v-{ns}", policy, bound)


def mutating(*mutations: Any, binding: Any = None, rules: Any = None, **spec: Any) -> list[Step]:
    constraints = rules or _rules(operations=["CREATE", "UPDATE"])
    policy = {"matchConstraints": constraints, "mutations": mutations, "reinvocationPolicy": "Never", **spec}
    return _objects("MutatingAdmissionPolicy", "m-{ns}", policy, {"policyName": "m-{ns}", **(binding or {})})


def _objects(kind: str, name: str, policy: Any, binding: Any) -> list[Step]:
    def create(kind: str, spec: Any) -> Step:
        body = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        plural = kind.lower().removesuffix("y") + "ies" if kind.endswith("y") else f"{kind.lower()}s"
        return Step("POST", f"{GROUP}/{plural}", body)

    return [create(kind, policy), create(f"{kind}Binding", binding)]


def patch(expression: str) -> dict[str, Any]:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


def configuration(expression: str) -> dict[str, Any]:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def make(name: str = "x", data: Any = None, **metadata: Any) -> Step:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}}
    return Step("POST", MAPS, body if data is None else {**body, "data": data}, query=DRY)


SCRIPTS: dict[str, PolicyScript] = {
    "a message": PolicyScript(
        validating({"expression": "object.metadata.name != 'x'", "message": "not x"}), [make(), make("y")]
    ),
    "no message": PolicyScript(validating(" object.metadata.name != 'x' "), [make()]),
    "a reason": PolicyScript(validating({"expression": "false", "message": "no", "reason": "Forbidden"}), [make()]),
    "a message that is made": PolicyScript(
        validating({"expression": "false", "messageExpression": "'not ' + object.metadata.name + '!'"}), [make()]
    ),
    "a message that cannot be made": PolicyScript(
        validating({"expression": "false", "message": "fallback", "messageExpression": "'not ' + object.data.no"}),
        [make()],
    ),
    "a missing key": PolicyScript(validating("object.data.a == '1'"), [make(), make(data={"b": "1"})]),
    "several validations": PolicyScript(
        validating("true", {"expression": "false", "message": "one"}, {"expression": "false", "message": "two"}),
        [make()],
    ),
    "a variable that fails": PolicyScript(
        validating("variables.v == '1'", variables=[{"name": "v", "expression": "object.data.a"}]), [make()]
    ),
    "a condition that fails": PolicyScript(
        validating("false", matchConditions=[{"name": "c", "expression": "object.data.a == '1'"}]),
        [make(), make(data={"a": "2"}), make(data={"a": "1"})],
    ),
    "parameters that are not there": PolicyScript(
        validating(
            "object.data.n != params.data.n",
            paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
            binding={"paramRef": {"name": "no", "parameterNotFoundAction": "Deny"}},
        ),
        [make()],
    ),
    "what is seen of the request": PolicyScript(
        validating(
            {
                "expression": "false",
                "messageExpression": "request.operation + ' ' + request.name + ' ' + request.namespace + ' ' + "
                "request.kind.kind + ' ' + request.resource.resource + ' ' + "
                "string(request.dryRun) + ' ' + string(has(request.subResource)) + ' ' + request.options.kind + ' ' + "
                "string(oldObject == null) + ' ' + namespaceObject.metadata.name + ' ' + request.options.fieldManager",
            }
        ),
        [make()],
    ),
    "a patch": PolicyScript(
        mutating(patch("[JSONPatch{op: 'add', path: '/metadata/labels', value: {'l': object.metadata.name}}]")),
        [make(data={"a": "1"})],
    ),
    "a patch that does not apply": PolicyScript(
        mutating(patch("[JSONPatch{op: 'remove', path: '/data/no'}]")), [make(data={"a": "1"}), make()]
    ),
    "a patch that fails": PolicyScript(
        mutating(patch("[JSONPatch{op: 'add', path: '/data/x', value: object.data.no}]")), [make(data={"a": "1"})]
    ),
    "a configuration": PolicyScript(
        mutating(configuration("Object{metadata: Object.metadata{labels: {'l': '1'}}, data: {'b': '2'}}")),
        [make(data={"a": "1"}), make(labels={"k": "0"})],
    ),
    "a configuration with a field that is unknown": PolicyScript(
        mutating(configuration("Object{nope: 'x'}")), [make(data={"a": "1"})]
    ),
    "a mutation and a validation": PolicyScript(
        mutating(patch("[JSONPatch{op: 'add', path: '/data/a', value: 'x'}]"))
        + validating({"expression": "object.data.a != 'x'", "message": "no x"}),
        [make(data={"b": "1"})],
    ),
    "policies that do not compile": PolicyScript(
        [],
        [
            *validating("object.metadata.name == nope")[:1],
            *validating("1 + 1")[:1],
            *validating("true", variables=[{"name": "v", "expression": "nope"}])[:1],
            *validating({"expression": "true", "messageExpression": "1"})[:1],
            *validating("params.x == 1")[:1],
            *mutating(patch("'x'"))[:1],
            *mutating(configuration("1"))[:1],
            *validating()[:1],
            *validating("true", matchConditions=[{"name": "c", "expression": "x"}])[:1],
            *validating("true", failurePolicy="Maybe")[:1],
        ],
    ),
}
