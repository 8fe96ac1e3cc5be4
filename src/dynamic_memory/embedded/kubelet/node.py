# SPDX-License-Identifier: Apache-2.0
"""The Node object of a kubelet: registered once, its status kept, its lease renewed.

As the real kubelet it reads the size of the machine once, at its start, and writes back cpu, memory, hugepages and pods
whenever somebody else changed them; every other key of the capacity belongs to others, and is copied to allocatable.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from dynamic_memory.embedded.kubelet.config import Periods
from dynamic_memory.embedded.kubelet.objects import LEASES, NODES, SLICES, Node
from dynamic_memory.host.interface import Host
from dynamic_memory.kube.errors import AlreadyExists, ApiError, Forbidden, NotFound
from dynamic_memory.kube.interface import Kube
from dynamic_memory.process import clock
from dynamic_memory.quantity import format_bytes, parse_bytes

__all__ = ["LEASE_NAMESPACE", "VERSION", "Machine", "NodeKeeper", "node_status"]

log = logging.getLogger(__name__)

VERSION = "v1.37.0"
LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS = 40
MANAGER = "kubelet"
CONDITIONS = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What a node offers.

    Attributes:
        name: of the Node object.
        cpus: processors.
        pods: that it takes at most.
        hugepages: bytes by resource name, `hugepages-2Mi`.
        labels: of the Node object.
        reserved: bytes of memory that pods do not get.
        address: of the node.

    """

    name: str
    cpus: int = 8
    pods: int = 110
    hugepages: dict[str, int] = {}
    labels: dict[str, str] = {}
    reserved: int = 0
    address: str = "127.0.0.1"


def node_status(machine: Machine, memory: int, boot_id: str, status: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Return what the status shall say, as a merge patch. Pure.

    Args:
        machine: what the node offers.
        memory: bytes that the kubelet saw at its start.
        boot_id: of the host.
        status: as it is.
        now: RFC 3339 time of what changes.

    """
    own = {
        "cpu": str(machine.cpus),
        "memory": f"{memory // 1024}Ki",
        "pods": str(machine.pods),
        "ephemeral-storage": "100Gi",
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
        **{name: format_bytes(size) for name, size in machine.hugepages.items()},
    }
    usable = memory - machine.reserved - sum(machine.hugepages.values())
    others = {key: value for key, value in (status.get("capacity") or {}).items() if key not in own}
    allocatable: dict[str, Any] = {**own, "memory": f"{max(0, usable) // 1024}Ki", **others}
    for key in status.get("allocatable") or ():
        allocatable.setdefault(key, None)  # nobody has that capacity any more
    old = {each["type"]: each for each in status.get("conditions") or ()}
    conditions = []
    for kind, value, reason, message in CONDITIONS:
        before = old.pop(kind, {})
        same = before.get("status") == value
        conditions.append(
            {
                "type": kind,
                "status": value,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": before.get("lastHeartbeatTime") if same else now,
                "lastTransitionTime": before.get("lastTransitionTime") if same else now,
            }
        )
    return {
        "capacity": own,
        "allocatable": allocatable,
        "conditions": [*old.values(), *conditions],
        "addresses": [
            {"type": "InternalIP", "address": machine.address},
            {"type": "Hostname", "address": machine.name},
        ],
        "nodeInfo": {
            "machineID": boot_id.replace("-", ""),
            "systemUUID": boot_id,
            "bootID": boot_id,
            "kernelVersion": "simulated",
            "osImage": "simulated",
            "containerRuntimeVersion": "simulated://1",
            "kubeletVersion": VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": "amd64",
        },
    }


class NodeKeeper:
    """Keeps the Node object of one machine.

    Args:
        machine: what it offers.
        host: its Linux.
        kube: the API server.
        periods: how often.

    """

    def __init__(self, machine: Machine, host: Host, kube: Kube, periods: Periods) -> None:
        self._machine = machine
        self._host = host
        self._kube = kube
        self._periods = periods
        self.memory = 0
        """Bytes that the kubelet saw at its start."""
        self.boot_id = ""
        self.allocatable: dict[str, Any] = {}
        """As it was last written, for admission."""

    @property
    def name(self) -> str:
        """Of the Node object."""
        return self._machine.name

    async def read_host(self) -> None:
        """Read the size of the machine, once a start."""
        self.memory = (await self._host.memory()).total
        self.boot_id = await self._host.boot_id()
        now = clock.rfc3339(clock.now())
        self._keep(node_status(self._machine, self.memory, self.boot_id, {}, now))

    async def register(self) -> None:
        """Make the Node object unless it is there, and delete the slices of the last run, as the kubelet does."""
        labels = {
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
            **self._machine.labels,
        }
        with contextlib.suppress(AlreadyExists):
            await self._kube.create(NODES, {"metadata": {"name": self.name, "labels": labels}, "spec": {}})
        await self.wipe()
        await self.sync()

    async def wipe(self, driver: str = "") -> None:
        """Delete the ResourceSlices of this node: of one driver, or of all."""
        found = await self._kube.list(SLICES, fields=f"spec.nodeName={self.name}")
        for item in found.items:
            if not driver or item.spec.get("driver") == driver:
                with contextlib.suppress(NotFound, Forbidden):  # one that is gone meanwhile is of no node
                    await self._kube.delete(SLICES, item.metadata.name)

    async def sync(self) -> None:
        """Write the status if it says something else than it should."""
        try:
            node = await self._kube.get(NODES, self.name)
        except NotFound:
            await self.register()  # somebody deleted it
            return
        now = clock.rfc3339(clock.now())
        status = node_status(self._machine, self.memory, self.boot_id, node.status, now)
        self._keep(status)
        if _differs(status, node):
            body = {"metadata": {"uid": node.metadata.uid}, "status": status}
            await self._kube.patch(NODES, self.name, body, subresource="status", manager=MANAGER)

    def _keep(self, status: dict[str, Any]) -> None:
        self.allocatable = {key: value for key, value in status["allocatable"].items() if value is not None}

    async def renew(self) -> None:
        """Renew the node's lease, or make it."""
        now = clock.rfc3339_micro(clock.now())
        spec = {"holderIdentity": self.name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now}
        try:
            await self._kube.patch(LEASES, self.name, {"spec": spec}, namespace=LEASE_NAMESPACE, manager=MANAGER)
        except NotFound:
            body = {"metadata": {"name": self.name, "namespace": LEASE_NAMESPACE}, "spec": spec}
            with contextlib.suppress(AlreadyExists):
                await self._kube.create(LEASES, body, namespace=LEASE_NAMESPACE)

    async def keep_status(self) -> None:
        """Keep the status for ever."""
        await self._ever(self.sync, self._periods.node_status)

    async def keep_lease(self) -> None:
        """Renew the lease for ever."""
        await self._ever(self.renew, self._periods.lease)

    async def _ever(self, step: Any, period: float) -> None:
        while True:
            try:
                await step()
            except ApiError as error:
                log.info("node %s: %s", self.name, error)
            await clock.sleep(period)


def _differs(status: Mapping[str, Any], node: Node) -> bool:
    held = node.status
    for part in ("capacity", "allocatable"):
        for key, value in status[part].items():
            there = (held.get(part) or {}).get(key)
            if there != value and (value is None or there is None or _number(there) != _number(value)):
                return True
    return any(status[part] != held.get(part) for part in ("conditions", "addresses", "nodeInfo"))


def _number(text: Any) -> int:
    return parse_bytes(text)
