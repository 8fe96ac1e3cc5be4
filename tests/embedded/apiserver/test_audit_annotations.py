# SPDX-License-Identifier: Apache-2.0
"""What policies say in the audit log: `<policy>/<key>`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.embedded.support.asking import Asking, Refused
from tests.embedded.support.servers import running

from dynamic_memory.api.wire import Kind
from dynamic_memory.embedded.apiserver.local import LocalKube
from dynamic_memory.embedded.apiserver.security import SecurityOptions

ADMISSION = "admissionregistration.k8s.io/v1"
MAPS = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}


async def policy(api: Asking, name: str, notes: dict[str, str], *bindings: Any, expression: str = "true", **spec: Any):
    """Make a policy about config maps that writes these expressions into the audit log, and its bindings."""
    spec |= {
        "matchConstraints": {"resourceRules": [MAPS]},
        "validations": [{"expression": expression}],
        "auditAnnotations": [{"key": key, "valueExpression": value} for key, value in notes.items()],
    }
    kind = "ValidatingAdmissionPolicy"
    await api.create({"apiVersion": ADMISSION, "kind": kind, "metadata": {"name": name}, "spec": spec})
    for number, more in enumerate(bindings or ({},)):
        bound = {"policyName": name, "validationActions": ["Deny"], **more}
        body = {"apiVersion": ADMISSION, "kind": f"{kind}Binding", "metadata": {"name": f"{name}-{number}"}}
        await api.create({**body, "spec": bound})


async def test_annotations_of_several_bindings_and_policies_stand_side_by_side():
    async with running() as server:
        api = Asking(server.server.api)

        def config(name, value):
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
            return {**body, "data": {"v": value}}

        bindings = []
        for name in ("one", "two"):
            await api.create(config(name, name), "default")
            where = {"name": name, "namespace": "default", "parameterNotFoundAction": "Deny"}
            bindings.append({"paramRef": where})
        parameters = {"apiVersion": "v1", "kind": "ConfigMap"}
        notes = {"v": "params.data.v", "same": "'s'", "nothing": "null"}
        await policy(api, "p", notes, *bindings, paramKind=parameters)
        await policy(api, "q", {"k": "'refused'"}, expression="object.data.v != 'x'")
        with pytest.raises(Refused):
            await api.create(config("x", "x"), "default")
        assert api.audit["annotations"] == {"p/v": "one, two", "p/same": "s", "q/k": "refused"}


async def test_annotations_are_in_the_audit_log(tmp_path):
    log = tmp_path / "audit"
    size = {"size": "'k' in object.data ? object.data.k : null"}
    async with running(security=SecurityOptions(audit_log=log)) as server:
        await policy(Asking(server.server.api), "p", size, expression="object.data.k != '3'")
        for name, data in (("a", {"k": "1"}), ("b", {"k": "2"}), ("c", {"k": "3"})):
            body = {"metadata": {"name": name}, "data": data}
            await server.client.create("/api/v1/namespaces/default/configmaps", body)
        kind = Kind(group="", version="v1", kind="ConfigMap", plural="configmaps", namespaced=True, type=dict)
        local = LocalKube(server.server.api)
        await local.create(kind, {"metadata": {"name": "d"}, "data": {"k": "4"}}, namespace="default")
        await local.patch(kind, "d", {"data": {"k": "5"}}, namespace="default")
        await server.client.get("/api/v1/namespaces/default/configmaps/a")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    found = [(line["verb"], line["name"], line["code"], line.get("annotations")) for line in lines if "name" in line]
    assert found[-6:] == [
        ("create", "a", 201, {"p/size": "1"}),
        ("create", "b", 201, {"p/size": "2"}),
        ("create", "c", 422, {"p/size": "3"}),
        ("create", "d", 201, {"p/size": "4"}),
        ("patch", "d", 200, {"p/size": "5"}),
        ("get", "a", 200, None),
    ]
