# SPDX-License-Identifier: Apache-2.0
"""Admission policies: match conditions, validations and mutations, as ValidatingAdmissionPolicy and
MutatingAdmissionPolicy write them.

`object`, `oldObject`, `request`, `params` and `namespaceObject` are of type dyn; `variables` holds the policy's own
expressions, each evaluated when it is first read and seeing those before it. `Object.…{}` and `JSONPatch{}` make
typed values. Source: Kubernetes' documentation of both kinds; k8s.io/apiserver/pkg/admission/plugin/policy.
"""  # noqa: D205 - two names that cannot be shortened

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from dynamic_memory.cel import types as t
from dynamic_memory.cel.environment import Environment, Program
from dynamic_memory.cel.errors import EvaluationError
from dynamic_memory.cel.functions.kubernetes import JSON_PATCH
from dynamic_memory.cel.types import Declared, ObjectType, Type
from dynamic_memory.cel.values import BoolKey, kind_of

__all__ = ["Policy", "PolicyBindings", "to_json"]

_PATCH = ObjectType(
    "JSONPatch", {"op": t.STRING, "path": t.STRING, "from": t.STRING, "value": t.DYN}, constructible=True
)
_INPUTS = ("object", "oldObject", "request", "params", "namespaceObject")


@functools.lru_cache(maxsize=1024)
def _object_type(name: str) -> ObjectType:
    return ObjectType(name, None, constructible=True)


class _Objects(Mapping[str, ObjectType]):
    """JSONPatch, and every name that begins with Object."""

    def __getitem__(self, name: str) -> ObjectType:
        if name == "JSONPatch":
            return _PATCH
        if name == "Object" or name.startswith("Object."):
            return _object_type(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(("JSONPatch", "Object"))

    def __len__(self) -> int:
        return 2


class Policy:
    """The expressions of one policy.

    Args:
        variables: name and expression of each, in order.
        params: whether the policy has parameters; without, expressions cannot speak of them.

    Raises:
        CompileError: a variable's expression is wrong.

    """

    def __init__(self, variables: Mapping[str, str] | None = None, *, params: bool = True) -> None:
        self._inputs = _INPUTS if params else tuple(name for name in _INPUTS if name != "params")
        self.variables: dict[str, Program] = {}
        self._known: dict[str, Type] = {}
        for name, source in (variables or {}).items():
            self.variables[name] = program = self.compile(source)
            self._known[name] = program.result_type

    def compile(self, source: str) -> Program:
        """Compile a condition, a validation, a message or a mutation.

        Raises:
            CompileError: with line, column and what was expected.

        """
        declared = {name: Declared(t.DYN) for name in self._inputs}
        declared["variables"] = Declared(ObjectType("kubernetes.variables", dict(self._known)))
        return Environment(declared, functions=JSON_PATCH, objects=_Objects()).compile(source)


class PolicyBindings(dict[str, Any]):
    """The values of one request, for all programs of a policy: each variable is evaluated once at most."""

    def __init__(
        self,
        policy: Policy,
        *,
        object: Any = None,  # noqa: A002 - the name that policies use
        old_object: Any = None,
        request: Any = None,
        params: Any = None,
        namespace_object: Any = None,
    ) -> None:
        super().__init__(
            object=object, oldObject=old_object, request=request, params=params, namespaceObject=namespace_object
        )
        self["variables"] = _Variables(policy, self)


class _Variables(dict[str, Any]):
    def __init__(self, policy: Policy, bindings: PolicyBindings) -> None:
        super().__init__()
        self._policy = policy
        self._bindings = bindings

    def __missing__(self, name: str) -> Any:
        program = self._policy.variables[name]
        try:
            value = program.evaluate(self._bindings)
        except EvaluationError as error:
            raise type(error)(
                f'composited variable "{name}" fails to evaluate: {error.message}', error.line, error.column
            ) from error
        self[name] = value
        return value


def to_json(value: Any) -> Any:
    """Return the value of a program as JSON has it.

    Raises:
        EvaluationError: it has a type that JSON has not.

    """
    kind = kind_of(value)
    if kind in ("null", "bool", "string", "double"):
        return value
    if kind in ("int", "uint"):
        return int(value)
    if kind == "list":
        return [to_json(element) for element in value]
    if isinstance(value, Mapping):
        if any(type(key) is not str for key in value):
            key = next(key for key in value if type(key) is not str)
            raise EvaluationError(f"expected string keys, got {key.value if type(key) is BoolKey else key!r}")
        return {key: to_json(item) for key, item in value.items()}
    if kind in ("quantity", "semver", "ip", "cidr"):
        return str(value)
    raise EvaluationError(f"expected a value of JSON, got {kind}")
