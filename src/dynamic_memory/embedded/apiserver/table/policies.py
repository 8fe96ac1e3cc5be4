# SPDX-License-Identifier: Apache-2.0
"""Rows of access, admission, certificates, and devices: RBAC bindings, policies, CSRs, claims, slices, classes."""

from __future__ import annotations

import datetime as dt
from typing import Any

from dynamic_memory.embedded.apiserver.table.columns import (
    AGE,
    NAME,
    Cell,
    Column,
    Printer,
    age,
    condition,
    integer,
    name,
    text,
)
from dynamic_memory.embedded.apiserver.table.duration import human_duration, since

__all__ = ["PRINTERS"]

Object = dict[str, Any]


def _age_only(obj: Object, now: dt.datetime) -> list[Cell]:
    return [name(obj), age(obj, now)]


def _binding(obj: Object, now: dt.datetime) -> list[Cell]:
    role = obj.get("roleRef") or {}
    users, groups, accounts = [], [], []
    for subject in obj.get("subjects") or []:
        match subject.get("kind"):
            case "User":
                users.append(str(subject.get("name", "")))
            case "Group":
                groups.append(str(subject.get("name", "")))
            case "ServiceAccount":
                accounts.append(f"{subject.get('namespace', '')}/{subject.get('name', '')}")
    shown = [", ".join(entries) for entries in (users, groups, accounts)]
    return [name(obj), f"{role.get('kind', '')}/{role.get('name', '')}", age(obj, now), *shown]


def _bindings(kind: str) -> Printer:
    return Printer(
        (
            NAME,
            text("Role", ".roleRef"),
            AGE,
            text("Users", f"Users in the {kind}", 1),
            text("Groups", f"Groups in the {kind}", 1),
            text("ServiceAccounts", f"ServiceAccounts in the {kind}", 1),
        ),
        _binding,
    )


def _request_condition(status: Object) -> str:
    found = {c.get("type") for c in status.get("conditions") or []}
    shown = "Denied" if "Denied" in found else "Approved" if "Approved" in found else "Pending"
    if "Failed" in found:
        shown += ",Failed"
    return f"{shown},Issued" if status.get("certificate") else shown


def _signing_request(obj: Object, now: dt.datetime) -> list[Cell]:
    spec = obj.get("spec") or {}
    seconds = spec.get("expirationSeconds")
    return [
        name(obj),
        age(obj, now),
        spec.get("signerName") or "<none>",
        spec.get("username", ""),
        "<none>" if seconds is None else human_duration(seconds),
        _request_condition(obj.get("status") or {}),
    ]


def _param_kind(spec: Object) -> str:
    kind = spec.get("paramKind")
    return f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind else "<unset>"


def _validating_policy(obj: Object, now: dt.datetime) -> list[Cell]:
    spec = obj.get("spec") or {}
    return [name(obj), len(spec.get("validations") or []), _param_kind(spec), age(obj, now)]


def _mutating_policy(obj: Object, now: dt.datetime) -> list[Cell]:
    spec = obj.get("spec") or {}
    return [name(obj), len(spec.get("mutations") or []), _param_kind(spec), age(obj, now)]


def _go_selector(selector: Object) -> str:
    """Return a LabelSelector as Go's generated String method writes it: what the real server shows here."""
    pairs = "".join(f"{key}: {value}," for key, value in sorted((selector.get("matchLabels") or {}).items()))
    terms = "".join(_go_requirement(entry) for entry in selector.get("matchExpressions") or [])
    labels, expressions = "map[string]string", "[]LabelSelectorRequirement"
    return f"&LabelSelector{{MatchLabels:{labels}{{{pairs}}},MatchExpressions:{expressions}{{{terms}}},}}"


def _go_requirement(entry: Object) -> str:
    values = " ".join(entry.get("values") or [])
    key, operator = entry.get("key", ""), entry.get("operator", "")
    return f"LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},"


def _policy_binding(obj: Object, now: dt.datetime) -> list[Cell]:
    spec = obj.get("spec") or {}
    reference = spec.get("paramRef")
    shown = "<unset>"
    if reference:
        if reference.get("name"):
            shown = f"{reference.get('namespace') or '*'}/{reference['name']}"
        elif reference.get("selector") is not None:
            shown = _go_selector(reference["selector"])
    return [name(obj), spec.get("policyName", ""), shown, age(obj, now)]


def _webhooks(obj: Object, now: dt.datetime) -> list[Cell]:
    return [name(obj), len(obj.get("webhooks") or []), age(obj, now)]


def _claim(obj: Object, now: dt.datetime) -> list[Cell]:
    deleted = bool(obj.get("metadata", {}).get("deletionTimestamp"))
    status = obj.get("status") or {}
    states = ["deleted"] if deleted else []
    if status.get("allocation") is not None:
        states.append("allocated")
        if status.get("reservedFor"):
            states.append("reserved")
    elif not deleted:
        states.append("pending")
    return [name(obj), ",".join(states), age(obj, now)]


def _slice(obj: Object, now: dt.datetime) -> list[Cell]:
    spec = obj.get("spec") or {}
    pool = (spec.get("pool") or {}).get("name", "")
    return [name(obj), spec.get("nodeName") or "", spec.get("driver", ""), pool, age(obj, now)]


def _definition(obj: Object, now: dt.datetime) -> list[Cell]:  # noqa: ARG001 - the form of every printer
    spec = obj.get("spec") or {}
    names = spec.get("names") or {}
    served = (entry for entry in spec.get("versions") or [] if entry.get("served"))
    versions = sorted(f"{entry.get('name', '')}{'(storage)' if entry.get('storage') else ''}" for entry in served)
    return [
        name(obj),
        spec.get("scope", ""),
        ",".join(versions),
        obj.get("metadata", {}).get("creationTimestamp"),
        spec.get("group", ""),
        names.get("kind", ""),
        ",".join(names.get("shortNames") or []),
        (condition(obj, "Established") or {}).get("status") == "True",
    ]


def _taint_rule(obj: Object, now: dt.datetime) -> list[Cell]:
    taint = (obj.get("spec") or {}).get("taint") or {}
    added = taint.get("timeAdded")
    return [
        name(obj),
        taint.get("key", ""),
        taint.get("value", ""),
        taint.get("effect", ""),
        since(added, now) if added else "",
        age(obj, now),
    ]


_WEBHOOKS = Printer(
    (NAME, integer("Webhooks", "Webhooks indicates the number of webhooks registered in this configuration"), AGE),
    _webhooks,
)
_POLICY_BINDING = Printer(
    (
        NAME,
        text("PolicyName", "PolicyName indicates the policy definition which the policy binding binded to"),
        text("ParamRef", "ParamRef indicates the param resource which sets the configuration param"),
        AGE,
    ),
    _policy_binding,
)
_PARAM_KIND = text("ParamKind", "ParamKind specifies the kind of resources used to parameterize this policy")
_ADMISSION = "admissionregistration.k8s.io"
_DEVICES = "resource.k8s.io"

PRINTERS = {
    ("rbac.authorization.k8s.io", "RoleBinding"): _bindings("roleBinding"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): _bindings("clusterRoleBinding"),
    ("certificates.k8s.io", "CertificateSigningRequest"): Printer(
        (
            NAME,
            AGE,
            text("SignerName", ".spec.signerName"),
            text("Requestor", ".spec.request"),
            text("RequestedDuration", ".spec.expirationSeconds"),
            text("Condition", ".status.conditions"),
        ),
        _signing_request,
    ),
    (_ADMISSION, "ValidatingAdmissionPolicy"): Printer(
        (
            NAME,
            integer(
                "Validations", "Validations indicates the number of validation rules defined in this configuration"
            ),
            _PARAM_KIND,
            AGE,
        ),
        _validating_policy,
    ),
    (_ADMISSION, "MutatingAdmissionPolicy"): Printer(
        (
            NAME,
            integer("Mutations", "Mutation indicates the number of mutations rules defined in this configuration"),
            _PARAM_KIND,
            AGE,
        ),
        _mutating_policy,
    ),
    (_ADMISSION, "ValidatingAdmissionPolicyBinding"): _POLICY_BINDING,
    (_ADMISSION, "MutatingAdmissionPolicyBinding"): _POLICY_BINDING,
    (_ADMISSION, "ValidatingWebhookConfiguration"): _WEBHOOKS,
    (_ADMISSION, "MutatingWebhookConfiguration"): _WEBHOOKS,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): Printer(
        (
            NAME,
            text("Scope", "Cluster/Namespaced"),
            text("Versions", "Served versions"),
            Column("Created At", "date", AGE.doc),
            text("Group", "API group", 1),
            text("Kind", "CustomResource kind", 1),
            text("ShortNames", "Short names", 1),
            Column("Established", "boolean", "Established status", 1),
        ),
        _definition,
    ),
    (_DEVICES, "DeviceClass"): Printer((NAME, AGE), _age_only),
    (_DEVICES, "ResourceClaimTemplate"): Printer((NAME, AGE), _age_only),
    (_DEVICES, "ResourceClaim"): Printer(
        (NAME, text("State", "A summary of the current state (allocated, pending, reserved, etc.)."), AGE), _claim
    ),
    (_DEVICES, "ResourceSlice"): Printer(
        (NAME, text("Node", ".spec.nodeName"), text("Driver", ".spec.driver"), text("Pool", ".spec.pool.name"), AGE),
        _slice,
    ),
    (_DEVICES, "DeviceTaintRule"): Printer(
        (
            NAME,
            text("Key", ".spec.taint.key"),
            text("Value", ".spec.taint.value"),
            text("Effect", ".spec.taint.effect"),
            text("TimeAdded", ".spec.taint.timeAdded"),
            AGE,
        ),
        _taint_rule,
    ),
}
