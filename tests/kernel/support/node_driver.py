# SPDX-License-Identifier: Apache-2.0
"""Our driver as a process of the guest: this source tree with the rights of the manifests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from tests.cluster.support.api import Object
from tests.cluster.support.control_plane import ControlPlane
from tests.cluster.support.images import PAUSE
from tests.cluster.support.processes import eventually
from tests.kernel.support.guest import GATEWAY, ROOT, Guest

__all__ = ["NAMESPACE", "NodeDriver", "memtest_pod"]

NAMESPACE = "dynamic-memory"
LOG = "/var/log/driver.log"
STATE = "/var/lib/dynamic-memory/driver"


class NodeDriver:
    """The driver of the guest's own memory.

    Args:
        machine: the guest.
        plane: the cluster whose node it is.

    """

    def __init__(self, machine: Guest, plane: ControlPlane) -> None:
        self.machine = machine
        self.api = plane.api
        paths = sorted(path for path in (ROOT / "deploy").glob("*.yaml") if path.name < "50")
        files = [argument for path in paths for argument in ("-f", str(path))]
        command = [str(plane.bin / "kubectl"), "--kubeconfig", str(plane.kubeconfig), "apply"]
        classes = machine.command("manifests")
        assert classes.code == 0, classes.output
        for text, arguments in ((None, files), (classes.output, ["-f", "-"])):
            done = subprocess.run(
                [*command, *arguments], input=text, capture_output=True, text=True, check=False, timeout=120
            )
            assert done.returncode == 0, done.stdout + done.stderr
        eventually(lambda: self.api.find("ServiceAccount", "driver", NAMESPACE), 20, "the driver's account")
        pod = self.api.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "driver", "namespace": NAMESPACE},
                "spec": {
                    "serviceAccountName": "driver",
                    "automountServiceAccountToken": False,
                    "nodeName": machine.name,
                    "containers": [{"name": "pause", "image": PAUSE, "imagePullPolicy": "Never"}],
                },
            }
        )
        token = self.api.token("driver", NAMESPACE, pod)
        server = plane.server.replace("127.0.0.1", GATEWAY)
        machine.write_kubeconfig("driver.kubeconfig", plane.authority.kubeconfig(server, token=token))
        config: dict[str, Any] = {
            "nodeName": machine.name,
            "podUid": "",
            "kubeconfig": "/guest/conf/driver.kubeconfig",
            "stateDir": STATE,
            "local": {"rescan": "1s", "containerdConfig": "/guest/conf/containerd.toml"},
            "nri": {},
        }
        (machine.conf / "driver.yaml").write_text(yaml.safe_dump(config))

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        python = Path(sys.prefix).resolve() / "bin" / "python"
        self.machine.sh(f"""
            cd / && PYTHONPATH={ROOT}/src setsid {python} -B -m dynamic_memory driver --config /guest/conf/driver.yaml \
                >>{LOG} 2>&1 </dev/null &
            echo $! >/run/guest/driver.pid
        """)
        try:
            eventually(self._ready, 300, "the driver is ready", every=0.5)
        except AssertionError as error:
            state = self.machine.run("/guest/busybox wget -O - http://127.0.0.1:8081/readyz").output
            raise AssertionError(f"{error}\n{state}\n{self.log()}") from None

    def _ready(self) -> bool:
        ran = self.machine.run("/guest/busybox wget -q -O - http://127.0.0.1:8081/readyz")
        if self.machine.run("kill -0 $(cat /run/guest/driver.pid)").code != 0:
            raise RuntimeError(f"the driver has ended:\n{self.log()}")
        return ran.code == 0

    def log(self) -> str:
        """Return the end of its log."""
        return self.machine.run(f"tail -n 60 {LOG}").output

    def kill(self) -> None:
        """`kill -9`."""
        self.machine.run("kill -9 $(cat /run/guest/driver.pid)")

    def devices(self) -> dict[str, Object]:
        """Return the published devices of the node by name."""
        return {
            device["name"]: device
            for item in self.api.list("ResourceSlice")
            if item["spec"].get("nodeName") == self.machine.name
            for device in item["spec"]["devices"]
        }


def memtest_pod(
    name: str, node: str, image: str, requests: list[Object], arguments: str, resources: Object | None = None
) -> tuple[Object, Object]:
    """Return a claim template and a pod that runs `dynamic-memory memtest` with it, with the guest's own Python."""
    folders = {"usr": "/usr", "lib": "/usr/lib", "lib64": "/usr/lib64", "src": str(ROOT / "src")}
    for number, path in enumerate(sorted({Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve()})):
        folders[f"python{number}"] = str(path)
    places = {"lib": "/lib", "lib64": "/lib64"}
    python = Path(sys.prefix).resolve() / "bin" / "python"
    template = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": name},
        "spec": {"spec": {"devices": {"requests": requests}}},
    }
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", f"exec {python} -B -m dynamic_memory memtest {arguments}"],
        "env": [{"name": "PYTHONPATH", "value": str(ROOT / "src")}],
        "resources": {**(resources or {}), "claims": [{"name": "mem"}]},
        "volumeMounts": [
            {"name": key, "mountPath": places.get(key, path), "readOnly": True} for key, path in folders.items()
        ],
    }
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "nodeSelector": {"kubernetes.io/hostname": node},
        "containers": [container],
        "resourceClaims": [{"name": "mem", "resourceClaimTemplateName": name}],
        "volumes": [{"name": key, "hostPath": {"path": path, "type": "Directory"}} for key, path in folders.items()],
    }
    return template, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
