# SPDX-License-Identifier: Apache-2.0
"""The base of all wire types, and the description of a kind that the API client needs.

A wire type has only the fields that this project reads: decoding an object is then several times faster and smaller
than with the full type. The price is one rule, kept everywhere: what was decoded is never written back. Writes are
server-side applies and patches, whose bodies name exactly the fields that are ours.
"""

from typing import Any, Generic, TypeVar

import msgspec

__all__ = ["Kind", "QuantityText", "Wire", "to_builtins"]

T = TypeVar("T")

QuantityText = str | int
"""A Kubernetes quantity as it stands in JSON or YAML; the API server always answers with a string."""


class Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of wire types: immutable, camelCase on the wire, unknown fields ignored, defaults left out."""


class Kind(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """How the API server names a type of object: group, version, kind, plural, and the type it decodes to."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    type: type[T]

    @property
    def api_version(self) -> str:
        """`group/version`, or only the version for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


def to_builtins(value: Any) -> Any:
    """Turn wire types into plain dicts and lists, ready for a patch body."""
    return msgspec.to_builtins(value)
