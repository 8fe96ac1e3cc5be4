# SPDX-License-Identifier: Apache-2.0
"""What tests of controllers share: a manager at work, a kubelet of one line, and bodies of workloads."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests.embedded.support.scheduling import running, until
from tests.support.fake_kube import FakeKube

from dynamic_memory.embedded.controllers import ControllerManager, ControllersConfig
from dynamic_memory.embedded.controllers.objects import PODS
from dynamic_memory.kube.errors import NotFound
from dynamic_memory.process import clock

LABELS = {"app": "web"}


@contextlib.asynccontextmanager
async def controlling(kube: FakeKube, **settings: Any) -> AsyncIterator[ControllerManager]:
    manager = ControllerManager(kube, ControllersConfig(**{"node_life": False, **settings}))
    async with running(manager.run()):
        await until(lambda: manager.synced)
        yield manager


def template(image: str = "v1", **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": image, "resources": {"requests": {"memory": "64Mi"}}}
    return {"metadata": {"labels": LABELS}, "spec": {"containers": [container], **spec}}


def workload(name: str = "web", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "generation": 1}
    return {"metadata": metadata, "spec": {"selector": {"matchLabels": LABELS}, "template": template(), **spec}}


def pods(kube: FakeKube, image: str | None = None) -> list[dict[str, Any]]:
    """Pods that are not on their way out, of an image."""
    return [
        body
        for body in kube.bodies(PODS)
        if not body["metadata"].get("deletionTimestamp")
        and (image is None or body["spec"]["containers"][0]["image"] == image)
    ]


def set_pod(kube: FakeKube, body: dict[str, Any], *, phase: str = "Running", node: str | None = None) -> None:
    """Write what a kubelet writes."""
    now = clock.rfc3339(clock.now())
    ready = "True" if phase == "Running" else "False"
    if node is not None:
        body["spec"]["nodeName"] = node
    status = body.setdefault("status", {})
    status["phase"] = phase
    others = [item for item in status.get("conditions", []) if item["type"] != "Ready"]
    status["conditions"] = [*others, {"type": "Ready", "status": ready, "lastTransitionTime": now}]
    kube.put(PODS, body)


async def kubelet(kube: FakeKube) -> None:
    """Run every pod at once, and end those that are deleted."""
    while True:
        for body in kube.bodies(PODS):
            name, namespace = body["metadata"]["name"], body["metadata"]["namespace"]
            if body["metadata"].get("deletionTimestamp"):
                with contextlib.suppress(NotFound, KeyError):
                    kube.remove(PODS, name, namespace)
            elif not body.get("status", {}).get("phase"):
                set_pod(kube, body)
        await clock.sleep(0.01)
