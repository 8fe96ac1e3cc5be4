# SPDX-License-Identifier: Apache-2.0
"""Our roles as processes of the machine, for tests that kill them at a fault point: pods in all but the container.

The process sees the folders of its node at the paths that the manifests name (a mount namespace), finds Services by
name, and calls the API server with a token of its ServiceAccount that is bound to a pod of that node: it has exactly
the rights of our manifests, and the API server knows its node as it would know a real pod's.
"""

from __future__ import annotations

import itertools
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import yaml
from tests.cluster.support.api import Object
from tests.cluster.support.control_plane import ControlPlane
from tests.cluster.support.images import PAUSE
from tests.cluster.support.processes import Child, eventually, tail

__all__ = ["NAMESPACE", "NodeView", "Role"]

NAMESPACE = "dynamic-memory"
_numbers = itertools.count(1)


class NodeView(Protocol):
    """What a role process needs to know of its node: RealNode and FakeNode are some."""

    name: str
    folders: dict[str, Path]


class Role:
    """A role's process; starts with `start`, and again after it ended.

    Args:
        role: subcommand of `dynamic-memory`.
        plane: the cluster.
        config: content of its configuration file.
        node: where it runs; None for a role that belongs to no node.
        name: tells processes of one role apart.
        service_account: of NAMESPACE; default: the name of the role; empty for a role that has no token.
        arguments: more arguments, instead of `--config` if `config` is None.

    """

    def __init__(
        self,
        role: str,
        plane: ControlPlane,
        config: Mapping[str, Any] | None,
        *,
        node: NodeView | None = None,
        name: str = "",
        service_account: str | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.name = name or (f"{role}-{node.name}" if node else role)
        self.folder = plane.folder / "roles" / self.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self._role = role
        self._plane = plane
        self._config = config
        self._node = node
        self._account = role if service_account is None else service_account
        self._arguments = list(arguments)
        self._child: Child | None = None
        self._log_start = 0
        self.pod: Object | None = None

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.code is None

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def log(self) -> str:
        """Return what it logged since its last start."""
        assert self._child is not None
        return tail(self._child.log, self._log_start, 1 << 20)

    def start(self, *, fault: str | None = None, environment: Mapping[str, str] | None = None) -> None:
        """Start it, with a fault point (`driver.record-written`, `...#2`) if one is given."""
        assert not self.running, f"{self.name} runs already"
        command: list[str | Path] = [sys.executable, "-m", "dynamic_memory", self._role]
        if self._config is not None:
            file = self.folder / "config.yaml"
            file.write_text(yaml.safe_dump(dict(self._config)))
            command += ["--config", file, "--log-format", "json"]
        log = self._plane.logs / f"{self.name}.log"
        self._log_start = log.stat().st_size if log.exists() else 0
        self._child = Child(
            self.name,
            [*self._mounts(), *command, *self._arguments],
            logs=self._plane.logs,
            environment={
                **self._environment(),
                **({"DYNAMIC_MEMORY_FAULT": fault} if fault else {}),
                **(environment or {}),
            },
            folder=self.folder,
        )

    def wait_for_exit(self, code: int, timeout: float = 60) -> None:
        """Wait until it ended, as expected."""
        assert self._child is not None
        ended = self._child.wait(timeout)
        assert ended == code, f"{self.name} ended with {ended}, not {code}:\n{self.log()}"

    def wait_killed(self, timeout: float = 60) -> None:
        """Wait until the fault point was reached: until the process has killed itself."""
        self.wait_for_exit(-signal.SIGKILL, timeout)

    def wait_for_log(self, text: str, timeout: float = 30) -> None:
        """Wait until it logged a text since its last start."""

        def logged() -> bool:
            assert self._child is not None
            self._child.check()
            return text in self.log()

        eventually(logged, timeout, f"{self.name} logs {text!r}")

    def kill(self) -> None:
        """`kill -9`, if it runs."""
        if self._child is not None and self.running:
            self._child.kill()

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        assert self._child is not None
        return self._child.stop(15)

    def remove(self) -> None:
        """`kill -9`, and take away the pod that its token is bound to: the token is void then."""
        self.kill()
        if self.pod is not None:
            meta = self.pod["metadata"]
            self._plane.api.delete("Pod", meta["name"], meta["namespace"], grace=0, missing_ok=True)
            self.pod = None

    def _environment(self) -> dict[str, str]:
        environment = {"PYTHONUNBUFFERED": "1", "POD_NAMESPACE": NAMESPACE}
        if self._node is not None:
            environment["NODE_NAME"] = self._node.name
        if self._account:
            self.pod = self.pod or self._bound_pod()
            meta = self.pod["metadata"]
            environment |= {"POD_NAME": meta["name"], "POD_UID": meta["uid"]}
            token = self._plane.api.token(self._account, NAMESPACE, self.pod)
            kubeconfig = self.folder / "kubeconfig"
            kubeconfig.write_text(json.dumps(self._plane.authority.kubeconfig(self._plane.server, token=token)))
            environment["KUBECONFIG"] = str(kubeconfig)
        return environment

    def _bound_pod(self) -> Object:
        """Make a pod of the node that does nothing but be there for the token.

        Without a node it is bound to a node that does not exist: nobody runs it, and nothing waits for its end.
        """
        spec = {
            "serviceAccountName": self._account,
            "automountServiceAccountToken": False,
            "nodeName": self._node.name if self._node is not None else "nowhere",
            "terminationGracePeriodSeconds": 1,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "pause", "image": PAUSE}],
        }
        meta = {"name": f"process-{self.name}-{next(_numbers)}", "namespace": NAMESPACE}
        return self._plane.api.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})

    def _mounts(self) -> list[str]:
        folders = self._node.folders if self._node is not None else {"/var/lib/dynamic-memory": self.folder / "state"}
        binds = {**folders, "/var/run/dynamic-memory": self.folder / "run"}
        resolver = self.folder / "resolv.conf"
        resolver.write_text(self._plane.resolver(NAMESPACE))
        script = ['mount --bind "$1" /etc/resolv.conf', "shift"]
        for target, source in binds.items():
            source.mkdir(parents=True, exist_ok=True)
            Path(target).mkdir(parents=True, exist_ok=True)
            script += [f'mount --bind "$1" {target}', "shift"]
        sources = [str(resolver), *map(str, binds.values())]
        return ["unshare", "--mount", "--", "sh", "-ec", "; ".join([*script, 'exec "$@"']), "sh", *sources]
