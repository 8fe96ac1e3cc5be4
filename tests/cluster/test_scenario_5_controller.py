# SPDX-License-Identifier: Apache-2.0
"""Scenario 5: the controller is killed at each of its fault points; each needs a situation of its own.

One controller dies once for each point, in a world that goes on around it. A pod that runs all the time shows that the
deaths are nothing to it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.deaths import BYTES, SIZE, Scene, key_of, scene
from tests.cluster.support.lives import Story, Until, together
from tests.cluster.support.world import NAMESPACE, OWNER

import dynamic_memory.controller.faultpoints  # noqa: F401 - declares the points
from dynamic_memory.api import names
from dynamic_memory.fabric.interface import Fabric
from dynamic_memory.process import faults

POINTS = faults.names("controller")
CA = "dynamic-memory-ca"
OUT_OF_SERVICE = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}


class Deaths:
    """The deaths of the controller, one story for each point, told one after the other."""

    def __init__(self, stage: Scene) -> None:
        self.stage = stage
        self.world = stage.world
        self.api = stage.cluster.api
        # one node has a pod that runs, one loses its driver for a while, one for as long as its memory is taken
        self.lives, self.waits, self.lost = stage.nodes
        self.orphan = str(uuid.uuid4())

    def until_dead(self) -> Story:
        """Wait for the death, and start the controller again: without a fault."""
        yield from self.stage.dies("controller")
        for node in self.stage.nodes:
            self.stage.told_truth(node)
        self.world.start_controller()

    def dies_at(self, point: str) -> None:
        """Start the controller so that it dies at the point."""
        if "controller" in self.world.children:
            self.world.kill("controller")
        self.world.start_controller(point)

    # --- the authority

    def ca_created(self, point: str) -> Story:
        self.dies_at(point)
        yield from self.until_dead()
        made = self.api.get("Secret", CA, NAMESPACE)["data"]
        yield Until(lambda: self.api.find("ConfigMap", CA, NAMESPACE), 20, "the certificate is published")
        assert self.api.get("Secret", CA, NAMESPACE)["data"] == made, "the authority was made once"

    def csr(self, point: str) -> Story:
        """A certificate is asked for, once; whoever asks has it in the end, and there is one request."""
        self.dies_at(point)
        name = f"certificate-{key_of(point)}"
        before = self._requests()
        kubeconfig = self.world.folder / f"driver-{self.lives.name}.kubeconfig"
        arguments = ["certificates", "obtain", "--identity", f"dynamic-memory://{OWNER}/node/{self.lives.name}"]
        arguments += ["--directory", str(self.world.folder / name), "--kubeconfig", str(kubeconfig)]
        asking = self.stage.cluster.start_command(name, *arguments)
        try:
            yield from self.until_dead()
            yield Until(lambda: asking.code is not None, 30, "the certificate is there")
            assert asking.code == 0
        finally:
            asking.stop()
        (request,) = self._requests() - before
        status = self.api.get("CertificateSigningRequest", request)["status"]
        assert [each["type"] for each in status["conditions"]] == ["Approved"]
        assert (self.world.folder / name / "tls.crt").exists()

    def _requests(self) -> set[str]:
        listed = self.api.list("CertificateSigningRequest", fields=f"spec.signerName={names.SIGNER}")
        return {item["metadata"]["name"] for item in listed}

    # --- what is published

    def slices_written(self, point: str) -> Story:
        self._remove_slices(self.world.pool)
        self.dies_at(point)
        yield from self.until_dead()
        yield Until(self._published, 20, "the pool is published, once")

    def slices_withdrawn(self, point: str) -> Story:
        """A pool that the service does not have any more."""
        gone = names.fabric_pool(f"gone-{self.world.domain}")
        spec = {
            "driver": names.DRIVER,
            "pool": {"name": gone, "generation": 1, "resourceSliceCount": 1},
            "allNodes": True,
            "devices": [{"name": "pool0"}],
        }
        meta = {"name": f"gone-{self.world.domain}"}
        self.api.create({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": meta, "spec": spec})
        self.dies_at(point)
        yield from self.until_dead()
        assert gone not in {item["spec"]["pool"]["name"] for item in self.world.slices()}
        yield Until(self._published, 20, "the other pool is as before")

    def labels_written(self, point: str) -> Story:
        label = names.FABRIC_DOMAIN_LABEL
        for node in self.stage.nodes:
            self.api.patch("Node", node.name, {"metadata": {"labels": {label: None}}})
        self.dies_at(point)
        yield from self.until_dead()
        for node in self.stage.nodes:
            yield Until(
                lambda node=node: self.api.get("Node", node.name)["metadata"]["labels"].get(label) == self.world.domain,
                20,
                f"{node.name} is labelled",
            )

    def touched(self, point: str) -> Story:
        """A pod is bound; a touch that was made changes nothing but an annotation."""
        self._remove_slices(self.world.pool)
        self.dies_at(point)
        # a pod that is bound before the controller looks is none that it saw being bound
        yield Until(self._published, 20, "the controller has begun")
        self.world.pod("lives", self.stage.namespace, SIZE, node=self.lives.name)
        yield from self.until_dead()
        yield from self.stage.runs("lives", self.lives)
        yield Until(self._published, 20, "the pool is as before")

    def _published(self) -> bool:
        return [item["spec"]["pool"]["name"] for item in self.world.slices()].count(self.world.pool) == 1 and (
            self.world.values() == {"pool0": 32 << 30}
        )

    def _remove_slices(self, pool: str) -> None:
        for item in self.world.slices():
            if item["spec"]["pool"]["name"] == pool:
                self.api.delete("ResourceSlice", item["metadata"]["name"], missing_ok=True)

    # --- what is not as it should be

    def waiting_told(self, point: str) -> Story:
        self.world.kill(f"driver-{self.waits.name}")
        self.dies_at(point)
        self.world.pod("waits", self.stage.namespace, SIZE, node=self.waits.name)
        yield from self.until_dead()
        yield Until(
            lambda: [reason for _, reason, _ in self.world.events(self.stage.namespace, "waits")].count(
                "DriverNotRunning"
            ),
            20,
            "the pod was told",
        )
        self.world.start_driver(self.waits.name)
        yield from self.stage.runs("waits", self.waits)

    def orphan_seen(self, point: str) -> Story:
        """Memory of a node without driver; the stories after this one go on with it."""
        self.world.kill(f"driver-{self.lost.name}")
        self.dies_at(point)
        self._add(self.orphan)
        yield from self.until_dead()
        assert self.stage.held(self.lost.name) == {self.orphan: BYTES}
        yield Until(lambda: self.world.values() == {"pool0": (32 << 30) - BYTES}, 20, "it is not offered")

    def release_asked(self, point: str) -> Story:
        """The driver is asked, and does it when it is there."""
        self.world.kill("service")  # what was asked is not remembered, so it is asked again
        self.world.start_service()
        self.dies_at(point)
        yield from self.until_dead()
        assert self.stage.held(self.lost.name) == {self.orphan: BYTES}
        self.world.start_driver(self.lost.name)
        yield from self.stage.is_clean(self.lost)
        yield Until(self._published, 20, "all is offered")

    def released_by_service(self, point: str) -> Story:
        """The host is off: its session has lapsed, and somebody has said so."""
        self.world.kill(f"driver-{self.lost.name}")
        self._add(str(uuid.uuid4()))
        assert self.stage.held(self.lost.name)
        self.api.patch("Node", self.lost.name, {"spec": {"taints": [OUT_OF_SERVICE]}})
        self.dies_at(point)
        yield from self.until_dead()
        assert self.stage.held(self.lost.name) == {}
        self.api.patch("Node", self.lost.name, {"spec": {"taints": None}})
        self.world.start_driver(self.lost.name)
        yield from self.stage.is_clean(self.lost)
        yield Until(self._published, 20, "all is offered")

    def _add(self, tag: str) -> None:
        name = self.lost.name

        async def add(fabric: Fabric) -> None:
            await fabric.add_memory(node=name, pool=self.world.pool, device="pool0", size=BYTES, tag=tag)

        self.world.ask(add, identity=f"node/{name}")

    # --- all of it

    def all(self, outcomes: dict[str, str]) -> None:
        """Tell every story; the end state of the world is looked at after the last."""
        for point, story in STORIES.items():
            full = f"controller.{point}"
            told = together({full: story(self, full)}, self.stage.cluster.pace.story)
            outcomes |= self.stage.with_logs(told, {full: self.stage.nodes})
            if "controller" not in self.world.children:
                self.world.start_controller()

    def end(self) -> Story:
        """Who ran all the time, and who waited, end as ever."""
        for pod, node in (("lives", self.lives), ("waits", self.waits)):
            yield from self.stage.runs(pod, node)
            self.api.delete("Pod", pod, self.stage.namespace)
            yield from self.stage.ends(pod, node)
        yield Until(lambda: self.world.free() == 32 << 30, 20, "every byte is free")
        yield Until(self._published, 20, "and offered")


STORIES: dict[str, Callable[[Deaths, str], Story]] = {
    "ca-created": Deaths.ca_created,
    "csr-approved": Deaths.csr,
    "csr-signed": Deaths.csr,
    "slices-written": Deaths.slices_written,
    "slices-withdrawn": Deaths.slices_withdrawn,
    "labels-written": Deaths.labels_written,
    "touched": Deaths.touched,
    "waiting-told": Deaths.waiting_told,
    "orphan-seen": Deaths.orphan_seen,
    "release-asked": Deaths.release_asked,
    "released-by-service": Deaths.released_by_service,
}


@pytest.fixture(scope="module")
def outcomes(cluster: Cluster, rights: None) -> Iterator[dict[str, str]]:
    """What went wrong at each point, and under the name `world` with what all share."""
    for kind in ("Secret", "ConfigMap"):
        cluster.api.delete(kind, CA, NAMESPACE, missing_ok=True)
    pace = cluster.pace
    settings = {
        "authority": {"enabled": True},
        "waiting": {"after": min(2.0, pace.waiting)},
        "orphans": {"after": pace.orphans, "interval": pace.orphans},
    }
    with scene(cluster, 3, controller=settings, service={"sessionLapse": pace.lapse}) as stage:
        world = stage.world
        world.start_service()
        for node in stage.nodes:
            world.start_driver(node.name)
        found: dict[str, str] = {}
        deaths = Deaths(stage)
        with stage.observer as observer:
            deaths.all(found)
            found["world"] = together({"end": deaths.end()}, cluster.pace.story)["end"]
        found["world"] += "".join(f"\n{tag} held {most}" for tag, most in observer.most_of.items() if most != BYTES)
        if world.children[f"driver-{deaths.lives.name}"].code is not None:
            found["world"] += "\na driver ended"
        yield found


def test_scenario_5_every_fault_point_of_the_controller_has_a_story():
    assert {f"controller.{point}" for point in STORIES} == set(POINTS)


@pytest.mark.parametrize("point", POINTS)
def test_scenario_5_controller_killed_at(outcomes, point):
    """After a restart the same end state, and once only."""
    assert not outcomes[point], outcomes[point]


def test_scenario_5_I5_deaths_of_the_controller_change_nothing_in_the_end(outcomes):
    """A pod ran through all of them, and every byte is back."""
    assert not outcomes["world"], outcomes["world"]
