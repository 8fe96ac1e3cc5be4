# SPDX-License-Identifier: Apache-2.0
"""Jobs: pods that run to their end, a number of times.

Pods carry a finalizer, so that none is lost before it is counted: first its UID is written into
`uncountedTerminatedPods`, then the finalizer goes, then the number grows. A job that was killed in between goes on from
there. Known: completions, parallelism, backoffLimit with its growing wait (and restarts in place, with `OnFailure`),
activeDeadlineSeconds, suspend,
ttlSecondsAfterFinished. Not known: indexed completion, success and failure policies.
"""

from __future__ import annotations

from typing import Any

from dynamic_memory.embedded.controllers.controller import Caches, Controller, Deadlines, age_of
from dynamic_memory.embedded.controllers.objects import (
    JOBS,
    PODS,
    Object,
    condition,
    controller_of,
    is_active,
    is_finished,
    is_ready,
    key_of,
    split,
    with_condition,
)
from dynamic_memory.embedded.controllers.pods import create_many, pod_body, victims
from dynamic_memory.kube.errors import NotFound
from dynamic_memory.kube.informer import Change
from dynamic_memory.kube.queue import EARLY
from dynamic_memory.process import clock

__all__ = ["TRACKING", "JobController"]

TRACKING = "batch.kubernetes.io/job-tracking"
_BACKOFF = 10.0
_BACKOFF_MOST = 600.0


class JobController(Controller):
    """See the module; keys are `namespace/name`."""

    name = "job-controller"

    def __init__(self, caches: Caches) -> None:
        super().__init__(caches)
        self._jobs = caches.of(JOBS)
        self._pods = caches.of(PODS)
        self._deadlines = Deadlines()
        self._failures: dict[str, tuple[int, float]] = {}
        self._jobs.subscribe(self._job_changed)
        self._pods.subscribe(self._pod_changed)

    def _job_changed(self, change: Change[Object]) -> None:
        key = key_of(change.object)
        if change.type == "deleted":
            self._failures.pop(change.object.metadata.uid, None)
            self._deadlines.forget(f"{key} active")
            self._deadlines.forget(f"{key} ttl")
        self.queue.add(key)

    def _pod_changed(self, change: Change[Object]) -> None:
        owner = controller_of(change.object)
        if owner is not None and owner[0] == "Job":
            self.queue.add(f"{change.object.metadata.namespace}/{owner[1]}")

    async def reconcile(self, key: str) -> None:
        """Work on a job."""
        namespace, name = split(key)
        job = self._jobs.get(name, namespace)
        if job is None:
            await self._release_orphans(key)
            return
        pods = self._pods.by_index("owner", job.metadata.uid)
        if job.metadata.deletion_timestamp is not None:
            for pod in pods:
                await self._release(pod)
            return
        if _ended(job):
            for pod in pods:
                if is_active(pod):
                    await self.delete(PODS, pod)
                await self._release(pod)
            await self._expire(key, job)
            return
        job = await self._count(job, pods)
        pods = [pod for pod in self._pods.by_index("owner", job.metadata.uid) if is_active(pod)]
        end = self._verdict(key, job, pods)
        if end is not None:
            await self._finish(job, pods, *end)
        else:
            await self._fill(key, job, pods)

    # --- counting

    async def _count(self, job: Object, pods: list[Object]) -> Object:
        """Count pods that have ended; return the job as it stands then."""
        waiting = job.status.get("uncountedTerminatedPods") or {}
        noted = {name: list(waiting.get(name) or ()) for name in ("succeeded", "failed")}
        known = {*noted["succeeded"], *noted["failed"]}
        fresh = [
            pod
            for pod in pods
            if TRACKING in pod.metadata.finalizers
            and pod.metadata.uid not in known
            and (is_finished(pod) or (pod.metadata.deletion_timestamp is not None and not pod.spec.get("nodeName")))
        ]
        for pod in fresh:
            noted["succeeded" if pod.status.get("phase") == "Succeeded" else "failed"].append(pod.metadata.uid)
        if fresh:
            job = await self._status(job, {"uncountedTerminatedPods": noted})
        if not any(noted.values()):
            return job
        for pod in pods:
            if pod.metadata.uid in noted["succeeded"] or pod.metadata.uid in noted["failed"]:
                await self._release(pod)
        status: dict[str, Any] = {"uncountedTerminatedPods": {"succeeded": None, "failed": None}}
        for name, uids in noted.items():
            if uids:
                status[name] = job.status.get(name, 0) + len(uids)
        if noted["failed"]:
            self._failures[job.metadata.uid] = (status["failed"], clock.monotonic())
        return await self._status(job, status)

    async def _release(self, pod: Object) -> None:
        if TRACKING not in pod.metadata.finalizers:
            return
        rest = [name for name in pod.metadata.finalizers if name != TRACKING]
        body = {"metadata": {"uid": pod.metadata.uid, "finalizers": rest or None}}
        try:
            await self.kube.patch(PODS, pod.metadata.name, body, namespace=pod.metadata.namespace)
        except NotFound:
            return

    async def _release_orphans(self, key: str) -> None:
        namespace, name = split(key)
        for pod in self._pods.all():
            owner = controller_of(pod)
            if pod.metadata.namespace == namespace and owner is not None and owner[:2] == ("Job", name):
                await self._release(pod)

    # --- the end

    def _verdict(self, key: str, job: Object, active: list[Object]) -> tuple[str, str, str] | None:
        """Return type, reason and message of the condition that ends the job."""
        succeeded, failed = job.status.get("succeeded", 0), job.status.get("failed", 0)
        most = job.spec.get("backoffLimit", 6)
        if failed > most or _restarts(job, active) >= max(most, 1):
            return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        limit = job.spec.get("activeDeadlineSeconds")
        if limit is not None and job.status.get("startTime") and not job.spec.get("suspend"):
            started = job.status["startTime"]
            left = self._deadlines.left(f"{key} active", started, limit - age_of(started))
            if left <= 0:
                return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
            self.queue.add(key, left)
        completions = job.spec.get("completions")
        if completions is not None and succeeded >= completions:
            return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
        if completions is None and succeeded > 0 and not self._active(job):
            return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
        return None

    def _active(self, job: Object) -> list[Object]:
        return [pod for pod in self._pods.by_index("owner", job.metadata.uid) if is_active(pod)]

    async def _finish(self, job: Object, pods: list[Object], type_: str, reason: str, message: str) -> None:
        for pod in pods:
            await self.delete(PODS, pod)
            await self._release(pod)
        now = clock.rfc3339(clock.now())
        before = "SuccessCriteriaMet" if type_ == "Complete" else "FailureTarget"
        conditions = with_condition(job.status.get("conditions") or (), before, "True", reason, message, now)
        conditions = with_condition(conditions, type_, "True", reason, message, now)
        for item in conditions:
            item.setdefault("lastProbeTime", now)
        status: dict[str, Any] = {"conditions": conditions, "active": None, "ready": 0, "terminating": 0}
        if type_ == "Complete":
            status["completionTime"] = now
        await self._status(job, status)
        if type_ == "Complete":
            await self.say(JOBS, job, "Normal", "Completed", "Job completed")
        else:
            await self.say(JOBS, job, "Warning", reason, message)

    async def _expire(self, key: str, job: Object) -> None:
        limit = job.spec.get("ttlSecondsAfterFinished")
        if limit is None:
            return
        ended = condition(job, "Complete") or condition(job, "Failed")
        stamp = ended.get("lastTransitionTime")
        left = self._deadlines.left(f"{key} ttl", stamp, limit - age_of(stamp))
        if left > 0:
            self.queue.add(key, left)
            return
        self._deadlines.forget(f"{key} ttl")
        await self.delete(JOBS, job)

    # --- pods

    async def _fill(self, key: str, job: Object, active: list[Object]) -> None:
        parallelism = job.spec.get("parallelism", 1)
        succeeded = job.status.get("succeeded", 0)
        completions = job.spec.get("completions")
        if completions is not None:
            wanted = min(parallelism, completions - succeeded)
        else:
            wanted = len(active) if succeeded else parallelism
        suspended = bool(job.spec.get("suspend"))
        if suspended:
            wanted = 0
        wait = self._wait(job)
        status: dict[str, Any] = {
            "active": min(wanted, len(active)) or None,
            "ready": sum(map(is_ready, active)),
            "terminating": 0,
        }
        if suspended:
            status["startTime"] = None
        elif not job.status.get("startTime"):
            status["startTime"] = clock.rfc3339(clock.now())
        if len(active) < wanted and wait <= EARLY:
            labels = {
                "batch.kubernetes.io/job-name": job.metadata.name,
                "batch.kubernetes.io/controller-uid": job.metadata.uid,
                "job-name": job.metadata.name,
                "controller-uid": job.metadata.uid,
            }
            body = pod_body(JOBS, job, job.spec["template"], labels=labels)
            body["metadata"]["finalizers"].append(TRACKING)
            status["active"] = wanted
            await create_many(self, key, JOBS, job, [body] * (wanted - len(active)))
        elif len(active) < wanted:
            self.queue.add(key, wait)
        for pod in victims(active, len(active) - wanted) if len(active) > wanted else ():
            await self.delete(PODS, pod)
            if suspended:
                await self._release(pod)
        await self._suspend(job, status, suspended=suspended)

    async def _suspend(self, job: Object, status: dict[str, Any], *, suspended: bool) -> None:
        now = clock.rfc3339(clock.now())
        told = condition(job, "Suspended").get("status") == "True"
        if suspended and not told:
            status["conditions"] = with_condition(
                job.status.get("conditions") or (), "Suspended", "True", "JobSuspended", "Job suspended", now
            )
        elif told and not suspended:
            status["conditions"] = with_condition(
                job.status.get("conditions") or (), "Suspended", "False", "JobResumed", "Job resumed", now
            )
        await self.write_status(JOBS, job, status)

    def _wait(self, job: Object) -> float:
        """Return how long to wait after failures: 10 s, doubled with each one."""
        known = self._failures.get(job.metadata.uid)
        if known is None:
            return 0.0
        failed, when = known
        return min(_BACKOFF_MOST, _BACKOFF * 2.0 ** min(failed - 1, 16)) - (clock.monotonic() - when)

    async def _status(self, job: Object, status: dict[str, Any]) -> Object:
        body = {"metadata": {"uid": job.metadata.uid}, "status": status}
        changed = await self.kube.patch(
            JOBS, job.metadata.name, body, namespace=job.metadata.namespace, subresource="status"
        )
        # Counted once only: nothing is counted again before the cache shows this.
        self.created(key_of(job), JOBS, changed)
        return changed


def _restarts(job: Object, active: list[Object]) -> int:
    """Return how often containers were started again; 0 if they never are."""
    if job.spec["template"]["spec"].get("restartPolicy") != "OnFailure":
        return 0
    parts = ("initContainerStatuses", "containerStatuses")
    return sum(each.get("restartCount", 0) for pod in active for part in parts for each in pod.status.get(part) or ())


def _ended(job: Object) -> bool:
    return any(condition(job, type_).get("status") == "True" for type_ in ("Complete", "Failed"))
