# SPDX-License-Identifier: Apache-2.0
"""The loop that attaches and detaches: one key at a time, one step at a time, until nothing is left to do or to try.

Keys are claim UIDs, and `orphan-<tag>` for memory that no claim is known of. A key is put into the queue by whatever
may have changed something: the watch over claims, the session with the fabric, Prepare and Unprepare, a time. Only the
process that holds the node's lock runs this.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import msgspec
from prometheus_client import Counter, Gauge, Histogram

from dynamic_memory.api.names import Reason
from dynamic_memory.api.resource import ResourceClaim
from dynamic_memory.driver import claims, conditions, reactions
from dynamic_memory.driver.actions import Actions, Work
from dynamic_memory.driver.conditions import Report
from dynamic_memory.driver.node import Node
from dynamic_memory.driver.planner import Facts, Step, next_step
from dynamic_memory.driver.progress import Outcome, Verdict
from dynamic_memory.driver.reactions import Reaction
from dynamic_memory.driver.records import ClaimRecord, Prepared
from dynamic_memory.driver.spec import cdi_ids, far_grant, spec_of
from dynamic_memory.errors import DynamicMemoryError
from dynamic_memory.host.errors import NoRegion
from dynamic_memory.kube.errors import ApiError
from dynamic_memory.kube.queue import work as work_queue
from dynamic_memory.process import clock
from dynamic_memory.process.backoff import Backoff

__all__ = ["Reconciler"]

log = logging.getLogger(__name__)

MAX_STEPS = 64
SOON = 0.1
FINAL = {Step.READY: Verdict.READY, Step.RELEASED: Verdict.RELEASED, Step.GONE: Verdict.RELEASED}
SLOWEST = {Reason.WAITING_FOR_MEMORY: 0.5, Reason.WAITING_FOR_RELEASE: 1.0, Reason.MEMORY_BUSY: 5.0}

STEPS = Counter("dynamic_memory_driver_steps_total", "Steps of attach and detach that were carried out.", ["step"])
TROUBLE = Counter("dynamic_memory_driver_waits_total", "Steps that could not be carried out, by reason.", ["reason"])
FAILURES = Counter("dynamic_memory_driver_attach_failures_total", "Attaches given up, by reason.", ["reason"])
ATTACH = Histogram(
    "dynamic_memory_driver_attach_seconds",
    "From the first step of an attach to Attached=True.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
RECORDS = Gauge("dynamic_memory_driver_records", "Claims that the driver has a record of.")


@dataclass
class _Trouble:
    """What has kept a share waiting since when, and what people were told of it."""

    reason: Reason
    since: float
    backoff: Backoff
    told: tuple[str, str] = ("", "")
    told_at: float = field(default=-1e9)


class Reconciler:
    """Works on the keys of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._actions = Actions(node)
        self._trouble: dict[str, _Trouble] = {}
        self._began: dict[str, float] = {}
        self._published: set[str] = set()

    async def run(self, workers: int) -> None:
        """Work for ever."""
        await work_queue(self._node.queue, self.handle, workers=workers)

    def wake(self) -> None:
        """Try everything again at once that is waiting: something that many wait for has changed."""
        for tag in self._trouble:
            key = self._node.records.key_of(tag)
            if key is not None:
                self._node.queue.add(key)

    async def handle(self, key: str) -> None:
        """Bring everything that belongs to one key as far as it goes now."""
        ticket = self._node.progress.begin(key)
        outcomes: dict[str, Outcome] = {}
        try:
            outcomes = await self._claim(key)
        except DynamicMemoryError as error:
            outcomes = {"": self._cannot_look(key, error)}
        except OSError as error:
            outcomes = {"": self._cannot_write(key, error)}
        finally:
            RECORDS.set(len(self._node.records))
        self._node.progress.finish(key, ticket, outcomes)
        delays = [outcome.delay for outcome in outcomes.values() if outcome.delay > 0]
        if delays:
            self._node.queue.add(key, delay=min(delays))

    async def _claim(self, key: str) -> dict[str, Outcome]:
        claim = await self._find(key)
        outcomes: dict[str, Outcome] = {}
        wanted: str | None = None
        if claim is not None:
            try:
                share = claims.share_of(claim, self._node.name)
                wanted = share.tag if share else None
            except claims.RefusedClaim as refusal:
                outcomes |= await self._refuse(claim, refusal)
        record = self._node.records.get(key)
        tags = [share.tag for share in record.shares if share.tag != wanted] if record else []
        # what goes frees bytes for what comes
        for tag in [*tags, *([wanted] if wanted else [])]:
            outcomes[tag] = await self._share(Work(key=key, tag=tag, claim=claim))
        return outcomes

    async def _find(self, key: str) -> ResourceClaim | None:
        """Return the claim of a key: from the cache, else from the API server, which alone can say that it is gone."""
        cached = self._node.claims.get(key)
        if cached is not None:
            return cached
        record = self._node.records.get(key)
        namespace, name = (record.namespace, record.name) if record else self._node.names_of.get(key, ("", ""))
        return await self._node.claims.read(namespace, name, key) if name else None

    async def _refuse(self, claim: ResourceClaim, refusal: claims.RefusedClaim) -> dict[str, Outcome]:
        """Say in the claim, and in an event, why it is not served. No window is at fault: none is tainted for it."""
        report = Report(attached=False, failed=True, reason=Reason.INVALID_CLAIM, message=str(refusal))
        refused = claims.fabric_results(claim)
        tags = [result.share_id or "" for result in refused]
        if refused and not all(conditions.says(claim, tag, report) for tag in tags):
            await self._node.reporter.report(claim, tags[0], report)
            FAILURES.labels(Reason.INVALID_CLAIM.value).inc()
            meta = claim.metadata
            self._node.reporter.say(
                namespace=meta.namespace,
                name=meta.name,
                uid=meta.uid,
                pods=claims.pods_of(claim),
                reason=Reason.INVALID_CLAIM.value,
                message=str(refusal),
                warning=True,
            )
        outcome = Outcome(verdict=Verdict.REFUSED, reason=Reason.INVALID_CLAIM, message=str(refusal))
        return dict.fromkeys([*tags, ""], outcome)

    async def _share(self, work: Work) -> Outcome:
        work.truth_published = work.tag in self._published
        step: Step | None = None
        try:
            work.region = await self._node.host.region(work.tag)
        except DynamicMemoryError as error:
            outcome = await self._react(work, self._actions.facts(work), Step.ONLINE, error)
            return outcome or Outcome(verdict=Verdict.WAITING, message=str(error), delay=SOON)
        for _ in range(MAX_STEPS):
            facts = self._actions.facts(work)
            step = next_step(facts)
            if step in FINAL:
                return await self._settled(work, step)
            try:
                await self._actions.carry_out(step, work)
            except NoRegion:
                work.region = await self._node.host.region(work.tag)
                continue
            except DynamicMemoryError as error:
                outcome = await self._react(work, facts, step, error)
                if outcome is not None:
                    return outcome
                continue
            self._carried_out(work, step)
        message = f"no end after {MAX_STEPS} steps, the last was {step}"
        log.error("a share does not settle", extra={"key": work.key, "tag": work.tag, "step": str(step)})
        return Outcome(verdict=Verdict.WAITING, reason=Reason.RELEASING, message=message, delay=1.0)

    def _carried_out(self, work: Work, step: Step) -> None:
        STEPS.labels(step.value).inc()
        self._trouble.pop(work.tag, None)
        log.info("step", extra={"step": step.value, "key": work.key, "tag": work.tag})
        if step is Step.WRITE_RECORD:
            self._began[work.tag] = clock.monotonic()
        elif step is Step.PUBLISH_TRUTH:
            self._published.add(work.tag)
        elif step is Step.REPORT_ATTACHED and work.tag in self._began:
            ATTACH.observe(clock.monotonic() - self._began.pop(work.tag))

    async def _settled(self, work: Work, step: Step) -> Outcome:
        self._trouble.pop(work.tag, None)
        record = self._node.records.get(work.key)
        if step is Step.READY and record is not None:
            await self._write_spec(work, record)
        if step is Step.GONE:
            self._published.discard(work.tag)
            self._began.pop(work.tag, None)
        share = record.share(work.tag) if record else None
        failure = share.failure if share else None
        if failure is not None:
            return Outcome(verdict=Verdict.RELEASED, reason=failure.reason, message=failure.message)
        return Outcome(verdict=FINAL[step])

    async def _write_spec(self, work: Work, record: ClaimRecord) -> None:
        """Write the CDI file of what the kubelet takes for prepared: it does not ask again.

        After a reboot that is what was prepared. After the pod of a claim was deleted by force, and while its Unprepare
        has not succeeded, it is whatever the claim holds now: the next pod of the claim starts without a Prepare.
        """

        def write(found: ClaimRecord | None) -> None:
            # as the disk has it: another driver may have prepared the claim since, or given it back
            told = (found.prepared or found.offered) if found is not None else None
            if told is not None and told.tag == work.tag:
                self._node.specs.write(record.uid, told.spec)

        told = record.prepared or (record.offered if record.local else None)
        if told is not None or record.local:
            # of a claim that has both kinds of memory the pod before may still use its part: both are handed on
            # together (see `owners`)
            if told is not None and told.tag == work.tag and not self._node.specs.says(record.uid, told.spec):
                await self._node.records.update(record.key, lambda found: found, write)
            return
        offered = self._offer(work, record)
        if offered is not None:
            await self._node.records.update(record.key, lambda found: found and _offer(found, offered), write)

    def _offer(self, work: Work, record: ClaimRecord) -> Prepared | None:
        """Return what a claim that the kubelet takes for prepared gives to its next pod; None if there is nothing."""
        share = self._actions.wanted_share(work)
        if not record.unprepare_due or share is None or work.claim is None or work.region is None:
            return None
        try:
            given = (far_grant(work.claim, share, work.region, self._node.default_mode),)
        except claims.RefusedClaim as refusal:
            log.warning("no CDI file", extra={"claim": record.name, "uid": record.uid, "error": str(refusal)})
            return None
        pods = claims.pods_of(work.claim)
        return Prepared(
            tag=share.tag,
            cdi_id=next(iter(cdi_ids(record.uid, given).values())),
            spec=spec_of(record.uid, given, simulated=self._node.simulated),
            grants=given,
            pod=pods[0] if len(pods) == 1 else None,
        )

    # --- errors

    async def _react(self, work: Work, facts: Facts, step: Step, error: DynamicMemoryError) -> Outcome | None:
        """Wait or give up; None means that the failure is recorded and the next step is to be taken."""
        releasing = not facts.wanted or step is Step.WRITE_RELEASING
        if isinstance(error, ApiError):
            reaction = Reaction(
                reason=Reason.RELEASING if releasing else Reason.WAITING_FOR_FABRIC,
                message=f"the API server does not take what the driver says: {error}",
                patience=reactions.FOREVER,
            )
        elif releasing:
            reaction = reactions.on_release(error)
        else:
            reaction = reactions.on_attach(error, self._node.timing.patience(), releasing=self._releasing())
        TROUBLE.labels(reaction.reason.value).inc()
        trouble = self._note(work, reaction)
        log.warning(
            "step not done",
            extra={
                "step": step.value,
                "key": work.key,
                "tag": work.tag,
                "reason": reaction.reason,
                "error": str(error),
            },
        )
        if not releasing and clock.monotonic() - trouble.since >= reaction.patience:
            if await self._actions.fail(work, reaction):
                FAILURES.labels(reaction.reason.value).inc()
                self._trouble.pop(work.tag, None)
                return None
            reaction = reactions.Reaction(reason=reaction.reason, message=reaction.message, patience=reactions.FOREVER)
        # where the API server is the trouble there is nobody to tell
        if not isinstance(error, ApiError):
            await self._tell(work, trouble, reaction, releasing=releasing)
        delay = min(trouble.backoff.next(), SLOWEST.get(reaction.reason, self._node.timing.retry))
        return Outcome(verdict=Verdict.WAITING, reason=reaction.reason, message=reaction.message, delay=delay)

    def _note(self, work: Work, reaction: Reaction) -> _Trouble:
        trouble = self._trouble.get(work.tag)
        if trouble is None or trouble.reason is not reaction.reason:
            told, told_at = (trouble.told, trouble.told_at) if trouble else (("", ""), -1e9)
            trouble = _Trouble(
                reaction.reason, clock.monotonic(), Backoff(0.1, self._node.timing.retry), told=told, told_at=told_at
            )
            self._trouble[work.tag] = trouble
        return trouble

    async def _tell(self, work: Work, trouble: _Trouble, reaction: Reaction, *, releasing: bool) -> None:
        """Say in claim and events what is waited for: when it lasts, when the reason changes, and now and then."""
        now, timing = clock.monotonic(), self._node.timing
        lasting = now - trouble.since >= timing.report_after or reaction.reason is Reason.MEMORY_BUSY
        same = trouble.told[0] == reaction.reason.value
        if not lasting or (
            same and (trouble.told[1] == reaction.message or now - trouble.told_at < timing.report_again)
        ):
            return
        trouble.told, trouble.told_at = (reaction.reason.value, reaction.message), now
        try:
            share = self._actions.share(work)
            if self._actions.wanted_share(work) is not None and not (share and share.failure):
                await self._actions.report(
                    work, Report(attached=False, reason=reaction.reason, message=reaction.message)
                )
        except ApiError as error:
            log.warning("condition not written", extra={"key": work.key, "error": str(error)})
        event = "ReleaseHeld" if releasing else "AttachWaiting"
        self._actions.say(work, event, f"{reaction.reason.value}: {reaction.message}", warning=True)

    def _releasing(self) -> int:
        """Bytes of this node that are on their way back."""
        records, view = self._node.records, self._node.view
        return sum(
            share.size
            for record in records.all()
            for share in record.shares
            if share.state.value == "releasing" and view.get(share.tag) is not None
        )

    @staticmethod
    def _cannot_write(key: str, error: OSError) -> Outcome:
        log.error("the node's disk does not take what must be remembered", extra={"key": key, "error": str(error)})
        return Outcome(verdict=Verdict.WAITING, message=f"the node's disk refuses: {error}", delay=1.0)

    def _cannot_look(self, key: str, error: DynamicMemoryError) -> Outcome:
        log.warning("claim cannot be read", extra={"key": key, "error": str(error)})
        return Outcome(
            verdict=Verdict.WAITING,
            reason=Reason.WAITING_FOR_FABRIC,
            message=f"the claim cannot be read: {error}",
            delay=1.0,
        )


def _offer(record: ClaimRecord, offered: Prepared) -> ClaimRecord:
    """Return the record with what its CDI file says, unless Prepare was asked meanwhile."""
    return record if record.prepared is not None else msgspec.structs.replace(record, offered=offered)
