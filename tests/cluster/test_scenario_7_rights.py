# SPDX-License-Identifier: Apache-2.0
"""Scenario 7: a node has power over itself alone (I6), with certificates that the controller signed and tokens as pods
have them. Whoever tries more is told what it may not do, and nothing has changed afterwards.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import datetime as dt
import itertools
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.cluster.support.api import Api, ApiError, Object
from tests.cluster.support.fake_node import FakeNode
from tests.cluster.support.observer import ranges
from tests.cluster.support.processes import eventually
from tests.cluster.support.world import NAMESPACE, OWNER, World

from dynamic_memory.api import names
from dynamic_memory.fabric.client import FabricClient, TlsFiles
from dynamic_memory.fabric.errors import BadArgument, Denied, Unreachable
from dynamic_memory.fabric.model import Change, Snapshot

GI = 1 << 30
NEW_TAG = "11111111-1111-4111-8111-111111111111"
TLS_FILES = ("ca.crt", "tls.crt", "tls.key")
_numbers = itertools.count(1)


def node_identity(node: str, owner: str = OWNER) -> str:
    return f"dynamic-memory://{owner}/node/{node}"


def role_identity(role: str) -> str:
    return f"dynamic-memory://{OWNER}/role/{role}"


def as_token(here: World, token: str) -> Api:
    return Api(here.cluster.plane.server, here.cluster.plane.authority.context(), token)


@pytest.fixture(scope="module")
def pair(cluster, rights) -> Iterator[tuple[World, FakeNode, FakeNode]]:
    """Two nodes of one world in which every certificate is signed by the controller; `a` has obtained one more.

    All tests share it: each ends as it began, with all bytes back in the pool.
    """
    with contextlib.ExitStack() as stack:
        nodes = []
        for _ in range(2):
            node = FakeNode(f"r{next(_numbers)}", cluster.plane)
            stack.callback(node.remove, cluster.plane)
            node.start()
            nodes.append(node)
        folder = Path(tempfile.mkdtemp(prefix="dmw-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        here = World(cluster, folder, {node.name: node.kubelet_root for node in nodes}, tls=True)
        stack.callback(here.stop)
        for node in nodes:
            node.wait()
        here.start()
        a, b = nodes
        code, said = here.obtain(node_identity(a.name), here.folder / f"driver-{a.name}.kubeconfig", "a")
        assert code == 0, said
        assert node_identity(a.name) in said
        yield here, a, b


@pytest.fixture
def caller(pair) -> Iterator[Callable[[str], Api]]:
    """Make callers of the API server by token; they are closed after the test."""
    here, _, _ = pair
    with contextlib.ExitStack() as stack:

        def make(token: str) -> Api:
            api = as_token(here, token)
            stack.callback(api.close)
            return api

        yield make


def share_of(here: World, pod: str, namespace: str) -> str:
    claim = here.claim_of(pod, namespace)
    assert claim is not None
    results = claim["status"]["allocation"]["devices"]["results"]
    return next(result["shareID"] for result in results if result["pool"] == here.pool)


def window_slice(here: World, node: str) -> Object:
    (found,) = (item for item in here.slices() if item["spec"]["pool"]["name"] == names.windows_pool(node))
    return found


def requests(here: World) -> list[Object]:
    """Return every request for a certificate of ours."""
    listed = here.api.list("CertificateSigningRequest", fields=f"spec.signerName={names.SIGNER}")
    return sorted(listed, key=lambda item: item["metadata"]["creationTimestamp"])


# --- certificates


def test_scenario_7_I6_a_node_gets_a_certificate_for_itself_only(pair, namespace):
    """Every attempt is a request at the real API server, which says who asks; the denial is a sentence."""
    here, a, b = pair
    mine = here.folder / f"driver-{a.name}.kubeconfig"
    updater = here.kubeconfig("updater-a", here.role_token("updater", a.name))
    unbound = here.kubeconfig("unbound", here.api.token("driver", NAMESPACE))
    controller = here.folder / "controller.kubeconfig"
    tries = {
        "another node": (
            mine,
            node_identity(b.name),
            f"The token is bound to {a.name}, the request is for node {b.name}",
        ),
        "no node in the token": (unbound, node_identity(a.name), "The token is bound to no node"),
        "another cluster": (mine, node_identity(a.name, "other"), f"This cluster is {OWNER}, the request is for other"),
        "the controller": (mine, role_identity("controller"), "driver may not be role controller"),
        "the service": (mine, role_identity("service"), "driver may not be role service"),
        "an operator": (mine, role_identity("operator"), "driver may not be role operator"),
        "an operator, by the controller": (
            controller,
            role_identity("operator"),
            "controller may not be role operator",
        ),
        "a node, by the controller": (controller, node_identity(a.name), f"controller may not be node {a.name}"),
    }
    for case, (kubeconfig, identity, sentence) in tries.items():
        name = f"try-{next(_numbers)}"
        code, said = here.obtain(identity, kubeconfig, name)
        assert code != 0, case
        assert sentence in said, f"{case}: {said}"
        assert not (here.tls_folder(name) / "tls.crt").exists(), case
    # whoever looks at the requests sees the same sentence
    denied = [
        condition["message"]
        for item in requests(here)
        for condition in item["status"].get("conditions", [])
        if condition["type"] == "Denied"
    ]
    for _, _, sentence in tries.values():
        assert any(sentence in message for message in denied), (sentence, denied)
    # what it may have it gets, with a key that nobody else can read
    assert (here.tls_folder("a") / "tls.key").stat().st_mode & 0o077 == 0
    assert here.ask(lambda fabric: fabric.list_extents(), certificate="a").shares == ()
    # who needs no certificate cannot even ask: the updater, and anybody else
    plain = here.kubeconfig("plain", here.api.token("default", namespace))
    for name, kubeconfig in (("updater", updater), ("plain", plain)):
        code, said = here.obtain(node_identity(a.name), kubeconfig, name, timeout=10)
        assert code != 0
        assert "forbidden" in said, said


def certificate_request(identity: str) -> str:
    """Return a PKCS#10 request for a new key, in base64."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]), critical=True)
        .sign(key, hashes.SHA256())
    )
    return base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()


def test_scenario_7_I6_a_user_cannot_pose_as_a_node_nor_can_an_administrator_by_mistake(pair, namespace, caller):
    """The names in a request are the API server's, whatever its author writes; an approval by hand is not enough."""
    here, a, _ = pair
    api = here.api
    group = "rbac.authorization.k8s.io"
    name = f"asks-{namespace}"
    verbs = ["create", "get", "list"]
    rule = {"apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests"], "verbs": verbs}
    api.create({"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": [rule]})
    binding = {"apiVersion": f"{group}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name}}
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": namespace}
    api.create({**binding, "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name}, "subjects": [subject]})
    body = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": f"pose-{namespace}"},
        "spec": {
            "request": certificate_request(node_identity(a.name)),
            "signerName": names.SIGNER,
            "usages": ["client auth"],
            "username": f"system:serviceaccount:{NAMESPACE}:driver",
            "extra": {"authentication.kubernetes.io/node-name": [a.name]},
        },
    }
    user = caller(api.token("default", namespace))

    def status(name: str) -> dict[str, Object]:
        item = user.call("GET", f"/apis/certificates.k8s.io/v1/certificatesigningrequests/{name}")
        assert "certificate" not in item["status"]
        return {condition["type"]: condition for condition in item["status"].get("conditions", [])}

    try:
        eventually(lambda: user.create(body), 10, "the user may ask")
        denied = eventually(lambda: status(f"pose-{namespace}").get("Denied"), 15, "the request is denied")
        said = f"system:serviceaccount:{namespace}:default may not be node {a.name}"
        assert said in denied["message"]
        # the controller is away, and an administrator approves what it does not understand
        here.end("controller")
        body["metadata"]["name"] = f"approved-{namespace}"
        user.create(body)
        item = api.get("CertificateSigningRequest", body["metadata"]["name"])
        item["status"] = {"conditions": [{"type": "Approved", "status": "True", "reason": "Trust", "message": "go on"}]}
        path = f"/apis/certificates.k8s.io/v1/certificatesigningrequests/{body['metadata']['name']}/approval"
        api.call("PUT", path, item)
        here.start_controller()
        failed = eventually(lambda: status(body["metadata"]["name"]).get("Failed"), 30, "the request fails")
        assert said in failed["message"]
    finally:
        for each in (f"pose-{namespace}", f"approved-{namespace}"):
            api.delete("CertificateSigningRequest", each, missing_ok=True)
        api.delete("ClusterRoleBinding", name)
        api.delete("ClusterRole", name)


# --- the fabric


def refused(here: World, question: Callable[[Any], Any], *, certificate: str = "a", identity: str = "") -> str:
    """Ask with a node's certificate what it may not, and return what the service says."""
    with pytest.raises(Denied) as caught:
        here.ask(question, identity=identity or "role/operator", certificate=certificate)
    return str(caught.value)


def test_scenario_7_I6_a_certificate_of_a_node_has_no_power_over_another_node(pair, namespace):
    """It can neither add, nor list, nor watch, nor remove; and who it says to be beside its certificate is nothing."""
    here, a, b = pair
    state = here.fabric_folder / "fabric.json"
    here.pod("b", namespace, "1Gi", node=b.name)
    here.wait_running("b", namespace)
    theirs = share_of(here, "b", namespace)
    before = state.read_bytes()
    assert {entry[0] for entry in ranges(json.loads(before))} == {theirs}

    # add: for the other node, whatever it claims to be in words
    for identity in (f"node/{b.name}", "role/operator", f"node/{a.name}"):
        said = refused(
            here,
            lambda fabric: fabric.add_memory(node=b.name, pool=here.pool, device="pool0", size=GI, tag=NEW_TAG),
            identity=identity,
        )
        assert f"{node_identity(a.name)} may not add memory to node '{b.name}'" in said
    # remove: by the tag, by force, or as the one who knows that the host is off
    assert f"{node_identity(a.name)} does not hold {theirs}" in refused(here, lambda f: f.remove_memory(theirs))
    assert "only an operator may force" in refused(here, lambda f: f.remove_memory(theirs, force=True))
    with pytest.raises(BadArgument):
        here.ask(lambda fabric: fabric.remove_memory(theirs, host_off=True), certificate="a")
    # list: nothing of the other one
    assert here.ask(lambda fabric: fabric.list_extents(), certificate="a").shares == ()
    assert f"may not see node '{b.name}'" in refused(here, lambda fabric: fabric.get_capacity(b.name))
    capacity = here.ask(lambda fabric: fabric.get_capacity(), certificate="a")
    assert {host.node for host in capacity.hosts} == {a.name}
    assert state.read_bytes() == before
    assert not any(share.release_requested for share in here.extents())
    assert here.regions(b.name) == {theirs: GI}
    assert here.running("b", namespace)

    # watch: nothing of the other one while its memory comes and goes, but all of one's own
    nodes, tags = watched(here, lambda: churn(here, namespace, a, b))
    assert nodes == {a.name}
    assert tags == {share_of(here, "a2", namespace)}
    for pod in ("b", "a2"):
        here.api.delete("Pod", pod, namespace)
        here.wait_gone(pod, namespace)
    here.wait_all_back()


def churn(here: World, namespace: str, a: FakeNode, b: FakeNode) -> None:
    """Have memory come and go on the other node, then come on one's own."""
    here.pod("b2", namespace, "1Gi", node=b.name)
    here.wait_running("b2", namespace)
    here.api.delete("Pod", "b2", namespace)
    here.wait_gone("b2", namespace)
    here.pod("a2", namespace, "1Gi", node=a.name)
    here.wait_running("a2", namespace)


def watched(here: World, action: Callable[[], None]) -> tuple[set[str], set[str]]:
    """Watch with the certificate of node a during an action; return the nodes and the tags that it tells of."""
    files = TlsFiles(*(str(here.tls_folder("a") / name) for name in TLS_FILES))
    nodes: set[str] = set()
    tags: set[str] = set()

    def note(item: Snapshot | Change) -> None:
        shares = item.shares if isinstance(item, Snapshot) else [item.share] if item.share else []
        nodes.update(share.node for share in shares)
        tags.update(share.tag for share in shares)
        if isinstance(item, Change):
            tags.update([item.removed_tag] if item.removed_tag else [])
            nodes.update(host.node for host in item.capacity.hosts) if item.capacity else None

    async def listen() -> None:
        client = FabricClient.connect(here.address, files)
        try:
            async for item in client.watch():
                note(item)
        finally:
            await client.close()

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(listen())
            await asyncio.to_thread(action)
            await asyncio.sleep(0.5)
            assert not task.done(), "the watch has ended"
            task.cancel()

    asyncio.run(run())
    return nodes, tags


def forge(folder: Path, identity: str, issuer: x509.Name, signer: ec.EllipticCurvePrivateKey | None = None) -> None:
    """Write a certificate of an identity that nobody but us has signed: with `signer`, or with a key made up here."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "forged")]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(signer or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(private_pem(key))


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def test_scenario_7_I6_a_certificate_that_the_controller_did_not_sign_opens_nothing(pair):
    """Not one of another authority of the same name, not one signed with a node's own key, and not none at all."""
    here, a, b = pair
    mine, folder = here.tls_folder("a"), here.tls_folder("forged")
    folder.mkdir(parents=True)
    shutil.copy(mine / "ca.crt", folder / "ca.crt")
    authority = x509.load_pem_x509_certificate((mine / "ca.crt").read_bytes())
    own = x509.load_pem_x509_certificate((mine / "tls.crt").read_bytes())
    key = serialization.load_pem_private_key((mine / "tls.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    for issuer, signer in ((authority.subject, None), (own.subject, key), (authority.subject, key)):
        forge(folder, node_identity(b.name), issuer, signer)
        with pytest.raises(Unreachable):
            here.ask(lambda fabric: fabric.list_extents(), certificate="forged")

    async def nameless() -> grpc.StatusCode:
        credentials = grpc.ssl_channel_credentials((mine / "ca.crt").read_bytes())
        async with grpc.aio.secure_channel(here.address, credentials) as channel:
            call = channel.unary_unary("/dynamicmemory.fabric.v1.DynamicMemory/ListExtents")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(b"", timeout=60)
            return caught.value.code()

    assert asyncio.run(nameless()) is grpc.StatusCode.UNAVAILABLE
    # the one that the controller signed does, at the same service at the same time
    assert here.ask(lambda fabric: fabric.list_extents(), certificate="a").shares == ()
    assert own.subject != authority.subject
    assert own.issuer == authority.subject
    names_in_it = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names_in_it.get_values_for_type(x509.UniformResourceIdentifier) == [node_identity(a.name)]


# --- the API server


def refusal(action: Callable[[], object]) -> ApiError:
    """Return what the API server says to something that it refuses."""
    with pytest.raises(ApiError) as caught:
        action()
    return caught.value


def test_scenario_7_I6_a_token_of_a_node_writes_nothing_of_another_node(pair, caller, namespace):
    """Neither slices, nor what claims say, nor the Node; and a token of the same account without a node writes none."""
    here, a, b = pair
    for pod, node in (("on-a", a), ("on-b", b)):
        here.pod(pod, namespace, "1Gi", node=node.name)
    for pod in ("on-a", "on-b"):
        here.wait_running(pod, namespace)
    mine = caller(here.driver_token(a.name))
    unbound = caller(here.api.token("driver", NAMESPACE))
    updater = caller(here.role_token("updater", a.name))

    # slices: not changed, not deleted, not made, not touched; those of the pool neither
    theirs, ours = window_slice(here, b.name), window_slice(here, a.name)
    (pool,) = (item for item in here.slices() if item["spec"]["pool"]["name"] == here.pool)
    lie = copy.deepcopy(theirs["spec"])
    lie["devices"][0]["taints"] = [{"key": "example.com/mine", "effect": "NoSchedule"}]
    new = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": f"lie-{namespace}"}}
    for item, owner in ((theirs, f"node {b.name}"), (pool, "a pool that is not a node's")):
        sentence = f"the driver of node {a.name} may not write a slice of {owner}"
        name = item["metadata"]["name"]
        devices = {"spec": {"devices": [{**item["spec"]["devices"][0], "taints": lie["devices"][0]["taints"]}]}}
        for action in (
            lambda name=name, devices=devices: mine.patch("ResourceSlice", name, devices),
            lambda name=name: mine.patch("ResourceSlice", name, {"metadata": {"annotations": {"a": "b"}}}),
            lambda name=name: mine.delete("ResourceSlice", name),
            lambda item=item: mine.create({**new, "spec": item["spec"]}),
        ):
            assert sentence in refusal(action).message
    spec = {**ours["spec"], "pool": {**ours["spec"]["pool"], "name": "more"}}
    for action in (
        lambda: unbound.create({**new, "spec": spec}),
        lambda: unbound.delete("ResourceSlice", ours["metadata"]["name"]),
    ):
        assert "the driver's token is not bound to a node" in refusal(action).message
    assert window_slice(here, b.name) == theirs

    # what claims say: a condition is written by the driver of the claim's node alone
    def say(api: Api, pod: str) -> Object:
        claim = here.claim_of(pod, namespace)
        assert claim is not None
        (device,) = claim["status"]["devices"]
        (condition,) = (each for each in device["conditions"] if each["type"] == names.ATTACHED)
        body = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"name": claim["metadata"]["name"], "uid": claim["metadata"]["uid"]},
            "status": {
                "devices": [
                    {
                        **{key: device[key] for key in ("driver", "pool", "device", "shareID")},
                        "conditions": [{**condition, "status": "False", "reason": "Lie"}],
                    }
                ]
            },
        }
        return api.apply(body, namespace, manager="dynamic-memory-driver", subresource="status")

    for api, pod in ((mine, "on-b"), (unbound, "on-b"), (unbound, "on-a"), (updater, "on-a"), (updater, "on-b")):
        before = here.claim_of(pod, namespace)
        error = refusal(lambda api=api, pod=pod: say(api, pod))
        if api is updater:
            assert (error.code, "cannot patch resource" in error.message) == (403, True), error
        else:
            assert (error.code, "changing status.devices requires" in error.message) == (422, True), error
        assert here.claim_of(pod, namespace) == before
    # and whose a claim is, a driver decides for no claim, not of its own node either
    for pod in ("on-a", "on-b"):
        claim = here.claim_of(pod, namespace)
        assert claim is not None
        for patch in ({"reservedFor": []}, {"allocation": None, "reservedFor": [], "devices": []}):
            error = refusal(
                lambda claim=claim, patch=patch: mine.patch(
                    "ResourceClaim", claim["metadata"]["name"], {"status": patch}, namespace, subresource="status"
                )
            )
            assert error.code in {403, 422}, error
    # this is not because the token could do nothing: its own slice and claim it may write
    mine.patch("ResourceSlice", ours["metadata"]["name"], {"metadata": {"annotations": {"a": "b"}}}, dryRun="All")
    say(mine, "on-a")
    eventually(
        lambda: here.condition(here.claim_of("on-a", namespace))["status"] == "True", 90, "the driver tells the truth"
    )

    # the Node: the updater of one node does not write another one, a driver none at all
    for api, node in ((updater, b.name), (mine, b.name), (mine, a.name)):
        patch = {"status": {"capacity": {names.EXTENDED_RESOURCE: "1Gi"}}}
        error = refusal(
            lambda api=api, node=node, patch=patch: api.patch(
                "Node", node, patch, style="strategic", subresource="status"
            )
        )
        if api is updater:
            assert f'the updater of node "{a.name}" may not write node {b.name}' in error.message
        else:
            assert error.code == 403
    for pod in ("on-a", "on-b"):
        here.api.delete("Pod", pod, namespace)
        here.wait_gone(pod, namespace)
    here.wait_all_back()


# --- pods


def test_scenario_7_I6_a_pod_cannot_take_the_claim_of_another_pod(pair, namespace):
    """Not by naming it, not by naming one that was made for another pod, and not by going to the node on its own."""
    here, a, _ = pair
    api = here.api
    here.claim("own", namespace, "1Gi")
    here.pod("first", namespace, "1Gi", node=a.name, claim="own")
    here.pod("made", namespace, "1Gi", node=a.name)
    for pod in ("first", "made"):
        here.wait_running(pod, namespace)
    tag = share_of(here, "first", namespace)
    template_made = here.claim_of("made", namespace)
    assert template_made is not None
    before = {share.tag: share for share in here.extents()}
    prepared = len([call for call in a.calls if call[0] == "prepare"])

    here.pod("second", namespace, "1Gi", node=a.name, claim="own")
    here.pod("thief", namespace, "1Gi", node=a.name, claim=template_made["metadata"]["name"])
    # without the scheduler: a pod that names its node
    intruder = api.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "intruder"},
            "spec": {**bare(api.get("Pod", "first", namespace)["spec"]), "nodeName": a.name},
        },
        namespace,
    )

    def told(pod: str, *words: str) -> bool:
        return any(all(word in message for word in words) for _, _, message in here.events(namespace, pod))

    for pod in ("second", "thief"):
        eventually(lambda pod=pod: told(pod, "cannot be reserved for more than one pod"), 30, f"{pod} is told why")
    eventually(
        lambda: told("intruder", "not allocated and reserved for the pod"), 30, "the kubelet refuses the intruder"
    )
    time.sleep(2)
    for pod in ("second", "thief", "intruder"):
        assert api.get("Pod", pod, namespace)["status"]["phase"] == "Pending", pod
    reserved = api.get("ResourceClaim", "own", namespace)["status"]["reservedFor"]
    assert [entry["name"] for entry in reserved] == ["first"]
    assert {share.tag: share for share in here.extents()} == before
    assert len([call for call in a.calls if call[0] == "prepare"]) == prepared
    for pod in ("thief", "intruder"):
        api.delete("Pod", pod, namespace)
        here.wait_gone(pod, namespace)
    assert intruder["spec"]["nodeName"] == a.name
    assert {share.tag: share for share in here.extents()} == before, "a pod that got nothing gives nothing back"

    # when the first is gone, the second gets the claim: with memory of its own, not what the first had written
    api.delete("Pod", "first", namespace)
    here.wait_gone("first", namespace)
    here.wait_running("second", namespace)
    assert share_of(here, "second", namespace) != tag
    assert tag not in {share.tag for share in here.extents()}
    for pod in ("second", "made"):
        api.delete("Pod", pod, namespace)
        here.wait_gone(pod, namespace)
    here.wait_all_back()


def bare(spec: Object) -> Object:
    """Return the part of a pod's spec that a user writes."""
    kept = ("containers", "resourceClaims", "terminationGracePeriodSeconds", "automountServiceAccountToken")
    return {key: spec[key] for key in kept}
