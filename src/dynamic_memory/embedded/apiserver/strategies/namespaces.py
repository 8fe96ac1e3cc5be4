# SPDX-License-Identifier: Apache-2.0
"""Namespaces: their label, their phase, and the finalizer in their spec that only `finalize` changes.

Source: `pkg/registry/core/namespace/strategy.go` and the defaults of core/v1.
"""

from __future__ import annotations

from typing import Any

from dynamic_memory.embedded.apiserver.resource import Context, Strategy

__all__ = ["NamespaceStrategy"]

LABEL = "kubernetes.io/metadata.name"
KUBERNETES = "kubernetes"


class NamespaceStrategy(Strategy):
    """Namespace."""

    def default(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Label a namespace with its name."""
        name = obj["metadata"].get("name")
        if name:
            obj["metadata"]["labels"] = {**(obj["metadata"].get("labels") or {}), LABEL: name}
        return obj

    def prepare_create(self, obj: dict[str, Any], ctx: Context) -> dict[str, Any]:  # noqa: ARG002 - a hook
        """Have a new namespace active, and held until its contents are gone."""
        finalizers = list((obj.get("spec") or {}).get("finalizers") or ())
        if KUBERNETES not in finalizers:
            finalizers.append(KUBERNETES)
        obj["spec"] = {**(obj.get("spec") or {}), "finalizers": finalizers}
        obj["status"] = {"phase": "Active"}
        return self.default(obj)

    def prepare_update(
        self,
        new: dict[str, Any],
        old: dict[str, Any],
        ctx: Context,  # noqa: ARG002 - a hook
        subresource: str | None,
    ) -> dict[str, Any]:
        """Keep the finalizers of the spec, unless it is they that are written."""
        if subresource != "finalize":
            spec = {key: value for key, value in (new.get("spec") or {}).items() if key != "finalizers"}
            kept = (old.get("spec") or {}).get("finalizers")
            if kept:
                spec["finalizers"] = kept
            new["spec"] = spec
        return new
