# SPDX-License-Identifier: Apache-2.0
"""What the workers of a node share: its runtime and claims, and how its containers are made from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from dynamic_memory.api.meta import ObjectMeta
from dynamic_memory.embedded.kubelet import cdi, resize
from dynamic_memory.embedded.kubelet.claims import ClaimManager
from dynamic_memory.embedded.kubelet.config import Periods
from dynamic_memory.embedded.kubelet.launch import launch, sandbox
from dynamic_memory.embedded.kubelet.pod import ContainerRecord, PodRecord
from dynamic_memory.embedded.kubelet.resources import Lack, Resources
from dynamic_memory.embedded.runtime.container import ContainerSpec
from dynamic_memory.embedded.runtime.runtime import Runtime
from dynamic_memory.kube.events import EventRecorder
from dynamic_memory.kube.interface import Kube

__all__ = ["Parts"]


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the workers of a node share.

    Attributes:
        name: of the node.
        folder: of the kubelet.
        cdi: folder of CDI files.
        kube: the API server.
        runtime: the containers.
        claims: the claims.
        periods: how long to wait for what.
        recorder: events.
        node_ip: address of the node.
        admit: returns what the node lacks for a pod, or None if it takes it.
        others: returns what the other pods of the node use, and what there is.
        address: returns an address for a pod.
        left: called when a pod has given back what it had.

    """

    name: str
    folder: Path
    cdi: Path
    kube: Kube
    runtime: Runtime
    claims: ClaimManager
    periods: Periods
    recorder: EventRecorder
    node_ip: str
    admit: Callable[[PodRecord], Lack | None]
    others: Callable[[PodRecord], tuple[Resources, Resources]]
    address: Callable[[], str]
    left: Callable[[PodRecord], None]

    def make_pod(self, record: PodRecord) -> None:
        """Make the pod's cgroup; one that is there stays as it is."""
        record.cgroup = resize.pod_cgroup(record.object.spec, record.allocated())
        self.runtime.make_pod(record.uid, record.qos, record.cgroup.memory, sandbox(record.object))

    def log_file(self, meta: ObjectMeta, container: str, number: int) -> Path:
        """Return where a container of a pod prints to at its `number`th start, from 0 on."""
        return self.pod_folder(meta) / container / f"{number}.log"

    def pod_folder(self, meta: ObjectMeta) -> Path:
        """Return where the files of a pod are, for as long as there is its object."""
        return self.folder / "pods" / f"{meta.namespace}_{meta.name}_{meta.uid}"

    def container(self, record: PodRecord, each: ContainerRecord, log: Path | None) -> ContainerSpec:
        """Return how the runtime shall run a container, with what CDI adds.

        Raises:
            UnresolvableDevices: a CDI file is missing or wrong.
            InvalidInput: the container cannot be run as it is asked for.

        """
        devices = self.claims.devices(record.object, each.spec)
        edits = cdi.read(self.cdi, devices)
        return launch(record.object, each, edits, node=self.name, ip=record.ip, log=log, devices=devices)
