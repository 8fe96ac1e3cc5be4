# SPDX-License-Identifier: Apache-2.0
"""ResourceClaims, ResourceClaimTemplates and DeviceClasses, with the validation of the real server.

Objects are in v1: `Versioned` converts what comes in another version. Source: `pkg/apis/resource/validation` and
`pkg/registry/resource` of Kubernetes 1.37.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.names import validate_annotations, validate_labels
from dynamic_memory.embedded.apiserver.resource import Context, Resource, Strategy
from dynamic_memory.embedded.apiserver.strategies.checks import check_items, immutable, is_extended_resource
from dynamic_memory.embedded.apiserver.strategies.claimspec import (
    MAX_CONFIG,
    check_claim_spec,
    check_opaque,
    check_selectors,
    default_requests,
)
from dynamic_memory.embedded.apiserver.strategies.claimstatus import check_status, share_of, shares_of

__all__ = ["ClaimStrategy", "ClassStrategy", "TemplateStrategy", "Versioned"]


class Versioned(Strategy):
    """Applies a strategy for the stored version to objects of another one."""

    asks_for_required = True

    def __init__(self, resource: Resource, inner: Strategy) -> None:
        self._up, self._down, self._inner = resource.to_storage, resource.from_storage, inner

    def default(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Fill in defaults."""
        return self._down(self._inner.default(self._up(obj)))

    def prepare_create(self, obj: dict[str, Any], ctx: Context) -> dict[str, Any]:
        """Reset what clients may not set."""
        return self._down(self._inner.prepare_create(self._up(obj), ctx))

    def prepare_update(
        self, new: dict[str, Any], old: dict[str, Any], ctx: Context, subresource: str | None
    ) -> dict[str, Any]:
        """Keep what may not change."""
        return self._down(self._inner.prepare_update(self._up(new), self._up(old), ctx, subresource))

    def validate_create(self, obj: dict[str, Any]) -> list[Cause]:
        """Check a new object; paths are those of the stored version."""
        return self._inner.validate_create(self._up(obj))

    def validate_update(self, new: dict[str, Any], old: dict[str, Any], subresource: str | None) -> list[Cause]:
        """Check a changed object; paths are those of the stored version."""
        return self._inner.validate_update(self._up(new), self._up(old), subresource)

    def warnings(self, obj: dict[str, Any]) -> list[str]:
        """Return warnings."""
        return self._inner.warnings(self._up(obj))


class ClaimStrategy(Strategy):
    """ResourceClaim: the spec is immutable, an allocation may only be set and unset."""

    asks_for_required = True

    def default(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Fill in counts and times."""
        default_requests((obj.get("spec") or {}).get("devices"))
        return obj

    def prepare_create(self, obj: dict[str, Any], ctx: Context) -> dict[str, Any]:  # noqa: ARG002 - a hook
        """Forget a status that the client sent."""
        obj["status"] = {}
        return obj

    def prepare_update(
        self, new: dict[str, Any], old: dict[str, Any], ctx: Context, subresource: str | None
    ) -> dict[str, Any]:
        """Drop the status of devices that are no longer allocated."""
        del ctx
        status = new.get("status")
        if subresource == "status" and status and status.get("devices"):
            allocated, before = shares_of(status), shares_of(old.get("status") or {})
            gone = before - allocated
            kept = [device for device in status["devices"] if share_of(device) not in gone]
            new["status"] = {**status, "devices": kept}
            if not kept:
                del new["status"]["devices"]
        return new

    def validate_create(self, obj: dict[str, Any]) -> list[Cause]:
        """Check the spec."""
        return check_claim_spec(obj.get("spec") or {}, "spec")

    def validate_update(self, new: dict[str, Any], old: dict[str, Any], subresource: str | None) -> list[Cause]:
        """Check that the spec is as it was, or the status."""
        if subresource == "status":
            return check_status(new, old)
        if (new.get("spec") or {}) == (old.get("spec") or {}):
            return []
        return [fields.invalid("spec", None, "field is immutable")]


class TemplateStrategy(Strategy):
    """ResourceClaimTemplate: immutable."""

    asks_for_required = True

    def default(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Fill in counts and times."""
        default_requests(((obj.get("spec") or {}).get("spec") or {}).get("devices"))
        return obj

    def validate_create(self, obj: dict[str, Any]) -> list[Cause]:
        """Check metadata and spec of the claims to be made."""
        spec = obj.get("spec") or {}
        metadata = spec.get("metadata") or {}
        causes = validate_labels(metadata.get("labels"), "spec.metadata.labels")
        causes += validate_annotations(metadata.get("annotations"), "spec.metadata.annotations")
        return causes + check_claim_spec(spec.get("spec") or {}, "spec.spec")

    def validate_update(self, new: dict[str, Any], old: dict[str, Any], subresource: str | None) -> list[Cause]:
        """Check that nothing changed."""
        del subresource
        return immutable(new.get("spec") or {}, old.get("spec") or {}, "spec")


class ClassStrategy(Strategy):
    """DeviceClass: expressions that did not change are not compiled again."""

    asks_for_required = True

    def validate_create(self, obj: dict[str, Any]) -> list[Cause]:
        """Check the spec."""
        return _check_class(obj.get("spec") or {}, {})

    def validate_update(self, new: dict[str, Any], old: dict[str, Any], subresource: str | None) -> list[Cause]:
        """Check the spec again."""
        del subresource
        return _check_class(new.get("spec") or {}, old.get("spec") or {})


def _check_class(spec: Mapping[str, Any], old: Mapping[str, Any]) -> list[Cause]:
    stored = bool(old) and spec.get("selectors") == old.get("selectors")
    causes = check_selectors(spec.get("selectors"), "spec.selectors", stored=stored)
    same = bool(old) and spec.get("config") == old.get("config")
    causes += check_items(
        spec.get("config"), MAX_CONFIG, "spec.config", lambda item, path: check_opaque(item, path, stored=same)
    )
    name = spec.get("extendedResourceName")
    if name is not None and not is_extended_resource(name):
        text = "a name must be a domain-prefixed path, such as 'example.com/my-prop'"
        causes.append(fields.invalid("spec.extendedResourceName", name, text))
    return causes
