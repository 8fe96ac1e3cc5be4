# SPDX-License-Identifier: Apache-2.0
"""Fields beyond Kubernetes' own: those by which pods of the prototype ask for devices.

`spec.deviceClaims` is one object (`devices`, `claimName` or `template`) in the prototype's last form and a list of
named claims in its earlier ones; containers name what they use in `devices`.
"""

from __future__ import annotations

from typing import Final

from dynamic_memory.embedded.apiserver.schema import Schema

__all__ = ["EXTRA_FIELDS"]

_TEXT: Final = Schema("string")
_METADATA: Final = Schema("object", "Metadata of the claim that is made.", preserve_unknown=True)


def _named(properties: dict[str, Schema], description: str) -> Schema:
    element = Schema("object", properties={"name": Schema("string", "The name to refer to."), **properties})
    element.required = frozenset({"name"})
    return Schema(
        "array",
        description,
        items=element,
        list_type="map",
        list_map_keys=("name",),
        patch_merge_key="name",
        patch_strategy="merge",
    )


_SOURCE: Final = {
    "deviceClaimName": _TEXT,
    "templateClass": Schema("object", properties={"metadata": _METADATA, "className": _TEXT}),
    "templateClaim": Schema("object", properties={"metadata": _METADATA, "claimName": _TEXT}),
    "generator": Schema(
        "object",
        properties={
            "metadata": _METADATA,
            "generatorRef": Schema("object", properties={"apiVersion": _TEXT, "kind": _TEXT, "name": _TEXT}),
        },
    ),
}
_CLAIMS: Final = Schema(
    description="What the pod asks for of devices of the prototype: an object, or the earlier list of named claims.",
    properties={
        "devices": _named({"class": Schema("string", "The class to take a device of.")}, "One claim for each entry."),
        "claimName": Schema("string", "A DeviceClaim that exists."),
        "template": Schema(
            "object",
            "A DeviceClaim to copy for this pod.",
            properties={"metadata": _METADATA, "claimName": Schema("string", "The claim to copy.")},
        ),
    },
    items=_named(
        {
            "claim": Schema("object", "The spec of a claim of this pod.", preserve_unknown=True),
            "claimName": Schema("string", "A DeviceClaim that exists."),
            "claimTemplateName": Schema("string", "A DeviceClaim to copy for this pod."),
            "source": Schema("object", properties=_SOURCE),
        },
        "",
    ).items,
    patch_merge_key="name",
    patch_strategy="merge",
)
_DEVICES: Final = _named({}, "The devices of the pod's claims that this container uses.")

EXTRA_FIELDS: Final[dict[str, dict[str, Schema]]] = {
    "core_v1.PodSpec": {"deviceClaims": _CLAIMS},
    "core_v1.Container": {"devices": _DEVICES},
    "core_v1.EphemeralContainer": {"devices": _DEVICES},
}
