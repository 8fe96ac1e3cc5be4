# SPDX-License-Identifier: Apache-2.0
"""Pods and containers as messages of the Node Resource Interface, and what plugins change in them. Pure.

A container goes to plugins as a message, each plugin's changes are made in the message before the next one sees it, and
what the container is started from follows from the message in the end. Devices, arguments and CDI devices that a plugin
adds are left out: a simulated container has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from dynamic_memory.embedded.runtime.cgroups import PAGES
from dynamic_memory.embedded.runtime.container import Container, ContainerSpec, Sandbox
from dynamic_memory.nri.proto import nri_pb2 as pb

__all__ = ["adjust", "container", "hugepages", "merge", "pieces", "policy", "sandbox", "settled"]


def sandbox(pod: Sandbox, cgroup: str) -> pb.PodSandbox:
    """Return a pod; `cgroup` is the path of its cgroup."""
    return pb.PodSandbox(
        id=pod.id,
        name=pod.name,
        uid=pod.uid,
        namespace=pod.namespace,
        labels=dict(pod.labels),
        annotations=dict(pod.annotations),
        linux=pb.LinuxPodSandbox(cgroup_parent=f"/{cgroup}"),
    )


def container(spec: ContainerSpec, id_: str, pod: Sandbox, running: Container | None = None) -> pb.Container:
    """Return a container that is about to be created, or one that is there."""
    state = pb.CONTAINER_UNKNOWN
    if running is not None:
        state = pb.CONTAINER_RUNNING if running.ended is None else pb.CONTAINER_STOPPED
    made = pb.Container(
        id=id_,
        pod_sandbox_id=pod.id,
        name=spec.name,
        state=state,
        annotations=dict(spec.annotations),
        args=spec.command,
        env=[f"{name}={value}" for name, value in spec.env.items()],
        mounts=[
            pb.Mount(destination=inside, source=outside, type="bind", options=["rbind", "rw"])
            for inside, outside in spec.mounts.items()
        ],
        cdi_devices=[pb.CDIDevice(name=name) for name in spec.devices],
    )
    resources = made.linux.resources
    resources.cpu.mems = spec.mems
    if spec.limit is not None:
        resources.memory.limit.value = spec.limit
    for page in PAGES:
        resources.hugepage_limits.add(page_size=page, limit=spec.hugepages.get(page, 0))
    for name, value in spec.unified.items():
        resources.unified[name] = value
    return made


def adjust(made: pb.Container, change: pb.ContainerAdjustment) -> None:
    """Make the changes of one plugin. A name that begins with `-` takes away what has it."""
    for key, value in change.annotations.items():
        if key.startswith("-"):
            made.annotations.pop(key[1:], None)
        else:
            made.annotations[key] = value
    env = dict(entry.partition("=")[::2] for entry in made.env)
    for pair in change.env:
        env.pop(pair.key.removeprefix("-"), None)
        if not pair.key.startswith("-"):
            env[pair.key] = pair.value
    mounts = {mount.destination: mount for mount in made.mounts}
    for mount in change.mounts:
        mounts.pop(mount.destination.removeprefix("-"), None)
        if not mount.destination.startswith("-"):
            mounts[mount.destination] = mount
    kept = [pb.Mount.FromString(mount.SerializeToString()) for mount in mounts.values()]
    del made.env[:], made.mounts[:]
    made.env.extend(f"{name}={value}" for name, value in env.items())
    made.mounts.extend(kept)
    merge(made.linux.resources, change.linux.resources)


def merge(has: pb.LinuxResources, more: pb.LinuxResources) -> None:
    """Change resources: what is not said stays as it is."""
    has.cpu.mems = more.cpu.mems or has.cpu.mems
    if more.memory.HasField("limit"):
        has.memory.limit.value = more.memory.limit.value
    if more.memory.HasField("swap"):
        has.memory.swap.value = more.memory.swap.value
    limits = hugepages(has) | hugepages(more)
    del has.hugepage_limits[:]
    for page, limit in limits.items():
        has.hugepage_limits.add(page_size=page, limit=limit)
    for name, value in more.unified.items():
        has.unified[name] = value


def hugepages(resources: pb.LinuxResources) -> dict[str, int]:
    """Return limits of huge pages in bytes, by size as cgroups spell it."""
    return {limit.page_size: limit.limit for limit in resources.hugepage_limits}


def policy(change: pb.ContainerAdjustment) -> str:
    """Return a memory policy as tmpfs spells it: `preferred-many=static:1-2`; empty if there is none."""
    if not change.linux.HasField("memory_policy"):
        return ""
    wanted = change.linux.memory_policy
    mode = pb.MemoryPolicyMode.Name(wanted.mode).removeprefix("MPOL_").lower().replace("_", "-")
    flags = [pb.MemoryPolicyFlag.Name(flag).removeprefix("MPOL_F_").removesuffix("_NODES") for flag in wanted.flags]
    return f"{mode}{''.join(f'={flag.lower()}' for flag in flags)}:{wanted.nodes}"


def settled(spec: ContainerSpec, made: pb.Container, memory_policy: str | None = None) -> ContainerSpec:
    """Return what a container is started from, or goes on with, after the changes of plugins."""
    resources = made.linux.resources
    limit = resources.memory.limit.value if resources.memory.HasField("limit") else None
    return msgspec.structs.replace(
        spec,
        env=dict(entry.partition("=")[::2] for entry in made.env),
        mounts={mount.destination: mount.source for mount in made.mounts},
        annotations=dict(made.annotations),
        limit=limit if limit is None or limit > 0 else None,
        mems=resources.cpu.mems,
        hugepages=hugepages(resources),
        unified={name: value for name, value in resources.unified.items() if "/" not in name},
        policy=spec.policy if memory_policy is None else memory_policy,
    )


def pieces(
    pods: Sequence[pb.PodSandbox], containers: Sequence[pb.Container], most: int
) -> Iterator[pb.SynchronizeRequest]:
    """Return what Synchronize brings, in pieces of about `most` bytes; all but the last say that more follows."""
    piece, size = pb.SynchronizeRequest(), 0
    everything: list[pb.PodSandbox | pb.Container] = [*pods, *containers]
    for each in everything:
        length = each.ByteSize()
        if size and size + length > most:
            piece.more = True
            yield piece
            piece, size = pb.SynchronizeRequest(), 0
        if isinstance(each, pb.PodSandbox):
            piece.pods.append(each)
        else:
            piece.containers.append(each)
        size += length
    yield piece
