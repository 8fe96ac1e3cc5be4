# SPDX-License-Identifier: Apache-2.0
"""RBAC objects, certificate requests and service accounts: what they need, and what may not change.

Source: `pkg/apis/{rbac,certificates}/validation` and their registry strategies in Kubernetes 1.37.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any, Final

from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.names import dns_subdomain, path_segment
from dynamic_memory.embedded.apiserver.resource import Context, Strategy
from dynamic_memory.embedded.apiserver.schema import clone
from dynamic_memory.embedded.apiserver.strategies.checks import immutable

__all__ = ["BindingStrategy", "ClusterBindingStrategy", "ClusterRoleStrategy", "RequestStrategy", "RoleStrategy"]

GROUP: Final = "rbac.authorization.k8s.io"
_DECISIONS: Final = ("Approved", "Denied")
_STATUSES: Final = ("False", "True", "Unknown")
MIN_EXPIRATION: Final = 600

Object = dict[str, Any]


class RoleStrategy(Strategy):
    """Role."""

    asks_for_required = True
    namespaced = True

    def validate_create(self, obj: Object) -> list[Cause]:
        """Check the rules."""
        return [
            cause for index, rule in enumerate(obj.get("rules") or ()) for cause in self._rule(rule, f"rules[{index}]")
        ]

    def validate_update(self, new: Object, old: Object, subresource: str | None) -> list[Cause]:
        """Check the rules again."""
        del old, subresource
        return self.validate_create(new)

    def _rule(self, rule: Mapping[str, Any], path: str) -> Iterable[Cause]:
        groups, resources, urls = (rule.get(name) or [] for name in ("apiGroups", "resources", "nonResourceURLs"))
        if not urls and not groups:
            yield fields.required(f"{path}.apiGroups", "resource rules must supply at least one api group")
        if not urls and not resources:
            yield fields.required(f"{path}.resources", "resource rules must supply at least one resource")
        if not rule.get("verbs"):
            yield fields.required(f"{path}.verbs")
        if urls:
            if self.namespaced:
                text = "namespaced rules cannot apply to non-resource URLs"
                yield fields.invalid(f"{path}.nonResourceURLs", urls, text)
            if groups or resources or rule.get("resourceNames"):
                text = "rules cannot apply to both regular resources and non-resource URLs"
                yield fields.invalid(f"{path}.nonResourceURLs", urls, text)


class ClusterRoleStrategy(RoleStrategy):
    """ClusterRole."""

    namespaced = False

    def validate_create(self, obj: Object) -> list[Cause]:
        """Check the rules, and what is aggregated."""
        causes = super().validate_create(obj)
        rule = obj.get("aggregationRule")
        if rule is not None and not rule.get("clusterRoleSelectors"):
            text = "at least one clusterRoleSelector required if aggregationRule is non-nil"
            causes.append(fields.required("aggregationRule.clusterRoleSelectors", text))
        return causes


class BindingStrategy(Strategy):
    """RoleBinding: what it binds to may not change."""

    asks_for_required = True
    kinds: tuple[str, ...] = ("Role", "ClusterRole")
    namespaced = True

    def default(self, obj: Object) -> Object:
        """Fill in the groups of subjects."""
        reference = obj.get("roleRef")
        if isinstance(reference, dict) and not reference.get("apiGroup"):
            reference["apiGroup"] = GROUP
        for subject in obj.get("subjects") or ():
            if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
                subject["apiGroup"] = GROUP
        return obj

    def validate_create(self, obj: Object) -> list[Cause]:
        """Check role and subjects."""
        reference = obj.get("roleRef") or {}
        causes: list[Cause] = []
        if reference.get("apiGroup") != GROUP:
            causes.append(fields.not_supported("roleRef.apiGroup", reference.get("apiGroup", ""), (GROUP,)))
        if reference.get("kind") not in self.kinds:
            causes.append(fields.not_supported("roleRef.kind", reference.get("kind", ""), self.kinds))
        name = reference.get("name", "")
        if not name:
            causes.append(fields.required("roleRef.name"))
        causes += [fields.invalid("roleRef.name", name, text) for text in path_segment(name)]
        for index, subject in enumerate(obj.get("subjects") or ()):
            causes += self._subject(subject, f"subjects[{index}]")
        return causes

    def validate_update(self, new: Object, old: Object, subresource: str | None) -> list[Cause]:
        """Check that the role is as it was."""
        del subresource
        causes = self.validate_create(new)
        if new.get("roleRef") != old.get("roleRef"):
            role = new.get("roleRef") or {}
            shown = {"APIGroup": role.get("apiGroup"), "Kind": role.get("kind"), "Name": role.get("name")}
            causes.append(fields.invalid("roleRef", shown, "field is immutable"))
        return causes

    def _subject(self, subject: Mapping[str, Any], path: str) -> Iterable[Cause]:
        kind, name, group = (subject.get(part, "") for part in ("kind", "name", "apiGroup"))
        if not name:
            yield fields.required(f"{path}.name")
        if kind == "ServiceAccount":
            yield from (fields.invalid(f"{path}.name", name, text) for text in dns_subdomain(name) if name)
            if group:
                yield fields.not_supported(f"{path}.apiGroup", group, ("",))
            if not self.namespaced and not subject.get("namespace"):
                yield fields.required(f"{path}.namespace")
        elif kind in ("User", "Group"):
            if group != GROUP:
                yield fields.not_supported(f"{path}.apiGroup", group, (GROUP,))
        else:
            yield fields.not_supported(f"{path}.kind", kind, ("ServiceAccount", "User", "Group"))


class ClusterBindingStrategy(BindingStrategy):
    """ClusterRoleBinding."""

    kinds = ("ClusterRole",)
    namespaced = False


class RequestStrategy(Strategy):
    """CertificateSigningRequest: the server says who asks; only `approval` decides, only `status` issues."""

    asks_for_required = True

    def prepare_create(self, obj: Object, ctx: Context) -> Object:
        """Write down who asks."""
        spec = obj.setdefault("spec", {})
        for name in ("username", "uid", "groups", "extra"):
            spec.pop(name, None)
        if ctx.user:
            spec["username"] = ctx.user
        if ctx.groups:
            spec["groups"] = list(ctx.groups)
        if ctx.uid:
            spec["uid"] = ctx.uid
        if ctx.extra:
            spec["extra"] = {key: list(values) for key, values in ctx.extra.items()}
        obj["status"] = {}
        return obj

    def prepare_update(self, new: Object, old: Object, ctx: Context, subresource: str | None) -> Object:
        """Keep everything but the part that a subresource is about, and date the conditions."""
        before = old.get("status") or {}
        if subresource == "approval":
            conditions = _dated((new.get("status") or {}).get("conditions") or [], before, ctx.now)
            status = {**clone(before), "conditions": conditions}
            return {**clone(old), "metadata": new["metadata"], "status": status}
        if subresource == "status" and isinstance(new.get("status"), dict):
            conditions = new["status"].get("conditions") or []
            if conditions:
                new["status"]["conditions"] = _dated(_decisions_kept(conditions, before), before, ctx.now)
        elif subresource is None and "spec" in old:
            new["spec"] = old["spec"]
        return new

    def validate_create(self, obj: Object) -> list[Cause]:
        """Check the spec."""
        spec = obj.get("spec") or {}
        causes = []
        if not _is_request(spec.get("request", "")):
            text = "PEM block type must be CERTIFICATE REQUEST"
            causes.append(fields.invalid("spec.request", spec.get("request"), text))
        if not spec.get("usages"):
            causes.append(fields.required("spec.usages"))
        signer = spec.get("signerName", "")
        if not signer:
            causes.append(fields.required("spec.signerName"))
        elif signer == "kubernetes.io/legacy-unknown":
            text = "the legacy signerName is not allowed via this API version"
            causes.append(fields.invalid("spec.signerName", signer, text))
        elif signer.count("/") != 1 or dns_subdomain(signer.partition("/")[0]) or not signer.partition("/")[2]:
            text = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
            causes.append(fields.invalid("spec.signerName", signer, text))
        seconds = spec.get("expirationSeconds")
        if seconds is not None and seconds < MIN_EXPIRATION:
            text = "may not specify a duration less than 600 seconds (10 minutes)"
            causes.append(fields.invalid("spec.expirationSeconds", seconds, text))
        return causes

    def validate_update(self, new: Object, old: Object, subresource: str | None) -> list[Cause]:
        """Check conditions, and that the request is as it was."""
        causes = immutable(new.get("spec"), old.get("spec"), "spec")
        status, before = new.get("status") or {}, old.get("status") or {}
        causes += _conditions(status.get("conditions") or [])
        causes += _decided(status, before, free=subresource == "approval")
        certificate = before.get("certificate")
        if certificate and status.get("certificate") != certificate:
            text = "updates may not modify existing certificate content"
            causes.append(fields.forbidden("status.certificate", text))
        elif status.get("certificate") and not certificate and subresource != "status":
            causes.append(fields.forbidden("status.certificate", "updates may not set certificate content"))
        return causes


def _of_type(status: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    return [one for one in status.get("conditions") or () if one.get("type") == kind]


def _decisions_kept(conditions: list[Object], before: Mapping[str, Any]) -> list[Object]:
    """Return conditions with the decisions as they were, where there are as many."""
    kept = list(conditions)
    for kind in _DECISIONS:
        old, places = _of_type(before, kind), [at for at, one in enumerate(kept) if one.get("type") == kind]
        if len(old) == len(places):
            for at, one in zip(places, old, strict=True):
                kept[at] = dict(one)
    return kept


def _dated(conditions: list[Object], before: Mapping[str, Any], now: str) -> list[Object]:
    """Return conditions with their times."""
    made = []
    for condition in conditions:
        known = [
            one for one in _of_type(before, condition.get("type", "")) if one.get("status") == condition.get("status")
        ]
        since = next((one["lastTransitionTime"] for one in known if one.get("lastTransitionTime")), now)
        made.append({"lastUpdateTime": now, "lastTransitionTime": since, **condition})
    return made


def _decided(status: Mapping[str, Any], before: Mapping[str, Any], *, free: bool) -> Iterable[Cause]:
    """Check that decisions stay, and that only an approval makes one."""
    path = "status.conditions"
    for kind in (*_DECISIONS, "Failed"):
        old, new = _of_type(before, kind), _of_type(status, kind)
        if len(new) < len(old):
            yield fields.forbidden(path, f'updates may not remove a condition of type "{kind}"')
        elif kind == "Failed" or free:
            continue
        elif len(new) > len(old):
            yield fields.forbidden(path, f'updates may not add a condition of type "{kind}"')
        elif new != old:
            yield fields.forbidden(path, f'updates may not modify a condition of type "{kind}"')


def _is_request(text: str) -> bool:
    try:
        return b"-----BEGIN CERTIFICATE REQUEST-----" in base64.b64decode(text)
    except (binascii.Error, ValueError):
        return False


def _conditions(conditions: list[Mapping[str, Any]]) -> Iterable[Cause]:
    path = "status.conditions"
    for index, condition in enumerate(conditions):
        if not condition.get("type"):
            yield fields.required(f"{path}[{index}].type")
        status = condition.get("status", "")
        if not status:
            yield fields.required(f"{path}[{index}].status")
        elif status not in _STATUSES:
            yield fields.not_supported(f"{path}[{index}].status", status, _STATUSES)
    kinds = [condition.get("type") for condition in conditions]
    if all(decision in kinds for decision in _DECISIONS):
        yield fields.invalid(path, kinds[-1], "Approved and Denied conditions are mutually exclusive")
