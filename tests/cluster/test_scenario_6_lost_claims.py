# SPDX-License-Identifier: Apache-2.0
"""Scenario 6: claims, pods, nodes and namespaces vanish without telling the driver. Every byte comes back, from a live
host only by its own driver, from a dead one only when it is proven dead; and nothing of anybody else is touched.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.cluster.support.api import Api, ApiError
from tests.cluster.support.fake_node import FakeNode, Patience
from tests.cluster.support.history import History
from tests.cluster.support.live_memory import LiveMemory, online
from tests.cluster.support.observer import Observer, ranges
from tests.cluster.support.processes import eventually
from tests.cluster.support.world import NAMESPACE, World
from tests.support.ports import free_port

from dynamic_memory.api import names
from dynamic_memory.fabric.model import RemovedState
from dynamic_memory.host.simulated import kernel

GI = 1 << 30
FORCED = {"dynamicmemory.dev/allow-force-delete": "true"}
OUT_OF_SERVICE = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
STUCK = {"operation": "offline"}


@contextlib.contextmanager
def observed(here: World, total: int = 4 * GI) -> Iterator[Observer]:
    """Watch the fabric (I1, I7) and the hosts (I2)."""
    state = here.fabric_folder / "fabric.json"
    hosts = {node: here.host_root(node) for node in here.nodes}
    with Observer(state, here.domain, total) as observer, LiveMemory(state, hosts):
        yield observer


def tag_of(here: World, pod: str, namespace: str) -> str:
    """Return the share of a pod's claim."""
    claim = here.claim_of(pod, namespace)
    assert claim is not None
    results = claim["status"]["allocation"]["devices"]["results"]
    return next(result["shareID"] for result in results if result["pool"] == here.pool)


def tags(here: World) -> set[str]:
    return {share.tag for share in here.extents()}


def force(here: World, pod: str, namespace: str) -> None:
    """Delete a pod by force, as an operator does, and wait until its claim is free: nobody asked the kubelet."""
    claim = here.claim_of(pod, namespace)
    assert claim is not None
    name, uid = claim["metadata"]["name"], claim["metadata"]["uid"]
    here.api.delete("Pod", pod, namespace, grace=0)

    def freed() -> bool:
        found = here.api.find("ResourceClaim", name, namespace)
        return found is None or found["metadata"]["uid"] != uid or "allocation" not in found["status"]

    eventually(freed, 20, f"the claim of {pod} is free")


def taint(here: World, node: str, *taints: dict[str, str]) -> None:
    """Set the taints that an administrator set on a node; others stay."""
    others = [
        each for each in here.api.get("Node", node)["spec"].get("taints", []) if each["key"] != OUT_OF_SERVICE["key"]
    ]
    here.api.patch("Node", node, {"spec": {"taints": [*others, *taints]}})


def stays(here: World, what: set[str], seconds: float | None = None) -> None:
    """Look on for some seconds: these shares are held all the time."""
    until = time.monotonic() + (here.cluster.pace.held if seconds is None else seconds)
    while time.monotonic() < until:
        held = tags(here)
        assert what <= held, f"{what - held} were released"
        time.sleep(min(0.2, here.cluster.pace.orphans / 2))


def lapsed(here: World, node: str) -> bool:
    capacity = here.capacity()
    assert capacity is not None
    return any(host.node == node and host.session_lapsed and not host.session for host in capacity.hosts)


def die(here: World, node: FakeNode) -> None:
    """Take the power from a machine: kubelet and driver end at once."""
    here.kill(f"driver-{node.name}")
    node.stop()


def boot(here: World, node: FakeNode) -> None:
    """Start a machine again: the disk is as it was, memory and /run are new."""
    kernel.reboot(here.host_root(node.name))
    for path in here.cdi_dir(node.name).iterdir():
        path.unlink()
    node.start()
    here.start_driver(node.name)


def records(here: World, node: str) -> set[str]:
    return {path.stem for path in (here.state_dir(node) / "claims").glob("*.json")}


# --- pods deleted by force


def test_scenario_6_force_deleted_pod_on_a_live_host_is_released_by_its_driver(world, fake_nodes, namespace):
    """With a kubelet that unprepares late, and with one that never does: the driver sees that the claim is gone."""
    (node,) = fake_nodes()
    here = world([node], patient=True)
    with observed(here):
        for pod in ("a", "b"):
            here.pod(pod, namespace, "1Gi", annotations=FORCED)
        for pod in ("a", "b"):
            here.wait_running(pod, namespace)
        for pod in ("a", "b"):
            tag, began = tag_of(here, pod, namespace), time.monotonic()
            force(here, pod, namespace)
            eventually(lambda tag=tag: tag not in tags(here), 30, f"the memory of {pod} is back")
            print(f"{pod}: back {time.monotonic() - began:.1f} s after the pod was deleted by force")
            node.stop()
        here.wait_all_back()
        node.start()
        # what the kubelet finds when it comes back is done already, and Unprepare says so
        eventually(lambda: not node.prepared, 20, "the kubelet has unprepared")
        assert [error for call, _, error in node.calls if call == "unprepare"][-1] == ""
    here.wait_values({"pool0": 4 * GI})
    assert not list(here.cdi_dir(node.name).iterdir())


def test_scenario_6_I7_next_claim_waits_while_a_live_host_holds_bytes_of_a_freed_claim(world, fake_nodes, namespace):
    """The kernel does not let go. The books say so (rule 18), the next claim waits, and nobody pulls: not the
    controller, not when the driver is silent, and not on a taint while the host is there (rule 6).
    """
    (node,) = fake_nodes()
    here = world([node], patient=True, lapse=True)
    with observed(here) as observer, History(here.api, "ResourceClaim", namespace) as claims:
        here.pod("a", namespace, "3Gi", annotations=FORCED)
        here.wait_running("a", namespace)
        held = tag_of(here, "a", namespace)
        here.host_faults(node.name, STUCK)
        force(here, "a", namespace)
        # the truth: of 4Gi there is 1Gi left to sell, in the pool and in the node's window
        eventually(lambda: here.values() == {"pool0": GI}, 20, "the pool is published without these bytes")
        eventually(
            lambda: here.values(names.windows_pool(node.name)) == {"port0": GI}, 20, "and so is the node's window"
        )
        here.pod("b", namespace, "3Gi")
        here.pod("small", namespace, "1Gi")
        here.wait_running("small", namespace)  # what is free is free
        stays(here, {held})
        # a taint alone is no proof: the driver has a session with the service
        taint(here, node.name, {**OUT_OF_SERVICE, "effect": "NoSchedule"})
        stays(here, {held})
        taint(here, node.name)
        # a lapsed session alone is no proof either
        here.kill(f"driver-{node.name}")
        eventually(lambda: lapsed(here, node.name), 20, "the session has lapsed")
        stays(here, {held})
        assert online(here.host_root(node.name))[held] > 0
        assert not here.running("b", namespace)
        assert {share.share for share in claims.allocations()} & tags(here) == {held, tag_of(here, "small", namespace)}
        # the driver comes back, later the kernel lets go
        here.start_driver(node.name)
        stays(here, {held}, here.cluster.pace.look)
        assert not here.running("b", namespace)
        here.host_faults(node.name)
        eventually(lambda: held not in tags(here), 30, "the bytes are back")
        here.wait_running("b", namespace)
        assert observer.most == 4 * GI
        for pod in ("b", "small"):
            here.api.delete("Pod", pod, namespace)
            here.wait_gone(pod, namespace)
        here.wait_all_back()
    eventually(lambda: here.values() == {"pool0": 4 * GI}, 20, "the whole pool is published again")


def test_scenario_6_claim_used_again_while_bytes_of_its_forced_pod_are_held(cluster, world, fake_nodes, namespace):
    """The kubelet still unprepares for the pod of before when the claim has a share, and a pod, anew. What it asks for
    is about the old share; the new pod gets the new one, whether the kubelet prepares again or believes it is done.
    """
    (node,) = fake_nodes(
        1, patience=Patience(call=cluster.pace.call, **cluster.pace.kubelet)
    )  # so the kubelet asks again, and again
    here = world([node], patient=True)
    claim = here.claim("own", namespace, "1Gi")
    spec = here.cdi_dir(node.name) / f"dra.memory-claim-{claim['metadata']['uid']}.json"
    with observed(here):
        here.pod("first", namespace, "1Gi", claim="own", annotations=FORCED)
        here.wait_running("first", namespace)
        old = tag_of(here, "first", namespace)
        here.host_faults(node.name, {**STUCK, "tag": old})
        force(here, "first", namespace)
        eventually(lambda: not spec.exists(), 20, "the kubelet has begun to unprepare")
        here.pod("second", namespace, "1Gi", claim="own")
        here.wait_running("second", namespace, 30)
        new = tag_of(here, "second", namespace)
        assert tags(here) == {old, new}
        # what its container is told is the memory that it has
        eventually(lambda: new in spec.read_text(), 10, "the container can start, with the new share")
        assert old not in spec.read_text()
        stays(here, {old, new})
        assert here.condition(here.claim_of("second", namespace))["status"] == "True"
        here.host_faults(node.name)
        eventually(lambda: tags(here) == {new}, 30, "the old bytes are back")
        stays(here, {new}, here.cluster.pace.look)
        assert here.regions(node.name) == {new: GI}
        assert new in spec.read_text()
        here.api.delete("Pod", "second", namespace)
        here.wait_gone("second", namespace)
        here.wait_all_back()


# --- dead hosts


def test_scenario_6_host_dead_and_proven_so(world, fake_nodes, namespace):
    """Until an administrator says that it is off, nobody takes its memory; then the service does, and of it only."""
    dead, alive = fake_nodes(2)
    here = world([dead, alive], patient=True, lapse=True)
    for pod, node in (("gone", dead), ("evicted", dead), ("other", alive)):
        here.pod(pod, namespace, "1Gi", node=node.name, annotations=FORCED)
    for pod in ("gone", "evicted", "other"):
        here.wait_running(pod, namespace)
    gone, evicted, other = (tag_of(here, pod, namespace) for pod in ("gone", "evicted", "other"))
    with Observer(here.fabric_folder / "fabric.json", here.domain, 4 * GI):
        die(here, dead)
        force(here, "gone", namespace)
        eventually(lambda: lapsed(here, dead.name), 30, "the session has lapsed")
        stays(here, {gone, evicted, other})
        eventually(lambda: here.values() == {"pool0": 3 * GI}, 20, "the pool is published without the dead bytes")
        # Kubernetes finds that the node is silent after 40 s; then the administrator sets the taint
        not_ready = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "silent"}
        here.api.patch(
            "Node", dead.name, {"status": {"conditions": [not_ready]}}, style="strategic", subresource="status"
        )
        taint(here, dead.name, OUT_OF_SERVICE)
        proven = time.monotonic()
        eventually(lambda: gone not in tags(here), 15, "the service has released the lost share")
        print(f"lost share released {time.monotonic() - proven:.1f} s after the taint")
        # the pod that is still there goes by Kubernetes' own hand (pod garbage collector, every 20 s), then its memory
        here.wait_gone("evicted", namespace, 60)
        eventually(lambda: tags(here) == {other}, 20, "its share is released as well")
        print(f"evicted pod's share released {time.monotonic() - proven:.1f} s after the taint")
        assert here.running("other", namespace)
        eventually(lambda: here.values() == {"pool0": 4 * GI}, 20, "the whole pool is published again")
        # the machine is repaired: what its disk remembers does no harm
        taint(here, dead.name)
        boot(here, dead)
        dead.wait()
        eventually(lambda: dead.registered == [names.DRIVER], 30, "the driver has registered")
        eventually(lambda: not records(here, dead.name), 20, "the records of before are dropped")
        here.pod("new", namespace, "3Gi", node=dead.name)
        here.wait_running("new", namespace)
        assert tags(here) == {other, tag_of(here, "new", namespace)}
        for pod in ("new", "other"):
            here.api.delete("Pod", pod, namespace)
            here.wait_gone(pod, namespace)
        here.wait_all_back()


# --- objects deleted


def test_scenario_6_node_object_deleted(world, fake_nodes, namespace):
    """A Node object that is gone proves nothing about the machine. Its driver gives back what claims let go of."""
    (node,) = fake_nodes()
    here = world([node], patient=True, lapse=True)
    pool = names.windows_pool(node.name)
    with observed(here):
        for pod in ("first", "second"):
            here.pod(pod, namespace, "1Gi", annotations=FORCED)
        for pod in ("first", "second"):
            here.wait_running(pod, namespace)
        first, second = (tag_of(here, pod, namespace) for pod in ("first", "second"))
        # the driver lives
        node.stop()
        here.api.delete("Node", node.name)
        stays(here, {first, second}, here.cluster.pace.look)
        force(here, "first", namespace)
        eventually(lambda: tags(here) == {second}, 20, "the driver has released what was let go of")
        # the driver is silent, and the node unknown: still nobody pulls
        here.kill(f"driver-{node.name}")
        eventually(lambda: lapsed(here, node.name), 20, "the session has lapsed")
        force(here, "second", namespace)
        stays(here, {second})
        assert online(here.host_root(node.name)) == {second: 8}
        eventually(lambda: here.values() == {"pool0": 3 * GI}, 20, "the pool is published without these bytes")
        # Kubernetes takes the slices of a node that is gone away; those of the new one have to come, and stay
        eventually(
            lambda: pool not in {item["spec"]["pool"]["name"] for item in here.slices()}, 30, "the slice is gone"
        )
        node.start()
        node.wait()
        new = here.api.get("Node", node.name)["metadata"]["uid"]
        # the driver's old pod was deleted with its node, and its token with it
        here.renew_driver_token(node.name)
        here.start_driver(node.name)
        here.wait_published()
        here.wait_all_back()
        here.pod("third", namespace, "4Gi")
        here.wait_running("third", namespace)
        owners = [
            owner["uid"]
            for item in here.slices()
            if item["spec"]["pool"]["name"] == pool
            for owner in item["metadata"]["ownerReferences"]
        ]
        assert owners == [new]
        here.api.delete("Pod", "third", namespace)
        here.wait_gone("third", namespace)
        here.wait_all_back()


def test_scenario_6_node_object_deleted_and_made_anew_while_the_driver_lives(world, fake_nodes, namespace):
    """Pod and memory stay; the slices, which Kubernetes deletes with their owner, come back with the new owner."""
    (node,) = fake_nodes()
    here = world([node], patient=True)
    with observed(here):
        here.pod("a", namespace, "1Gi")
        here.wait_running("a", namespace)
        held = tag_of(here, "a", namespace)
        node.stop()
        here.api.delete("Node", node.name)
        node.start()
        node.wait()
        new = here.api.get("Node", node.name)["metadata"]["uid"]

        def renewed() -> bool:
            found = [each for each in here.slices() if each["spec"]["pool"]["name"] == names.windows_pool(node.name)]
            return [owner["uid"] for item in found for owner in item["metadata"]["ownerReferences"]] == [new]

        eventually(renewed, 30, "the slice is new")
        here.wait_published()
        assert here.running("a", namespace)
        assert tags(here) == {held}
        assert here.regions(node.name) == {held: GI}
        here.pod("b", namespace, "3Gi")
        here.wait_running("b", namespace)
        for pod in ("a", "b"):
            here.api.delete("Pod", pod, namespace)
            here.wait_gone(pod, namespace)
        here.wait_all_back()


def test_scenario_6_namespace_deleted(world, fake_nodes, namespace):
    """Pods, claims and templates go in any order; a pod whose memory is stuck holds the namespace."""
    (node,) = fake_nodes()
    here = world([node], patient=True)
    doomed = f"{namespace}-doomed"
    here.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": doomed}})
    eventually(lambda: here.api.find("ServiceAccount", "default", doomed), 20, "the namespace is ready")
    with observed(here):
        here.pod("stays", namespace, "1Gi")
        here.claim("own", doomed, "1Gi")
        here.pod("own", doomed, "1Gi", claim="own")
        here.pod("made", doomed, "1Gi")
        here.pod("waits", doomed, "2Gi")
        for pod, where in (("stays", namespace), ("own", doomed), ("made", doomed)):
            here.wait_running(pod, where)
        stuck, other = tag_of(here, "own", doomed), tag_of(here, "stays", namespace)
        # a claim that is deleted while its pod runs is only marked: it holds what its pod holds
        here.api.delete("ResourceClaim", "own", doomed)
        stays(here, {stuck}, here.cluster.pace.look / 2)
        assert here.running("own", doomed)
        here.host_faults(node.name, {**STUCK, "tag": stuck})
        here.api.delete("Namespace", doomed)
        eventually(lambda: tags(here) == {stuck, other}, 30, "what can go back is back")
        stays(here, {stuck, other}, here.cluster.pace.look)
        claim = here.api.get("ResourceClaim", "own", doomed)
        assert claim["metadata"]["deletionTimestamp"]
        assert claim["status"]["allocation"]
        assert here.api.get("Pod", "own", doomed)["metadata"]["deletionTimestamp"]
        here.host_faults(node.name)
        eventually(lambda: tags(here) == {other}, 30, "the rest is back")
        eventually(lambda: here.api.find("Namespace", doomed) is None, 60, "the namespace is gone")
        assert here.running("stays", namespace)
        assert here.regions(node.name) == {other: GI}
        here.api.delete("Pod", "stays", namespace)
        here.wait_gone("stays", namespace)
        here.wait_all_back()


# --- reboots


def test_scenario_6_rule_14_rebooted_node_gets_its_memory_again_before_the_kubelet_goes_on(
    world, fake_nodes, namespace
):
    """The kubelet's checkpoint says prepared, and it does not ask again. So the driver attaches again by itself."""
    (node,) = fake_nodes()
    here = world([node], patient=True)
    for pod in ("stays", "ends"):
        here.pod(pod, namespace, "1Gi", annotations=FORCED)
    for pod in ("stays", "ends"):
        here.wait_running(pod, namespace)
    keeps, ends = (tag_of(here, pod, namespace) for pod in ("stays", "ends"))
    (extent,) = (share for share in here.extents() if share.tag == keeps)
    claim = here.claim_of("stays", namespace)
    spec = here.cdi_dir(node.name) / f"dra.memory-claim-{claim['metadata']['uid']}.json"
    before = json.loads(spec.read_text())
    calls = len(node.calls)
    with observed(here) as observer, History(here.api, "ResourceClaim", namespace) as claims:
        die(here, node)
        # one of the pods goes while the machine is off
        force(here, "ends", namespace)
        here.host_faults(node.name, {"operation": "arrive"})  # the extents are slow in coming back
        boot(here, node)
        eventually(
            lambda: here.condition(here.claim_of("stays", namespace)).get("status") == "False",
            20,
            "the claim says that its memory is not there",
        )
        assert node.registered == [], "the driver registered before the memory was there"
        assert not spec.exists(), "a container could start without its memory"
        said = here.condition(here.claim_of("stays", namespace))
        assert said["reason"] in {"NodeRebooted", "WaitingForMemory"}, said
        here.host_faults(node.name)
        eventually(lambda: node.registered == [names.DRIVER], 30, "the driver has registered")
        # registered means: everything is there
        assert here.regions(node.name)[keeps] == GI
        after = json.loads(spec.read_text())
        assert after == before
        assert here.condition(here.claim_of("stays", namespace))["status"] == "True"
        eventually(lambda: tags(here) == {keeps}, 30, "what was let go of meanwhile is back in the pool")
        (again,) = here.extents()
        assert (again.tag, again.ranges) == (extent.tag, extent.ranges), "the fabric kept the extents over the reboot"
        assert [call for call, uid, _ in node.calls[calls:] if call == "prepare"] == []
        reasons = [each.reasons for each in claims.allocations() if each.share == keeps]
        assert reasons[0][-1] == "ExtentOnline"
        assert here.running("stays", namespace)
        assert observer.most == 2 * GI
        here.api.delete("Pod", "stays", namespace)
        here.wait_gone("stays", namespace)
        here.wait_all_back()
    assert ends not in tags(here)
    here.wait_values({"pool0": 4 * GI})


# --- what must not be touched


def test_scenario_6_second_owner_on_the_same_fabric_stays_untouched(world, fake_nodes, namespace):
    """Its extents have no claims here, and are nobody's orphans: invisible, and out of reach by every right we have."""
    dead, alive = fake_nodes(2)
    here = world([dead, alive], patient=True, lapse=True, others=["x1"])
    theirs = [f"0000000{number}-0000-4000-8000-000000000000" for number in range(3)]
    pool = names.fabric_pool(f"{here.domain}-other")
    for tag in theirs:
        here.ask(
            lambda fabric, tag=tag: fabric.add_memory(node="x1", pool=pool, device="pool0", size=GI, tag=tag),
            owner="other",
            identity="node/x1",
        )
    state = here.fabric_folder / "fabric.json"

    def of_theirs() -> list[Any]:
        return sorted(entry for entry in ranges(json.loads(state.read_bytes())) if entry[0] in theirs)

    before = of_theirs()
    assert len({entry[0] for entry in before}) == 3
    here.pod("a", namespace, "1Gi", node=dead.name, annotations=FORCED)
    here.pod("b", namespace, "1Gi", node=alive.name, annotations=FORCED)
    for pod in ("a", "b"):
        here.wait_running(pod, namespace)
    # ours are found and released in each of the ways there are, while theirs are beside them
    die(here, dead)
    force(here, "a", namespace)
    force(here, "b", namespace)
    eventually(lambda: lapsed(here, dead.name), 20, "the session has lapsed")
    taint(here, dead.name, OUT_OF_SERVICE)
    eventually(lambda: not here.extents(), 30, "ours are back")
    time.sleep(here.cluster.pace.held)
    assert of_theirs() == before
    # nothing of theirs is seen
    assert not here.extents()
    capacity = here.capacity()
    assert capacity is not None
    assert [device.pool for device in capacity.pools] == [here.pool]
    assert {host.node for host in capacity.hosts} == {dead.name, alive.name}
    assert pool not in {item["spec"]["pool"]["name"] for item in here.slices()}
    here.wait_values({"pool0": 4 * GI})
    # and nothing is reached, not by an operator who forces it either
    for identity, options in (
        ("role/operator", {"force": True}),
        ("role/controller", {"host_off": True}),
        (f"node/{alive.name}", {}),
    ):
        for tag in theirs:
            removed = here.ask(
                lambda fabric, tag=tag, options=options: fabric.remove_memory(tag, **options), identity=identity
            )
            assert removed.state is RemovedState.UNKNOWN
    assert of_theirs() == before
    listed = here.ask(lambda fabric: fabric.list_extents(), owner="other")
    assert {share.tag for share in listed.shares} == set(theirs)
    assert not any(share.release_requested for share in listed.shares)


@pytest.fixture
def blind(cluster, rights) -> Iterator[tuple[str, Any]]:
    """A controller's account (its token) that may do all that the controller may, but sees claims only when told so."""
    account, role = "blind", "dynamic-memory-controller"
    api: Api = cluster.api
    api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": NAMESPACE}})
    full = api.get("ClusterRole", role)["rules"]
    rules = [rule for rule in full if "resourceclaims" not in rule["resources"]]
    assert len(rules) == len(full) - 1

    def roles(name: str, body: list[Any]) -> None:
        group = "rbac.authorization.k8s.io"
        api.create({"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": body})
        subject = {"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}
        reference = {"apiGroup": group, "kind": "ClusterRole", "name": name}
        binding = {"apiVersion": f"{group}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name}}
        api.create({**binding, "roleRef": reference, "subjects": [subject]})

    def see(allowed: bool) -> None:
        if allowed:
            claims = {
                "apiGroups": ["resource.k8s.io"],
                "resources": ["resourceclaims"],
                "verbs": ["get", "list", "watch"],
            }
            roles("sees-claims", [claims])
        else:
            api.delete("ClusterRoleBinding", "sees-claims", missing_ok=True)
            api.delete("ClusterRole", "sees-claims", missing_ok=True)
            eventually(sees_none, 20, "the API server has heard of it")

    def sees_none() -> bool:
        try:
            itself.list("ResourceClaim")
        except ApiError as error:
            return error.code == http.client.FORBIDDEN
        return False

    roles(account, rules)
    token = api.token(account, NAMESPACE)
    itself = Api(cluster.plane.server, cluster.plane.authority.context(), token)
    yield token, see
    see(False)
    itself.close()
    api.delete("ClusterRoleBinding", account)
    api.delete("ClusterRole", account)
    api.delete("ServiceAccount", account, NAMESPACE)


def readiness(address: str) -> tuple[int, str]:
    """Return what /readyz of a role says."""
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_scenario_6_rule_19_controller_that_cannot_see_all_claims_touches_nothing(world, fake_nodes, namespace, blind):
    """Neither if it never saw them, nor if it is not allowed to look once more; what it publishes stays as it is."""
    token, see = blind
    (node,) = fake_nodes()
    here = world([node], patient=True, lapse=True)
    for pod in ("first", "second", "third"):
        here.pod(pod, namespace, "1Gi", annotations=FORCED)
    for pod in ("first", "second", "third"):
        here.wait_running(pod, namespace)
    first, second, third = (tag_of(here, pod, namespace) for pod in ("first", "second", "third"))
    # everything else is ripe for a release: the host is dead, and proven so
    here.kill("controller")
    die(here, node)
    force(here, "first", namespace)
    eventually(lambda: lapsed(here, node.name), 20, "the session has lapsed")
    taint(here, node.name, {**OUT_OF_SERVICE, "effect": "NoSchedule"})
    path = here.folder / "controller.yaml"
    config = yaml.safe_load(path.read_text())
    address = f"127.0.0.1:{free_port()}"
    config |= {"kubeconfig": str(here.kubeconfig("blind", token)), "health": address}
    path.write_text(yaml.safe_dump(config))
    published = [item for item in here.slices() if item["spec"]["pool"]["name"] == here.pool]
    with Observer(here.fabric_folder / "fabric.json", here.domain, 4 * GI):
        here.start_controller()
        eventually(lambda: readiness(address)[0] == 503, 20, "the controller runs, and is not ready")
        stays(here, {first, second, third})
        assert not any(share.release_requested for share in here.extents())
        assert [item for item in here.slices() if item["spec"]["pool"]["name"] == here.pool] == published
        status, text = readiness(address)
        assert (status, "pools" in text) == (503, True), text
        # with the right to see them, it does its work
        see(True)
        eventually(lambda: tags(here) == {second, third}, 45, "the orphan is released")
        eventually(lambda: readiness(address)[0] == 200, 20, "the controller is ready")
        # the watch goes on, but it cannot make sure any more
        see(False)
        force(here, "second", namespace)
        eventually(lambda: here.values() == {"pool0": 3 * GI}, 20, "the controller has seen that the claim is gone")
        stays(here, {second, third})
        see(True)
        eventually(lambda: tags(here) == {third}, 30, "this orphan is released as well")
        force(here, "third", namespace)
        eventually(lambda: not here.extents(), 30, "and this one")
    taint(here, node.name)
    boot(here, node)
    here.wait_all_back()
