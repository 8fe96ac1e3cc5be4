# SPDX-License-Identifier: Apache-2.0
"""The API server of a test, and the users of a claim: scheduler, claim controller, kubectl."""

from __future__ import annotations

import collections
from typing import Any

import msgspec
from tests.support.fake_kube import FakeKube
from tests.unit.driver.conftest import allocation

from dynamic_memory.api.kinds import NODES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from dynamic_memory.api.resource import ResourceClaim
from dynamic_memory.kube.events import EVENTS


class ApiServer(FakeKube):
    """A `Kube` with one node; claims are in the namespace `app`."""

    def __init__(self) -> None:
        super().__init__()
        self.put(NODES, {"metadata": {"name": "n1", "uid": "node-uid"}})

    def raw_claim(self, name: str = "far") -> dict[str, Any]:
        return self.body(RESOURCE_CLAIMS, name, "app")

    def claim(self, name: str = "far") -> ResourceClaim:
        return msgspec.convert(self.raw_claim(name), ResourceClaim)

    def delete_claim(self, name: str = "far") -> None:
        self.remove(RESOURCE_CLAIMS, name, "app")

    def deallocate(self, name: str = "far") -> None:
        """What the claim controller does when the pod is gone."""
        self.put(RESOURCE_CLAIMS, {**self.raw_claim(name), "status": {}})

    def allocate(self, name: str = "far", **how: Any) -> None:
        """What the scheduler does."""
        self.put(RESOURCE_CLAIMS, {**self.raw_claim(name), "status": allocation(**how)})

    def reserve(self, *pods: str, name: str = "far") -> None:
        body = self.raw_claim(name)
        body["status"]["reservedFor"] = [{"resource": "pods", "name": p, "uid": f"uid-{p}"} for p in pods]
        self.put(RESOURCE_CLAIMS, body)

    def set_pod(self, name: str, phase: str = "Pending", *, deleted: bool = False) -> None:
        """What user and kubelet do to a pod of the claim."""
        meta = {"name": name, "namespace": "app", "uid": f"uid-{name}"}
        meta |= {"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {}
        self.put(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": {"phase": phase}})

    def devices(self, name: str = "far") -> list[dict[str, Any]]:
        return self.raw_claim(name)["status"].get("devices", [])

    def conditions(self, name: str = "far") -> dict[str, tuple[str, str]]:
        """Status and reason by the short name of the type."""
        found = {
            c["type"].partition("/")[2]: (c["status"], c["reason"])
            for device in self.devices(name)
            for c in device["conditions"]
        }
        return collections.defaultdict(lambda: ("", ""), found)

    def slices(self) -> list[dict[str, Any]]:
        return self.bodies(RESOURCE_SLICES)

    def reports(self) -> int:
        """How often conditions were written."""
        return self.count("apply", RESOURCE_CLAIMS)

    def events(self) -> list[tuple[str, str, str]]:
        """Kind of the object, reason, message."""
        return [(body["involvedObject"]["kind"], body["reason"], body["message"]) for body in self.bodies(EVENTS)]
