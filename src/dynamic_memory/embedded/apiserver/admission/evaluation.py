# SPDX-License-Identifier: Apache-2.0
"""One request and the policies that may be about it: which are, with which parameters, and what comes of it.

MutatingAdmissionPolicies are applied in the order of their names, and those with `reinvocationPolicy: IfNeeded` once
more if a later one changed the object. Of ValidatingAdmissionPolicies the first refusal is the answer; warnings, and
annotations for the audit log, go to the request.

Source: k8s.io/apiserver, pkg/admission/plugin/policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dynamic_memory.cel.environments.admission import PolicyBindings
from dynamic_memory.embedded.apiserver.admission.expressions import Failed, bindings, request_value
from dynamic_memory.embedded.apiserver.admission.index import Binding, Hook, Match
from dynamic_memory.embedded.apiserver.admission.matching import named
from dynamic_memory.embedded.apiserver.admission.mutating import MutatingPolicy
from dynamic_memory.embedded.apiserver.admission.parameters import Misconfigured, collect
from dynamic_memory.embedded.apiserver.admission.validating import Decision, ValidatingPolicy
from dynamic_memory.embedded.apiserver.core import NAMESPACES, AdmissionRequest
from dynamic_memory.embedded.apiserver.errors import Cause, StatusError, forbidden
from dynamic_memory.embedded.apiserver.patch import typed
from dynamic_memory.embedded.apiserver.records import Object, encode
from dynamic_memory.embedded.apiserver.resource import Registry, Resource
from dynamic_memory.embedded.apiserver.schema import clone
from dynamic_memory.embedded.apiserver.store import Store

__all__ = ["Default", "Evaluation"]

_CODES = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413}
Default = Callable[[Resource, Object], Object]


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A refusal, with the policy and, unless the policy itself is at fault, the binding that it is by."""

    policy: str
    binding: str
    decision: Decision

    @property
    def validating_text(self) -> str:
        by = f" with binding '{self.binding}'" if self.binding else ""
        return f"ValidatingAdmissionPolicy '{self.policy}'{by} denied request: {self.decision.message}"

    @property
    def mutating_text(self) -> str:
        if self.binding:
            return f"policy '{self.policy}' with binding '{self.binding}' denied request: {self.decision.message}"
        return f'policy "{self.policy}" denied request: {self.decision.message}'


class _View:
    """One request as policies see it; versions and the request object are made once."""

    def __init__(self, store: Store, request: AdmissionRequest) -> None:
        self._store = store
        self.request = request
        self.obj = request.object
        self._namespace: Object | None = None
        self._requests: dict[int, Mapping[str, Any]] = {}

    def namespace(self) -> Object | None:
        """Return the namespace of the request; None for what is in none, and for namespaces themselves."""
        name = self.request.namespace
        if not name or self.request.resource.storage == NAMESPACES:
            return None
        if self._namespace is None:
            record = self._store.get(NAMESPACES, ("", name))
            if record is not None:
                metadata = {k: v for k, v in record.object["metadata"].items() if k != "managedFields"}
                self._namespace = {**record.object, "metadata": metadata}
        return self._namespace

    def namespace_labels(self) -> Mapping[str, str]:
        """Return the labels of the namespace."""
        name = self.request.namespace or self.request.name
        record = self._store.get(NAMESPACES, ("", name))
        found: Mapping[str, str] = (record.object["metadata"].get("labels") or {}) if record is not None else {}
        return found

    def seen(self, obj: Object | None, matched: Resource) -> Object | None:
        """Return an object in the version that a rule names, complete with empty structs."""
        if obj is None:
            return None
        resource = self.request.resource
        if matched is not resource:
            obj = matched.from_storage(resource.to_storage(obj))
        return typed.with_structs(matched.schema) | obj if matched.builtin else obj

    def back(self, obj: Object, matched: Resource) -> Object:
        """Return an object of `seen` in the version of the request."""
        resource = self.request.resource
        return obj if matched is resource else resource.from_storage(matched.to_storage(obj))

    def values(self, policy: ValidatingPolicy | MutatingPolicy, matched: Resource, params: Any) -> PolicyBindings:
        """Return what expressions see."""
        request = self._requests.get(id(matched))
        if request is None:
            request = self._requests[id(matched)] = request_value(self.request, matched)
        return bindings(
            policy.expressions,
            obj=self.seen(self.obj, matched),
            old=self.seen(self.request.old_object, matched),
            request=request,
            params=params,
            namespace=self.namespace(),
        )


@dataclass(frozen=True, slots=True)
class _Invocation:
    """A policy to be evaluated with one of the parameters of a binding."""

    hook: Hook[Any]
    binding: Binding
    matched: Resource
    params: Object | None

    @property
    def key(self) -> tuple[Any, ...]:
        """Names the invocation, for a second round."""
        metadata = (self.params or {}).get("metadata") or {}
        return self.hook.name, self.binding.name, metadata.get("namespace"), metadata.get("name")


class Evaluation:
    """See the module.

    Args:
        store: the objects.
        registry: what is served.
        default: fills in the defaults of a kind after a mutation.

    """

    def __init__(self, store: Store, registry: Registry, default: Default) -> None:
        self._store = store
        self._registry = registry
        self._default = default

    # --- mutation

    def mutate(self, request: AdmissionRequest, obj: Object, matches: tuple[Match[MutatingPolicy], ...]) -> Object:
        """Return the object as policies make it.

        Raises:
            StatusError: a policy cannot be applied.

        """
        view = _View(self._store, request)
        view.obj = obj
        refusals: list[_Refusal] = []
        invocations = list(self._invocations(view, matches, refusals))
        again = self._round(view, invocations, refusals)
        if again:
            self._round(view, [one for one in invocations if one.key in again], refusals)
        if refusals:
            texts = [refusal.mutating_text for refusal in refusals]
            causes = [Cause("", text, "") for text in texts]
            raise StatusError(
                403,
                refusals[0].decision.reason or "Forbidden",
                texts[0],
                group=request.resource.group,
                kind=request.resource.plural,
                name=request.shown_name,
                causes=causes,
            )
        assert view.obj is not None  # noqa: S101 - it was there
        return view.obj

    def _round(self, view: _View, invocations: list[_Invocation], refusals: list[_Refusal]) -> set[tuple[Any, ...]]:
        """Apply policies; return those that want to see what others changed after them."""
        done: set[tuple[Any, ...]] = set()
        again: set[tuple[Any, ...]] = set()
        for one in invocations:
            policy: MutatingPolicy = one.hook.policy
            try:
                if not policy.expressions.matches(view.values(policy, one.matched, one.params)):
                    continue
            except Failed as failed:
                refusals.append(_Refusal(one.hook.name, one.binding.name, Decision(str(failed), "Invalid")))
                continue
            before = view.obj
            self._mutate(view, one, policy, refusals)
            if view.obj is not before and view.obj != before:
                again |= done
            if policy.reinvoked:
                done.add(one.key)
        return again

    def _mutate(self, view: _View, one: _Invocation, policy: MutatingPolicy, refusals: list[_Refusal]) -> None:
        for mutation in policy.mutations:
            values = view.values(policy, one.matched, one.params)
            obj = values["object"]
            try:
                changed = mutation.apply(one.matched.schema, obj, values, policy.expressions.budget())
            except Failed as failed:
                if policy.expressions.fails:
                    refusals.append(_Refusal(one.hook.name, one.binding.name, Decision(str(failed), "Invalid")))
                continue
            if changed is not obj:
                resource = view.request.resource
                view.obj = self._default(resource, clone(view.back(changed, one.matched)))

    def _invocations(
        self, view: _View, matches: tuple[Match[Any], ...], refusals: list[_Refusal]
    ) -> Iterator[_Invocation]:
        """Find the policies and bindings that a request is about, with their parameters."""
        request = view.request
        for match in matches:
            hook = match.hook
            candidate = _taken(match.candidates, request)
            if candidate is None or not hook.constraints.matches(request, view.namespace_labels):
                continue
            for binding, ways in match.bindings:
                if _taken(ways, request) is None:
                    continue
                if not binding.constraints.matches(request, view.namespace_labels):
                    continue
                yield from self._with_params(view, hook, binding, candidate, refusals)

    def _with_params(
        self, view: _View, hook: Hook[Any], binding: Binding, matched: Resource, refusals: list[_Refusal]
    ) -> Iterator[_Invocation]:
        kind, ref = hook.spec.get("paramKind"), binding.spec.get("paramRef")
        expressions = hook.policy.expressions
        if kind and ref and ref.get("parameterNotFoundAction") != "Deny" and not expressions.conditions_use_params:
            # the answer is the same for all parameters: most requests are done with it
            try:
                if not expressions.matches(view.values(hook.policy, matched, None)):
                    return
            except Failed:
                pass  # it fails again for each parameter, if there is one
        try:
            found = collect(self._store, self._registry, kind, ref, view.request.namespace)
        except Misconfigured as error:
            if expressions.fails:
                text = f"failed to configure binding: {error}"
                refusals.append(_Refusal(hook.name, binding.name, Decision(text)))
            return
        for params in found:
            yield _Invocation(hook, binding, matched, params)

    # --- validation

    def validate(self, request: AdmissionRequest, matches: tuple[Match[ValidatingPolicy], ...]) -> None:
        """Ask the policies.

        Raises:
            StatusError: a policy does not allow it.

        """
        view = _View(self._store, request)
        refusals: list[_Refusal] = []
        notes: dict[str, list[str]] = {}
        for one in self._invocations(view, matches, refusals):
            self._ask(view, one, refusals, notes)
        for key, texts in notes.items():
            request.annotate(key, ", ".join(texts))
        if refusals:
            raise self._refused(request, refusals[0])

    def _ask(self, view: _View, one: _Invocation, refusals: list[_Refusal], notes: dict[str, list[str]]) -> None:
        policy: ValidatingPolicy = one.hook.policy
        values = view.values(policy, one.matched, one.params)
        try:
            if not policy.expressions.matches(values):
                return
            decisions = policy.decide(values)
        except Failed as failed:
            decisions = [Decision(str(failed))]
        actions = one.binding.spec.get("validationActions") or ()
        for decision in decisions:
            refusal = _Refusal(one.hook.name, one.binding.name, decision)
            if "Deny" in actions:
                refusals.append(refusal)
            if "Warn" in actions:
                view.request.warnings.append(
                    f"Validation failed for ValidatingAdmissionPolicy '{one.hook.name}' "
                    f"with binding '{one.binding.name}': {decision.message}"
                )
            if "Audit" in actions:
                self._audit_failure(view.request, one, decision)
        found, problems = policy.annotations(values)
        for key, value in found.items():
            # several bindings may say different things
            texts = notes.setdefault(f"{one.hook.name}/{key}", [])
            if value not in texts:
                texts.append(value)
        refusals += [_Refusal(one.hook.name, one.binding.name, problem) for problem in problems]

    def _audit_failure(self, request: AdmissionRequest, one: _Invocation, decision: Decision) -> None:
        value = [
            {
                "message": decision.message,
                "policy": one.hook.name,
                "binding": one.binding.name,
                "expressionIndex": decision.number,
                "validationActions": list(one.binding.spec.get("validationActions") or ()),
            }
        ]
        request.annotate("validation.policy.admission.k8s.io/validation_failure", encode(value).decode())

    def _refused(self, request: AdmissionRequest, refusal: _Refusal) -> StatusError:
        text = refusal.validating_text
        error = forbidden(request.resource, request.shown_name, text, causes=[Cause("", text, "")])
        error.reason = refusal.decision.reason or "Invalid"
        error.code = _CODES.get(error.reason, 422)
        return error


def _taken(ways: Any, request: AdmissionRequest) -> Resource | None:
    """Return the resource by which a request is taken; None if it is not, or excluded."""
    rules, excludes = ways
    candidate = named(rules, request.name)
    if candidate is None or named(excludes, request.name) is not None:
        return None
    return candidate.resource
