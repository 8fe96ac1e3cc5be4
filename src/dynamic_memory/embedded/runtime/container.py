# SPDX-License-Identifier: Apache-2.0
"""A container that is arithmetic: when it ends is known at its start, and one timer of the event loop stands for it.

There is no task and nothing to look at every so often, so a process holds thousands. The moments that may come first
are the end of its command, its memory rising above its limit, and the end of its grace; what changes one of them
(another limit, SIGTERM) sets the timer anew.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from dynamic_memory.embedded.runtime.commands import SIGKILL, Plan
from dynamic_memory.embedded.runtime.curves import Model, Reading
from dynamic_memory.process import clock

__all__ = ["Container", "ContainerSpec", "Ended", "Sandbox", "SimulatedContainer", "new_id"]


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """A pod, as the runtime knows it.

    Attributes:
        id: of the sandbox.
        uid: of the pod.
        name: of the pod.
        namespace: of the pod.
        labels: of the pod.
        annotations: of the pod.
        hugepages: limits of its cgroup in bytes, by size as cgroups spell it (`2MB`); sizes that are left out have 0.

    """

    id: str
    uid: str
    name: str = ""
    namespace: str = ""
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    hugepages: Mapping[str, int] = {}


class ContainerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a container is made from.

    Attributes:
        name: in its pod.
        image: as the pod says it.
        command: `command` and `args` together.
        env: environment, with what CDI adds.
        mounts: host path by path in the container.
        working_dir: of the command.
        limit: memory limit in bytes; None for none.
        model: its memory.
        plan: what its command will do.
        log: file for what it prints; None for none.
        devices: qualified names of its CDI devices.
        annotations: of the container.
        mems: NUMA nodes, as the kernel lists them; empty for all.
        hugepages: limits in bytes, by size as cgroups spell it (`2MB`); sizes that are left out have 0.
        unified: more files of its cgroup, and what stands in them.
        policy: memory policy of its processes, mode and nodes (`preferred-many=static:1-2`); empty for the default.

    """

    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    mounts: Mapping[str, str] = {}
    working_dir: str = ""
    limit: int | None = None
    model: Model
    plan: Plan = Plan()
    log: Path | None = None
    devices: tuple[str, ...] = ()
    annotations: Mapping[str, str] = {}
    mems: str = ""
    hugepages: Mapping[str, int] = {}
    unified: Mapping[str, str] = {}
    policy: str = ""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a container ended.

    Attributes:
        code: exit code.
        reason: Completed, Error, OOMKilled, StartError or ContainerStatusUnknown.
        at: when.
        message: more about it.

    """

    code: int
    reason: str
    at: dt.datetime
    message: str = ""


class Container(Protocol):
    """One container, running from its start on."""

    id: str
    spec: ContainerSpec
    started: dt.datetime
    ended: Ended | None

    def stop(self, grace: float) -> None:
        """Ask it to end (SIGTERM), and kill it after `grace` seconds; a second call may shorten that."""
        ...

    def set_limit(self, limit: int | None) -> None:
        """Give it another memory limit."""
        ...

    def read(self) -> Reading:
        """Return what memory it uses now."""
        ...

    def kill(self, reason: str = "Error") -> None:
        """Kill it at once."""
        ...


def new_id() -> str:
    """Return the id of a container, as runtimes make them."""
    return secrets.token_hex(32)


class SimulatedContainer:
    """See the module.

    Args:
        spec: what it is made from.
        ended: called once, when it has ended.
        id_: of the container.
        age: seconds that it has been running already; for one that is taken over.

    """

    def __init__(self, spec: ContainerSpec, ended: Callable[[], None], *, id_: str = "", age: float = 0.0) -> None:
        self.id = id_ or new_id()
        self.spec = spec
        self.started = clock.now() - dt.timedelta(seconds=age)
        self.ended: Ended | None = None
        self._told = ended
        self._began = clock.monotonic() - age
        self._killed_at = math.inf
        self._asked_at = math.inf
        self._timer: asyncio.TimerHandle | None = None
        if spec.log is not None and spec.plan.output and not age:
            spec.log.parent.mkdir(parents=True, exist_ok=True)
            spec.log.write_text(spec.plan.output, encoding="utf-8")
        self._arm()

    @property
    def age(self) -> float:
        """Seconds since its start."""
        return clock.monotonic() - self._began

    def read(self) -> Reading:
        """See `Container`."""
        if self.ended is not None:
            return Reading(0, 0, 0.0)
        return self.spec.model.read(self.age, self.spec.limit)

    def set_limit(self, limit: int | None) -> None:
        """See `Container`."""
        self.spec = msgspec.structs.replace(self.spec, limit=limit)
        self._arm()

    def stop(self, grace: float) -> None:
        """See `Container`."""
        if self.ended is not None:
            return
        now = clock.monotonic()
        if self.spec.plan.term is not None:
            self._asked_at = min(self._asked_at, now)
        self._killed_at = min(self._killed_at, now + grace)
        self._arm()

    def kill(self, reason: str = "Error") -> None:
        """See `Container`."""
        self._end(SIGKILL, reason)

    def exit(self, code: int) -> None:
        """End by itself, now."""
        self._end(code, "Completed" if code == 0 else "Error")

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.ended is not None:
            return
        due = min(self._began + self.spec.plan.seconds, self._killed_at, self._asked_at, self._oom_at())
        if due < math.inf:
            self._timer = asyncio.get_running_loop().call_at(due, self._due)

    def _oom_at(self) -> float:
        if self.spec.limit is None:
            return math.inf
        age = self.spec.model.curve.above(self.spec.limit, self.age)
        return math.inf if age is None else self._began + age

    def _due(self) -> None:
        now = clock.monotonic() + 0.001  # a timer may fire a trifle before its time
        if self._oom_at() <= now:
            self._end(SIGKILL, "OOMKilled")
        elif self._began + self.spec.plan.seconds <= now:
            self._end(self.spec.plan.code, "Completed" if self.spec.plan.code == 0 else "Error")
        elif self._asked_at <= now:
            code = self.spec.plan.term or 0
            self._end(code, "Completed" if code == 0 else "Error")
        elif self._killed_at <= now:
            self._end(SIGKILL, "Error")
        else:
            self._arm()

    def _end(self, code: int, reason: str) -> None:
        if self.ended is not None:
            return
        self.ended = Ended(code=code, reason=reason, at=clock.now())
        if self._timer is not None:
            self._timer.cancel()
        self._told()
