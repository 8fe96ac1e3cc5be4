# SPDX-License-Identifier: Apache-2.0
"""One node of a structural schema: what the whole API server knows about a field.

Builtin kinds, kinds of the prototype and CustomResourceDefinitions all come as such graphs. Validation, defaulting,
pruning, merging, OpenAPI and field ownership read them and nothing else. Schemas of builtin types may be cyclic
(JSONSchemaProps), those of CRDs are trees.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ANYTHING", "MISSING", "Missing", "Rule", "Schema", "clone", "node_at"]


class Missing:
    """The type of `MISSING`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing()
"""No value where null is one."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of `x-kubernetes-validations`."""

    rule: str
    message: str = ""
    message_expression: str = ""
    reason: str = ""
    field_path: str = ""
    optional_old_self: bool = False
    check: Any = None
    """What the rule compiled to: a `cel.environments.validation.Rule`."""
    tell: Any = None
    """What messageExpression compiled to, None without one."""


@dataclass(slots=True, eq=False)
class Schema:
    """One node. Fields have the meaning of OpenAPI v3 and of the x-kubernetes extensions of the same name.

    Attributes:
        type: "object", "array", "string", "integer", "number", "boolean", or "" for anything.
        additional: the values of a map.
        items: the elements of an array.
        list_type: "atomic" (also ""), "set" or "map".
        map_type: "granular" (also "") or "atomic"; also of objects with properties.
        quantity: a string or number that is a resource.Quantity.
        ref: component name of a builtin type (`io.k8s.api.core.v1.PodSpec`), "" within CRDs.
        rules: CEL rules of CRDs.
        deep_rules: whether it has rules, or something below it has.
        source: the JSON schema of CRDs that this node came from, for what is not taken apart (CEL types, OpenAPI).

    """

    type: str = ""
    description: str = ""
    properties: dict[str, Schema] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    additional: Schema | None = None
    items: Schema | None = None
    default: Any = MISSING
    nullable: bool = False
    format: str = ""
    enum: tuple[Any, ...] | None = None
    pattern: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False
    multiple_of: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    min_items: int | None = None
    max_items: int | None = None
    unique_items: bool = False
    min_properties: int | None = None
    max_properties: int | None = None
    all_of: tuple[Schema, ...] = ()
    any_of: tuple[Schema, ...] = ()
    one_of: tuple[Schema, ...] = ()
    not_: Schema | None = None
    preserve_unknown: bool = False
    embedded_resource: bool = False
    int_or_string: bool = False
    quantity: bool = False
    list_type: str = ""
    list_map_keys: tuple[str, ...] = ()
    map_type: str = ""
    patch_merge_key: str = ""
    patch_strategy: str = ""
    rules: tuple[Rule, ...] = ()
    deep_rules: bool = False
    ref: str = ""
    source: dict[str, Any] | None = None

    def child(self, name: str) -> Schema | None:
        """Return the schema of a property or of a value of a map; None if there is none."""
        return self.properties.get(name, self.additional)

    @property
    def is_map(self) -> bool:
        """Whether its values are those of a map with any keys."""
        return self.additional is not None and not self.properties

    @property
    def open(self) -> bool:
        """Whether names that it does not list may stand in it."""
        return self.preserve_unknown or (self.type == "" and not self.properties and self.additional is None)


ANYTHING: Final = Schema(preserve_unknown=True)
"""The schema of what is not known."""


def node_at(schema: Schema, names: Iterable[str]) -> Schema | None:
    """Follow property names (lists are entered without an index); None where the schema knows nothing."""
    node: Schema | None = schema
    for name in names:
        while node is not None and node.items is not None:
            node = node.items
        node = node.child(name) if node is not None else None
    return node


def clone(value: Any) -> Any:
    """Copy a value of JSON, deep: several times as fast as copy.deepcopy."""
    if type(value) is dict:
        return {name: clone(item) if type(item) in _CONTAINERS else item for name, item in value.items()}
    if type(value) is list:
        return [clone(item) if type(item) in _CONTAINERS else item for item in value]
    return value


_CONTAINERS = frozenset({dict, list})
