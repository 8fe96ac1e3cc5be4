# SPDX-License-Identifier: Apache-2.0
"""CustomResourceDefinitions for tests."""

from __future__ import annotations

from typing import Any

from tests.embedded.support.client import Answer, Client

__all__ = ["CRDS", "SHELVES", "Shelf", "define", "definition", "shelf"]

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SHELVES = "/apis/example.com/v1/namespaces/default/shelves"
Shelf = dict[str, Any]


def definition(spec: dict[str, Any] | None = None, *, root: dict[str, Any] | None = None, **version: Any) -> Shelf:
    """Return the definition of shelves: `spec` is the schema of their spec, `root` adds to that of the whole."""
    schema: dict[str, Any] = {"type": "object", "properties": {"spec": spec or {"type": "object"}}, **(root or {})}
    first = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **version}
    names = {"plural": "shelves", "singular": "shelf", "kind": "Shelf", "shortNames": ["sh"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "shelves.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [first]},
    }


async def define(client: Client, *args: Any, **kwargs: Any) -> Answer:
    """Create the definition of shelves."""
    made = await client.create(CRDS, definition(*args, **kwargs), fieldValidation="Strict")
    assert made.code == 201, made
    return made


def shelf(name: str = "a", **spec: Any) -> Shelf:
    """Return a shelf."""
    return {"apiVersion": "example.com/v1", "kind": "Shelf", "metadata": {"name": name}, "spec": spec}
