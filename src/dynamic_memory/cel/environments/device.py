# SPDX-License-Identifier: Apache-2.0
"""Selectors of devices: the environment in which ResourceClaims and DeviceClasses are matched.

`device` has `driver`, `attributes` and `capacity`, and with consumable capacity `allowMultipleAllocations`. The maps
are of domains: an unknown domain is an empty map (though `in` says no), an unknown name in it is an error. Stored
expressions see every feature and attributes of type dyn; new ones see the features that are on, and attributes of type
any unless list attributes are on. Source: k8s.io/dynamic-resource-allocation/cel 0.37.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dynamic_memory.cel import types as t
from dynamic_memory.cel.environment import Environment, Program
from dynamic_memory.cel.errors import CompileError, EvaluationError, Fault
from dynamic_memory.cel.fast import compile_fast
from dynamic_memory.cel.functions.collections import INCLUDES
from dynamic_memory.cel.types import Declared, ObjectType, Type, map_of
from dynamic_memory.cel.values import Semver, kind_of
from dynamic_memory.quantity import Quantity

__all__ = ["DeviceFeatures", "DeviceView", "Selector", "attribute_value", "compile_selector", "device_environment"]

WORK_LIMIT = 30_000
"""Operators in one evaluation, so that none takes more than 50 ms."""
MAX_DOMAIN, MAX_ID, MAX_DRIVER, MAX_VALUE, MAX_ENTRIES = 63, 32, 63, 64, 32


@dataclass(frozen=True, slots=True)
class DeviceFeatures:
    """What selectors may use: gates DRAConsumableCapacity and DRAListTypeAttributes."""

    consumable_capacity: bool = True
    list_attributes: bool = False


class _Domains(dict[str, dict[str, Any]]):
    """Names by domain; a domain that is not there reads as empty."""

    __slots__ = ()

    def __missing__(self, _: str) -> dict[str, Any]:
        return {}


class DeviceView:
    """A device as selectors see it.

    Args:
        driver: its name is the domain of unqualified names.
        attributes: bool, int, str, `Semver`, or a list of those, by (qualified) name.
        capacity: quantities by (qualified) name.
        allow_multiple_allocations: as in the ResourceSlice.

    """

    __slots__ = ("allow_multiple_allocations", "attributes", "capacity", "driver")
    cel_kind = "object"
    type_name = "kubernetes.DRADevice"
    cel_fields = {
        "driver": "driver", "attributes": "attributes", "capacity": "capacity",
        "allowMultipleAllocations": "allow_multiple_allocations",
    }  # fmt: skip

    def __init__(
        self,
        driver: str,
        attributes: Mapping[str, Any],
        capacity: Mapping[str, Quantity],
        *,
        allow_multiple_allocations: bool = False,
    ) -> None:
        self.driver = driver
        self.attributes = _by_domain(driver, attributes)
        self.capacity = _by_domain(driver, capacity)
        self.allow_multiple_allocations = allow_multiple_allocations


def _by_domain(driver: str, named: Mapping[str, Any]) -> _Domains:
    domains = _Domains()
    for qualified, value in named.items():
        domain, slash, name = qualified.partition("/")
        if not slash:
            domain, name = driver, qualified
        domains.setdefault(domain, {})[name] = value
    return domains


def attribute_value(attribute: Mapping[str, Any]) -> Any:
    """Return the value of a DeviceAttribute as it stands in JSON (`{"int": 1}`, `{"versions": ["1.0.0"]}`).

    Raises:
        Fault: it has no value of a known type, or its version is none.

    """
    for name in ("ints", "bools", "strings"):
        if attribute.get(name) is not None:
            return list(attribute[name])
    if attribute.get("versions") is not None:
        return [Semver(text) for text in attribute["versions"]]
    for name in ("int", "bool", "string"):
        if attribute.get(name) is not None:
            return attribute[name]
    if attribute.get("version") is not None:
        return Semver(attribute["version"])
    raise Fault("unsupported attribute value")


@functools.lru_cache(maxsize=8)
def device_environment(features: DeviceFeatures, env: Literal["stored", "new"] = "stored") -> Environment:
    """Return the environment of selectors; raises nothing."""
    stored = env == "stored"
    lists = features.list_attributes or stored
    multiple = features.consumable_capacity or stored
    attribute: Type = t.DYN if lists else t.ANY
    name, domain = Declared(t.STRING, MAX_ID), Declared(t.STRING, MAX_DOMAIN)
    inner = Declared(map_of(t.STRING, attribute), MAX_ENTRIES, key=name, element=Declared(attribute, MAX_VALUE))
    quantities = Declared(map_of(t.STRING, t.QUANTITY), MAX_ENTRIES, key=name, element=Declared(t.QUANTITY, MAX_VALUE))
    fields = {
        "driver": Declared(t.STRING, MAX_DRIVER),
        "attributes": Declared(map_of(t.STRING, inner.type), MAX_ENTRIES, key=domain, element=inner),
        "capacity": Declared(map_of(t.STRING, quantities.type), MAX_ENTRIES, key=domain, element=quantities),
    }
    if multiple:
        fields["allowMultipleAllocations"] = Declared(t.BOOL, 1)
    device = ObjectType(
        "kubernetes.DRADevice",
        {field: declared.type for field, declared in fields.items()},
        attributes=DeviceView.cel_fields,
    )
    return Environment(
        {"device": Declared(device, 1, fields)}, functions=INCLUDES if lists else (), work_limit=WORK_LIMIT
    )  # fmt: skip


class Selector:
    """A compiled selector.

    Attributes:
        matches: takes a DeviceView, returns whether it matches; raises EvaluationError. Generated code where the
            expression allows it: errors, and what only the interpreter can say exactly, are left to the interpreter.

    """

    __slots__ = ("matches", "program")
    matches: Callable[[DeviceView], bool]

    def __init__(self, program: Program) -> None:
        self.program = program
        self.matches = compile_fast(program, "device", self.interpret) or self.interpret

    @property
    def is_generated(self) -> bool:
        """Whether `matches` is generated code."""
        return self.matches != self.interpret

    def interpret(self, device: DeviceView) -> bool:
        """Decide without generated code.

        Raises:
            EvaluationError: the expression fails on this device, or says neither true nor false.

        """
        value = self.program.evaluate({"device": device})
        if type(value) is not bool:
            raise EvaluationError(f"CEL result of type {kind_of(value)} could not be converted to bool")
        return value

    def value(self, device: DeviceView) -> Any:
        """Return whatever the expression says (derived attributes).

        Raises:
            EvaluationError: the expression fails on this device.

        """
        return self.program.evaluate({"device": device})


def compile_selector(
    source: str,
    features: DeviceFeatures | None = None,
    *,
    env: Literal["stored", "new"] = "stored",
    derived: bool = False,
) -> Selector:
    """Compile a selector, or the expression of a derived attribute.

    Raises:
        CompileError: with line, column and what was expected.

    """
    features = features or DeviceFeatures()
    program = device_environment(features, env).compile(source)
    result = program.result_type
    if derived:
        lists = features.list_attributes or env == "stored"
        element = result.params[0] if lists and result.kind == "list" else result
        if element.kind not in ("bool", "int", "string", "semver", "dyn"):
            more = " or a list of these scalars" if lists else ""
            wanted = f"a primitive scalar (string, integer, boolean, semver){more}"
            raise CompileError(f"must evaluate to {wanted}, not {result}", wanted)
    elif result.kind not in ("bool", "dyn"):
        raise CompileError(f"must evaluate to bool or the unknown type, not {result}", "bool")
    return Selector(program)
