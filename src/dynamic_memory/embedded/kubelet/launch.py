# SPDX-License-Identifier: Apache-2.0
"""From a container of a pod's spec to what the runtime starts: environment, limits, and what it shall simulate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dynamic_memory.embedded.kubelet.cdi import Edits
from dynamic_memory.embedded.kubelet.objects import Pod
from dynamic_memory.embedded.kubelet.pod import ContainerRecord
from dynamic_memory.embedded.kubelet.resources import amounts, limit_of
from dynamic_memory.embedded.runtime import commands, curves
from dynamic_memory.embedded.runtime.cgroups import page_name
from dynamic_memory.embedded.runtime.container import ContainerSpec, Sandbox, new_id

__all__ = ["environment", "hugepages", "launch", "sandbox"]

USUAL = 16 << 20
"""Bytes that a container uses of which nothing is said; or half of its limit, if that is less."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def launch(
    pod: Pod,
    record: ContainerRecord,
    edits: Edits,
    *,
    node: str,
    ip: str,
    log: Path | None,
    devices: Sequence[str] = (),
) -> ContainerSpec:
    """Return what the runtime starts.

    Args:
        pod: the object.
        record: the container.
        edits: what CDI changes in it.
        node: name of the node.
        ip: address of the pod.
        log: file for its output.
        devices: qualified names of its CDI devices.

    Raises:
        InvalidInput: an annotation of the simulation cannot be read.

    """
    spec = record.spec
    env = environment(pod, spec, node=node, ip=ip) | edits.env
    command = (*(spec.get("command") or ()), *(spec.get("args") or ()))
    limit = limit_of(record.allocated)
    memory = _annotation(pod, curves.ANNOTATION, record.name)
    model = curves.parse(memory) if memory else curves.Model(curves.Flat(_usual(limit)))
    return ContainerSpec(
        name=record.name,
        image=str(spec.get("image", "")),
        command=command,
        env=env,
        mounts=edits.mounts,
        working_dir=str(spec.get("workingDir") or ""),
        limit=limit,
        model=model,
        plan=commands.plan(command, env, _annotation(pod, commands.EXIT_ANNOTATION, record.name)),
        log=log,
        devices=tuple(devices),
        hugepages=hugepages((spec.get("resources") or {}).get("limits")),
    )


def sandbox(pod: Pod) -> Sandbox:
    """Return a pod as the runtime is to know it."""
    total: dict[str, int] = {}
    for container in (*(pod.spec.get("initContainers") or ()), *(pod.spec.get("containers") or ())):
        for page, size in hugepages((container.get("resources") or {}).get("limits")).items():
            total[page] = total.get(page, 0) + size
    meta = pod.metadata
    return Sandbox(
        id=new_id(),
        uid=meta.uid,
        name=meta.name,
        namespace=meta.namespace,
        labels=meta.labels,
        annotations=meta.annotations,
        hugepages=total,
    )


def hugepages(limits: Mapping[str, Any] | None) -> dict[str, int]:
    """Return limits of huge pages in bytes, by size as cgroups spell it."""
    return {page_name(name): size for name, size in amounts(limits).items() if name.startswith("hugepages-")}


def environment(pod: Pod, spec: Mapping[str, Any], *, node: str, ip: str) -> dict[str, str]:
    """Return the environment of a container: values, and what can be taken from pod and container themselves.

    Values from config maps and secrets are left out.
    """
    env = {"PATH": PATH, "HOSTNAME": pod.metadata.name}
    fields = {
        "metadata.name": pod.metadata.name,
        "metadata.namespace": pod.metadata.namespace,
        "metadata.uid": pod.metadata.uid,
        "spec.nodeName": node,
        "spec.serviceAccountName": str(pod.spec.get("serviceAccountName") or "default"),
        "status.podIP": ip,
        "status.podIPs": ip,
    }
    for entry in spec.get("env") or ():
        source = entry.get("valueFrom")
        if source is None:
            env[entry["name"]] = str(entry.get("value", ""))
        elif "fieldRef" in source:
            value = fields.get(source["fieldRef"].get("fieldPath", ""))
            if value is not None:
                env[entry["name"]] = value
        elif "resourceFieldRef" in source:
            part, _, name = source["resourceFieldRef"].get("resource", "").partition(".")
            found = amounts((spec.get("resources") or {}).get(part)).get(name)
            if found is not None:
                env[entry["name"]] = str(found)
    return env


def _annotation(pod: Pod, key: str, container: str) -> str | None:
    """Return an annotation for this container, `<key>.<container>`, else for all of the pod."""
    annotations = pod.metadata.annotations
    return annotations.get(f"{key}.{container}", annotations.get(key))


def _usual(limit: int | None) -> int:
    return USUAL if limit is None else min(USUAL, limit // 2)
