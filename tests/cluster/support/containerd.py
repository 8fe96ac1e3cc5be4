# SPDX-License-Identifier: Apache-2.0
"""A containerd without a kubelet: pods and containers are made by its CRI, as the kubelet would make them.

CRI is spoken by field number (`runtime.v1`); pods have the machine's network, so nothing but containerd and runc is
needed.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import grpc
from tests.cluster.support.images import BUSYBOX, PAUSE, base_images
from tests.cluster.support.processes import Child, eventually, patient
from tests.support.wire import field, text
from tools.cluster.build import find

__all__ = ["Containerd", "Sandbox"]

SERVICE = "/runtime.v1.RuntimeService/"
NODE_NETWORK = 2


class Sandbox:
    """A pod that runs."""

    def __init__(self, uid: str, identity: str, config: bytes) -> None:
        self.uid, self.id, self.config = uid, identity, config


class Containerd:
    """One containerd with folders of its own, and with a cgroup of its own for its pods.

    So the containers of a run that was killed, which go on, are not in the way.

    Args:
        folder: for everything it has.

    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.cgroup = folder, f"/dynamic-memory-nri-{os.getpid()}"
        self.socket = folder / "run" / "containerd.sock"
        self.nri = folder / "run" / "nri.sock"
        self.cdi = folder / "cdi"
        self._bin = find("containerd")
        self._child: Child | None = None
        self._channel: grpc.Channel | None = None
        self._sandboxes: list[Sandbox] = []
        for path in (folder / "run", self.cdi, folder / "logs"):
            path.mkdir(parents=True)
        (folder / "config.toml").write_text(
            f"""\
version = 3
root = "{folder}/root"
state = "{folder}/run/state"
[grpc]
  address = "{self.socket}"
[debug]
  level = "warn"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE}"
[plugins."io.containerd.cri.v1.runtime"]
  enable_cdi = true
  cdi_spec_dirs = ["{self.cdi}"]
  restrict_oom_score_adj = true
  disable_hugetlb_controller = false
  tolerate_missing_hugetlb_controller = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "{find("runc")}/runc"
      SystemdCgroup = false
[plugins."io.containerd.nri.v1.nri"]
  disable = false
  socket_path = "{self.nri}"
  # more than the usual 2 s and 5 s: on a busy machine, what is tested would not be what fails
  plugin_request_timeout = "6s"
  plugin_registration_timeout = "15s"
  plugin_path = "{folder}/nri/plugins"
  plugin_config_path = "{folder}/nri/conf.d"
  [plugins."io.containerd.nri.v1.nri".default_validator]
    enable = true
"""
        )

    def start(self) -> None:
        """Start it, or start it again; containers that run go on."""
        command = [self._bin / "containerd", "--config", self.folder / "config.toml"]
        environment = {"PATH": f"{self._bin}:{find('runc')}:/usr/sbin:/usr/bin:/sbin:/bin"}
        self._child = Child("containerd", command, logs=self.folder / "logs", environment=environment)
        eventually(lambda: self._ctr("version").returncode == 0, 30, "containerd answers")
        self._channel = grpc.insecure_channel(f"unix:{self.socket}")
        if "localhost/busybox" not in self._ctr("images", "list").stdout:
            for archive in base_images():
                assert self._ctr("images", "import", "--local", str(archive)).returncode == 0

    def stop(self) -> None:
        """Kill it; containers that run go on."""
        if self._channel is not None:
            self._channel.close()
        if self._child is not None:
            self._child.kill()

    def remove_pods(self) -> None:
        """End all pods."""
        for sandbox in list(self._sandboxes):
            self.remove_pod(sandbox)

    def remove(self) -> None:
        """End everything."""
        try:
            self.remove_pods()
        finally:
            self.stop()
        eventually(self._no_cgroups, 10, "the cgroups of its pods are removed")

    def _no_cgroups(self) -> bool:
        """Remove them; the kernel refuses for a moment after the last process has ended."""
        for base in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()):
            own = base / self.cgroup.strip("/")
            for each in (*sorted(own.rglob("*/"), reverse=True), own) if own.is_dir() else ():
                if each.is_dir():
                    each.rmdir()
        return True

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self._bin / "ctr"), "--address", str(self.socket), "--namespace", "k8s.io", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=patient(60))

    # --- CRI

    def call(self, method: str, request: bytes, timeout: float = 30) -> bytes:
        assert self._channel is not None
        answer: bytes = self._channel.unary_unary(SERVICE + method)(request, timeout=patient(timeout))
        return answer

    def run_pod(self, uid: str, annotations: dict[str, str] | None = None) -> Sandbox:
        metadata = field(1, f"name-{uid}") + field(2, uid) + field(3, "default")
        security = field(1, field(1, NODE_NETWORK))
        linux = field(1, f"{self.cgroup}/pod{uid}") + field(2, security)
        labels = {"io.kubernetes.pod.name": f"name-{uid}", "io.kubernetes.pod.uid": uid}
        config = field(1, metadata) + field(3, str(self.folder / "logs")) + field(6, labels)
        config += field(7, annotations or {}) + field(8, linux)
        sandbox = Sandbox(uid, text(self.call("RunPodSandbox", field(1, config)), 1), config)
        self._sandboxes.append(sandbox)
        return sandbox

    def create(
        self,
        sandbox: Sandbox,
        name: str,
        *,
        cdi: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
        memory: int | None = None,
        attempt: int = 0,
        command: tuple[str, ...] = ("/bin/sleep", "1000000"),
    ) -> str:
        """Create a container; return its id."""
        resources = field(4, memory) if memory else b""
        envs: list[Any] = [field(1, key) + field(2, value) for key, value in (env or {}).items()]
        config = (
            field(1, field(1, name) + field(2, attempt))
            + field(2, field(1, BUSYBOX))
            + field(3, list(command))
            + field(6, envs)
            + field(9, {"io.kubernetes.container.name": name})
            + field(11, f"{sandbox.uid}-{name}-{attempt}.log")
            + field(15, field(1, resources))
            + field(17, [field(1, device) for device in cdi])
        )
        request = field(1, sandbox.id) + field(2, config) + field(3, sandbox.config)
        return text(self.call("CreateContainer", request), 1)

    def start_container(self, identity: str) -> None:
        self.call("StartContainer", field(1, identity))

    def stop_container(self, identity: str) -> None:
        self.call("StopContainer", field(1, identity) + field(2, 1))

    def remove_container(self, identity: str) -> None:
        self.call("RemoveContainer", field(1, identity))

    def resize(self, identity: str, memory: int, *, mems: str = "") -> None:
        """Do what the kubelet does for an in-place resize."""
        self.call("UpdateContainerResources", field(1, identity) + field(2, field(4, memory) + field(7, mems or None)))

    def remove_pod(self, sandbox: Sandbox) -> None:
        self.call("StopPodSandbox", field(1, sandbox.id), 60)
        self.call("RemovePodSandbox", field(1, sandbox.id), 60)
        self._sandboxes.remove(sandbox)

    def spec(self, identity: str) -> dict[str, Any]:
        """What runc was given."""
        found: dict[str, Any] = json.loads(self._ctr("containers", "info", identity).stdout)["Spec"]
        return found

    def memory_limit(self, sandbox: Sandbox, identity: str) -> int:
        """Bytes that limit a container, in version 1 or 2."""
        for file in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(AssertionError):
                return int(self.cgroup_of(sandbox, identity, file))
        raise AssertionError(f"{identity} has no limit of memory")

    def log_of(self, sandbox: Sandbox, name: str, attempt: int = 0) -> str:
        """What a container has written."""
        path = self.folder / "logs" / f"{sandbox.uid}-{name}-{attempt}.log"
        return path.read_text() if path.exists() else ""

    def cgroup_of(self, sandbox: Sandbox, identity: str, file: str) -> str:
        """A file of a container's cgroup, in version 1 or 2."""
        controller = file.partition(".")[0]
        for base in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup") / controller):
            path = base / self.cgroup.strip("/") / f"pod{sandbox.uid}" / identity / file
            if path.is_file():
                return path.read_text().strip()
        raise AssertionError(f"{file} of {identity} is nowhere")
