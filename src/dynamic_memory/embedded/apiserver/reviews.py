# SPDX-License-Identifier: Apache-2.0
"""Questions about rights and identities, answered and forgotten: `kubectl auth can-i`, `whoami`, token reviews."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from dynamic_memory.embedded.apiserver.api import Api
from dynamic_memory.embedded.apiserver.authorization import Decider
from dynamic_memory.embedded.apiserver.decoding import decode_unstored
from dynamic_memory.embedded.apiserver.errors import Cause, invalid, method_not_allowed
from dynamic_memory.embedded.apiserver.rbac import Attributes
from dynamic_memory.embedded.apiserver.records import Object
from dynamic_memory.embedded.apiserver.request import Request, Response, UserInfo, json_response
from dynamic_memory.embedded.apiserver.routes import Route
from dynamic_memory.embedded.apiserver.targets import target_of
from dynamic_memory.embedded.apiserver.tokens import ISSUER

__all__ = ["Reviews"]

AUTHORIZATION = "authorization.k8s.io"
AUTHENTICATION = "authentication.k8s.io"
SELECTING = frozenset({"list", "watch", "deletecollection"})

Identify = Callable[[str, tuple[str, ...]], tuple[UserInfo, tuple[str, ...]] | None]


def _cause(field: str, text: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {text}", field)


def _user(user: UserInfo) -> Object:
    found: Object = {"username": user.name}
    if user.uid:
        found["uid"] = user.uid
    if user.groups:
        found["groups"] = list(user.groups)
    if user.extra:
        found["extra"] = {key: list(values) for key, values in user.extra.items()}
    return found


def _wanted(spec: Object) -> Attributes:
    """Return what a review asks about, in the form of a decision."""
    paths = spec.get("nonResourceAttributes")
    if paths is not None:
        return Attributes(str(paths.get("verb", "")), path=str(paths.get("path", "")))
    asked = spec["resourceAttributes"]
    parts = ("verb", "group", "resource", "subresource", "namespace", "name")
    fields = _fields(asked.get("fieldSelector") or {}) if asked.get("verb") in SELECTING else ""
    return Attributes(fields=fields, **{part: str(asked.get(part, "")) for part in parts})


def _fields(selector: Object) -> str:
    """Return a field selector as it stands in a query; requirements that no query can make are left out."""
    terms = [str(selector["rawSelector"])] if selector.get("rawSelector") else []
    for each in selector.get("requirements") or ():
        sign = {"In": "=", "NotIn": "!="}.get(each.get("operator", ""))
        values: list[str] = each.get("values") or []
        if sign and len(values) == 1:
            value = re.sub(r"([\\,=])", r"\\\1", values[0])
            terms.append(f"{each.get('key', '')}{sign}{value}")
    return ",".join(terms)


class Reviews:
    """Answers reviews.

    Args:
        api: decodes bodies.
        decider: who may do what.
        identify: says whose a token is, and for which of the audiences that are asked for.

    """

    def __init__(self, api: Api, decider: Decider, identify: Identify) -> None:
        self._api = api
        self._decider = decider
        self._identify = identify

    def install(self) -> None:
        """Have the server answer reviews by this."""
        kinds: dict[tuple[str, str], tuple[str, Callable[[Request, Route, Object], Object]]] = {
            (AUTHORIZATION, "selfsubjectaccessreviews"): ("SelfSubjectAccessReview", self._self_access),
            (AUTHORIZATION, "subjectaccessreviews"): ("SubjectAccessReview", self._access),
            (AUTHORIZATION, "localsubjectaccessreviews"): ("LocalSubjectAccessReview", self._local_access),
            (AUTHORIZATION, "selfsubjectrulesreviews"): ("SelfSubjectRulesReview", self._rules),
            (AUTHENTICATION, "selfsubjectreviews"): ("SelfSubjectReview", self._who),
            (AUTHENTICATION, "tokenreviews"): ("TokenReview", self._token),
        }
        for key, (kind, answer) in kinds.items():
            self._api.unstored[key] = self._handler(kind, answer)

    def _handler(
        self, kind: str, answer: Callable[[Request, Route, Object], Object]
    ) -> Callable[[Request, Route], Awaitable[Response]]:
        async def handle(request: Request, route: Route) -> Response:
            if route.verb != "create":
                raise method_not_allowed(route.resource, route.verb)
            module = f"{route.resource.group.partition('.')[0]}_v1"
            target = target_of(request, route, "CreateOptions")
            body = decode_unstored(self._api.core.registry, target, module, kind, self._api.decode(request, kind))
            spec = body.get("spec")
            status = answer(request, route, spec if isinstance(spec, dict) else {})
            metadata: dict[str, Any] = {**(body.get("metadata") or {})}
            if kind in {"SelfSubjectReview", "TokenReview"}:
                metadata["creationTimestamp"] = self._api.core.clock.stamp()
            head = {"kind": kind, "apiVersion": f"{route.resource.group}/v1", "metadata": metadata}
            if spec is not None or kind != "SelfSubjectReview":
                head["spec"] = spec or {}
            return json_response(201, {**head, "status": status})

        return handle

    def _decided(self, user: UserInfo, spec: Object) -> Object:
        decision = self._decider.decide(user, _wanted(spec))
        status: Object = {"allowed": decision.allowed}
        if decision.reason:
            status["reason"] = decision.reason
        return status

    @staticmethod
    def _check(kind: str, spec: Object) -> list[Cause]:
        both = [spec.get("resourceAttributes"), spec.get("nonResourceAttributes")]
        if all(part is not None for part in both):
            text = "cannot be specified in combination with resourceAttributes"
            return [_cause("spec.nonResourceAttributes", f"{_go(both[1])}: {text}")]
        if all(part is None for part in both):
            text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            return [_cause("spec.resourceAttributes", f"null: {text}")]
        if kind != "SelfSubjectAccessReview" and not spec.get("user") and not spec.get("groups"):
            return [_cause("spec.user", '"": at least one of user or group must be specified')]
        return []

    def _self_access(self, request: Request, route: Route, spec: Object) -> Object:  # noqa: ARG002 - one form for all
        if causes := self._check("SelfSubjectAccessReview", spec):
            raise invalid(AUTHORIZATION, "SelfSubjectAccessReview", "", causes)
        return self._decided(request.user, spec)

    def _access(self, request: Request, route: Route, spec: Object) -> Object:  # noqa: ARG002 - one form for all
        if causes := self._check("SubjectAccessReview", spec):
            raise invalid(AUTHORIZATION, "SubjectAccessReview", "", causes)
        return self._decided(_subject(spec), spec)

    def _local_access(self, request: Request, route: Route, spec: Object) -> Object:  # noqa: ARG002 - one form for all
        causes = self._check("LocalSubjectAccessReview", spec)
        asked = spec.get("resourceAttributes")
        if not causes and asked is None:
            causes = [_cause("spec.nonResourceAttributes", "disallowed on this kind of request")]
        elif not causes and (asked or {}).get("namespace", "") != route.namespace:
            shown = (asked or {}).get("namespace", "")
            causes = [_cause("spec.resourceAttributes.namespace", f'"{shown}": must match metadata.namespace')]
        if causes:
            raise invalid(AUTHORIZATION, "LocalSubjectAccessReview", "", causes)
        return self._decided(_subject(spec), spec)

    def _rules(self, request: Request, route: Route, spec: Object) -> Object:  # noqa: ARG002 - one form for all
        namespace = str(spec.get("namespace") or "")
        if not namespace:
            text = "Required value: no namespace on request"
            raise invalid(
                AUTHORIZATION, "SelfSubjectRulesReview", "", [Cause("FieldValueRequired", text, "spec.namespace")]
            )
        rules = self._decider.rules_of(request.user, namespace)
        paths = [rule for rule in rules if rule.get("nonResourceURLs")]
        return {
            "resourceRules": [rule for rule in rules if not rule.get("nonResourceURLs")],
            "nonResourceRules": paths,
            "incomplete": False,
        }

    @staticmethod
    def _who(request: Request, route: Route, spec: Object) -> Object:  # noqa: ARG004 - one form for all
        return {"userInfo": _user(request.user)}

    def _token(self, request: Request, route: Route, spec: Object) -> Object:  # noqa: ARG002 - one form for all
        token = str(spec.get("token") or "")
        if not token:
            text = 'Invalid value: "": token is required for TokenReview in authentication'
            raise invalid(AUTHENTICATION, "TokenReview", "", [Cause("FieldValueInvalid", text, "spec.token")])
        audiences = tuple(spec.get("audiences") or (ISSUER,))
        found = self._identify(token, audiences)
        if found is None:
            return {"user": {}, "error": "invalid bearer token"}
        user, shared = found
        return {"authenticated": True, "user": _user(user), "audiences": list(shared)}


def _subject(spec: Object) -> UserInfo:
    extra = {str(key): tuple(values) for key, values in (spec.get("extra") or {}).items()}
    return UserInfo(str(spec.get("user") or ""), tuple(spec.get("groups") or ()), str(spec.get("uid") or ""), extra)


def _go(value: Any) -> str:
    return str(value)
