# SPDX-License-Identifier: Apache-2.0
"""A node as the NRI plugin sees it: a ledger on the disk, cgroups of pods as files, a runtime's pods and containers."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from tests.support.nri_runtime import container as make_container
from tests.support.nri_runtime import pod as make_pod

from dynamic_memory.driver import cdi, environment
from dynamic_memory.driver.grants import Grant, Mode, Owner, by_key
from dynamic_memory.driver.nri_plan import Facts
from dynamic_memory.driver.nri_plugin import MemoryPlugin
from dynamic_memory.driver.records import ClaimRecord, Prepared, Records
from dynamic_memory.host.mounts import CgroupMode, CgroupMounts
from dynamic_memory.host.pod_cgroups import PodCgroups
from dynamic_memory.nri.events import Runtime
from dynamic_memory.nri.proto import nri_pb2 as pb

MIB = 1 << 20
GIB = 1 << 30
M2, G1 = 2 * MIB, GIB
FACTS = Facts(pages=(M2, G1), home=(0, 1), movable=(2,), protects=True)
NEW = Runtime(name="containerd", version="v2.4.2", nri="v0.12.3")
OLD = Runtime(name="containerd", version="v2.1.0")


def uid(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-000000000000"


def grant(numa: int = 0, size: int = 64 * MIB, *, page: int = 0, request: str = "mem", **fields: Any) -> Grant:
    kind = f"hugepages-{page}" if page else "memory"
    return Grant(request=request, pool="n1/mem", device=f"{kind}-{numa}", size=size, numa=numa, page=page, **fields)


def huge(numa: int = 0, size: int = 64 * MIB, **fields: Any) -> Grant:
    return grant(numa, size, page=fields.pop("page", M2), **fields)


class World:
    """One node and its driver, which can be restarted."""

    def __init__(self, folder: Path, *, version: int = 2) -> None:
        self.folder = folder
        self.version = version
        self.root = folder / "cgroup"
        mounts = CgroupMounts(mode=CgroupMode.V2, unified=str(self.root))
        if version == 1:
            mounts = CgroupMounts(mode=CgroupMode.V1, v1={"hugetlb": str(self.root / "hugetlb")})
        self.root.mkdir(parents=True)
        (self.root / "cgroup.controllers").write_text("cpuset memory hugetlb\n")
        self.mounts = mounts
        self.runtime = NEW
        self.restart()

    def restart(self) -> None:
        """A new driver process: nothing but the disk is left."""
        self.records = Records(self.folder / "state" / "claims")
        self.records._replace(self.records._read_all())
        self.plugin = MemoryPlugin(self.records, PodCgroups(self.mounts))
        self.plugin.facts = FACTS
        self.plugin.configure(self.runtime)

    # --- what Prepare and Unprepare do to the ledger

    async def prepare(
        self, number: int, *grants: Grant, pod: str = "pod-a", containers: Any = ("app",), records: Any = None
    ) -> str:
        claim = uid(number)
        record = ClaimRecord(
            key=claim,
            uid=claim,
            namespace="default",
            name=f"claim-{number}",
            local=tuple(grants),
            owner=Owner(
                name=pod,
                uid=pod,
                containers=containers if isinstance(containers, dict) else {"": tuple(containers)},
            ),
            prepared=Prepared(tag="", cdi_id=cdi.device_id(claim), spec="{}", grants=tuple(grants)),
        )
        await (self.records if records is None else records).update(claim, lambda _: record)
        return claim

    async def unprepare(self, number: int) -> None:
        await self.records.update(uid(number), lambda record: record and record.without_local())

    # --- what the runtime says

    def sandbox(self, pod: str = "pod-a", number: int = 0) -> pb.PodSandbox:
        parent = f"/kubepods/burstable/pod{pod}"
        base = (self.root / "hugetlb" if self.version == 1 else self.root) / parent.strip("/")
        if not base.is_dir():
            base.mkdir(parents=True)
            end = "limit_in_bytes" if self.version == 1 else "max"
            for size in ("2MB", "1GB"):
                for kind in (end, f"rsvd.{end}"):
                    (base / f"hugetlb.{size}.{kind}").write_text("0\n")
            for folder in (base, base.parent, base.parent.parent):
                (folder / "memory.min").write_text("0\n")
        return make_pod(pod, id=f"{pod}-sandbox-{number}", linux=pb.LinuxPodSandbox(cgroup_parent=parent))

    def container(
        self,
        name: str = "app",
        claims: tuple[int, ...] = (),
        *,
        pod: str = "pod-a",
        attempt: int = 0,
        keys: tuple[str, ...] = (),
        shows: bool | None = None,
        **fields: Any,
    ) -> pb.Container:
        """A container to which the kubelet gives the devices of claims, and the runtime their variables."""
        named = [uid(number) for number in claims] + list(keys)
        env = list(fields.pop("env", ()))
        for key in named:
            record = self.records.get(key[:36])
            given = by_key(key[:36], record.prepared.grants).get(key, ()) if record and record.prepared else ()
            env += [f"{name_}={value}" for name_, value in environment.render(key, given).items()]
            env += [f"DYNAMIC_MEMORY_CLAIM_{key.replace('-', '_').replace('.', '_')}=bytes=1"]
        shows = self.runtime.shows_cdi if shows is None else shows
        devices = [pb.CDIDevice(name=cdi.device_id(key)) for key in named] if shows else []
        return make_container(
            name, f"{pod}-sandbox-0", id=f"{pod}-{name}-{attempt}", env=env, cdi_devices=devices, **fields
        )

    async def create(self, container: pb.Container, *, pod: str = "pod-a", sandbox: int = 0) -> Any:
        answer = self.plugin.create_container(self.sandbox(pod, sandbox), container)
        return await answer if inspect.isawaitable(answer) else answer

    async def synchronize(self, pods: Any, containers: Any) -> Any:
        answer = self.plugin.synchronize(pods, containers)
        return await answer if inspect.isawaitable(answer) else answer

    def pod_limit(self, pod: str = "pod-a", size: str = "2MB", *, reserved: bool = False) -> int:
        base = self.root / "hugetlb" if self.version == 1 else self.root
        end = "limit_in_bytes" if self.version == 1 else "max"
        kind = f"rsvd.{end}" if reserved else end
        return int((base / f"kubepods/burstable/pod{pod}" / f"hugetlb.{size}.{kind}").read_text())

    def protected(self, path: str) -> int:
        return int((self.root / path / "memory.min").read_text())


def limits(resources: pb.LinuxResources) -> dict[str, int]:
    return {limit.page_size: limit.limit for limit in resources.hugepage_limits}


def resources(**how: Any) -> pb.LinuxResources:
    """Resources of a container: memory, swap, mems, hugepages."""
    made = pb.LinuxResources()
    if "memory" in how:
        made.memory.limit.value = how["memory"]
    if "swap" in how:
        made.memory.swap.value = how["swap"]
    made.cpu.mems = how.get("mems", "")
    for size, limit in how.get("hugepages", {}).items():
        made.hugepage_limits.append(pb.HugepageLimit(page_size=size, limit=limit))
    return made


__all__ = [
    "FACTS",
    "G1",
    "GIB",
    "M2",
    "MIB",
    "NEW",
    "OLD",
    "Mode",
    "World",
    "grant",
    "huge",
    "limits",
    "resources",
    "uid",
]
