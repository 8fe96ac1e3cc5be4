# SPDX-License-Identifier: Apache-2.0
"""One virtual machine with a real kernel of its own: two NUMA nodes, hugepages, pure cgroup v2, containerd, kubelet.

QEMU emulates it (no KVM is needed), so it is slow: some ten seconds to a shell, twenty to a ready node. Python and this
source tree are those of this machine, seen read-only through 9p. Commands go through a shell that listens on a port of
the loopback interface; it is open while the guest runs: a test machine, nothing else.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from tests.cluster.support.images import BUSYBOX, PAUSE
from tests.cluster.support.pki import Authority
from tests.cluster.support.processes import Child, eventually, patient
from tests.support.ports import free_port
from tools.kernel.build import GuestImage

__all__ = ["GATEWAY", "Guest", "Ran"]

ROOT = Path(__file__).resolve().parents[3]
ADDRESS, GATEWAY, NETWORK = "10.77.1.15", "10.77.1.2", "10.77.1.0/24"
MEMORY_MIB = (1280, 1280)
"""Of each NUMA node."""
MARK = "\n__RC__ "

CONTAINERD = f"""\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE}"
[plugins."io.containerd.cri.v1.runtime"]
  enable_cdi = true
  cdi_spec_dirs = ["/etc/cdi", "/var/run/cdi"]
  disable_hugetlb_controller = false
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/guest/cni"]
    conf_dir = "/guest/conf/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "/guest/bin/runc"
      SystemdCgroup = false
[plugins."io.containerd.nri.v1.nri"]
  disable = false
  socket_path = "/var/run/nri/nri.sock"
  # more than the usual 2 s and 5 s: what is emulated takes some ten times as long
  plugin_request_timeout = "20s"
  plugin_registration_timeout = "60s"
"""
NETWORK_PLUGIN = {
    "cniVersion": "1.0.0",
    "name": "guest",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.250.0/24"}]]},
        }
    ],
}
KUBELET = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "cgroupDriver": "cgroupfs",
    "failSwapOn": False,
    "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": "/guest/conf/ca.crt"}},
    "authorization": {"mode": "Webhook"},
    "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
    "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    "imageGCHighThresholdPercent": 100,
    "makeIPTablesUtilChains": False,
    "nodeStatusUpdateFrequency": "4s",
    "syncFrequency": "10s",
    "healthzPort": 0,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ran:
    """What a command in the guest did."""

    code: int
    output: str


class Guest:
    """The machine; off until `start`.

    Args:
        name: its host name, and the name of its Node object.
        folder: an empty folder for its files.
        image: what it boots from.
        logs: folder for the logs of QEMU and its console.

    """

    def __init__(self, name: str, folder: Path, image: GuestImage, logs: Path) -> None:
        self.name = name
        self.folder = folder
        self.conf = folder / "conf"
        self.conf.mkdir(parents=True)
        self.console = logs / f"{name}-console.log"
        self._image = image
        self._logs = logs
        self._port = free_port()
        self._qemu: Child | None = None

    def configure_node(self, server: str, authority: Authority, kubelet: Mapping[str, Any] | None = None) -> None:
        """Make it a node of a cluster: `server` is the API server's URL as the guest reaches it."""
        (self.conf / "cni").mkdir(exist_ok=True)
        (self.conf / "cni" / "10-guest.conflist").write_text(json.dumps(NETWORK_PLUGIN))
        (self.conf / "containerd.toml").write_text(CONTAINERD)
        (self.conf / "kubelet.yaml").write_text(yaml.safe_dump({**KUBELET, **(kubelet or {})}))
        shutil.copy(authority.certificate, self.conf / "ca.crt")
        credentials = authority.client(self.name, f"system:node:{self.name}", "system:nodes")
        self.write_kubeconfig("kubelet.kubeconfig", authority.kubeconfig(server, credentials=credentials))

    def write_kubeconfig(self, name: str, config: dict[str, Any]) -> None:
        """Write a kubeconfig into the folder that it sees as /guest/conf."""
        (self.conf / name).write_text(json.dumps(config))

    def start(self, *, off: Sequence[str] = (), arguments: str = "") -> None:
        """Boot.

        Args:
            off: services that wait: `containerd`, `kubelet`.
            arguments: more of the kernel's command line.

        """
        disk = self.folder / "disk.img"
        subprocess.run(["cp", "--sparse=always", self._image.disk, disk], check=True)
        shares = self._shares()
        environment = {
            "GUEST_NAME": self.name,
            "GUEST_IP": ADDRESS,
            "GUEST_GATEWAY": GATEWAY,
            "GUEST_SHARES": ",".join(f"{tag}:{path}" for tag, (_, path) in shares.items()),
            "GUEST_OFF": ",".join(off),
        }
        line = ["console=ttyS0", "panic=-1", "quiet", "mitigations=off", arguments]
        line += [f"{key}={value}" for key, value in environment.items()]
        command: list[str | Path] = [
            "qemu-system-x86_64",
            *("-accel", "tcg,thread=multi,tb-size=256", "-machine", "q35", "-cpu", "max", "-smp", str(len(MEMORY_MIB))),
            *("-m", f"{sum(MEMORY_MIB)}M", "-display", "none", "-nodefaults", "-no-reboot"),
            *("-kernel", self._image.kernel, "-initrd", self._image.initramfs, "-append", " ".join(line)),
            *("-serial", f"file:{self.console}"),
            *("-drive", f"file={disk},format=raw,if=none,id=disk,cache=unsafe,discard=unmap"),
            *("-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci"),
            *("-netdev", f"user,id=net,net={NETWORK},host={GATEWAY},hostfwd=tcp:127.0.0.1:{self._port}-:2222"),
            *("-device", "virtio-net-pci,netdev=net,romfile="),
        ]
        for number, size in enumerate(MEMORY_MIB):
            command += ["-object", f"memory-backend-ram,id=memory{number},size={size}M"]
            command += ["-numa", f"node,nodeid={number},cpus={number},memdev=memory{number}"]
        for tag, (source, _) in shares.items():
            command += ["-fsdev", f"local,id={tag},path={source},security_model=none,readonly=on,multidevs=remap"]
            command += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
        self._qemu = Child(f"{self.name}-qemu", command, logs=self._logs)
        eventually(self._answers, 120, f"{self.name} answers", every=0.2)

    def _shares(self) -> dict[str, tuple[Path, str]]:
        """Folders of this machine by tag: where each is here, and where in the guest."""
        prefixes = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), ROOT}
        # one share is not mounted inside another
        outer = {
            path for path in prefixes if not any(other != path and path.is_relative_to(other) for other in prefixes)
        }
        outer = {path for path in outer if not path.is_relative_to("/usr")}
        shares = {"usr": (Path("/usr"), "/usr"), "conf": (self.conf, "/guest/conf")}
        return shares | {f"s{number}": (path, str(path)) for number, path in enumerate(sorted(outer))}

    def _answers(self) -> bool:
        if self._qemu is None or self._qemu.code is not None:
            console = self.console.read_text(errors="replace") if self.console.exists() else ""
            raise RuntimeError(f"{self.name} has ended; its console:\n{console[-3000:]}")
        return self.run("true", timeout=5).code == 0

    def run(self, script: str, *, timeout: float = 120) -> Ran:
        """Run a shell script in the guest, for `timeout` seconds at most; for a multiple of them in a patient run.

        Raises:
            OSError: the guest does not answer.

        """
        body = textwrap.dedent(script).encode() + b"\n"
        timeout = patient(timeout)
        with socket.create_connection(("127.0.0.1", self._port), timeout=timeout) as connection:
            connection.sendall(b"%d\n" % len(body) + body)
            data = b""
            while chunk := connection.recv(65536):
                data += chunk
        output, _, code = data.decode(errors="replace").rpartition(MARK)
        if not code.strip().isdigit():
            raise ConnectionError(f"{self.name} did not answer whole: {data!r}")
        return Ran(code=int(code), output=output)

    def sh(self, script: str, *, timeout: float = 120) -> str:
        """Run a shell script in the guest and return what it printed; it has to succeed."""
        ran = self.run(script, timeout=timeout)
        assert ran.code == 0, f"{script}: exit code {ran.code}\n{ran.output}"
        return ran.output.strip()

    def command(self, arguments: str, *, timeout: float = 240) -> Ran:
        """Run `dynamic-memory` in the guest, from this source tree."""
        python = Path(sys.prefix).resolve() / "bin" / "python"
        return self.run(f"PYTHONPATH={ROOT}/src {python} -B -m dynamic_memory {arguments}", timeout=timeout)

    def logs(self, files: str, total: int) -> str:
        """Return the ends of log files, which a shell pattern names, of about so many bytes; or why there are none."""
        script = f"""
            set -- $(ls {files} 2>/dev/null)
            for file; do echo "--- $file"; tail -c $(({total} / $#)) $file; echo; done
        """
        try:
            return self.run(script).output
        except OSError as error:
            return f"{self.name} does not answer: {error}"

    def import_images(self, archives: Sequence[Path]) -> None:
        """Load images into its containerd, through the folder that it sees."""
        for archive in archives:
            shutil.copy(archive, self.conf / archive.name)
            self.sh(f"/guest/bin/ctr -n k8s.io images import --local /guest/conf/{archive.name}")
        assert BUSYBOX in self.sh("/guest/bin/ctr -n k8s.io images ls -q")

    def stop(self) -> None:
        """Cut its power."""
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu = None
        (self.folder / "disk.img").unlink(missing_ok=True)
