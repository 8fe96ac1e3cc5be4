# SPDX-License-Identifier: Apache-2.0
"""What a plugin may implement, one small protocol for each hook.

A plugin is any object that has some of these methods: the stub looks which, and subscribes to exactly those events. A
method returns its result, or an awaitable of it. The runtime waits for the answer and starts no other container on the
node meanwhile, so a hook must not wait for a network or a disk.

A hook that may refuse raises `Refused`; the sentence is shown to the pod's owner. What else it raises is answered as an
error by hooks that may refuse, and only logged for the others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

from dynamic_memory.nri.events import Runtime
from dynamic_memory.nri.proto.nri_pb2 import (
    Container,
    ContainerUpdate,
    CreateContainerResponse,
    LinuxResources,
    PodSandbox,
    ValidateContainerAdjustmentRequest,
)

__all__ = [
    "Configures",
    "CreatesContainer",
    "Maybe",
    "PostCreatesContainer",
    "PostStartsContainer",
    "PostUpdatesContainer",
    "PostUpdatesPodSandbox",
    "RemovesContainer",
    "RemovesPodSandbox",
    "RunsPodSandbox",
    "ShutsDown",
    "StartsContainer",
    "StopsContainer",
    "StopsPodSandbox",
    "Synchronizes",
    "UpdatesContainer",
    "UpdatesPodSandbox",
    "ValidatesContainerAdjustment",
]

T = TypeVar("T")
Maybe: TypeAlias = T | Awaitable[T]
Updates: TypeAlias = Sequence[ContainerUpdate]


@runtime_checkable
class Configures(Protocol):
    """Hears of the runtime, at each connection."""

    def configure(self, runtime: Runtime) -> Maybe[None]:
        """Take note of the runtime."""
        ...


@runtime_checkable
class Synchronizes(Protocol):
    """Hears, at each connection, of everything that exists. An error ends the connection."""

    def synchronize(self, pods: Sequence[PodSandbox], containers: Sequence[Container]) -> Maybe[Updates]:
        """Return changes of containers that differ from what they should be."""
        ...


@runtime_checkable
class ShutsDown(Protocol):
    """Hears that the runtime ends."""

    def shutdown(self) -> Maybe[None]:
        """Take note."""
        ...


@runtime_checkable
class RunsPodSandbox(Protocol):
    """Before a pod's containers; may refuse."""

    def run_pod_sandbox(self, pod: PodSandbox) -> Maybe[None]:
        """Take note, or refuse."""
        ...


@runtime_checkable
class UpdatesPodSandbox(Protocol):
    """Before the resources of a pod change (NRI 0.10); may refuse."""

    def update_pod_sandbox(self, pod: PodSandbox, overhead: LinuxResources, resources: LinuxResources) -> Maybe[None]:
        """Take note, or refuse."""
        ...


@runtime_checkable
class PostUpdatesPodSandbox(Protocol):
    """After the resources of a pod have changed (NRI 0.10)."""

    def post_update_pod_sandbox(self, pod: PodSandbox) -> Maybe[None]:
        """Take note."""
        ...


@runtime_checkable
class StopsPodSandbox(Protocol):
    """A pod has been stopped."""

    def stop_pod_sandbox(self, pod: PodSandbox) -> Maybe[None]:
        """Take note."""
        ...


@runtime_checkable
class RemovesPodSandbox(Protocol):
    """A pod's sandbox is removed."""

    def remove_pod_sandbox(self, pod: PodSandbox) -> Maybe[None]:
        """Take note."""
        ...


@runtime_checkable
class CreatesContainer(Protocol):
    """Before a container is created: the one chance to change all of it; may refuse."""

    def create_container(self, pod: PodSandbox, container: Container) -> Maybe[CreateContainerResponse | None]:
        """Return changes of the container, and updates of others; or refuse."""
        ...


@runtime_checkable
class PostCreatesContainer(Protocol):
    """A container has been created."""

    def post_create_container(self, pod: PodSandbox, container: Container) -> Maybe[None]:
        """Take note."""
        ...


@runtime_checkable
class StartsContainer(Protocol):
    """Before a container starts; may refuse."""

    def start_container(self, pod: PodSandbox, container: Container) -> Maybe[None]:
        """Take note, or refuse."""
        ...


@runtime_checkable
class PostStartsContainer(Protocol):
    """A container runs."""

    def post_start_container(self, pod: PodSandbox, container: Container) -> Maybe[None]:
        """Take note."""
        ...


@runtime_checkable
class UpdatesContainer(Protocol):
    """Before the resources of a container change (a resize by the kubelet); may refuse."""

    def update_container(self, pod: PodSandbox, container: Container, resources: LinuxResources) -> Maybe[Updates]:
        """Return what has to be different, of this container or of others; or refuse."""
        ...


@runtime_checkable
class PostUpdatesContainer(Protocol):
    """The resources of a container have changed."""

    def post_update_container(self, pod: PodSandbox, container: Container) -> Maybe[None]:
        """Take note."""
        ...


@runtime_checkable
class StopsContainer(Protocol):
    """A container is stopped."""

    def stop_container(self, pod: PodSandbox, container: Container) -> Maybe[Updates]:
        """Return updates of other containers."""
        ...


@runtime_checkable
class RemovesContainer(Protocol):
    """A container is removed."""

    def remove_container(self, pod: PodSandbox, container: Container) -> Maybe[None]:
        """Take note."""
        ...


@runtime_checkable
class ValidatesContainerAdjustment(Protocol):
    """After all plugins have made their changes (NRI 0.10)."""

    def validate_container_adjustment(self, request: ValidateContainerAdjustmentRequest) -> Maybe[str | None]:
        """Return why the container must not be created, or None."""
        ...
