# SPDX-License-Identifier: Apache-2.0
"""PartialObjectMetadata: an object reduced to its metadata, for rows of tables and for metadata informers."""

from __future__ import annotations

from typing import Any

__all__ = ["partial_list", "partial_object"]


def partial_object(obj: dict[str, Any], version: str = "v1") -> dict[str, Any]:
    """Return the PartialObjectMetadata of an object; the metadata is shared, not copied."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": obj.get("metadata", {}),
    }


def partial_list(items: list[dict[str, Any]], metadata: dict[str, Any], version: str = "v1") -> dict[str, Any]:
    """Return the PartialObjectMetadataList of objects; `metadata` is that of the list (resourceVersion, continue)."""
    return {
        "kind": "PartialObjectMetadataList",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": metadata,
        "items": [partial_object(item, version) for item in items],
    }
