# SPDX-License-Identifier: Apache-2.0
"""The scheduler: watches come in, pods come out of the queue, decisions are carried out side by side.

One loop takes pods from the queue and decides; every decision counts at once (it is assumed), and a task of its own
writes it. So hundreds of pods are under way while each decision sees all earlier ones. If a step fails, what was
assumed is taken back and the pod comes again after its back-off.

What wakes a pod that did not fit is called by name: RESOURCES, NODES, DEVICES, its claims, the pod itself.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any

import aiohttp

from dynamic_memory.allocation import Allocator, FatalAllocationError, Inventory
from dynamic_memory.allocation.selectors import CelProvider
from dynamic_memory.api.core import Node
from dynamic_memory.api.kinds import DEVICE_CLASSES, RESOURCE_CLAIMS, RESOURCE_SLICES
from dynamic_memory.api.kinds import NODES as NODE_KIND
from dynamic_memory.api.resource import DeviceClass, ResourceClaim, ResourceSlice
from dynamic_memory.embedded.scheduler.announcer import Announcer
from dynamic_memory.embedded.scheduler.binding import Binder, PodGone
from dynamic_memory.embedded.scheduler.claims import DEVICES, ClaimBook, call_of
from dynamic_memory.embedded.scheduler.config import SchedulerConfig
from dynamic_memory.embedded.scheduler.decide import ANYTHING, Decider, Failure, Question, Success, call_of_pod
from dynamic_memory.embedded.scheduler.extender import Extender, ExtenderFailed
from dynamic_memory.embedded.scheduler.nodes import NodeTable
from dynamic_memory.embedded.scheduler.podclaims import BindingFailed, ClaimMissing, ClaimUnusable, pod_claims, waits
from dynamic_memory.embedded.scheduler.queue import Entry, SchedulingQueue
from dynamic_memory.embedded.scheduler.shapes import NODES, RESOURCES
from dynamic_memory.embedded.scheduler.types import SCHEDULED_PODS, Pod, finished
from dynamic_memory.errors import DynamicMemoryError, InvalidInput, Kind
from dynamic_memory.kube.errors import ApiError
from dynamic_memory.kube.informer import Change, Informer
from dynamic_memory.kube.interface import Kube
from dynamic_memory.process import clock

__all__ = ["Scheduler"]

log = logging.getLogger(__name__)

_FLUSH_EVERY = 30.0


class Scheduler:
    """A scheduler.

    Args:
        kube: the API server.
        config: settings.

    """

    def __init__(self, kube: Kube, config: SchedulerConfig | None = None) -> None:
        self.config = config if config is not None else SchedulerConfig()
        self._kube = kube
        self._pods: Informer[Pod] = Informer(kube, SCHEDULED_PODS)
        self._nodes: Informer[Node] = Informer(kube, NODE_KIND)
        self._claims: Informer[ResourceClaim] = Informer(kube, RESOURCE_CLAIMS)
        self._slices: Informer[ResourceSlice] = Informer(kube, RESOURCE_SLICES)
        self._classes: Informer[DeviceClass] = Informer(kube, DEVICE_CLASSES)
        self.inventory = Inventory()
        self.table = NodeTable()
        self.book = ClaimBook(self._claims, self.inventory)
        self.queue = SchedulingQueue(initial=self.config.initial_backoff, maximum=self.config.max_backoff)
        self._announcer = Announcer(kube, self.config.name)
        self._binder = Binder(kube, self.book, timeout=self.config.binding_timeout)
        provider = CelProvider(self.inventory.features, lambda: str(uuid.uuid4()))
        self._decider = Decider(
            self.table, self.book, Allocator(self.inventory, provider), self._binder.failed, self.inventory.device_class
        )
        self._extenders: list[Extender] = []
        self._slots = asyncio.Semaphore(self.config.writers)
        self._flying: dict[str, str] = {}
        self._subscribe()

    @property
    def synced(self) -> bool:
        """Whether all caches have had their first list."""
        return all(informer.synced for informer in self._informers())

    @property
    def flying(self) -> int:
        """How many decisions are being carried out."""
        return len(self._flying)

    async def run(self) -> None:
        """Schedule for ever."""
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            self._extenders = [Extender(config, self._kube, session) for config in self.config.extenders]
            for informer in self._informers():
                group.create_task(informer.run())
            group.create_task(self._announcer.run())
            group.create_task(self._flush_forever())
            for informer in self._informers():
                await informer.wait_synced()
            await self._decide_forever(group)

    # --- what happens in the cluster

    def _informers(self) -> tuple[Informer[Any], ...]:
        # Pods come last: with them, decisions begin.
        return self._nodes, self._classes, self._slices, self._claims, self._pods

    def _subscribe(self) -> None:
        self._pods.subscribe(_guarded(self._pod_changed))
        self._nodes.subscribe(_guarded(self._node_changed))
        self._claims.subscribe(_guarded(self._claim_changed))
        self._slices.subscribe(_guarded(self._slice_changed))
        self._classes.subscribe(_guarded(self._class_changed))

    def _pod_changed(self, change: Change[Pod]) -> None:
        pod = change.object
        uid = pod.metadata.uid
        if change.type == "deleted" or finished(pod):
            self._leave(uid)
            if self.table.remove_pod(uid):
                self._call(RESOURCES)
        elif pod.spec.node_name:
            self._flying.pop(uid, None)
            self.queue.remove(uid)
            self._announcer.forget(uid)
            if self.table.put_pod(pod, pod.spec.node_name):
                self._call(RESOURCES)
        elif pod.metadata.deletion_timestamp is not None:
            self._leave(uid)
        elif (pod.spec.scheduler_name or "default-scheduler") == self.config.name:
            self._pod_waits(pod, change.old)

    def _leave(self, uid: str) -> None:
        self._flying.pop(uid, None)
        self.queue.remove(uid)
        self._announcer.forget(uid)
        self._binder.pod_gone(uid)

    def _pod_waits(self, pod: Pod, old: Pod | None) -> None:
        uid = pod.metadata.uid
        if pod.spec.scheduling_gates:
            self.queue.gate(pod, {call_of_pod(uid)})
            return
        if uid not in self.queue and uid not in self._flying:
            try:
                pod_claims(pod, self.book.get)
            except ClaimMissing as missing:
                self.queue.gate(pod, missing.calls | {call_of_pod(uid)})
                return
        self.queue.add(pod)
        changed = old is not None and (
            old.spec != pod.spec or old.status.resource_claim_statuses != pod.status.resource_claim_statuses
        )
        if changed:
            self.queue.call(call_of_pod(uid))

    def _node_changed(self, change: Change[Node]) -> None:
        node = change.object
        name = node.metadata.name
        if change.type == "deleted":
            self.table.remove_node(name)
            self.inventory.remove_node(name)
            return
        old = change.old
        if old is not None and _what_counts(old) == _what_counts(node):
            return
        self.inventory.put_node(node)
        position = self.inventory.position(name)
        assert position is not None  # noqa: S101 - it was just put there
        self.table.put_node(node, position)
        if old is None:
            self._call(NODES, RESOURCES, DEVICES)
        elif old.status.allocatable != node.status.allocatable:
            self._call(RESOURCES, NODES)
        else:
            self._call(NODES, DEVICES)

    def _claim_changed(self, change: Change[ResourceClaim]) -> None:
        calls = self.book.observe(change)
        if change.type == "deleted":
            self._binder.claim_gone(change.object)
        self._binder.claim_changed(change.object.metadata.namespace, change.object.metadata.name)
        self._call(*calls)

    def _slice_changed(self, change: Change[ResourceSlice]) -> None:
        if change.type == "deleted":
            self.inventory.remove_slice(change.object.metadata.name)
        else:
            self.inventory.put_slice(change.object)
        self._call(DEVICES)

    def _class_changed(self, change: Change[DeviceClass]) -> None:
        if change.type == "deleted":
            self.inventory.remove_class(change.object.metadata.name)
        else:
            self.inventory.put_class(change.object)
        self._call(DEVICES)

    def _call(self, *names: str) -> None:
        if DEVICES in names or NODES in names:
            self._decider.devices_changed += 1
        self.queue.call(*names, ANYTHING)

    async def _flush_forever(self) -> None:
        while True:
            await clock.sleep(_FLUSH_EVERY)
            self.queue.flush(self.config.flush_after)

    # --- decisions

    async def _decide_forever(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self._slots.acquire()
            slot = _Slot(self._slots)
            try:
                entry = await self.queue.get()
                found = await self._decide(entry)
            except BaseException:
                slot.free()
                raise
            if found is None:
                slot.free()
            else:
                self._assume(entry.pod, found)
                group.create_task(self._carry_out(entry, found, slot))
            # Watches and writers have their turn after each decision.
            await clock.sleep(0)

    async def _decide(self, entry: Entry) -> Success | None:
        """Decide on a pod; if there is nothing to carry out, say why and put the pod where it belongs."""
        pod = entry.pod
        uid = pod.metadata.uid
        if uid in self._flying:
            self.queue.park(entry, {call_of_pod(uid)})
            return None
        try:
            question = self._decider.ask(pod)
            extenders = [extender for extender in self._extenders if extender.interested(pod)]
            if extenders:
                found = await self._decide_with(question, extenders)
            else:
                found = self._decider.decide(question)
        except ClaimUnusable as unusable:
            failure = self._decider.unusable(pod, unusable)
            self._report(pod, "Unschedulable", failure.told())
            self.queue.park(entry, failure.blockers)
            return None
        except ClaimMissing as missing:
            # Not an attempt: as upstream (PreEnqueue), such a pod does not come to the queue at all.
            entry.attempts -= 1
            self.queue.gate(pod, missing.calls | {call_of_pod(uid)})
            return None
        except (FatalAllocationError, InvalidInput, ExtenderFailed, ApiError) as error:
            log.info("pod %s/%s cannot be scheduled: %s", pod.metadata.namespace, pod.metadata.name, error)
            self._report(pod, "SchedulerError", str(error))
            self.queue.fail(entry)
            return None
        if isinstance(found, Success):
            return found
        cleared = await self._clear(pod, found)
        self._report(pod, "Unschedulable", found.told(cleared=cleared))
        self.queue.park(entry, found.blockers)
        return None

    async def _decide_with(self, question: Question, extenders: list[Extender]) -> Success | Failure:
        names = self._decider.all_fitting(question)
        scores = {name: self._decider.score(question, name) for name in names}
        reasons: dict[str, str] = {}
        for extender in extenders:
            if not names:
                break
            try:
                left, failed = await extender.filter(question.pod, names)
            except ExtenderFailed as error:
                if not extender.config.ignorable:
                    raise
                log.warning("an extender is passed over: %s", error)
                continue
            reasons |= {name: failed.get(name, "refused by an extender") for name in names if name not in left}
            names = left
        if not names and reasons:
            return self._decider.refused_by_extender(question, reasons)
        if len(names) > 1:
            for extender in extenders:
                try:
                    more = await extender.prioritize(question.pod, names)
                except ExtenderFailed as error:
                    log.warning("an extender gives no scores: %s", error)
                    continue
                for name, points in more.items():
                    scores[name] = scores.get(name, 0) + points
        # The world went on while the extenders thought.
        return self._decider.decide(
            self._decider.ask(question.pod), sorted(names, key=lambda name: (-scores[name], name))
        )

    async def _clear(self, pod: Pod, failure: Failure) -> bool:
        """Give one allocation back that is of no use to the pod; the pod is woken when the watch tells."""
        for claim in failure.in_the_way:
            try:
                if await self._binder.deallocate(pod, claim):
                    return True
            except ApiError as error:
                log.warning("claim %s was not deallocated: %s", claim.metadata.name, error)
        return False

    def _assume(self, pod: Pod, found: Success) -> None:
        self._flying[pod.metadata.uid] = found.node
        self.table.put_pod(pod, found.node)
        for claim in found.claims:
            allocation = found.allocations.get(claim.metadata.uid)
            if allocation is not None:
                self.book.assume(claim, allocation)

    # --- carrying out

    async def _carry_out(self, entry: Entry, found: Success, slot: _Slot) -> None:
        pod = entry.pod
        where = f"{pod.metadata.namespace}/{pod.metadata.name}"
        try:
            await self._write(pod, found, slot)
        except PodGone:
            await self._undo(pod, found)
        except (DynamicMemoryError, ExceptionGroup) as error:
            problem = _first(error)
            if not isinstance(problem, DynamicMemoryError):
                raise
            log.info("pod %s is not bound: %s", where, problem)
            await self._undo(pod, found)
            if pod.metadata.uid in self.queue:
                step = 'running PreBind plugin "DynamicResources": ' if isinstance(problem, _PREBIND) else ""
                self._announcer.nominate(pod, "")
                self._report(pod, "SchedulerError", f"{step}{problem}")
            # A refusal (by a policy against sharing, say) may be none once the claim has changed.
            refused = isinstance(problem, ApiError) and problem.kind is not Kind.RETRY
            calls = {call_of(claim.metadata.namespace, claim.metadata.name) for claim in found.claims}
            self.queue.fail(entry, calls if refused else ())
        else:
            message = f"Successfully assigned {where} to {found.node}"
            self._announcer.say(pod, "Normal", "Scheduled", message, "Binding")
        finally:
            slot.free()

    async def _write(self, pod: Pod, found: Success, slot: _Slot) -> None:
        steps = [self._binder.reserve(pod, claim, found.allocations.get(claim.metadata.uid)) for claim in found.claims]
        if len(steps) == 1:
            claims = [await steps[0]]
        else:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(step) for step in steps]
            claims = [task.result() for task in tasks]
        waiting = [claim for claim in claims if waits(claim)]
        if waiting:
            slot.free()
            names = ", ".join(claim.metadata.name for claim in waiting)
            text = f"waiting for binding conditions of devices in claims: {names}"
            self._announcer.say(pod, "Normal", "BindingConditionsPending", text, "Scheduling")
            self._announcer.nominate(pod, found.node)
            await self._binder.ready(pod, waiting)
        for extender in self._extenders:
            if extender.config.bind_verb and extender.interested(pod):
                await extender.bind(pod, found.node)
                return
        await self._binder.bind(pod, found.node)

    async def _undo(self, pod: Pod, found: Success) -> None:
        """Take back what was assumed and reserved. A claim that is allocated stays so: the next decision clears it."""
        uid = pod.metadata.uid
        self._flying.pop(uid, None)
        known = self._pods.get(pod.metadata.name, pod.metadata.namespace)
        if known is None or known.metadata.uid != uid or not known.spec.node_name:
            self.table.remove_pod(uid)
        for claim in found.claims:
            self.book.give_up(claim)
            try:
                await self._binder.unreserve(pod, claim)
            except ApiError as error:
                log.warning("claim %s is still reserved: %s", claim.metadata.name, error)
        self._call(RESOURCES, DEVICES)

    def _report(self, pod: Pod, reason: str, message: str) -> None:
        self._announcer.unscheduled(pod, reason, message)
        self._announcer.say(pod, "Warning", "FailedScheduling", message, "Scheduling")


_PREBIND = (BindingFailed, ClaimUnusable)


class _Slot:
    """The right to write; given back once, by whoever is first."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots: asyncio.Semaphore | None = slots

    def free(self) -> None:
        """Let another decision be written."""
        if self._slots is not None:
            self._slots.release()
            self._slots = None


def _guarded(handler: Any) -> Any:
    """Return a handler that logs what is wrong with an object instead of raising: one bad object is not the end."""

    def handle(change: Change[Any]) -> None:
        try:
            handler(change)
        except InvalidInput as error:
            log.warning("%s is passed over: %s", change.object.metadata.name, error)

    return handle


def _what_counts(node: Node) -> tuple[Any, ...]:
    """Return what of a node decides anything; heartbeats do not."""
    return (
        node.metadata.uid,
        node.metadata.labels,
        node.spec.unschedulable,
        node.spec.taints,
        node.status.allocatable,
        node.status.declared_features,
    )


def _first(error: Exception) -> BaseException:
    """Return the first error of several steps."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
