# SPDX-License-Identifier: Apache-2.0
"""What a pod takes of its node: one integer a resource. Pure.

Rules of `k8s.io/component-helpers/resource` (PodRequests): containers and sidecars add up; an init container needs its
own and what sidecars started before it need, and only the largest of these counts; requests of the pod as a whole stand
in for the sum; overhead comes on top. Of a container that is being resized the larger of what it asks for, was admitted
with, and has, counts; a request that the node has found infeasible does not.

CPU is in thousandths, everything else in whole units.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from dynamic_memory.api.wire import QuantityText
from dynamic_memory.embedded.scheduler.types import Container, ContainerStatus, Pod
from dynamic_memory.quantity import Quantity

__all__ = ["Amounts", "amounts", "nonzero", "pod_requests"]

Amounts = dict[str, int]

_DEFAULT_CPU = 100
_DEFAULT_MEMORY = 200 << 20
"""What a container without requests counts for when nodes are scored, as upstream."""

_POD_LEVEL = ("cpu", "memory")


@functools.lru_cache(maxsize=8192)
def _amount(name: str, text: QuantityText) -> int:
    quantity = Quantity.parse(text)
    return quantity.milli_value() if name == "cpu" else quantity.value()


def amounts(listed: Mapping[str, QuantityText]) -> Amounts:
    """Return a resource list as integers.

    Raises:
        InvalidInput: a value is no quantity.

    """
    return {name: _amount(name, text) for name, text in listed.items()}


def pod_requests(pod: Pod) -> Amounts:
    """Return what a pod takes.

    Raises:
        InvalidInput: a request is no quantity.

    """
    return _pod(pod, defaults=False)


def nonzero(pod: Pod) -> tuple[int, int]:
    """Return cpu and memory of a pod for scoring: containers without requests count a little."""
    found = _pod(pod, defaults=True)
    return found.get("cpu", 0), found.get("memory", 0)


def _pod(pod: Pod, *, defaults: bool) -> Amounts:
    infeasible = any(
        condition.type == "PodResizePending" and condition.reason == "Infeasible" for condition in pod.status.conditions
    )
    statuses = {status.name: status for status in pod.status.container_statuses}
    total: Amounts = {}
    for container in pod.spec.containers:
        _add(total, _container(container, statuses.get(container.name), infeasible=infeasible, defaults=defaults))
    if pod.spec.init_containers:
        statuses = {status.name: status for status in pod.status.init_container_statuses}
        _add_init(pod, total, statuses, infeasible=infeasible, defaults=defaults)
    if pod.spec.resources is not None:
        for name, amount in amounts(pod.spec.resources.requests).items():
            if name in _POD_LEVEL or name.startswith("hugepages-"):
                total[name] = amount
    if pod.spec.overhead:
        _add(total, amounts(pod.spec.overhead))
    return total


def _add_init(
    pod: Pod, total: Amounts, statuses: Mapping[str, ContainerStatus], *, infeasible: bool, defaults: bool
) -> None:
    """Add sidecars to the total and raise it to what the hungriest init container needs."""
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in pod.spec.init_containers:
        own = _container(container, statuses.get(container.name), infeasible=infeasible, defaults=defaults)
        if container.restart_policy == "Always":
            _add(sidecars, own)
            _add(total, own)
            _raise(peak, sidecars)
        else:
            _add(own, sidecars)
            _raise(peak, own)
    _raise(total, peak)


def _container(container: Container, status: ContainerStatus | None, *, infeasible: bool, defaults: bool) -> Amounts:
    found = amounts(container.resources.requests)
    if status is not None and (status.allocated_resources or status.resources is not None):
        held = amounts(status.allocated_resources)
        if status.resources is not None:
            _raise(held, amounts(status.resources.requests))
        if infeasible and held:
            found = {name: held.get(name, amount) for name, amount in found.items()}
        else:
            _raise(found, held)
    if defaults:
        found.setdefault("cpu", _DEFAULT_CPU)
        found.setdefault("memory", _DEFAULT_MEMORY)
    return found


def _add(total: Amounts, more: Mapping[str, int]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def _raise(total: Amounts, least: Mapping[str, int]) -> None:
    for name, amount in least.items():
        if total.get(name, 0) < amount:
            total[name] = amount
