# SPDX-License-Identifier: Apache-2.0
"""A node with a real kubelet, containerd and runc, in namespaces of its own (see node_init).

To the machine, the node is one process id: `crash` kills it, and everything that ran on the node is gone, as if the
power had been cut. Disks survive: `start` after `crash` is a reboot.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from tests.cluster.support import node_init
from tests.cluster.support.api import Object
from tests.cluster.support.control_plane import ControlPlane
from tests.cluster.support.files import node_folders
from tests.cluster.support.images import PAUSE, base_images
from tests.cluster.support.processes import Child, eventually, patient
from tests.support.ports import free_port
from tools.cluster.build import find

__all__ = ["RealNode", "is_ready"]


def is_ready(node: Object) -> bool:
    """Tell whether a Node object says Ready."""
    conditions = node.get("status", {}).get("conditions", [])
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


class RealNode:
    """One real node.

    Args:
        name: of the Node object.
        plane: its control plane.
        kubelet: additions to the KubeletConfiguration.

    """

    def __init__(self, name: str, plane: ControlPlane, *, kubelet: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.folder = plane.folder / name
        self.logs = plane.logs
        self.children: dict[str, Child] = {}
        self._plane = plane
        self._bridge = f"dm-br{plane.slot.number}"
        self._cgroup = f"dynamic-memory-{plane.slot.number}-{name}"
        self._port = free_port()
        self._containerd = find("containerd")
        self._init: Child | None = None
        self._booted_before = False
        self.folders = node_folders(self.folder)
        self._binds = {
            **self.folders,
            "/run/containerd": self.folder / "run",
            "/var/lib/cni": self.folder / "cni",
            "/var/log": self.folder / "var-log",
        }
        for path in (*self._binds.values(), self.folder / "containerd", self.folder / "cni-conf"):
            path.mkdir(parents=True)
        self._write_files(dict(kubelet or {}))

    @property
    def kubelet_root(self) -> Path:
        """The kubelet's folder, as the machine sees it."""
        return self.folders["/var/lib/kubelet"]

    @property
    def state(self) -> Path:
        """/var/lib/dynamic-memory of the node, as the machine sees it."""
        return self.folders["/var/lib/dynamic-memory"]

    @property
    def pod_logs(self) -> Path:
        """What the containers of the node have written, as the machine sees it."""
        return self._binds["/var/log"] / "pods"

    def _write_files(self, kubelet: dict[str, Any]) -> None:
        plane, folder = self._plane, self.folder
        network = {
            "cniVersion": "1.0.0",
            "name": "test",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": self._bridge,
                    "isGateway": True,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": plane.slot.pods}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                }
            ],
        }
        (folder / "cni-conf" / "10-test.conflist").write_text(json.dumps(network))
        (folder / "containerd.toml").write_text(
            f"""\
version = 3
root = "{folder}/containerd"
state = "/run/containerd/state"
[grpc]
  address = "/run/containerd/containerd.sock"
[debug]
  level = "warn"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE}"
[plugins."io.containerd.cri.v1.runtime"]
  enable_cdi = true
  cdi_spec_dirs = ["/var/run/cdi"]
  # without CAP_SYS_RESOURCE, runc may not lower oom_score_adj
  restrict_oom_score_adj = true
  disable_hugetlb_controller = false
  tolerate_missing_hugetlb_controller = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{find("cni")}"]
    conf_dir = "{folder}/cni-conf"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "{find("runc")}/runc"
      SystemdCgroup = false
[plugins."io.containerd.nri.v1.nri"]
  disable = false
  socket_path = "/run/containerd/nri.sock"
  plugin_path = "{folder}/nri/plugins"
  plugin_config_path = "{folder}/nri/conf.d"
"""
        )
        credentials = plane.authority.client(self.name, f"system:node:{self.name}", "system:nodes")
        config = plane.authority.kubeconfig(plane.server, credentials=credentials)
        (folder / "kubelet.kubeconfig").write_text(json.dumps(config))
        settings: dict[str, Any] = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": plane.slot.node_address,
            "port": self._port,
            "healthzPort": 0,
            "authentication": {
                "anonymous": {"enabled": False},
                "x509": {"clientCAFile": str(plane.authority.certificate)},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "failSwapOn": False,
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "clusterDNS": [plane.slot.dns_address],
            "clusterDomain": "cluster.local",
            # a full disk of the machine is not what is tested
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "syncFrequency": "10s",
            "nodeStatusUpdateFrequency": "4s",
            **kubelet,
        }
        (folder / "kubelet.yaml").write_text(yaml.safe_dump(settings))

    def start(self) -> None:
        """Boot: namespaces, containerd, kubelet. `wait` says when the node is ready."""
        if not self._booted_before:  # a run that was killed may have left something under the same number
            self._remove_from_kernel()
            self._booted_before = True
        self._make_cgroups()
        subprocess.run(["ip", "address", "replace", f"{self._plane.slot.node_address}/32", "dev", "lo"], check=True)
        plan = {"binds": {target: str(source) for target, source in self._binds.items()}}
        namespaces = ["unshare", "--mount", "--pid", "--cgroup", "--fork", "--kill-child", "--mount-proc"]
        command = [*self._enter_cgroups(), *namespaces, sys.executable, node_init.__file__, json.dumps(plan)]
        log = self.logs / f"{self.name}-init.log"
        start = log.stat().st_size if log.exists() else 0
        self._init = Child(f"{self.name}-init", command, logs=self.logs)
        eventually(lambda: self._booted(log, start), 10, f"{self.name} boots", every=0.01)
        self.start_process("containerd")

    def _booted(self, log: Path, start: int) -> bool:
        assert self._init is not None
        self._init.check()
        return b"ready\n" in log.read_bytes()[start:]

    def wait_containerd(self, timeout: float = 30) -> None:
        """Wait for containerd, have the base images in it, and start the kubelet."""
        eventually(self._containerd_answers, timeout, f"containerd of {self.name}")
        for image in base_images():
            self.import_image(image)
        self.start_process("kubelet")

    def _containerd_answers(self) -> bool:
        self.children["containerd"].check()
        return (self.folder / "run" / "containerd.sock").exists() and (self.ctr("version", check=False).returncode == 0)

    def wait(self, timeout: float = 60) -> None:
        """Wait until the node is Ready and takes pods."""

        def ready() -> bool:
            self.children["kubelet"].check()
            node = self._plane.api.find("Node", self.name)
            return node is not None and is_ready(node) and not node["spec"].get("taints")

        eventually(ready, timeout, f"{self.name} is Ready")

    def _make_cgroups(self) -> None:
        for path in node_init.controllers():
            own = path / self._cgroup
            own.mkdir(exist_ok=True)
            for file in ("cpuset.cpus", "cpuset.mems"):  # empty in a new cgroup of v1
                if (path / file).exists():
                    (own / file).write_text((path / file).read_text())
            if (path / "cgroup.subtree_control").exists() and len(node_init.controllers()) == 1:
                names = (path / "cgroup.controllers").read_text().split()
                (path / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in names))

    def _enter_cgroups(self) -> list[str]:
        files = [str(path / self._cgroup / "cgroup.procs") for path in node_init.controllers()]
        script = 'n=$1; shift; while [ $n -gt 0 ]; do echo $$ > "$1"; shift; n=$((n-1)); done; exec "$@"'
        return ["sh", "-ec", script, "sh", str(len(files)), *files]

    @functools.cached_property
    def _path(self) -> str:
        return f"{self._containerd}:{find('runc')}:{os.environ['PATH']}"

    def _pid(self) -> int:
        """Process id, on the machine, of the node's first process."""
        assert self._init is not None
        self._init.check()
        children = Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text().split()
        return int(children[0])

    def enter(self, *command: str | Path) -> list[str]:
        """Return a command that runs `command` on the node."""
        inside = ["nsenter", f"--target={self._pid()}", "--mount", "--cgroup", "--pid", "--"]
        return [*self._enter_cgroups(), *inside, *map(str, command)]

    def run(self, *command: str | Path, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command on the node and return its output."""
        result = subprocess.run(
            self.enter(*command),
            env={**os.environ, "PATH": self._path},
            capture_output=True,
            text=True,
            check=False,
            timeout=patient(120),
            **options,
        )
        assert not check or result.returncode == 0, f"{command}: {result.stderr}"
        return result

    def ctr(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run containerd's client."""
        address = ["--address", str(self.folder / "run" / "containerd.sock"), "--namespace", "k8s.io"]
        return self.run(self._containerd / "ctr", *address, *arguments, check=check)

    def import_image(self, archive: Path) -> float:
        """Import an OCI archive; return how long it took, seconds."""
        start = time.monotonic()
        self.ctr("images", "import", "--local", archive)
        return time.monotonic() - start

    def start_process(self, name: str) -> Child:
        """Start containerd or the kubelet on the node, or start it again after it ended."""
        if name == "containerd":
            command: Sequence[str | Path] = [self._containerd / name, "--config", self.folder / "containerd.toml"]
        else:
            command = [
                self._plane.bin / "kubelet",
                f"--config={self.folder}/kubelet.yaml",
                f"--kubeconfig={self.folder}/kubelet.kubeconfig",
                f"--hostname-override={self.name}",
                f"--cert-dir={self.folder}/kubelet-pki",
                f"--node-ip={self._plane.slot.node_address}",
                "--v=2",
            ]
        self.children[name] = Child(
            f"{self.name}-{name}", self.enter(*command), logs=self.logs, environment={"PATH": self._path}
        )
        return self.children[name]

    def restart_kubelet(self) -> None:
        """Kill the kubelet and start it again; pods go on running."""
        self.children["kubelet"].kill()
        self.start_process("kubelet")

    def crash(self) -> None:
        """Cut the power: every process on the node is gone at once."""
        if self._init is None:
            return
        if self._init.code is None:
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(self._pid(), signal.SIGKILL)
        self._init.kill()
        for child in self.children.values():
            child.kill()
        self.children.clear()
        self._init = None
        eventually(self._no_processes, 10, f"no process of {self.name} is left")

    def _no_processes(self) -> bool:
        return not any(
            file.read_text().strip()
            for path in node_init.controllers()
            for file in (path / self._cgroup).rglob("cgroup.procs")
        )

    def reboot(self) -> None:
        """Cut the power and boot again; what was on disk is there, what was in memory is not."""
        self.crash()
        self._forget()
        self.start()
        self.wait_containerd()

    def _forget(self) -> None:
        shutil.rmtree(self.folder / "run")
        (self.folder / "run").mkdir()
        shutil.rmtree(self.folder / "cni")
        (self.folder / "cni").mkdir()

    def remove(self) -> None:
        """Cut the power and remove what the kernel keeps for the node."""
        self.crash()
        self._remove_from_kernel()

    def _remove_from_kernel(self) -> None:
        eventually(self._no_cgroups, 10, f"the cgroups of {self.name} are removed")
        subprocess.run(["ip", "link", "delete", self._bridge], check=False, capture_output=True)
        address = f"{self._plane.slot.node_address}/32"
        subprocess.run(["ip", "address", "delete", address, "dev", "lo"], check=False, capture_output=True)

    def _no_cgroups(self) -> bool:
        """Remove the node's cgroups; the kernel refuses for a moment after the last process has ended."""
        for path in node_init.controllers():
            own = path / self._cgroup
            for each in (*sorted((item for item in own.rglob("*") if item.is_dir()), reverse=True), own):
                if each.exists():
                    each.rmdir()
        return True
