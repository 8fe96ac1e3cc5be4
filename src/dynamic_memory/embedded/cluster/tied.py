# SPDX-License-Identifier: Apache-2.0
"""A process of a role that ends with its cluster, however that ends: `python -m …cluster.tied PARENT ROLE ARGUMENTS`.

A cluster that is killed cannot end its roles. Those that it left would go on with its folder and hold the sockets that
the roles of the next start need. So the kernel sends them SIGTERM when their parent is gone (Linux, `prctl(2)`).
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

__all__ = ["command"]

PR_SET_PDEATHSIG = 1


def command(*arguments: str) -> list[str]:
    """Return the command of a role that ends with this process."""
    return [sys.executable, "-m", __name__, str(os.getpid()), *arguments]


def _run(parent: int, arguments: list[str]) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it ended before
        return
    sys.argv[1:] = arguments
    runpy.run_module("dynamic_memory", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _run(int(sys.argv[1]), sys.argv[2:])
