# SPDX-License-Identifier: Apache-2.0
"""etcd, API server, scheduler and controller manager, from the pinned modules, on free ports in a folder of their own.

Several clusters can be up at the same time: each holds a slot (a lock that the kernel drops with the process), and the
slot gives it address ranges of its own.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from tests.cluster.support.api import Api
from tests.cluster.support.pki import Authority
from tests.cluster.support.processes import Child, eventually
from tests.cluster.support.services import ServiceNetwork
from tests.support.ports import free_ports
from tools.cluster.build import find

__all__ = ["VERSIONS", "ControlPlane", "Slot"]

VERSIONS = ("1.36", "1.37")
TOKENS = {
    "admin": ("admin", "system:masters"),
    "scheduler": ("system:kube-scheduler", ""),
    "manager": ("system:kube-controller-manager", ""),
}
SLOTS = 64


class Slot:
    """A number that no other cluster of this machine has, and the addresses that follow from it."""

    def __init__(self) -> None:
        for number in range(SLOTS):
            path = Path(tempfile.gettempdir()) / f"dynamic-memory-slot-{number}.lock"
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                continue
            self.number = number
            self._file = file
            break
        else:
            raise RuntimeError(f"{SLOTS} test clusters run on this machine already")
        self.services = f"10.96.{number}.0/24"
        self.api_address = f"10.96.{number}.1"
        self.dns_address = f"10.96.{number}.10"
        self.node_address = f"10.96.{number}.254"  # of the real node; Services are numbered from below
        self.pods = f"10.88.{number}.0/24"

    def release(self) -> None:
        os.close(self._file)


class ControlPlane:
    """The control plane of one cluster.

    Args:
        version: `1.36` or `1.37`.
        folder: empty folder for all of its files.
        binding_timeout: how long the scheduler waits for binding conditions, seconds.
        node_grace: a node that is silent for so long is not ready, seconds.
        arguments: more flags, by the name of the program.
        addresses: more addresses by which the API server is reached.

    """

    def __init__(
        self,
        version: str,
        folder: Path,
        *,
        binding_timeout: float = 60,
        node_grace: float = 40,
        arguments: dict[str, list[str]] | None = None,
        addresses: Sequence[str] = (),
    ) -> None:
        self.version = version
        self.folder = folder
        self.bin = find(f"kubernetes-{version}")
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.slot = Slot()
        self.authority = Authority(folder / "pki")
        self._ports = dict(zip(("api", "etcd", "peer", "scheduler", "manager"), free_ports(5), strict=True))
        self.server = f"https://127.0.0.1:{self._ports['api']}"
        self.api = Api(self.server, self.authority.context(), "admin")
        self.children: dict[str, Child] = {}
        self._arguments = arguments or {}
        self._binding_timeout = binding_timeout
        self._node_grace = node_grace
        self._services = ServiceNetwork(self.server, "admin", self.slot.dns_address)
        self._networking = False
        names = ("127.0.0.1", self.slot.api_address, "kubernetes.default.svc", "kubernetes.default")
        self._serving = self.authority.serving("kube-apiserver", *names, *addresses)
        self._signing = self.authority.signing_key("service-account")
        self._kubelet_client = self.authority.client("kubelet-client", "apiserver", "system:masters")
        self._write_files()

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of the administrator."""
        return self.folder / "admin.kubeconfig"

    def resolver(self, namespace: str) -> str:
        """Return the resolv.conf of a pod of this cluster."""
        search = f"{namespace}.svc.cluster.local svc.cluster.local cluster.local"
        return f"nameserver {self.slot.dns_address}\nsearch {search}\noptions ndots:5\n"

    def _write_files(self) -> None:
        lines = [f'{token},{user},{user},"{group}"' for token, (user, group) in TOKENS.items()]
        (self.folder / "tokens.csv").write_text("\n".join(lines) + "\n")
        for token in TOKENS:
            config = self.authority.kubeconfig(self.server, token=token)
            (self.folder / f"{token}.kubeconfig").write_text(json.dumps(config))
        self.write_scheduler_config()

    def write_scheduler_config(self) -> None:
        """Write the scheduler's configuration file; the scheduler reads it when it starts."""
        arguments = {"kind": "DynamicResourcesArgs", "apiVersion": "kubescheduler.config.k8s.io/v1"}
        config: dict[str, Any] = {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "leaderElection": {"leaderElect": False},
            "clientConnection": {"kubeconfig": str(self.folder / "scheduler.kubeconfig"), "qps": 500, "burst": 1000},
            "profiles": [
                {
                    "schedulerName": "default-scheduler",
                    "pluginConfig": [
                        {
                            "name": "DynamicResources",
                            "args": {**arguments, "bindingTimeout": f"{self._binding_timeout:g}s"},
                        }
                    ],
                }
            ],
        }
        (self.folder / "scheduler.yaml").write_text(yaml.safe_dump(config))

    def start(self) -> None:
        """Start everything; `wait` says when it is ready."""
        for name in ("etcd", "kube-apiserver"):
            self.start_process(name)

    def wait(self, timeout: float = 60) -> None:
        """Wait for the API server, start what depends on it, and wait until pods can be created."""
        eventually(lambda: self._answers("/version"), timeout, "the API server answers")
        for name in ("kube-controller-manager", "kube-scheduler"):
            self.start_process(name)
        eventually(lambda: self._answers("/readyz"), timeout, "the API server is ready")
        self._services.start()
        self._networking = True

    def wait_for_pods(self, timeout: float = 60) -> None:
        """Wait until the controllers have made what a pod needs."""
        eventually(
            lambda: (
                self.api.find("ServiceAccount", "default", "default")
                and self.api.find("ConfigMap", "kube-root-ca.crt", "default")
            ),
            timeout,
            "the default service account",
        )

    def _answers(self, path: str) -> bool:
        self.children["kube-apiserver"].check()
        return bool(self.api.call("GET", path))

    def start_process(self, name: str) -> Child:
        """Start a program of the control plane, or start it again after it ended."""
        command = [*self._command(name), *self._arguments.get(name, [])]
        self.children[name] = Child(name, command, logs=self.logs, folder=self.folder)
        return self.children[name]

    def restart_scheduler(self, binding_timeout: float) -> None:
        """Restart the scheduler with another binding time-out, seconds."""
        self._binding_timeout = binding_timeout
        self.write_scheduler_config()
        self.children["kube-scheduler"].kill()
        self.start_process("kube-scheduler")

    def _command(self, name: str) -> list[str]:
        ports, folder = self._ports, self.folder
        etcd = f"http://127.0.0.1:{ports['etcd']}"
        if name == "etcd":
            return [
                str(find("etcd") / "etcd"),
                f"--data-dir={folder}/etcd",
                f"--listen-client-urls={etcd}",
                f"--advertise-client-urls={etcd}",
                f"--listen-peer-urls=http://127.0.0.1:{ports['peer']}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{ports['peer']}",
                f"--initial-cluster=default=http://127.0.0.1:{ports['peer']}",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ]
        program = str(self.bin / name)
        if name == "kube-apiserver":
            slot, authority = self.slot, self.authority
            certificate, key = self._serving
            public, private = self._signing
            kubelet_certificate, kubelet_key = self._kubelet_client
            return [
                program,
                f"--etcd-servers={etcd}",
                "--bind-address=127.0.0.1",
                f"--secure-port={ports['api']}",
                f"--advertise-address={slot.api_address}",
                "--endpoint-reconciler-type=none",
                f"--tls-cert-file={certificate}",
                f"--tls-private-key-file={key}",
                f"--client-ca-file={authority.certificate}",
                f"--token-auth-file={folder}/tokens.csv",
                f"--service-account-key-file={public}",
                f"--service-account-signing-key-file={private}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-cluster-ip-range={slot.services}",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--kubelet-preferred-address-types=InternalIP",
                f"--kubelet-client-certificate={kubelet_certificate}",
                f"--kubelet-client-key={kubelet_key}",
            ]
        if name == "kube-scheduler":
            return [
                program,
                f"--config={folder}/scheduler.yaml",
                f"--secure-port={ports['scheduler']}",
                "--bind-address=127.0.0.1",
                f"--cert-dir={folder}/pki",
                f"--authentication-kubeconfig={folder}/scheduler.kubeconfig",
                f"--authorization-kubeconfig={folder}/scheduler.kubeconfig",
                "--v=2",
            ]
        return [
            program,
            f"--kubeconfig={folder}/manager.kubeconfig",
            f"--secure-port={ports['manager']}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={folder}/pki",
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={folder}/pki/service-account.key",
            f"--root-ca-file={self.authority.certificate}",
            f"--node-monitor-grace-period={self._node_grace:g}s",
            "--node-monitor-period=1s",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        ]

    def stop(self) -> None:
        """End all processes and give the addresses back."""
        if self._networking:
            self._services.stop()
        else:
            self._services.close()
        self.api.close()
        for child in reversed(self.children.values()):
            child.kill()
        self.slot.release()
