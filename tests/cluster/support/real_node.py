# SPDX-License-Identifier: Apache-2.0
"""A real node on this machine: containerd, runc, CNI and a kubelet, which believe they have /var/lib/kubelet to themselves.

Both run in a mount namespace of their own, in which the folders that manifests name (/var/lib/kubelet, /var/run/cdi,
/var/lib/dynamic-memory) are folders of the test. So exactly the manifests of deploy/ apply, and the machine stays clean.
cgroup v1 is enough for the kubelet as root; nothing here needs a pure cgroup v2 host.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.cluster.support.control_plane import DNS_ADDRESS, ControlPlane
from tests.cluster.support.images import PAUSE, busybox_archive
from tests.cluster.support.processes import Daemon, eventually, free_port
from tools.cluster.build import find

__all__ = ["RealNode"]

CONTAINERD = """\
version = 3
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
  enable_cdi = true
  cdi_spec_dirs = ["/var/run/cdi"]
  # without CAP_SYS_RESOURCE runc may not lower oom_score_adj
  restrict_oom_score_adj = true
  disable_hugetlb_controller = false
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{cni}"]
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "{runc}/runc"
      SystemdCgroup = false
[plugins."io.containerd.nri.v1.nri"]
  disable = false
  socket_path = "{folder}/nri/nri.sock"
  plugin_path = "{folder}/nri/plugins"
  plugin_config_path = "{folder}/nri/conf.d"
"""
CNI = """\
{{"cniVersion": "1.0.0", "name": "test", "plugins": [
 {{"type": "bridge", "bridge": "{bridge}", "isGateway": true, "isDefaultGateway": true,
  "ipam": {{"type": "host-local", "dataDir": "{folder}/cni-state", "ranges": [[{{"subnet": "10.88.0.0/16"}}]]}}}},
 {{"type": "loopback"}}]}}
"""
KUBELET = """\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}}}
authorization: {{mode: Webhook}}
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix://{folder}/containerd.sock
evictionHard: {{memory.available: "100Mi", nodefs.available: "1%", imagefs.available: "1%"}}
address: 127.0.0.1
port: {port}
healthzPort: 0
clusterDNS: [{dns}]
clusterDomain: cluster.local
registryPullQPS: 0
imageMinimumGCAge: 10000h
maxPods: 250
"""
NAMESPACED = {"/var/lib/kubelet": "kubelet", "/var/run/cdi": "cdi", "/var/lib/dynamic-memory": "dynamic-memory"}


class RealNode:
    """One node; its folders are below `folder` (`kubelet`, `cdi`, `dynamic-memory`)."""

    def __init__(self, plane: ControlPlane, folder: Path, name: str = "node-1", images: tuple[Path, ...] = ()) -> None:
        self.plane = plane
        self.folder = folder
        self.name = name
        self.images = images
        self.bridge = "dmtest0"
        self.logs = plane.logs
        self.daemons: dict[str, Daemon] = {}

    @property
    def kubelet_root(self) -> Path:
        return self.folder / "kubelet"

    def start(self) -> None:
        """Bring it up; the node is Ready when this returns."""
        for name in ("containerd", "nri/plugins", "nri/conf.d", "cni", *NAMESPACED.values()):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for target in NAMESPACED:
            Path(target).mkdir(parents=True, exist_ok=True)
        self._make_namespace()
        self._start_containerd()
        self._import(busybox_archive(self.folder / "busybox.tar"))
        self.start_kubelet()
        for image in self.images:
            self._import(image)
        eventually(self._ready, f"node {self.name} is Ready", 60)

    def stop(self) -> None:
        """End kubelet and containerd, and every container."""
        if "kubelet" in self.daemons:
            self.daemons["kubelet"].stop(5)
        if "containerd" in self.daemons:
            self._end_containers()
            self.daemons["containerd"].stop(5)
        if "namespace" in self.daemons:
            self.daemons["namespace"].kill()
        subprocess.run(["ip", "link", "del", self.bridge], check=False, capture_output=True)
        shutil.rmtree(self.folder / "containerd", ignore_errors=True)

    def start_kubelet(self) -> None:
        port = free_port()
        config = self.folder / "kubelet.yaml"
        config.write_text(KUBELET.format(folder=self.folder, port=port, dns=DNS_ADDRESS))
        command: list[str | Path] = [
            self.plane.binaries / "kubelet",
            f"--config={config}",
            f"--kubeconfig={self.plane.kubeconfig(self.name)}",
            f"--hostname-override={self.name}",
            f"--cert-dir={self.folder / 'kubelet-pki'}",
            "--v=2",
        ]
        self.daemons["kubelet"] = self._inside("kubelet", command).start()

    def restart_kubelet(self) -> None:
        self.daemons["kubelet"].kill()
        self.start_kubelet()

    def containers(self) -> str:
        """Return what containerd says is running, for the logs of a failure."""
        return self._ctr("containers", "list")

    def _make_namespace(self) -> None:
        binds = " && ".join(f"mount --bind {self.folder / name} {target}" for target, name in NAMESPACED.items())
        script = f"{binds} && mount --make-rshared /var/lib/kubelet && echo ready && exec sleep 1000000"
        holder = Daemon(
            "namespace",
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
            self.logs / "namespace.log",
        )
        self.daemons["namespace"] = holder.start()
        eventually(lambda: "ready" in holder.tail(), "the mount namespace", 10, every=0.02)

    def _inside(self, name: str, command: list[str | Path]) -> Daemon:
        enter: list[str | Path] = ["nsenter", f"--mount=/proc/{self.daemons['namespace'].pid}/ns/mnt", "--"]
        path = f"{find('containerd')}:{find('runc')}:/usr/sbin:/usr/bin:/sbin:/bin"
        return Daemon(name, [*enter, *command], self.logs / f"{name}.log", {"PATH": path})

    def _start_containerd(self) -> None:
        config = self.folder / "containerd.toml"
        config.write_text(CONTAINERD.format(folder=self.folder, pause=PAUSE, cni=find("cni"), runc=find("runc")))
        (self.folder / "cni" / "10.conflist").write_text(CNI.format(folder=self.folder, bridge=self.bridge))
        self.daemons["containerd"] = self._inside(
            "containerd", [find("containerd") / "containerd", "-c", config]
        ).start()
        eventually(lambda: "io.containerd" in self._ctr("plugins", "ls"), "containerd answers", 30)

    def _import(self, image: Path) -> None:
        output = self._ctr("-n", "k8s.io", "images", "import", "--no-unpack=false", str(image), check=True)
        del output

    def _ctr(self, *arguments: str, check: bool = False) -> str:
        namespace = () if "-n" in arguments else ("-n", "k8s.io")
        command = [
            "nsenter",
            f"--mount=/proc/{self.daemons['namespace'].pid}/ns/mnt",
            "--",
            str(find("containerd") / "ctr"),
            "-a",
            str(self.folder / "containerd.sock"),
            *namespace,
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert not check or done.returncode == 0, f"{' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def _ready(self) -> bool:
        assert self.daemons["kubelet"].alive(), self.daemons["kubelet"].tail()
        node = self.plane.api.get("nodes", self.name)
        conditions = (node or {}).get("status", {}).get("conditions", [])
        return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)

    def _end_containers(self) -> None:
        """Kill the shims' processes by pid: nothing of a test outlives it."""
        for line in self._ctr("tasks", "list").splitlines()[1:]:
            fields = line.split()
            if len(fields) >= 2 and fields[1].isdecimal() and int(fields[1]) > 1:
                with contextlib.suppress(ProcessLookupError):
                    subprocess.run(["kill", "-9", fields[1]], check=False, capture_output=True)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and "RUNNING" in self._ctr("tasks", "list"):
            time.sleep(0.1)
        for pid in self._shims():
            with contextlib.suppress(ProcessLookupError):
                subprocess.run(["kill", f"-{signal.SIGKILL.value}", str(pid)], check=False, capture_output=True)

    def _shims(self) -> list[int]:
        """Return the pids of containerd's shims whose socket or bundle is below our folder."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    command = (entry / "cmdline").read_bytes()
                    if b"containerd-shim-runc-v2" in command and str(self.folder).encode() in command:
                        found.append(int(entry.name))
        return found
