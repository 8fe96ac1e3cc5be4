# SPDX-License-Identifier: Apache-2.0
"""At most one leader, whatever fails; the next one does not wait longer than it must."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.fake_kube import FakeKube

from dynamic_memory.api.kinds import LEASES
from dynamic_memory.kube.election import LeaderElection
from dynamic_memory.kube.errors import Conflict, Unavailable
from dynamic_memory.process import clock

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class Replica:
    """A replica with its own way to the API server, which can be cut."""

    leading: set[str] = set()

    def __init__(self, server: FakeKube, name: str, lead=None) -> None:
        self.name = name
        self.cut = False
        self.delay = 0.0
        self.times: list[tuple[float, str]] = []
        self.began = clock.monotonic()
        self.lead = lead
        self.election = LeaderElection(self, "ns", "lease", name)  # type: ignore[arg-type]
        self.server = server
        self.task = asyncio.create_task(self.election.run(self.leads))

    def __getattr__(self, name) -> Any:
        async def call(*args, **kwargs):
            if self.cut:
                await clock.sleep(10)
                raise Unavailable(0, "", "no answer")
            result = await getattr(self.server, name)(*args, **kwargs)
            await clock.sleep(self.delay)
            return result

        return call

    async def leads(self):
        self.leading.add(self.name)
        assert len(self.leading) == 1, f"two leaders: {self.leading}"
        self.times.append((clock.monotonic() - self.began, "+"))
        try:
            if self.lead:
                await self.lead()
            else:
                await clock.sleep(1e9)
        finally:
            self.leading.discard(self.name)
            self.times.append((clock.monotonic() - self.began, "-"))

    async def stop(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture(autouse=True)
def nobody():
    Replica.leading = set()


async def test_one_leads_and_the_other_follows_at_once_after_an_orderly_stop():
    kube = FakeKube()
    one = Replica(kube, "one")
    await clock.sleep(1)
    two = Replica(kube, "two")
    await clock.sleep(100)
    assert Replica.leading == {"one"}
    assert one.election.leading
    assert not two.election.leading
    assert kube.body(LEASES, "lease", "ns")["spec"]["leaseTransitions"] == 0
    await one.stop()
    assert kube.body(LEASES, "lease", "ns")["spec"]["holderIdentity"] == ""
    await clock.sleep(3)
    assert Replica.leading == {"two"}
    assert kube.body(LEASES, "lease", "ns")["spec"]["leaseTransitions"] == 1
    await two.stop()


async def test_a_leader_that_is_cut_off_stops_before_another_leads():
    kube = FakeKube()
    one = Replica(kube, "one")
    await clock.sleep(5)
    two = Replica(kube, "two")
    await clock.sleep(10)
    cut_at = clock.monotonic() - one.began
    one.cut = True
    await clock.sleep(60)
    assert Replica.leading == {"two"}
    stopped = next(at for at, what in one.times if what == "-")
    took = two.times[0][0] + (two.began - one.began)
    assert stopped - cut_at <= 10.1
    assert stopped < took <= cut_at + 15 + 3
    one.cut = False
    await clock.sleep(60)
    assert Replica.leading == {"two"}
    await one.stop()
    await two.stop()


@pytest.mark.parametrize("delay", [0.5, 4.0, 8.0, 9.9, 12.0, 20.0])
async def test_slow_answers_never_make_two_leaders(delay):
    kube = FakeKube()
    one, two = Replica(kube, "one"), Replica(kube, "two")
    await clock.sleep(30)
    one.delay = delay
    await clock.sleep(200)
    two.delay = delay
    await clock.sleep(200)
    assert one.task.done() is two.task.done() is False  # an assertion in `leads` would have ended one
    await one.stop()
    await two.stop()


async def test_a_leader_that_died_is_replaced_after_the_lease_ran_out():
    kube = FakeKube()
    spec = {"holderIdentity": "dead", "leaseDurationSeconds": 40, "renewTime": "2999-01-01T00:00:00.000000Z"}
    kube.put(LEASES, {"metadata": {"name": "lease", "namespace": "ns"}, "spec": spec})
    two = Replica(kube, "two")
    await clock.sleep(39)
    assert Replica.leading == set()
    await clock.sleep(5)
    assert Replica.leading == {"two"}
    await two.stop()


async def test_a_failure_of_the_leading_task_releases_the_lease_and_is_passed_on():
    async def fail():
        await clock.sleep(5)
        raise ValueError("broken")

    kube = FakeKube()
    one = Replica(kube, "one", fail)
    with pytest.raises(ValueError, match="broken"):
        await one.task
    assert kube.body(LEASES, "lease", "ns")["spec"]["holderIdentity"] == ""


async def test_a_leading_task_that_is_done_ends_the_election():
    async def short():
        await clock.sleep(5)

    kube = FakeKube()
    await Replica(kube, "one", short).task
    assert kube.body(LEASES, "lease", "ns")["spec"]["holderIdentity"] == ""


async def test_a_task_that_fails_to_stop_orderly_still_releases(caplog):
    async def stubborn():
        try:
            await clock.sleep(1e9)
        finally:
            raise ValueError("while stopping")

    kube = FakeKube()
    one = Replica(kube, "one", stubborn)
    await clock.sleep(1)
    await one.stop()
    assert one.task.cancelled()
    assert kube.body(LEASES, "lease", "ns")["spec"]["holderIdentity"] == ""
    assert "while stopping" in caplog.text


async def test_a_conflict_or_a_deleted_lease_does_not_end_the_leadership():
    kube = FakeKube()
    one = Replica(kube, "one")
    await clock.sleep(3)
    kube.fail(Conflict(409, "Conflict", "modified"), verb="patch", kind=LEASES, times=2)
    await clock.sleep(10)
    kube.remove(LEASES, "lease", "ns")
    await clock.sleep(10)
    assert [what for _, what in one.times] == ["+"]
    assert kube.body(LEASES, "lease", "ns")["spec"]["holderIdentity"] == "one"
    await one.stop()


async def test_somebody_who_takes_the_lease_by_hand_has_it():
    kube = FakeKube()
    one = Replica(kube, "one")
    await clock.sleep(3)
    spec = {"holderIdentity": "operator", "leaseDurationSeconds": 15}
    kube.put(LEASES, {"metadata": {"name": "lease", "namespace": "ns"}, "spec": spec})
    await clock.sleep(3)
    assert Replica.leading == set()
    await clock.sleep(20)
    assert Replica.leading == {"one"}
    await one.stop()


async def test_no_answer_at_the_start_is_waited_out():
    kube = FakeKube()
    kube.down = True
    one = Replica(kube, "one")
    await clock.sleep(60)
    kube.down = False
    await clock.sleep(5)
    assert Replica.leading == {"one"}
    await one.stop()


async def test_times_that_cannot_be_safe_are_refused():
    with pytest.raises(ValueError, match="expected retry < renew_deadline < duration"):
        LeaderElection(FakeKube(), "ns", "n", "i", duration=10, renew_deadline=10)
