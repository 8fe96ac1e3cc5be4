# SPDX-License-Identifier: Apache-2.0
"""What is known of one pod on its node: its object, its containers, and where it is on its way."""

from __future__ import annotations

import math
from typing import Any

from dynamic_memory.embedded.kubelet.objects import Pod
from dynamic_memory.embedded.kubelet.resize import PodCgroup, given
from dynamic_memory.embedded.kubelet.resources import is_sidecar, qos
from dynamic_memory.embedded.runtime.container import Container

__all__ = ["ContainerRecord", "PodRecord"]


class ContainerRecord:
    """One container of a pod's spec.

    Attributes:
        spec: as the pod says it now.
        init: it is an init container.
        current: the last one that was started; None before the first.
        last: the one before it, as `lastState`.
        restarts: how often it was started anew.
        back_off: seconds to wait before the next restart.
        waiting: why it does not run: (reason, message).
        allocated: resources that it was given; see `resize.given`.
        actual: resources that it has.
        stopping: it was asked to end with its pod.
        renew: it is to be started again, however it ends, for its new resources.

    """

    def __init__(self, spec: dict[str, Any], *, init: bool) -> None:
        self.spec = spec
        self.init = init
        self.current: Container | None = None
        self.last: Container | None = None
        self.restarts = 0
        self.back_off = 0.0
        self.waiting: tuple[str, str] = ("PodInitializing" if not init else "ContainerCreating", "")
        self.allocated = given(spec.get("resources"))
        self.actual = self.allocated
        self.renew = False
        self.stopping = False

    @property
    def name(self) -> str:
        """In its pod."""
        return str(self.spec["name"])

    @property
    def sidecar(self) -> bool:
        """It is an init container that goes on running."""
        return self.init and is_sidecar(self.spec)

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self.current is not None and self.current.ended is None

    @property
    def ended(self) -> bool:
        """Whether it ran, and has ended."""
        return self.current is not None and self.current.ended is not None

    @property
    def succeeded(self) -> bool:
        """Whether it has ended with 0."""
        return self.current is not None and self.current.ended is not None and self.current.ended.code == 0


class PodRecord:
    """One pod.

    Attributes:
        object: as the API server last showed it.
        gone: it is not there any more.
        containers: init containers first, in the order of the spec.
        admitted: this node has taken it.
        refused: why it was not: (reason, message).
        started: when the kubelet first saw it, RFC 3339.
        prepared: its claims are.
        start_at: when its containers may start, on the event loop's clock.
        resize: the condition PodResizePending: (reason, message, generation), if there is one.
        resizing: the condition PodResizeInProgress: (reason, message, generation), if there is one.
        infeasible: generation that was judged so.
        cgroup: what its cgroup has.
        stop_by: when its containers will be killed, if they were asked to end.
        expired: it was here for longer than it may be.
        terminal: it had ended when the kubelet was started.
        finished: its last status is written, all it had is given back.
        ip: of the pod.

    """

    def __init__(self, pod: Pod) -> None:
        self.object = pod
        self.gone = False
        self.containers = [ContainerRecord(each, init=True) for each in pod.spec.get("initContainers") or ()]
        self.containers += [ContainerRecord(each, init=False) for each in pod.spec.get("containers") or ()]
        if not pod.spec.get("initContainers"):
            for record in self.containers:
                record.waiting = ("ContainerCreating", "")
        self.admitted = False
        self.refused: tuple[str, str] | None = None
        self.started = ""
        self.prepared = False
        self.start_at = 0.0
        self.resize: tuple[str, str, int] | None = None
        self.resizing: tuple[str, str, int] | None = None
        self.infeasible = 0
        self.cgroup = PodCgroup()
        self.stop_by = math.inf
        self.expired = False
        self.terminal = False
        self.finished = False
        self.ip = ""
        self.qos = str(pod.status.get("qosClass") or qos(pod.spec))

    @property
    def uid(self) -> str:
        """Of the object."""
        return self.object.metadata.uid

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.object.metadata.namespace}/{self.object.metadata.name}"

    @property
    def deleting(self) -> bool:
        """Whether somebody wants it to go."""
        return self.object.metadata.deletion_timestamp is not None

    @property
    def policy(self) -> str:
        """`restartPolicy`."""
        return str(self.object.spec.get("restartPolicy") or "Always")

    @property
    def grace(self) -> float:
        """Seconds that its containers have to end by themselves."""
        return float(self.object.spec.get("terminationGracePeriodSeconds", 30))

    @property
    def main(self) -> list[ContainerRecord]:
        """The containers that are not for initialization."""
        return [each for each in self.containers if not each.init]

    @property
    def initialized(self) -> bool:
        """Whether all init containers are through, and sidecars run."""
        return all(
            each.current is not None and (each.sidecar or each.succeeded) for each in self.containers if each.init
        )

    @property
    def any_started(self) -> bool:
        """Whether a container was ever started."""
        return any(each.current is not None for each in self.containers)

    def take(self, pod: Pod) -> None:
        """Take a new version of the object."""
        self.object = pod
        specs = {
            each["name"]: each for each in (*(pod.spec.get("initContainers") or ()), *pod.spec.get("containers", ()))
        }
        for record in self.containers:
            record.spec = specs.get(record.name, record.spec)

    def allocated(self) -> dict[str, dict[str, Any]]:
        """Return what each container was given, as resource texts."""
        return {record.name: record.allocated for record in self.containers}

    def should_restart(self, record: ContainerRecord) -> bool:
        """Tell whether a container that has ended is to be started again."""
        if record.renew:
            return True
        if record.sidecar:
            return any(not each.ended or self.should_restart(each) for each in self.main)
        policy = str(record.spec.get("restartPolicy") or self.policy)
        if record.init:
            return not record.succeeded and policy != "Never"
        return policy == "Always" or (policy == "OnFailure" and not record.succeeded)

    @property
    def over(self) -> bool:
        """Whether it has ended by itself: nothing runs, and nothing is started again."""
        failed = any(
            each.ended and not each.succeeded and not each.sidecar and not self.should_restart(each)
            for each in self.containers
            if each.init
        )
        if failed:
            return not any(each.running for each in self.main)
        return bool(self.main) and all(each.ended and not self.should_restart(each) for each in self.main)
