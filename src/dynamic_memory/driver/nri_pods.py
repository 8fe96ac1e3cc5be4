# SPDX-License-Identifier: Apache-2.0
"""The pods with claims that live on the node, as the runtime tells of them: what their cgroups must have.

This is no ledger: it is made anew at each Synchronize, and says nothing about who may use a claim.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import msgspec

from dynamic_memory.driver.nri_plan import Facts, Native, PodPlan, merge, plan_pod
from dynamic_memory.driver.settings import RequestSettings, hugetlb_name
from dynamic_memory.errors import InvalidInput
from dynamic_memory.host.pod_cgroups import PodCgroups, expand_slice

__all__ = ["Held", "LivePod", "LivePods"]

log = logging.getLogger(__name__)


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One container: what its claims give it (nothing, for most), and what its spec asks for."""

    id: str
    claims: tuple[RequestSettings, ...]
    native: Native


@dataclass
class LivePod:
    """One pod; a pod whose sandbox is made again has two for a while.

    Attributes:
        uid: of the pod.
        path: of its cgroup; empty if the runtime does not tell.
        sandboxes: ids.
        containers: by name.
        managed: a container with claims has been in it, so its cgroup is ours to keep right.
        written: what its cgroup was given last; None if that is not known, or has to be tried again.
        changed: its containers are others since then.

    """

    uid: str
    path: str
    sandboxes: set[str] = field(default_factory=set)
    containers: dict[str, Held] = field(default_factory=dict)
    managed: bool = False
    written: PodPlan | None = None
    changed: bool = True

    def plan(self, facts: Facts) -> PodPlan:
        """Return what its cgroup must have."""
        return plan_pod(((held.claims, held.native) for held in self.containers.values()), facts)


class LivePods:
    """All pods of the runtime, and their cgroups.

    Args:
        cgroups: where limits are written; None where there are none to write (tests, other platforms).

    """

    def __init__(self, cgroups: PodCgroups | None) -> None:
        self._cgroups = cgroups
        self._by_uid: dict[str, LivePod] = {}
        self._above: set[str] = set()
        self._written: dict[str, int] = {}
        self.facts = Facts()
        """Of the node; to be set before anything is planned."""

    def __len__(self) -> int:
        return len(self._by_uid)

    def get(self, uid: str) -> LivePod | None:
        """Return a pod."""
        return self._by_uid.get(uid)

    def uids(self) -> list[str]:
        """Return the UIDs of the pods whose cgroups are kept right."""
        return [pod.uid for pod in self._by_uid.values() if pod.managed]

    def set_facts(self, facts: Facts) -> None:
        """Take note of another state of the node; pods get what follows from it at their next event."""
        self.facts = facts
        for pod in self._by_uid.values():
            pod.changed = True

    def clear(self) -> None:
        """Forget all: the runtime is about to tell anew. What was protected above pods is remembered."""
        self._by_uid.clear()

    def add(self, uid: str, sandbox: str, cgroup_parent: str) -> LivePod:
        """Take note of a sandbox."""
        pod = self._by_uid.get(uid)
        if pod is None:
            pod = self._by_uid[uid] = LivePod(uid=uid, path=_path(cgroup_parent))
        pod.path = pod.path or _path(cgroup_parent)
        pod.sandboxes.add(sandbox)
        return pod

    def remove(self, uid: str, sandbox: str) -> None:
        """Forget a sandbox, and with its last one the pod."""
        pod = self._by_uid.get(uid)
        if pod is None:
            return
        pod.sandboxes.discard(sandbox)
        if not pod.sandboxes:
            del self._by_uid[uid]
            self._written.pop(pod.path, None)
            self._protect_above()

    def hold(self, pod: LivePod, name: str, held: Held) -> None:
        """Take note of a container."""
        before = pod.containers.get(name)
        pod.containers[name] = held
        if before is None or before.claims != held.claims or before.native != held.native:
            pod.changed = True
        pod.managed = pod.managed or bool(held.claims)

    def drop(self, uid: str, name: str, container: str) -> LivePod | None:
        """Forget a container, unless another of its name has taken its place; return its pod if that is managed."""
        pod = self._by_uid.get(uid)
        if pod is None:
            return None
        held = pod.containers.get(name)
        if held is not None and held.id == container:
            del pod.containers[name]
            pod.changed = True
        return pod if pod.managed else None

    def apply(self, pod: LivePod, *, again: bool = False) -> list[str]:
        """Write what the cgroup of a pod must have; return what did not work, a sentence each.

        Args:
            pod: which.
            again: even if it is what was written last: somebody else may have written to it.

        """
        if self._cgroups is None or not pod.path or not pod.managed:
            return []
        if pod.written is not None and not pod.changed and not again:
            return []
        plan = pod.plan(self.facts)
        pod.changed = False
        if plan == pod.written and not again:
            return []
        limits = {hugetlb_name(page): limit for page, limit in plan.hugepages.items()}
        problems = self._cgroups.set_hugepages(pod.path, limits)
        if plan.protect or self._written:
            # a cgroup is protected no more than all above it: those come first
            problems += self._protect_above()
            problems += self._protect(pod.path, plan.protect)
        # what is in use cannot be taken away, which is tried again at the next event
        shrinks = pod.written is not None and any(
            limit < pod.written.hugepages.get(page, 0) for page, limit in plan.hugepages.items()
        )
        pod.written = None if problems or shrinks else plan
        for problem in problems:
            log.warning("a pod's cgroup could not be set", extra={"pod": pod.uid, "why": problem})
        return problems

    def _protect_above(self) -> list[str]:
        """Protect the sum of the pods below in every cgroup above."""
        wanted = merge(
            (PodCgroups.above(pod.path), pod.plan(self.facts).protect)
            for pod in self._by_uid.values()
            if pod.managed and pod.path
        )
        above = {path for path in self._written if path not in wanted and path in self._above}
        self._above |= {path for path, amount in wanted.items() if amount}
        problems: list[str] = []
        for path in sorted(above | wanted.keys()):
            problems += self._protect(path, wanted.get(path, 0))
        return problems

    def _protect(self, path: str, amount: int) -> list[str]:
        """Raise what is protected; lower it only from what was written here (the kubelet's MemoryQoS protects, too)."""
        written = self._written.get(path, 0)
        if self._cgroups is None or not (amount or written):
            return []
        now = self._cgroups.protected(path)
        if amount:
            self._written[path] = amount
        else:
            self._written.pop(path, None)
        return self._cgroups.protect(path, amount) if now < amount or now == written else []


def _path(cgroup_parent: str) -> str:
    try:
        return expand_slice(cgroup_parent)
    except InvalidInput as error:
        log.warning("a pod's cgroup is not known", extra={"why": str(error)})
        return ""
