# SPDX-License-Identifier: Apache-2.0
"""Claims, pods, restarts and outages in any order: ledger, CDI files and cgroups agree, and nothing is shared.

The kubelet's part (Prepare, Unprepare) is the driver's own code on a disk, and it is killed in the middle of it; the
runtime is a model that starts containers with what the plugin answers, and without it while it is not connected. Pods
are removed by force: their claims go to another pod while their containers still run.
"""

from __future__ import annotations

import asyncio
import inspect
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from tests.unit.driver.local_rig import LocalRig, local_claim, pod_body, result
from tests.unit.driver.nri_world import MIB, NEW, OLD, World, limits

from dynamic_memory.api.kinds import PODS, RESOURCE_CLAIMS
from dynamic_memory.api.resource import ResourceClaim
from dynamic_memory.driver import cdi, ledger, prepare, unprepare
from dynamic_memory.driver.calls import ClaimRef, NotPrepared, NotReady
from dynamic_memory.driver.nri_plugin import MemoryPlugin
from dynamic_memory.host.pod_cgroups import PodCgroups
from dynamic_memory.nri.errors import Refused
from dynamic_memory.nri.proto import nri_pb2 as pb

PODS_OF_NODE = ("pod-a", "pod-b", "pod-c")
"""Places; the pod of a place is another one after it was removed by force."""
POINTS = ("prepared-recorded", "cdi-written", "cdi-removed")
CAPACITY = 512 * MIB
DEVICE = "numa0-2mi"
MEMORY = Path("/dev/shm")


class Killed(BaseException):
    """The driver is not there any more."""


@dataclass
class Claim:
    """A claim as the cluster has it: reserved for a pod; and the pod that it is prepared for, if it is."""

    ref: ClaimRef
    pod: str
    size: int
    owner: str = ""

    @property
    def prepared(self) -> bool:
        return bool(self.owner)


@dataclass
class Running:
    """A container as the runtime has it."""

    message: pb.Container
    pod: str
    claims: tuple[str, ...]
    limits: dict[str, int] = field(default_factory=dict)
    known: bool = False
    """The plugin has seen it."""


class Node(RuleBasedStateMachine):
    """One node. A container's name is `app` where it may have its pod's claims, `other` where it may not."""

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="nri-machine-", dir=MEMORY if MEMORY.is_dir() else None))
        # nobody cuts the power here, and a thread is of no use to a loop that waits for it
        self.patches = [
            mock.patch.object(asyncio, "to_thread", _inline),
            mock.patch("os.fsync"),
            mock.patch.object(ledger, "passed", self.passed),
            mock.patch.object(prepare, "passed", self.passed),
            mock.patch.object(unprepare, "passed", self.passed),
        ]
        self.fatal = ""
        self.generation = dict.fromkeys(PODS_OF_NODE, 0)
        for patch in self.patches:
            patch.start()
        self.world = World(self.folder / "world")
        self.rig = LocalRig(self.folder / "rig")
        self.number = 0
        self.known: dict[str, Claim] = {}
        self.containers: dict[tuple[str, str], Running] = {}
        self.connected = False
        self.started: set[str] = set()
        self.start_driver()
        self.connect()

    def teardown(self) -> None:
        for patch in self.patches:
            patch.stop()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()
        shutil.rmtree(self.folder)

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    # --- the driver

    def start_driver(self) -> None:
        async def made() -> None:
            self.driver = self.rig.driver = self.rig.make()
            await self.driver.node.records.load()
            await self.driver.node.local.read()
            self.driver.node.active = True
            self.driver.node.claims.get = self.watched
            # as `Driver._pod_lives` says it
            self.driver._owners._lives = lambda uid: not self.connected or self.plugin.pods.get(uid) is not None
            await self.driver._leftovers.restore_specs()

        self.run(made())
        self.world.records = self.driver.node.records
        facts = self.world.plugin.facts
        self.plugin = self.world.plugin = MemoryPlugin(self.driver.node.records, PodCgroups(self.world.mounts))
        self.plugin.facts = facts
        self.plugin.configure(self.world.runtime)

    def watched(self, uid: str) -> ResourceClaim | None:
        """The claim as a watch has it by now."""
        claim = self.known.get(uid)
        return self.rig.api.claim(claim.ref.name) if claim is not None else None

    def passed(self, point: str) -> None:
        if point == self.fatal:
            raise Killed(point)

    @rule()
    def driver_restarts(self) -> None:
        self.connected = False
        self.start_driver()
        self.connect()

    @rule()
    def runtime_goes_away(self) -> None:
        self.connected = False

    @rule(runtime=st.sampled_from([NEW, OLD]))
    def runtime_comes_back(self, runtime: Any) -> None:
        if not self.connected:
            self.world.runtime = runtime
            self.connect()

    def connect(self) -> None:
        async def synchronized() -> list[pb.ContainerUpdate]:
            updates = await self.world.synchronize(sandboxes, messages)
            await self.plugin._repair
            return updates

        self.plugin.configure(self.world.runtime)
        sandboxes = [self.world.sandbox(pod) for pod in sorted(self.started)]
        for running in self.containers.values():
            running.message.linux.resources.ClearField("hugepage_limits")
            for size, limit in running.limits.items():
                running.message.linux.resources.hugepage_limits.append(pb.HugepageLimit(page_size=size, limit=limit))
        messages = [running.message for running in self.containers.values()]
        by_id = {running.message.id: running for running in self.containers.values()}
        for update in self.run(synchronized()):
            by_id[update.container_id].limits.update(limits(update.linux.resources))
        for running in self.containers.values():
            running.known = True
        self.connected = True

    # --- the cluster and the kubelet

    def pod(self, place: str) -> str:
        """The pod that is at a place now."""
        return f"{place}-{self.generation[place]}"

    def write_pod(self, pod: str) -> None:
        own = {claim.ref.name: claim.ref.name for claim in self.known.values() if claim.pod == pod}
        body = {"app": [(each, "") for each in own], "other": []}
        self.rig.api.put(PODS, pod_body(pod, body, claims=own or {"none": "none"}, uid=f"uid-{pod}"))

    @rule(target=claims, place=st.sampled_from(PODS_OF_NODE), pages=st.integers(1, 120))
    def claim_is_allocated(self, place: str, pages: int) -> str:
        self.number += 1
        pod = self.pod(place)
        name = f"claim-{self.number}"
        size = pages * 2 * MIB
        body = local_claim(result(device=DEVICE, size=str(size)), name=name, pods=(pod,))
        body["metadata"]["uid"] = f"{self.number:08x}-0000-4000-8000-000000000000"
        meta = self.rig.api.put(RESOURCE_CLAIMS, body)["metadata"]
        self.known[meta["uid"]] = Claim(ClaimRef("app", name, meta["uid"]), pod, size)
        self.write_pod(pod)
        return str(meta["uid"])

    @rule(uid=claims)
    def kubelet_prepares(self, uid: str) -> None:
        claim = self.known[uid]
        fits = claim.owner == claim.pod if claim.prepared else self.taken() + claim.size <= CAPACITY
        try:
            self.run(self.rig.prepare(claim.ref))
        except (NotReady, NotPrepared):
            assert not fits
        else:
            assert fits
            claim.owner = claim.pod

    @rule(uid=claims, point=st.sampled_from(POINTS[:2]))
    def driver_is_killed_while_it_prepares(self, uid: str, point: str) -> None:
        """What is recorded is prepared, whether the kubelet has heard of it or not."""
        self.fatal = point
        try:
            self.kubelet_prepares(uid)
        except Killed:
            self.known[uid].owner = self.known[uid].pod
        finally:
            self.fatal = ""
        self.driver_restarts()

    @rule(uid=claims)
    def driver_is_killed_while_it_unprepares(self, uid: str) -> None:
        """Before the record says so nothing is free."""
        claim = self.known[uid]
        self.end_all(claim)
        self.fatal = POINTS[2]
        try:
            self.run(self.rig.unprepare(claim.ref))
        except Killed:
            assert claim.prepared
        else:
            assert not claim.prepared
        finally:
            self.fatal = ""
        self.driver_restarts()

    @rule(uid=consumes(claims))
    def kubelet_unprepares(self, uid: str) -> None:
        """The pod's containers have ended before, as the kubelet sees to."""
        claim = self.known[uid]
        self.end_all(claim)
        self.run(self.rig.unprepare(claim.ref))
        del self.known[uid]
        self.rig.api.remove(RESOURCE_CLAIMS, claim.ref.name, "app")

    @rule(place=st.sampled_from(PODS_OF_NODE), to=st.sampled_from(PODS_OF_NODE), hand_on=st.booleans())
    def pod_is_removed_by_force(self, place: str, to: str, hand_on: bool) -> None:
        """Its containers run on; its claims are allocated anew to another pod, which may be one at the same place."""
        gone = self.pod(place)
        self.write_pod(gone)
        self.rig.api.remove(PODS, gone, "app")
        self.generation[place] += 1
        pod = self.pod(to)
        moved = [(uid, claim) for uid, claim in self.known.items() if claim.pod == gone]
        for uid, claim in moved:
            claim.pod = pod
            results = result(device=DEVICE, size=str(claim.size))
            self.rig.api.put(RESOURCE_CLAIMS, local_claim(results, name=claim.ref.name, pods=(pod,), uid=uid))
        self.write_pod(pod)
        for uid, _ in moved if hand_on else ():
            self.claim_is_handed_on(uid)

    @rule(uid=claims)
    def claim_is_handed_on(self, uid: str) -> None:
        """Only when the pod before has ended, and somebody can say so."""
        claim = self.known[uid]
        waits = claim.prepared and claim.owner != claim.pod
        may = self.connected and f"uid-{claim.owner}" not in self.started
        assert self.run(self.driver._owners.hand_on(uid)) == (may or not waits)
        if waits and may:
            claim.owner = claim.pod

    @rule(place=st.sampled_from(PODS_OF_NODE), data=st.data())
    def old_pod_ends(self, place: str, data: st.DataObject) -> None:
        old = [f"{place}-{number}" for number in range(self.generation[place])]
        left = [pod for pod in old if f"uid-{pod}" in self.started]
        if left:
            self.end(data.draw(st.sampled_from(left)))

    def end_all(self, claim: Claim) -> None:
        for pod in {claim.pod, claim.owner} - {""}:
            self.end(pod)

    def end(self, pod: str) -> None:
        """The containers end, the sandbox is removed, and the kubelet removes the cgroup."""
        uid = f"uid-{pod}"
        for key in [key for key in self.containers if key[0] == uid]:
            self.stop(key)
        if uid in self.started:
            self.started.discard(uid)
            if self.connected:
                self.plugin.remove_pod_sandbox(self.world.sandbox(uid))
            shutil.rmtree(self.world.root / f"kubepods/burstable/pod{uid}")

    # --- the runtime

    @rule(uid=claims, prepared=st.booleans())
    def owner_starts(self, uid: str, prepared: bool) -> None:
        """The pod's container, with all that the kubelet has prepared for the pod."""
        if prepared:
            self.kubelet_prepares(uid)
        pod = self.known[uid].owner or self.known[uid].pod
        self.start(f"uid-{pod}", "app", tuple(key for key, c in self.known.items() if c.owner == pod), [])

    @rule(uid=claims, place=st.sampled_from(PODS_OF_NODE), name=st.sampled_from(["app", "other"]))
    def anybody_starts(self, uid: str, place: str, name: str) -> None:
        """With a claim of whomever: of this pod or another, prepared or not."""
        self.start(f"uid-{self.pod(place)}", name, (uid,), env=[])

    @rule(uid=claims, prepared=st.booleans())
    def another_pod_follows(self, uid: str, prepared: bool) -> None:
        """The owner runs; a second pod is refused and removed; a third one tries (S3)."""
        self.owner_starts(uid, prepared)
        owner = self.known[uid].owner or self.known[uid].pod
        others = [pod for pod in map(self.pod, PODS_OF_NODE) if pod != owner]
        self.start(f"uid-{others[0]}", "app", (uid,), env=[])
        self.end(others[0])
        self.start(f"uid-{others[1]}", "app", (uid,), env=[])

    @rule(victim=claims, place=st.sampled_from(PODS_OF_NODE), name=st.sampled_from(["app", "other"]))
    def container_forges(self, victim: str, place: str, name: str) -> None:
        """With a variable of a claim, written by hand."""
        forged = f"DRAMEMORY_{victim}_hugepages_2Mi=numanode:0,size:1Ti"
        self.start(f"uid-{self.pod(place)}", name, (), env=[forged])

    @rule(data=st.data())
    def container_ends(self, data: st.DataObject) -> None:
        if self.containers:
            self.stop(data.draw(st.sampled_from(sorted(self.containers))))

    def start(self, pod: str, name: str, wanted: tuple[str, ...], env: list[str]) -> None:
        self.number += 1
        sandbox = self.world.sandbox(pod)
        message = self.world.container(name, pod=pod, keys=wanted, env=env, attempt=self.number)
        message.state = pb.CONTAINER_RUNNING
        owned = {uid for uid, claim in self.known.items() if f"uid-{claim.owner}" == pod}
        rightful = not env and set(wanted) <= owned and (name == "app" or not wanted)
        running = Running(message, pod, tuple(wanted))
        if (pod, name) in self.containers:
            self.stop((pod, name))
        if self.connected:
            if pod not in self.started:
                self.plugin.run_pod_sandbox(sandbox)
            try:
                answer = self.plugin.create_container(sandbox, message)
                answer = self.run(answer) if inspect.isawaitable(answer) else answer
            except Refused:
                assert not rightful, "the owner was refused"
                self.started.add(pod)
                return
            assert rightful, "a container got what is not its own"
            running.known = True
            if answer is not None:
                running.limits = limits(answer.adjust.linux.resources)
        else:
            # nobody is asked: what it takes for its own it has
            running.limits = {"2MB": 10 * CAPACITY} if wanted else {}
        self.started.add(pod)
        self.containers[pod, name] = running

    def stop(self, key: tuple[str, str]) -> None:
        running = self.containers.pop(key)
        if self.connected:
            running.message.state = pb.CONTAINER_STOPPED
            self.plugin.stop_container(self.world.sandbox(running.pod), running.message)
            self.plugin.remove_container(self.world.sandbox(running.pod), running.message)

    # --- what always holds

    def taken(self) -> int:
        return sum(claim.size for claim in self.known.values() if claim.prepared)

    @invariant()
    def the_ledger_is_what_was_prepared(self) -> None:
        prepared = {uid for uid, claim in self.known.items() if claim.prepared}
        records = self.driver.node.records
        assert {record.uid for record in records.all() if record.prepared} == prepared
        assert records.taken("n1/mem", DEVICE) == self.taken() <= CAPACITY
        owners = {record.uid: record.owner.uid for record in records.all() if record.owner is not None}
        assert owners == {uid: f"uid-{claim.owner}" for uid, claim in self.known.items() if claim.prepared}

    @invariant()
    def there_is_a_cdi_file_for_each_prepared_claim(self) -> None:
        prepared = {uid for uid, claim in self.known.items() if claim.prepared}
        assert self.rig.specs() == sorted(f"{cdi.FILE_PREFIX}{uid}.json" for uid in prepared)

    @invariant()
    def a_pod_may_use_what_its_live_containers_own_and_nothing_else(self) -> None:
        if not self.connected:
            return
        for pod in self.started:
            owned = {uid: c.size for uid, c in self.known.items() if f"uid-{c.owner}" == pod}
            app = self.containers.get((pod, "app"))
            legal = app is not None and set(app.claims) <= set(owned)
            # where the ledger names the container it has all claims of its pod, whatever it says
            expected = sum(owned.values()) if legal else 0
            assert self.world.pod_limit(pod) == self.world.pod_limit(pod, reserved=True)
            if app is not None and app.known and legal:
                assert app.limits.get("2MB", 0) <= expected
            elif app is not None and app.known:
                assert app.limits.get("2MB", 0) == 0
            assert self.world.pod_limit(pod) <= expected

    @invariant()
    def all_pods_together_use_no_more_than_the_ledger_has_given(self) -> None:
        if self.connected:
            assert sum(self.world.pod_limit(pod) for pod in self.started) <= self.taken()


async def _inline(function: Any, *arguments: Any, **keywords: Any) -> Any:
    return function(*arguments, **keywords)


def test_ledger_files_and_cgroups_agree_whatever_happens():
    run_state_machine_as_test(
        Node,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
