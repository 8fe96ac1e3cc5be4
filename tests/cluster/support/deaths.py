# SPDX-License-Identifier: Apache-2.0
"""What scenario 5 is made of: a stage with many nodes, and the parts of a share's life, around the death of a role.

Whoever dies, and wherever, the parts are the same, and so is what has to be true: at every moment no share holds more
than it was given, at the moment of death nobody has been told more than is true, and at the end everything is back.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.support.api import Object
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.fake_node import FakeNode, Patience
from tests.cluster.support.history import Allocation, History
from tests.cluster.support.lives import Story, Until
from tests.cluster.support.observer import Observer, ranges
from tests.cluster.support.processes import eventually, tails
from tests.cluster.support.world import World

from dynamic_memory.api import names

__all__ = ["BYTES", "SIZE", "Scene", "key_of", "scene"]

SIZE, BYTES = "256Mi", 256 << 20
POOL, POOL_BYTES = "32Gi", 32 << 30
EVIDENCE, EVIDENT = 12_000, 5
"""Bytes of logs that are shown of a story that failed, and of how many stories."""
BIND = 60.0
"""Seconds from a pod to its containers: two polls of the scheduler, on a busy machine."""
_numbers = itertools.count(1)


def key_of(name: str) -> str:
    """Return the name of a fault point as part of the name of an object."""
    return name.replace(".", "-").replace("#", "-")


@dataclass
class Scene:
    """One world, its nodes, and what is known of all that happens in it."""

    cluster: Cluster
    world: World
    namespace: str
    nodes: Sequence[Any]
    observer: Observer
    claims: History

    # --- what is

    def allocations(self, pod: str) -> list[Allocation]:
        """Return the shares that the claims of a pod were given, one after the other."""
        return [each for each in self.claims.allocations() if each.claim.startswith(f"{pod}-far-") or each.claim == pod]

    def held(self, node: str) -> dict[str, int]:
        """Return the bytes of each tag that the fabric holds for a node, from the fabric's own file."""
        path = self.world.fabric_folder / "fabric.json"
        if not path.exists():
            return {}
        found: dict[str, int] = {}
        state = json.loads(path.read_bytes())
        of_node = {entry["tag"] for entry in state["allocations"] if entry["host"] == f"host-{node}"}
        for tag, _, _, size in ranges(state):
            if tag in of_node:
                found[tag] = found.get(tag, 0) + size
        return found

    def records(self, node: str) -> dict[str, Object]:
        """Return the driver's records on a node, by the name of the file."""
        folder = self.world.state_dir(node) / "claims"
        return {path.stem: json.loads(path.read_bytes()) for path in folder.glob("*.json")}

    def specs(self, node: str) -> list[str]:
        """Return the CDI files on a node."""
        return sorted(path.name for path in self.world.cdi_dir(node).iterdir())

    def with_logs(self, outcomes: Mapping[str, str], nodes: Mapping[str, Sequence[Any]]) -> dict[str, str]:
        """Return what went wrong with each story, the first of them with the ends of the logs of its nodes' processes.

        Stories are told before the tests that look at their outcomes, so what is logged during those tests is nothing.
        """
        failed = [name for name, failure in outcomes.items() if failure][:EVIDENT]
        return {name: text + self._logs(nodes[name]) if name in failed else text for name, text in outcomes.items()}

    def _logs(self, nodes: Sequence[Any]) -> str:
        folder: Path | None = getattr(self.cluster, "logs", None)  # an embedded cluster logs into the test's report
        if folder is None:
            return ""
        domain = self.world.domain
        globs = [f"{domain}-service.log", f"{domain}-controller.log"]
        for node in nodes:
            driver = f"{domain}-driver-{node.name}"
            globs += [f"{driver}.log", f"{driver}-*.log", f"{node.name}-kubelet.log"]
        paths = [path for glob in globs for path in sorted(folder.glob(glob))]
        return "".join(f"\n--- {path.name}\n{text}" for path, text in tails(paths, {}, EVIDENCE))

    # --- parts of a life

    def dies(self, role: str, seconds: float = BIND) -> Story:
        """Wait until a role was killed at its fault point; it is not running afterwards."""
        child = self.world.children[role]
        yield Until(lambda: child.code is not None, seconds, f"{role} passes its fault point")
        assert self.world.died(role) == -signal.SIGKILL

    def runs(self, pod: str, node: Any, *, shares: int = 1, claim: str = "", alone: bool = True) -> Story:
        """Wait until a pod runs, and look whether all agree on its memory.

        Args:
            pod: name.
            node: where it should run.
            shares: how many its claim has been given by then, one after the other.
            claim: name of the claim, if it is not made from a template.
            alone: nobody else has memory on the node.

        """
        name = node.name
        yield Until(lambda: self.world.running(pod, self.namespace), BIND, f"{pod} runs")
        given = self.allocations(claim or pod)
        assert len(given) == shares, given
        tag = given[-1].share
        found = self.world.claim_of(pod, self.namespace)
        assert found is not None
        uid = found["metadata"]["uid"]
        assert self.world.condition(found)["status"] == "True"
        for where in (self.held(name), self.world.regions(name)):
            assert where[tag] == BYTES
            assert not alone or set(where) == {tag}
        record = self.records(name)[uid]
        assert [(each["tag"], each["state"]) for each in record["shares"]] == [(tag, "attached")]
        assert record["prepared"]["tag"] == tag
        assert len([spec for spec in self.specs(name) if uid in spec]) == 1
        assert self.world.api.get("Pod", pod, self.namespace)["spec"]["nodeName"] == name

    def ends(self, pod: str, node: Any) -> Story:
        """Wait until a pod that was deleted is gone, and its memory is where it came from."""
        yield Until(
            lambda: self.world.api.find("Pod", pod, self.namespace) is None, BIND, f"{pod} is gone from the API server"
        )
        yield from self.is_clean(node)

    def is_clean(self, node: Any) -> Story:
        """Wait until nothing on a node, or of it, tells of a share."""
        name = node.name
        yield Until(lambda: not self.held(name), 30, f"the fabric holds nothing for {name}")
        yield Until(lambda: not self.records(name), 10, f"{name} has no record")
        if isinstance(node, FakeNode):
            yield Until(lambda: not node.prepared, 30, f"the kubelet of {name} knows of no claim")
        assert self.world.regions(name) == {}
        assert self.specs(name) == []
        yield Until(lambda: not self.published(name), 30, f"the window of {name} is offered as before")

    def published(self, node: str) -> list[Object]:
        """Return what the slices of a node say beside its window's full size."""
        pool = names.windows_pool(node)
        values = set(self.world.values(pool).values())
        return [*self.world.taints(pool), *([] if values == {POOL_BYTES} else [values])]

    def told_truth(self, node: Any) -> None:
        """Check that nobody was told more than is true (I2, I3, I4).

        Another driver of the node may go on meanwhile, so only what is the same before and after is judged.
        """
        name = node.name
        done = {uid for call, uid, error in [*getattr(node, "calls", [])] if (call, error) == ("unprepare", "")}
        claims = self._claims_of(name)
        before, regions, after = self.held(name), self.world.regions(name), self.held(name)
        again = {claim["metadata"]["resourceVersion"] for claim in self._claims_of(name)}
        for tag, online in regions.items():
            known = tag in before or tag in after
            assert known or not online, f"I2: {tag} went back while {online} bytes of it are online"
        for claim in claims:
            if claim["metadata"]["resourceVersion"] not in again:
                continue
            results = claim["status"]["allocation"]["devices"].get("results", [])
            tags = [each["shareID"] for each in results if names.fabric_domain_of(each["pool"]) is not None]
            if self.world.condition(claim).get("status") == "True":
                for tag in tags:
                    assert before.get(tag) == regions.get(tag) == after.get(tag) == BYTES, (
                        f"I3: {tag} is said to be attached"
                    )
            if claim["metadata"]["uid"] in done:
                assert not set(tags) & set(before) & set(after), f"I4: {tags} were said to be back"

    def _claims_of(self, node: str) -> list[Object]:
        """Return the claims that are allocated to a node."""
        claims = self.cluster.api.list("ResourceClaim", self.namespace)
        return [claim for claim in claims if "allocation" in claim.get("status", {}) and self.is_of(claim, node)]

    @staticmethod
    def is_of(claim: Object, node: str) -> bool:
        """Tell whether a claim is allocated to a node."""
        selector = claim["status"]["allocation"].get("nodeSelector")
        return f'"{node}"' in json.dumps(selector)


def _each(nodes: Sequence[FakeNode], action: Callable[[FakeNode], None]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(action, nodes))


@contextlib.contextmanager
def scene(cluster: Cluster, count: int, nodes: Sequence[Any] = (), **options: Any) -> Iterator[Scene]:
    """Set a stage: `count` nodes without containers (beside given ones) and a world on all of them, not started."""
    number = next(_numbers)
    with contextlib.ExitStack() as stack:
        namespace = f"deaths-{number}"
        cluster.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        stack.callback(cluster.api.delete, "Namespace", namespace)
        patience = Patience(**{**cluster.pace.kubelet, "poll": 0.3})
        made = [cluster.make_node(f"d{number}n{each}", patience=patience) for each in range(count)]
        for node in made:
            node.start()
        stack.callback(_each, made, lambda node: node.remove(cluster.plane))
        for node in made:
            node.wait()
        eventually(lambda: cluster.api.find("ServiceAccount", "default", namespace), 20, "service account")
        folder = Path(tempfile.mkdtemp(prefix="dmw-", dir=cluster.scratch))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        every = [*nodes, *made]
        world = World(
            cluster,
            folder,
            {node.name: node.kubelet_root for node in every},
            **{"size": POOL, "window": POOL, **options},
        )
        stack.callback(world.stop)
        observer = Observer(world.fabric_folder / "fabric.json", world.domain, POOL_BYTES)
        claims = stack.enter_context(History(cluster.api, "ResourceClaim", namespace))
        try:
            yield Scene(cluster, world, namespace, every, observer, claims)
        finally:
            for pod in cluster.api.list("Pod", namespace):
                cluster.api.delete("Pod", pod["metadata"]["name"], namespace, missing_ok=True)
            for name in [name for name in world.children if name.startswith("driver-")]:
                world.kill(name)  # one after the other they would take half a minute to end
