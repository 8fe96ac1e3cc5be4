# SPDX-License-Identifier: Apache-2.0
"""The driver as a plugin of the container runtime: a container with a claim gets what the claim says, or is refused.

Rules: the ledger decides (see `nri_claims`); a container without claims is not touched; an answer needs no network and
no disk (a record that this process has not seen is read once, before a container is refused for it); what the kubelet
changes later cannot take away what a claim gave; what was missed while there was no connection is mended when it is
back. A container that cannot get what it must have is refused rather than started without.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec
from prometheus_client import Counter

from dynamic_memory.driver import nri_claims, nri_messages
from dynamic_memory.driver.nri_claims import NotGranted, recognise
from dynamic_memory.driver.nri_ledger import PreparedClaims
from dynamic_memory.driver.nri_plan import Facts, NoHome, plan_container
from dynamic_memory.driver.nri_pods import Held, LivePod, LivePods
from dynamic_memory.driver.records import Records
from dynamic_memory.driver.settings import ClaimSettings, RequestSettings
from dynamic_memory.host.pod_cgroups import PodCgroups
from dynamic_memory.nri.errors import Refused
from dynamic_memory.nri.events import Runtime
from dynamic_memory.nri.proto.nri_pb2 import (
    CONTAINER_STOPPED,
    Container,
    ContainerUpdate,
    CreateContainerResponse,
    LinuxResources,
    PodSandbox,
)
from dynamic_memory.process import clock

__all__ = ["LOOKS", "MemoryPlugin"]

log = logging.getLogger(__name__)

REFUSED = Counter("dynamic_memory_driver_nri_refused_total", "Containers that were refused because of their claims.")
REPAIRED = Counter(
    "dynamic_memory_driver_nri_repaired_total", "Containers whose settings differed from their claims' and were mended."
)
POD_PROBLEMS = Counter("dynamic_memory_driver_nri_pod_problems_total", "Limits of pods that could not be written.")
LOOKS = (0.02, 0.2, 2.0)
"""Seconds after which the cgroup of a pod that is being resized is written again. The kubelet writes it after plugins
have heard that it is done, and limits huge pages to 0 then (`SetPodCgroupConfig`); of that nobody is told."""
PAUSE_AFTER = 50
"""Pods whose cgroups are written in one go after Synchronize; then other work has its turn."""


class MemoryPlugin:
    """The hooks.

    Args:
        records: the ledger.
        cgroups: where limits of pods are written; None for nowhere.

    """

    def __init__(self, records: Records, cgroups: PodCgroups | None = None) -> None:
        self._claims = PreparedClaims(records)
        self._pods = LivePods(cgroups)
        self._shows_cdi = self._has_policy = False
        self._repair: asyncio.Task[None] | None = None
        self._looks: dict[str, asyncio.Task[None]] = {}

    @property
    def facts(self) -> Facts:
        """What is known of the node."""
        return self._pods.facts

    @facts.setter
    def facts(self, facts: Facts) -> None:
        if facts != self._pods.facts:
            self._pods.set_facts(facts)

    @property
    def pods(self) -> LivePods:
        """The pods of the runtime."""
        return self._pods

    # --- hooks

    def configure(self, runtime: Runtime) -> None:
        """Take note of the runtime."""
        self._shows_cdi, self._has_policy = runtime.shows_cdi, runtime.has_memory_policy
        if not runtime.has_memory_policy:
            log.warning(
                "the runtime has no memory policies: fabric memory is not preferred", extra={"runtime": str(runtime)}
            )

    def synchronize(
        self, pods: Sequence[PodSandbox], containers: Sequence[Container]
    ) -> list[ContainerUpdate] | Coroutine[Any, Any, list[ContainerUpdate]]:
        """Learn what exists, and mend what differs (a container was started or changed while nobody was connected)."""
        self._pods.clear()
        of_sandbox: dict[str, LivePod] = {}
        owned = self._claims.by_owner()
        for pod in pods:
            live = self._add(pod)
            # its containers may have ended while nobody was told
            live.managed = live.uid in owned
            of_sandbox[pod.id] = live
        updates: list[ContainerUpdate] = []
        unknown: list[tuple[LivePod, Container, NotGranted]] = []
        for container in containers:
            found = of_sandbox.get(container.pod_sandbox_id)
            if found is None or container.state == CONTAINER_STOPPED:
                continue
            try:
                update = self._found(found, container, owned.get(found.uid, []))
            except NotGranted as refused:
                unknown.append((found, container, refused))
            except Exception:  # one container must not cost all others their settings
                log.exception("a container could not be looked at", extra={"container": container.id})
            else:
                self._note_update(found, container, update, updates)
        if unknown:
            # another process of this driver may have prepared the claims
            return self._synchronize_after_reading(unknown, updates)
        self._repair = asyncio.create_task(self._repair_pods(self._pods.uids()))
        return updates

    def run_pod_sandbox(self, pod: PodSandbox) -> None:
        """Take note of the pod."""
        self._add(pod)

    def create_container(
        self, pod: PodSandbox, container: Container
    ) -> CreateContainerResponse | Coroutine[Any, Any, CreateContainerResponse | None] | None:
        """Give the container what its claims say, or refuse it."""
        try:
            return self._create(pod, container)
        except NotGranted as refused:
            # another process of this driver may have prepared the claim
            return self._create_after_reading(pod, container, refused)
        except Refused:
            REFUSED.inc()
            raise

    def update_container(
        self, pod: PodSandbox, container: Container, resources: LinuxResources
    ) -> list[ContainerUpdate]:
        """Keep what the claims gave: the kubelet sends the settings that it would have without them."""
        self._look_again(pod)
        held = self._held(pod, container)
        if held is None or not held.claims:
            return []
        asked = nri_messages.native_of(resources)
        native = msgspec.structs.replace(asked, hugepages=held.native.hugepages)
        plan = plan_container(held.claims, native, self.facts)
        if not resources.memory.HasField("limit"):
            # it is not the memory that changes, and the limit that the claims gave is there already
            plan = msgspec.structs.replace(plan, memory=None)
        update = nri_messages.update(container.id, plan, native, None)
        return [update] if update is not None else []

    def post_update_pod_sandbox(self, pod: PodSandbox) -> None:
        """Set the pod's cgroup again: the kubelet is writing to it."""
        self._look_again(pod)

    def stop_container(self, pod: PodSandbox, container: Container) -> list[ContainerUpdate]:
        """Take back from the pod's cgroup what the container had; the claim stays its pod's."""
        self._drop(pod, container)
        return []

    def remove_container(self, pod: PodSandbox, container: Container) -> None:
        """As when it is stopped; pages that were still in use then are free now."""
        self._drop(pod, container)

    def remove_pod_sandbox(self, pod: PodSandbox) -> None:
        """Forget the sandbox; the pod's claims are released by Unprepare alone."""
        self._pods.remove(pod.uid, pod.id)

    async def keep_pods(self) -> None:
        """Write again the cgroups of all pods in which something with claims runs: whoever else wrote tells nobody."""
        running = (self._pods.get(uid) for uid in self._pods.uids())
        await self._repair_pods([live.uid for live in running if live is not None and live.containers])

    # --- parts

    def _create(self, pod: PodSandbox, container: Container) -> CreateContainerResponse | None:
        told = self._told(pod.uid, container)
        owned = list(self._claims.owned_by(pod.uid))
        native = nri_messages.native_of(container.linux.resources)
        live = self._add(pod)
        claims = recognise(told, self._claims.get, owned) if owned or nri_claims.says_anything(told) else []
        held = Held(id=container.id, claims=tuple(claims), native=native)
        if not claims:
            self._pods.hold(live, container.name, held)
            self._apply(live)
            return None
        try:
            plan = plan_container(claims, native, self._pods.facts)
        except NoHome as error:
            raise Refused(f"container {container.name}: {error}") from error
        self._pods.hold(live, container.name, held)
        problems = self._apply(live)
        if problems and any(claim.hugepages for claim in claims):
            self._pods.drop(pod.uid, container.name, container.id)
            raise Refused(f"container {container.name}: its pod cannot be given its huge pages: {problems[0]}")
        if log.isEnabledFor(logging.INFO):
            keys = [claim.key for claim in claims]
            log.info("container", extra={"pod": pod.uid, "container": container.name, "claims": keys})
        answer = CreateContainerResponse()
        nri_messages.adjust(answer.adjust, plan, native, policy=self._has_policy)
        return answer

    async def _create_after_reading(
        self, pod: PodSandbox, container: Container, refused: NotGranted
    ) -> CreateContainerResponse | None:
        try:
            read: set[str] = set()
            while refused.claim not in read and len(read) < nri_claims.MAX_CLAIMS:
                read.add(refused.claim)
                if not await self._claims.read(refused.claim):
                    break
                try:
                    return self._create(pod, container)
                except NotGranted as again:
                    refused = again
            raise refused
        except Refused:
            REFUSED.inc()
            raise

    async def _synchronize_after_reading(
        self, unknown: Sequence[tuple[LivePod, Container, NotGranted]], updates: list[ContainerUpdate]
    ) -> list[ContainerUpdate]:
        read: set[str] = set()
        for live, container, refused in unknown:
            try:
                update = await self._found_after_reading(live, container, refused, read)
            except Exception:  # one container must not cost all others their settings
                log.exception("a container could not be looked at", extra={"container": container.id})
            else:
                self._note_update(live, container, update, updates)
        self._repair = asyncio.create_task(self._repair_pods(self._pods.uids()))
        return updates

    async def _found_after_reading(
        self, live: LivePod, container: Container, refused: NotGranted, read: set[str]
    ) -> ContainerUpdate | None:
        """Do as `_found` does, once the records that it asks for are read; `read` are those that have been."""
        for _ in range(nri_claims.MAX_CLAIMS):
            if refused.claim not in read:
                read.add(refused.claim)
                await self._claims.read(refused.claim)
            owned = list(self._claims.owned_by(live.uid))
            live.managed = live.managed or bool(owned)
            try:
                return self._found(live, container, owned)
            except NotGranted as again:
                refused = again
            if refused.claim in read:
                break
        return self._take_back(live, container, refused)

    @staticmethod
    def _note_update(
        live: LivePod, container: Container, update: ContainerUpdate | None, updates: list[ContainerUpdate]
    ) -> None:
        if update is not None:
            REPAIRED.inc()
            log.warning("a container differs from its claims", extra={"pod": live.uid, "container": container.name})
            updates.append(update)

    def _found(self, live: LivePod, container: Container, owned: Sequence[ClaimSettings]) -> ContainerUpdate | None:
        """Take note of a container that exists; return how it has to change.

        Raises:
            NotGranted: it uses a claim of which this process does not know that it is its own.

        """
        told = self._told(live.uid, container)
        claims: list[RequestSettings] = []
        if owned or nri_claims.says_anything(told):
            try:
                claims = recognise(told, self._claims.get, owned)
            except NotGranted:
                raise
            except Refused as refused:
                return self._take_back(live, container, refused)
        if not claims:
            plain = nri_messages.native_of(container.linux.resources)
            self._pods.hold(live, container.name, Held(id=container.id, claims=(), native=plain))
            return None
        native = nri_messages.reported_native(container)
        self._pods.hold(live, container.name, Held(id=container.id, claims=tuple(claims), native=native))
        plan = plan_container(claims, native, self._pods.facts)
        return nri_messages.update(container.id, plan, native, container.linux.resources)

    def _take_back(self, live: LivePod, container: Container, why: Refused) -> ContainerUpdate | None:
        """Return how a container has to change that was started while nobody could refuse it."""
        log.error(
            "a container uses a claim that is not its own",
            extra={"pod": live.uid, "container": container.name, "why": str(why)},
        )
        native = nri_messages.reported_native(container)
        # it gets no huge pages of others
        nothing = plan_container((), native, self.facts)
        return nri_messages.update(container.id, nothing, native, container.linux.resources)

    def _held(self, pod: PodSandbox, container: Container) -> Held | None:
        live = self._pods.get(pod.uid)
        held = live.containers.get(container.name) if live else None
        return held if held is not None and held.id == container.id else None

    def _drop(self, pod: PodSandbox, container: Container) -> None:
        live = self._pods.drop(pod.uid, container.name, container.id)
        if live is not None:
            self._apply(live)

    def _add(self, pod: PodSandbox) -> LivePod:
        return self._pods.add(pod.uid, pod.id, pod.linux.cgroup_parent)

    def _apply(self, live: LivePod, *, again: bool = False) -> list[str]:
        problems = self._pods.apply(live, again=again)
        POD_PROBLEMS.inc(len(problems))
        return problems

    def _look_again(self, pod: PodSandbox) -> None:
        """Write the cgroup of a pod that is being resized, now and a few times more."""
        live = self._pods.get(pod.uid)
        if live is None or not live.managed:
            return
        self._apply(live, again=True)
        if (before := self._looks.pop(pod.uid, None)) is not None:
            before.cancel()
        task = self._looks[pod.uid] = asyncio.create_task(self._looked(pod.uid), name=f"resized pod {pod.uid}")
        task.add_done_callback(lambda done: self._looks.get(pod.uid) is done and self._looks.pop(pod.uid))

    async def _looked(self, uid: str) -> None:
        for seconds in LOOKS:
            await clock.sleep(seconds)
            live = self._pods.get(uid)
            if live is None:
                return
            self._apply(live, again=True)

    async def _repair_pods(self, uids: Sequence[str]) -> None:
        """Write the cgroups of some pods with claims; there may be many."""
        for count, uid in enumerate(uids, 1):
            live = self._pods.get(uid)
            if live is not None:
                self._apply(live, again=True)
            if count % PAUSE_AFTER == 0:
                await asyncio.sleep(0)  # noqa: TID251 - gives way, and waits for nothing

    def _told(self, pod: str, container: Container) -> nri_claims.Container:
        return nri_claims.Container(
            pod=pod,
            name=container.name,
            cdi=[device.name for device in container.cdi_devices],
            env=[entry for entry in container.env if entry.startswith(nri_claims.PREFIXES)],
            shows_cdi=self._shows_cdi,
        )
