# SPDX-License-Identifier: Apache-2.0
"""What a container must get for a prepared claim: written by Prepare, read by the NRI plugin when a container starts.

Prepare knows the allocation, the NRI plugin knows the container, and this is all that they say to each other. The unit
is a *CDI device*, because that is what the kubelet hands to a container: a claim has one device, or one for each of its
requests (a container may use only some). `Book` is the index in memory; its truth is in the claims' records, from which
it is filled at the start. Pure.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

__all__ = ["Book", "Mode", "Settings"]


class Mode(enum.StrEnum):
    """How ordinary memory of a claim is enforced."""

    LIMIT = "limit"
    """The container gets no more than the claim (memory.max)."""
    PROTECT = "protect"
    """As `limit`, and the kernel does not take it back while others need memory (memory.min; cgroup v2)."""
    ADVISE = "advise"
    """Only the place is set (nodes and policy), not the amount."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one CDI device of a claim gives to the container that has it.

    Attributes:
        device: name of the CDI device (`claim-<uid>`), without vendor and class.
        claim: UID of the claim.
        pod: UID of the only pod that may use it: the owner, from Prepare until Unprepare.
        containers: names of the owner's containers that refer to it, as Prepare read them in the pod; a container of
            another name is refused. Empty: the first container of the pod that asks for it has it.
        nodes: NUMA nodes of the ordinary memory; empty if there is none.
        far: those of `nodes` that have only movable memory. They cannot be a container's only nodes.
        memory: bytes of ordinary memory.
        mode: what is done about `memory`.
        hugepages: bytes by page size as cgroups spell it (`2MB`, `1GB`, `64KB`).
        hugepage_nodes: NUMA nodes of the hugepages.
        env: exactly the variables that the CDI device sets; a runtime that does not tell CDI devices is
            believed only if the container has them unchanged.

    """

    device: str
    claim: str
    pod: str
    containers: tuple[str, ...] = ()
    nodes: tuple[int, ...] = ()
    far: tuple[int, ...] = ()
    memory: int = 0
    mode: Mode = Mode.ADVISE
    hugepages: dict[str, int] = {}
    hugepage_nodes: tuple[int, ...] = ()
    env: dict[str, str] = {}


class Book:
    """The settings of all prepared claims, by device and by claim."""

    def __init__(self) -> None:
        self._by_claim: dict[str, tuple[Settings, ...]] = {}
        self._by_device: dict[str, Settings] = {}
        self._by_pod: dict[str, dict[str, Settings]] = {}

    def put(self, claim: str, settings: Iterable[Settings]) -> None:
        """Replace what is known of a claim (by UID): from now on its containers may start."""
        self.drop(claim)
        made = tuple(settings)
        if not made:
            return
        self._by_claim[claim] = made
        for one in made:
            self._by_device[one.device] = one
            self._by_pod.setdefault(one.pod, {})[one.device] = one

    def drop(self, claim: str) -> None:
        """Forget a claim: it was unprepared, and no container may use it any more."""
        for one in self._by_claim.pop(claim, ()):
            self._by_device.pop(one.device, None)
            of_pod = self._by_pod.get(one.pod, {})
            of_pod.pop(one.device, None)
            if not of_pod:
                self._by_pod.pop(one.pod, None)

    def device(self, name: str) -> Settings | None:
        """Return what a CDI device gives, or None if no prepared claim has it."""
        return self._by_device.get(name)

    def of_pod(self, uid: str) -> list[Settings]:
        """Return what the claims give that a pod owns."""
        return list(self._by_pod.get(uid, {}).values())

    def all(self) -> list[Settings]:
        """Return everything."""
        return list(self._by_device.values())

    def __len__(self) -> int:
        return len(self._by_device)
