# SPDX-License-Identifier: Apache-2.0
"""One simulated fabric and the roles around it as processes, each with exactly the rights of the manifests.

Roles as processes can be killed at a fault point, restarted and given faults, which pods cannot. A driver's token is
bound to a pod of its node, as the kubelet's would be, so the API server treats it as that node's driver. A world has a
fabric domain, a pool and hosts of its own, so worlds do not see each other, one after the other in one cluster.

    with World(cluster, folder, nodes=["n1"]) as world:
        world.pod("a", namespace, "1Gi", node="n1")
        world.kill("driver-n1"); world.start_driver("n1", fault="driver.memory-added")
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from tests.cluster.support.api import Api, Object
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.images import BUSYBOX
from tests.cluster.support.processes import Child, eventually
from tests.support.ports import free_port

from dynamic_memory.api import names
from dynamic_memory.fabric.client import Fabric, FabricClient, TlsFiles
from dynamic_memory.fabric.model import Capacity, Share
from dynamic_memory.quantity import parse_bytes

__all__ = ["NAMESPACE", "OWNER", "World"]

NAMESPACE = "dynamic-memory"
OWNER = "cluster"
SERVICE_NAME = "localhost"
"""The service's name in its certificate."""
ROOT = Path(__file__).parents[3]
_numbers = itertools.count(1)

T = TypeVar("T")


class World:
    """See the module; leave it by `stop`, or use it with `with`.

    Args:
        cluster: where it lives; its manifests for rights and policies are applied.
        folder: an empty, short folder for files and sockets.
        nodes: names of Node objects that exist, and where each has its kubelet's folder.
        size: bytes of the one pool device.
        window: bytes that each host can map.
        unit: extent size and memory block size.
        max_extents: of each host.
        driver: additions to every driver's configuration (`timing`).
        controller: additions to the controller's configuration.
        service: additions to the service's configuration.
        others: nodes of a second owner on the same fabric, with a pool device of their own.
        tls: mutual TLS with certificates that the controller signs; else callers just say who they are. Then
            questions are asked with the controller's certificate, and its authority stays in the cluster.

    """

    def __init__(
        self,
        cluster: Cluster,
        folder: Path,
        nodes: Mapping[str, Path],
        *,
        size: str = "4Gi",
        window: str = "4Gi",
        unit: str = "128Mi",
        max_extents: int = 64,
        driver: Mapping[str, Any] | None = None,
        controller: Mapping[str, Any] | None = None,
        service: Mapping[str, Any] | None = None,
        others: Sequence[str] = (),
        tls: bool = False,
    ) -> None:
        self.cluster = cluster
        self.api: Api = cluster.api
        self.folder = folder
        self.nodes = dict(nodes)
        self.domain = f"d{next(_numbers)}"
        self.pool = names.fabric_pool(self.domain)
        self.tls = tls
        self.address = f"{SERVICE_NAME if tls else '127.0.0.1'}:{free_port()}"
        self.children: dict[str, Child] = {}
        extra = dict(driver or {})
        timing = {**cluster.pace.timing, **extra.get("timing", {})}
        self._driver_extra = {**extra, "timing": timing} if timing else extra
        self._controller_extra = dict(controller or {})
        self._placeholders: dict[str, Object] = {}
        self._runner = asyncio.Runner()
        self._clients: dict[str, FabricClient] = {}
        self._write_service(size, window, unit, max_extents, dict(service or {}), others)
        self._write_controller()
        for node in self.nodes:
            self._write_driver(node)

    # --- life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start every role, and wait until pool and windows are published."""
        if self.tls:  # the controller signs for all others
            self.start_controller()
            self.obtain_service_certificate()
            self.start_service()
        else:
            self.start_service()
            self.start_controller()
        for node in self.nodes:
            self.start_driver(node)
        self.wait_published()

    def wait_published(self, timeout: float = 60) -> None:
        wanted = {self.pool, *(names.windows_pool(node) for node in self.nodes)}

        def published() -> bool:
            for child in self.children.values():
                child.check()
            return wanted <= {item["spec"]["pool"]["name"] for item in self.slices()}

        eventually(published, timeout, f"slices of {sorted(wanted)}")
        label = names.FABRIC_DOMAIN_LABEL
        eventually(
            lambda: all(
                self.api.get("Node", node)["metadata"]["labels"].get(label) == self.domain for node in self.nodes
            ),
            timeout,
            "nodes are labelled",
        )

    def wait_registered(self, node: str, timeout: float = 60) -> None:
        """Wait until the kubelet knows the driver that was started last, not only what one before it has published."""
        child = self.children[f"driver-{node}"]

        def registered() -> bool:
            child.check()
            return "registered with the kubelet" in child.said()

        eventually(registered, timeout, f"the driver of {node} is registered")

    def stop(self) -> None:
        """End the roles and remove what they wrote."""
        for client in self._clients.values():
            self._runner.run(client.close())
        self._clients.clear()
        self._runner.close()
        for name in sorted(self.children):  # controller, drivers, service
            self.children[name].stop()
        for item in self.slices():
            if item["spec"]["pool"]["name"] in {self.pool, *(names.windows_pool(node) for node in self.nodes)}:
                self.api.delete("ResourceSlice", item["metadata"]["name"], missing_ok=True)
        for node, pod in self._placeholders.items():
            del node
            self.api.delete("Pod", pod["metadata"]["name"], NAMESPACE, grace=0, missing_ok=True)
        for node in self.nodes:
            with contextlib.suppress(OSError):
                self.api.patch("Node", node, {"metadata": {"labels": {names.FABRIC_DOMAIN_LABEL: None}}})

    def kill(self, name: str) -> None:
        """Kill a role as `kill -9` does."""
        self.children.pop(name).kill()

    def end(self, name: str) -> int:
        """Ask a role to end, and return its exit code."""
        return self.children.pop(name).stop()

    def died(self, name: str, timeout: float = 60) -> int:
        """Wait until a role has died (at its fault point) and return its exit code."""
        code = self.children[name].wait(timeout)
        del self.children[name]
        return code

    # --- roles

    def start_service(self, fault: str | None = None) -> None:
        self._start("service", "service", self.folder / "service.yaml", fault)
        child = self.children["service"]  # with a fault, it may be dead before it has answered
        eventually(lambda: child.code is not None or self.capacity() is not None, 20, "the service answers")

    def start_controller(self, fault: str | None = None) -> None:
        self._start("controller", "controller", self.folder / "controller.yaml", fault)

    def start_driver(self, node: str, fault: str | None = None, instance: str = "") -> None:
        """Start the driver of a node; another `instance` is a second driver pod of a rolling update."""
        path = self.folder / f"driver-{node}.yaml"
        if instance:
            config = yaml.safe_load(path.read_text())
            config["podUid"] = f"{config['podUid']}-{instance}"
            path = self.folder / f"driver-{node}-{instance}.yaml"
            path.write_text(json.dumps(config))
        self._start(f"driver-{node}{instance and f'-{instance}'}", "driver", path, fault)

    def _start(self, name: str, role: str, config: Path, fault: str | None) -> None:
        assert name not in self.children, f"{name} runs already"
        self.children[name] = self.cluster.start_role(f"{self.domain}-{name}", role, config, fault)

    # --- configuration

    def _write_service(
        self, size: str, window: str, unit: str, max_extents: int, extra: dict[str, Any], others: Sequence[str]
    ) -> None:
        self.fabric_folder.mkdir(parents=True)
        owners = [{"name": OWNER, "nodes": {node: f"host-{node}" for node in self.nodes}, "pools": [self.pool]}]
        domains: list[dict[str, Any]] = [_domain(self.domain, [*self.nodes], size, window, unit, max_extents)]
        if others:
            other = f"{self.domain}-other"
            owners.append(
                {
                    "name": "other",
                    "nodes": {node: f"host-{node}" for node in others},
                    "pools": [names.fabric_pool(other)],
                }
            )
            domains.append(_domain(other, [*others], size, window, unit, max_extents))
        config = {
            "listen": f"127.0.0.1:{self.address.rpartition(':')[2]}",
            "tls": {
                name: str(self.tls_folder("service") / file)
                for name, file in (("ca", "ca.crt"), ("certificate", "tls.crt"), ("key", "tls.key"))
            }
            if self.tls
            else None,
            "health": None,
            "owners": owners,
            "backend": {"simulated": {"state": str(self.fabric_folder / "fabric.json"), "domains": domains}},
            **extra,
        }
        (self.folder / "service.yaml").write_text(json.dumps(config))

    def _write_controller(self) -> None:
        token = self.api.token("controller", NAMESPACE)
        config = {
            "owner": OWNER,
            "namespace": NAMESPACE,
            "health": None,
            "kubeconfig": str(self.kubeconfig("controller", token)),
            "fabric": {
                "address": self.address,
                "tls": {"directory": str(self.tls_folder("controller"))} if self.tls else None,
            },
            # a controller that was killed would hold the lease for a quarter of a minute
            "election": None,
            "authority": {"enabled": self.tls, "service_names": [SERVICE_NAME]},
            **self._controller_extra,
        }
        (self.folder / "controller.yaml").write_text(json.dumps(config))

    def _write_driver(self, node: str) -> None:
        config = {
            "owner": OWNER,
            "nodeName": node,
            "podUid": f"uid-{node}",
            "health": None,
            "kubeconfig": str(self.kubeconfig(f"driver-{node}", self.driver_token(node))),
            "kubeletRoot": str(self.nodes[node]),
            "cdiDir": str(self.cdi_dir(node)),
            "stateDir": str(self.state_dir(node)),
            "fabric": {
                "address": self.address,
                "tls": str(self.tls_folder(f"driver-{node}")) if self.tls else None,
            },
            "host": {"simulated": {"root": str(self.host_root(node)), "nodes": ["1Gi"]}},
            **self._driver_extra,
        }
        for path in (self.cdi_dir(node), self.state_dir(node)):
            path.mkdir(parents=True, exist_ok=True)
        for name in ("plugins", "plugins_registry"):
            (self.nodes[node] / name).mkdir(parents=True, exist_ok=True)
        (self.folder / f"driver-{node}.yaml").write_text(json.dumps(config))

    def change_driver(self, node: str, **changes: Any) -> None:
        """Change the configuration of a driver that is not running."""
        path = self.folder / f"driver-{node}.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))

    def driver_token(self, node: str) -> str:
        """Return a token of the driver's account that is bound to a pod of the node."""
        return self.role_token("driver", node)

    def renew_driver_token(self, node: str) -> None:
        """Give the driver of a node that was made anew a pod of that node, as its DaemonSet would."""
        pod = self._placeholders.pop(f"driver-{node}")
        self.api.delete("Pod", pod["metadata"]["name"], NAMESPACE, grace=0, missing_ok=True)
        self.kubeconfig(f"driver-{node}", self.driver_token(node))

    def role_token(self, role: str, node: str) -> str:
        """Return a token of a role's account that is bound to a pod of the node."""
        name = f"{role}-{node}-{self.domain}"
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"test": "placeholder"}},
            "spec": {
                "serviceAccountName": role,
                "nodeName": node,
                "containers": [{"name": "main", "image": "not-to-be-started", "imagePullPolicy": "Never"}],
                "tolerations": [{"operator": "Exists"}],
                "terminationGracePeriodSeconds": 0,
            },
        }
        pod = self.api.find("Pod", name, NAMESPACE) or self.api.create(body)
        self._placeholders[f"{role}-{node}"] = pod
        return self.api.token(role, NAMESPACE, pod)

    def kubeconfig(self, name: str, token: str) -> Path:
        path = self.folder / f"{name}.kubeconfig"
        config = self.cluster.plane.authority.kubeconfig(self.cluster.plane.server, token=token)
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        return path

    # --- certificates

    def tls_folder(self, name: str) -> Path:
        """Return the folder with key and certificate of a role."""
        return self.folder / "tls" / name

    def obtain(self, identity: str, kubeconfig: Path, name: str, *options: str, timeout: float = 90) -> tuple[int, str]:
        """Ask the cluster for a certificate with the command of the roles; return its exit code and what it said."""
        command = [sys.executable, "-m", "dynamic_memory", "certificates", "obtain", "--identity", identity]
        command += ["--directory", str(self.tls_folder(name)), "--kubeconfig", str(kubeconfig)]
        command += ["--timeout", f"{timeout:g}", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout + 90, cwd=ROOT)
        return done.returncode, done.stdout + done.stderr

    def obtain_service_certificate(self) -> None:
        kubeconfig = self.kubeconfig("service", self.api.token("service", NAMESPACE))
        identity = f"dynamic-memory://{OWNER}/role/service"
        code, said = self.obtain(identity, kubeconfig, "service", "--dns", SERVICE_NAME)
        assert code == 0, said

    # --- files

    @property
    def fabric_folder(self) -> Path:
        return self.folder / "fabric"

    def host_root(self, node: str) -> Path:
        return self.folder / node / "host"

    def cdi_dir(self, node: str) -> Path:
        return self.nodes[node].parent / "cdi"

    def state_dir(self, node: str) -> Path:
        return self.folder / node / "state"

    # --- faults

    def fabric_faults(self, **faults: Any) -> None:
        """Set what the fabric does wrong (docs/fabric.md); without arguments, nothing. The next operation has it."""
        _replace(self.fabric_folder / "faults.json", faults)

    def host_faults(self, node: str, *faults: Mapping[str, Any]) -> None:
        """Set what a node's kernel does wrong (host/simulated/faults.py); without arguments, nothing."""
        _replace(self.host_root(node) / "faults.json", {"faults": list(faults)})

    # --- what the fabric says

    def ask(
        self,
        question: Callable[[Fabric], Awaitable[T]],
        identity: str = "role/operator",
        owner: str = OWNER,
        certificate: str = "controller",
    ) -> T:
        """Ask the service something, as an operator unless said otherwise; in a world with TLS, with a certificate.

        Without TLS the connection is kept for the next question, until one fails.
        """
        who = f"dynamic-memory://{owner}/{identity}"
        files = None
        if self.tls:
            folder = self.tls_folder(certificate)
            files = TlsFiles(*(str(folder / name) for name in ("ca.crt", "tls.crt", "tls.key")))

        async def run() -> T:
            client = self._clients.pop(who, None) or FabricClient.connect(self.address, files, identity=who)
            kept = False
            try:
                answer = await question(client)
                kept = not self.tls
                return answer
            finally:
                if kept:
                    self._clients[who] = client
                else:
                    await client.close()

        return self._runner.run(run())

    def capacity(self) -> Capacity | None:
        try:
            return self.ask(lambda fabric: fabric.get_capacity())
        except Exception as error:
            raise OSError(str(error)) from error

    def extents(self) -> tuple[Share, ...]:
        """Return all shares of this cluster, as the service lists them."""
        try:
            return self.ask(lambda fabric: fabric.list_extents()).shares
        except Exception as error:
            raise OSError(str(error)) from error

    def free(self) -> int:
        capacity = self.capacity()
        assert capacity is not None
        return sum(device.free for device in capacity.pools)

    # --- objects

    def slices(self) -> list[Object]:
        return [item for item in self.api.list("ResourceSlice") if item["spec"]["driver"] == names.DRIVER]

    def template(self, namespace: str, size: str) -> str:
        """Make a claim template for `size` once, and return its name."""
        name = f"far-{size.lower()}"
        if self.api.find("ResourceClaimTemplate", name, namespace) is None:
            body = {
                "apiVersion": "resource.k8s.io/v1",
                "kind": "ResourceClaimTemplate",
                "metadata": {"name": name},
                "spec": {"spec": _claim_spec(size)},
            }
            self.api.create(body, namespace)
        return name

    def claim(self, name: str, namespace: str, size: str) -> Object:
        """Make a claim of its own, not from a template."""
        body = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"name": name},
            "spec": _claim_spec(size),
        }
        return self.api.create(body, namespace)

    def pod(
        self,
        name: str,
        namespace: str,
        size: str,
        *,
        node: str | None = None,
        claim: str | None = None,
        grace: int = 1,
        annotations: Mapping[str, str] | None = None,
        dry_run: bool = False,
    ) -> Object:
        """Make a pod with `size` of fabric memory from a template, or with an existing claim."""
        source = (
            {"resourceClaimName": claim} if claim else {"resourceClaimTemplateName": self.template(namespace, size)}
        )
        selector = {"kubernetes.io/hostname": node} if node else {names.FABRIC_DOMAIN_LABEL: self.domain}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "annotations": dict(annotations or {})},
            "spec": {
                "terminationGracePeriodSeconds": grace,
                "automountServiceAccountToken": False,
                "nodeSelector": selector,
                "containers": [
                    {
                        "name": "main",
                        "image": BUSYBOX,
                        "imagePullPolicy": "Never",
                        "command": ["sh", "-c", "trap 'exit 0' TERM; env; while true; do sleep 0.2; done"],
                        "resources": {
                            "requests": {"cpu": "1m", "memory": "16Mi"},
                            "limits": {"memory": str(parse_bytes(size) + (64 << 20))},
                            "claims": [{"name": "far"}],
                        },
                    }
                ],
                "resourceClaims": [{"name": "far", **source}],
            },
        }
        return self.api.create(body, namespace, **({"dryRun": "All"} if dry_run else {}))

    def claim_of(self, pod: str, namespace: str) -> Object | None:
        """Return the claim of a pod, made from a template or its own."""
        found = self.api.find("Pod", pod, namespace)
        if found is None:
            return None
        entry = found["spec"]["resourceClaims"][0]
        statuses = found["status"].get("resourceClaimStatuses") or [{}]
        name = entry.get("resourceClaimName") or statuses[0].get("resourceClaimName")
        return self.api.find("ResourceClaim", name, namespace) if name else None

    def condition(self, claim: Object | None, type_: str = names.ATTACHED) -> Object:
        """Return a condition of the claim's pool device; empty if it has none."""
        for device in ((claim or {}).get("status") or {}).get("devices") or []:
            for condition in device.get("conditions") or []:
                if condition["type"] == type_:
                    return dict(condition)
        return {}

    def running(self, pod: str, namespace: str) -> bool:
        return (self.api.find("Pod", pod, namespace) or {}).get("status", {}).get("phase") == "Running"

    def wait_running(self, pod: str, namespace: str, timeout: float = 60) -> None:
        eventually(lambda: self.running(pod, namespace), timeout, f"pod {pod} runs")

    def wait_gone(self, pod: str, namespace: str, timeout: float = 60) -> None:
        eventually(lambda: self.api.find("Pod", pod, namespace) is None, timeout, f"pod {pod} is gone")

    def wait_all_back(self, timeout: float = 30) -> None:
        """Wait until the fabric holds nothing for this cluster and every byte is free, then check the hosts."""

        def back() -> bool:
            capacity = self.capacity()
            assert capacity is not None
            assert all(device.free == device.total for device in capacity.pools), capacity
            return not self.extents()

        eventually(back, timeout, "every extent is back in the pool")
        for node in self.nodes:
            eventually(lambda node=node: not self.regions(node), timeout, f"{node} has no region")
            records = self.state_dir(node) / "claims"
            eventually(lambda records=records: not list(records.glob("*.json")), timeout, "no record")
        # what was still being added at first has been undone with its record
        eventually(back, timeout, "and still is")

    def regions(self, node: str) -> dict[str, int]:
        """Return the bytes online of each region of a node's host, by tag."""
        from dynamic_memory.host.config import HostConfig, SimulatedHostConfig, open_host

        async def look() -> dict[str, int]:
            host = open_host(HostConfig(simulated=SimulatedHostConfig(root=self.host_root(node))))
            return {tag: region.online for tag, region in (await host.regions()).items()}

        return self._runner.run(look()) if self.host_root(node).exists() else {}

    def events(self, namespace: str, name: str | None = None) -> list[tuple[str, str, str]]:
        """Return (object, reason, message) of the events of a namespace."""
        return [
            (f"{item['involvedObject']['kind']}/{item['involvedObject']['name']}", item["reason"], item["message"])
            for item in self.api.list("Event", namespace)
            if name is None or item["involvedObject"]["name"] == name
        ]

    def values(self, pool: str | None = None) -> dict[str, int]:
        """Return the published size of each device of a pool (the fabric's by default)."""
        return {
            device["name"]: parse_bytes(device["capacity"]["size"]["value"])
            for item in self.slices()
            if item["spec"]["pool"]["name"] == (pool or self.pool)
            for device in item["spec"].get("devices", [])
        }

    def wait_values(self, expected: dict[str, int], timeout: float = 15) -> None:
        """Wait until the fabric's pool is published with these sizes: the controller follows within moments."""
        eventually(lambda: self.values() == expected, timeout, f"the pool is published as {expected}")

    def taints(self, pool: str | None = None) -> Iterator[Object]:
        for item in self.slices():
            if item["spec"]["pool"]["name"] == (pool or self.pool):
                for device in item["spec"].get("devices", []):
                    yield from device.get("taints", [])


def _domain(name: str, nodes: Sequence[str], size: str, window: str, unit: str, max_extents: int) -> dict[str, Any]:
    return {
        "name": name,
        "extentSize": unit,
        "blockSize": unit,
        "devices": [{"name": "pool0", "size": size, "attributes": {"latencyNs": 350}}],
        "hosts": [
            {"name": f"host-{node}", "device": "port0", "window": window, "maxExtents": max_extents} for node in nodes
        ],
    }


def _claim_spec(size: str) -> Object:
    exactly = {"deviceClassName": names.CLASS_FABRIC, "capacity": {"requests": {"size": size}}}
    return {"devices": {"requests": [{"name": "far", "exactly": exactly}]}}


def _replace(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)
