# SPDX-License-Identifier: Apache-2.0
"""Making and choosing pods of workloads. Pure, but for `create`."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from dynamic_memory.api.wire import Kind
from dynamic_memory.embedded.controllers.controller import Controller
from dynamic_memory.embedded.controllers.objects import PODS, Object, is_ready, owner_reference
from dynamic_memory.kube.errors import ApiError

__all__ = ["create_many", "create_pod", "pod_body", "template_hash", "victims"]

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Letters that make no words (apimachinery)."""
_HASH_LENGTH = 10
_COST = "controller.kubernetes.io/pod-deletion-cost"


def template_hash(template: Mapping[str, Any], salt: int = 0) -> str:
    """Return a short name for the content of a pod template; another salt gives another name."""
    digest = hashlib.sha256(msgspec.json.encode((template, salt), order="deterministic")).digest()
    number = int.from_bytes(digest[:8], "big")
    letters = []
    for _ in range(_HASH_LENGTH):
        number, index = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[index])
    return "".join(letters)


def pod_body(
    kind: Kind[Object], owner: Object, template: Mapping[str, Any], *, labels: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the body of a pod that `owner` manages; its name is for the API server to complete."""
    meta: Mapping[str, Any] = template.get("metadata") or {}
    prefix = owner.metadata.name[:57]
    return {
        "metadata": {
            "generateName": f"{prefix}-",
            "namespace": owner.metadata.namespace,
            "labels": {**(meta.get("labels") or {}), **(labels or {})},
            "annotations": dict(meta.get("annotations") or {}),
            "finalizers": list(meta.get("finalizers") or ()),
            "ownerReferences": [owner_reference(kind, owner)],
        },
        "spec": dict(template["spec"]),
    }


async def create_pod(
    controller: Controller, key: str, kind: Kind[Object], owner: Object, body: Mapping[str, Any]
) -> Object:
    """Create a pod and say so.

    Raises:
        ApiError: it was refused, which is said, too.

    """
    try:
        pod = await controller.kube.create(PODS, body, namespace=owner.metadata.namespace)
    except ApiError as error:
        await controller.say(kind, owner, "Warning", "FailedCreate", f"Error creating: {error}")
        raise
    controller.created(key, PODS, pod)
    await controller.say(kind, owner, "Normal", "SuccessfulCreate", f"Created pod: {pod.metadata.name}")
    return pod


async def create_many(
    controller: Controller, key: str, kind: Kind[Object], owner: Object, bodies: Sequence[Mapping[str, Any]]
) -> None:
    """Create pods: one, then two, then four …, so that a mistake is not made a thousand times.

    Raises:
        ApiError: one was refused; later ones were not tried.

    """
    start, size = 0, 1
    while start < len(bodies):
        batch = bodies[start : start + size]
        results = await asyncio.gather(
            *(create_pod(controller, key, kind, owner, body) for body in batch), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        start += size
        size *= 2


def victims(pods: Sequence[Object], count: int) -> list[Object]:
    """Return the pods that can best be spared: without a node, not running, not ready, cheap, young."""
    return sorted(pods, key=_worth)[:count]


def _worth(pod: Object) -> tuple[Any, ...]:
    phase = pod.status.get("phase", "Pending")
    cost = pod.metadata.annotations.get(_COST, "0")
    return (
        bool(pod.spec.get("nodeName")),
        {"Pending": 0, "Unknown": 1}.get(phase, 2),
        is_ready(pod),
        int(cost) if cost.lstrip("+-").isdecimal() else 0,
        _newest_first(pod.metadata.creation_timestamp or ""),
        pod.metadata.name,
    )


def _newest_first(stamp: str) -> tuple[int, ...]:
    return tuple(-ord(letter) for letter in stamp)
