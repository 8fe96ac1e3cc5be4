# SPDX-License-Identifier: Apache-2.0
"""The first process of a test node: makes the node's view of the machine, then waits.

It runs in new mount, pid and cgroup namespaces. There, the folders that kubelet, containerd and our manifests name
(/var/lib/kubelet, /var/run/cdi, ...) are folders of this node alone, so the manifests are used as they are shipped; the
node's cgroup is the root of the hierarchy, so kubelets do not find each other's pods; and everything that runs on the
node, containers included, ends when this process ends: killing it is cutting the node's power.

    python node_init.py PROGRAM-FREE: reads {"binds": {target: source}, "cgroup": name} from its argument (JSON), prints
    `ready`, and reaps children for ever.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

__all__ = ["CGROUP", "controllers", "main"]

CGROUP = Path("/sys/fs/cgroup")


def controllers() -> list[Path]:
    """Return the mounted cgroup v1 hierarchies and the v2 hierarchy, or the one v2 hierarchy."""
    if (CGROUP / "cgroup.controllers").exists():
        return [CGROUP]
    return sorted(path for path in CGROUP.iterdir() if path.is_dir() and not path.is_symlink())


def _mount_cgroups() -> None:
    for path in controllers():
        if (path / "cgroup.controllers").exists():
            options = ["-t", "cgroup2"]
        elif path.name == "systemd":
            options = ["-t", "cgroup", "-o", "none,name=systemd"]
        else:
            options = ["-t", "cgroup", "-o", path.name]
        subprocess.run(["umount", "--recursive", path], check=True)
        subprocess.run(["mount", *options, "cgroup", path], check=True)


def main() -> None:
    """Set the node up, say so, and reap what is orphaned."""
    plan = json.loads(sys.argv[1])
    os.chdir("/")
    _mount_cgroups()
    for target, source in plan["binds"].items():
        Path(target).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--bind", source, target], check=True)
    print("ready", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        try:
            os.wait()
        except ChildProcessError:
            signal.sigtimedwait([signal.SIGCHLD], 1)


if __name__ == "__main__":
    main()
