# SPDX-License-Identifier: Apache-2.0
"""The test cluster itself: what every scenario takes for granted."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cluster.support.cluster import Cluster
from tests.cluster.support.fake_node import FakeNode
from tests.cluster.support.images import BUSYBOX
from tests.cluster.support.node import RealNode, is_ready
from tests.cluster.support.processes import eventually
from tests.cluster.support.roles import NAMESPACE, Role

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def _pod(name: str, image: str, **spec):
    container = {"name": "main", "image": image, **{key: spec.pop(key) for key in ("command", "args") if key in spec}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 1, "restartPolicy": "Never", "containers": [container], **spec},
    }


def test_the_server_has_the_version_that_was_asked_for(cluster: Cluster):
    version = cluster.api.call("GET", "/version")
    assert f"{version['major']}.{version['minor']}" == cluster.version


def test_the_real_node_is_ready(cluster: Cluster, real_node: RealNode):
    node = cluster.api.get("Node", real_node.name)
    assert is_ready(node)
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://2.")


def test_a_pod_runs_and_is_deleted(cluster: Cluster, real_node: RealNode, namespace: str):
    cluster.api.create(_pod("hello", BUSYBOX, command=["sh", "-c", "echo from inside; sleep 1000"]), namespace)
    eventually(lambda: cluster.api.get("Pod", "hello", namespace)["status"]["phase"] == "Running", 30, "the pod runs")
    log = eventually(lambda: cluster.api.call("GET", f"/api/v1/namespaces/{namespace}/pods/hello/log"), 10, "its log")
    assert log == "from inside\n"
    cluster.api.delete("Pod", "hello", namespace)
    eventually(lambda: cluster.api.find("Pod", "hello", namespace) is None, 20, "the pod is gone")


def test_a_pod_reaches_the_api_server_by_its_service(cluster: Cluster, real_node: RealNode, namespace: str):
    command = ["sh", "-c", "nslookup kubernetes.default.svc.cluster.local && nc -z kubernetes.default.svc 443"]
    command[2] = command[2].replace("nc -z", "nc -w 3") + " < /dev/null"
    cluster.api.create(_pod("caller", BUSYBOX, command=command), namespace)
    ended = ("Succeeded", "Failed")
    eventually(lambda: cluster.api.get("Pod", "caller", namespace)["status"]["phase"] in ended, 30, "the pod ends")
    log = cluster.api.call("GET", f"/api/v1/namespaces/{namespace}/pods/caller/log")
    assert cluster.api.get("Pod", "caller", namespace)["status"]["phase"] == "Succeeded", log
    assert cluster.plane.slot.api_address in log


def test_the_fields_of_dra_survive_being_written(cluster: Cluster):
    """Binding conditions and consumable capacity are behind gates; a server without them drops the fields silently."""
    device = {
        "name": "pool0",
        "bindsToNode": True,
        "bindingConditions": ["dynamicmemory.dev/Attached"],
        "bindingFailureConditions": ["dynamicmemory.dev/AttachFailed"],
        "allowMultipleAllocations": True,
        "attributes": {"kind": {"string": "fabric"}},
        "capacity": {
            "size": {
                "value": "4Gi",
                "requestPolicy": {"default": "128Mi", "validRange": {"min": "128Mi", "step": "128Mi", "max": "4Gi"}},
            }
        },
    }
    body = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": "smoke"},
        "spec": {
            "driver": "smoke.example",
            "pool": {"name": "smoke", "generation": 1, "resourceSliceCount": 1},
            "allNodes": True,
            "devices": [device],
        },
    }
    written = cluster.api.create(body, dryRun="All")
    assert written["spec"]["devices"] == [device]


def test_our_image_runs(cluster: Cluster, real_node: RealNode, namespace: str, our_image: str):
    restricted = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    pod = _pod("ours", our_image, args=["--version"], securityContext=restricted)
    pod["spec"]["containers"][0]["securityContext"] = {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    cluster.api.create(pod, namespace)
    ended = ("Succeeded", "Failed")
    eventually(lambda: cluster.api.get("Pod", "ours", namespace)["status"]["phase"] in ended, 30, "the pod ends")
    log = cluster.api.call("GET", f"/api/v1/namespaces/{namespace}/pods/ours/log")
    assert cluster.api.get("Pod", "ours", namespace)["status"]["phase"] == "Succeeded", log
    assert log.strip().endswith(our_image.rpartition(":")[2])


def test_a_pod_runs_on_a_fake_node(cluster: Cluster, fake_node: FakeNode, namespace: str):
    pod = _pod("hello", BUSYBOX, nodeSelector={"kubernetes.io/hostname": fake_node.name})
    cluster.api.create(pod, namespace)
    eventually(lambda: cluster.api.get("Pod", "hello", namespace)["status"]["phase"] == "Running", 10, "the pod runs")
    cluster.api.delete("Pod", "hello", namespace)
    eventually(lambda: cluster.api.find("Pod", "hello", namespace) is None, 10, "the pod is gone")


def test_a_role_process_has_the_token_of_its_node(cluster: Cluster, fake_node: FakeNode):
    """Not a role yet, but the same process as one: it asks the API server who it is, by name of its Service."""
    cluster.kubectl("apply", "-f", DEPLOY / "00-namespace.yaml")
    eventually(lambda: cluster.api.find("ServiceAccount", "driver", NAMESPACE), 10, "the service account")
    role = Role("driver", cluster.plane, None, node=fake_node, arguments=["--help"])
    role.start()
    role.wait_for_exit(0, 20)
    assert "Usage:" in role.log()
    kubeconfig = role.folder / "kubeconfig"
    whoami = json.loads(cluster.kubectl("--kubeconfig", kubeconfig, "auth", "whoami", "-o", "json"))
    user = whoami["status"]["userInfo"]
    assert user["username"] == "system:serviceaccount:dynamic-memory:driver"
    assert user["extra"]["authentication.kubernetes.io/node-name"] == [fake_node.name]
    role.remove()


def test_a_power_cut_ends_everything_and_a_reboot_brings_pods_back(
    cluster: Cluster, real_node: RealNode, namespace: str
):
    pod = _pod("survivor", BUSYBOX, command=["sleep", "1000"])
    cluster.api.create(pod | {"spec": {**pod["spec"], "restartPolicy": "Always"}}, namespace)

    def started() -> str:
        status = cluster.api.get("Pod", "survivor", namespace)["status"]
        container = status.get("containerStatuses", [{}])[0]
        return container["containerID"] if status["phase"] == "Running" and container.get("ready") else ""

    first = eventually(started, 30, "the pod runs")
    real_node.reboot()
    real_node.wait()
    eventually(lambda: started() not in {"", first}, 60, "the pod runs again, in a new container")
