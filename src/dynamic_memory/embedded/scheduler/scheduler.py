# SPDX-License-Identifier: Apache-2.0
"""The scheduler: watches come in, pods come out of the queue, decisions are carried out side by side.

One loop takes pods from the queue and decides; every decision counts at once (it is assumed), and a task of its own
writes it. So hundreds of pods are under way while each decision sees all earlier ones. If a step fails, what was
assumed is taken back and the pod comes again after its back-off.
"""

from __future__ import annotations

import asyncio
import logging
import uuid

import aiohttp

from dynamic_memory.allocation import Allocator, FatalAllocationError
from dynamic_memory.allocation.selectors import CelProvider
from dynamic_memory.embedded.scheduler.announcer import Announcer
from dynamic_memory.embedded.scheduler.binding import Binder, PodGone
from dynamic_memory.embedded.scheduler.claims import DEVICES, call_of
from dynamic_memory.embedded.scheduler.config import SchedulerConfig
from dynamic_memory.embedded.scheduler.decide import Decider, Failure, Question, Success
from dynamic_memory.embedded.scheduler.extender import Extender, ExtenderFailed
from dynamic_memory.embedded.scheduler.podclaims import BindingFailed, ClaimMissing, ClaimUnusable, waits
from dynamic_memory.embedded.scheduler.queue import Entry, SchedulingQueue
from dynamic_memory.embedded.scheduler.shapes import RESOURCES
from dynamic_memory.embedded.scheduler.types import Pod
from dynamic_memory.embedded.scheduler.world import World, call_of_pod
from dynamic_memory.errors import DynamicMemoryError, InvalidInput, Kind
from dynamic_memory.kube.errors import ApiError
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
        self.queue = SchedulingQueue(initial=self.config.initial_backoff, maximum=self.config.max_backoff)
        self._world = World(kube, self.config.name, self.queue)
        self.inventory = self._world.inventory
        self.table = self._world.table
        self.book = self._world.book
        self._flying = self._world.flying
        self._announcer = Announcer(kube, self.config.name)
        self._binder = Binder(kube, self.book, timeout=self.config.binding_timeout)
        provider = CelProvider(self.inventory.features, lambda: str(uuid.uuid4()))
        self._decider = Decider(self._world, Allocator(self.inventory, provider), self._binder.failed)
        self._extenders: list[Extender] = []
        self._slots = asyncio.Semaphore(self.config.writers)
        self._world.on_pod_gone(self._announcer.forget, self._binder.pod_gone)
        self._world.on_pod_bound(self._announcer.forget)
        self._world.on_claim(self._binder.claim_changed)

    @property
    def synced(self) -> bool:
        """Whether all caches have had their first list."""
        return all(informer.synced for informer in self._world.informers)

    @property
    def flying(self) -> int:
        """How many decisions are being carried out."""
        return len(self._flying)

    async def run(self) -> None:
        """Schedule for ever."""
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            self._extenders = [Extender(config, self._kube, session) for config in self.config.extenders]
            for informer in self._world.informers:
                group.create_task(informer.run())
            group.create_task(self._announcer.run())
            group.create_task(self._flush_forever())
            for informer in self._world.informers:
                await informer.wait_synced()
            await self._decide_forever(group)

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
                # The watch has brought newer versions of the pod meanwhile.
                self._announcer.nominate(entry.pod, "")
                self._report(entry.pod, "SchedulerError", f"{step}{problem}")
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
        """Take back what was assumed and reserved. A claim that is allocated stays so: the next decision clears it.

        What a pod that is gone had reserved the claim controller takes back, together with the allocation, which nobody
        would be left to clear if the reservation went alone.
        """
        uid = pod.metadata.uid
        self._flying.pop(uid, None)
        known = self._world.pod(pod.metadata.namespace, pod.metadata.name)
        gone = known is None or known.metadata.uid != uid
        if known is None or gone or not known.spec.node_name:
            self.table.remove_pod(uid)
        for claim in found.claims:
            self.book.give_up(claim)
            if gone:
                continue
            try:
                await self._binder.unreserve(pod, claim)
            except ApiError as error:
                log.warning("claim %s is still reserved: %s", claim.metadata.name, error)
        self._world.call(RESOURCES, DEVICES)

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


def _first(error: Exception) -> BaseException:
    """Return the first error of several steps."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
