# SPDX-License-Identifier: Apache-2.0
"""The table of the service Plugin: which call is which event, which hook serves it, and what its answer is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf.message import Message

from dynamic_memory.nri import hooks
from dynamic_memory.nri.events import Event
from dynamic_memory.nri.proto.nri_pb2 import (
    CreateContainerResponse,
    EventRequest,
    UpdateContainerRequest,
    UpdatePodSandboxRequest,
    UpdatesResponse,
    ValidateContainerAdjustmentRequest,
    ValidateContainerAdjustmentResponse,
)

__all__ = ["BY_EVENT", "RPCS", "Rpc"]


class Rpc(NamedTuple):
    """One call of the runtime that is an event.

    Attributes:
        event: what it tells.
        hook: the protocol whose method serves it.
        request: type of its request.
        invoke: calls the method of a plugin with a request.
        answer: makes the answer of what the method returned.
        refuses: an error is answered, and stops what the runtime is about to do; else it is only logged, because the
            runtime would fail an operation that has to succeed.

    """

    event: Event
    hook: type
    request: type[Message]
    invoke: Callable[[Any, Any], Any]
    answer: Callable[[Any], bytes]
    refuses: bool


def _nothing(_result: Any) -> bytes:
    return b""


def _creation(result: CreateContainerResponse | None) -> bytes:
    return b"" if result is None else result.SerializeToString()


def _updates(result: hooks.Updates | None) -> bytes:
    return UpdatesResponse(update=result).SerializeToString() if result else b""


def _verdict(reason: str | None) -> bytes:
    return ValidateContainerAdjustmentResponse(reject=True, reason=reason).SerializeToString() if reason else b""


def _of_pod(event: Event, hook: type, method: str, *, refuses: bool = False) -> Rpc:
    return Rpc(event, hook, EventRequest, lambda p, r: getattr(p, method)(r.pod), _nothing, refuses)


def _of_container(event: Event, hook: type, method: str, *, refuses: bool = False) -> Rpc:
    return Rpc(event, hook, EventRequest, lambda p, r: getattr(p, method)(r.pod, r.container), _nothing, refuses)


RPCS: dict[str, Rpc] = {
    "RunPodSandbox": _of_pod(Event.RUN_POD_SANDBOX, hooks.RunsPodSandbox, "run_pod_sandbox", refuses=True),
    "StopPodSandbox": _of_pod(Event.STOP_POD_SANDBOX, hooks.StopsPodSandbox, "stop_pod_sandbox"),
    "RemovePodSandbox": _of_pod(Event.REMOVE_POD_SANDBOX, hooks.RemovesPodSandbox, "remove_pod_sandbox"),
    "CreateContainer": Rpc(
        Event.CREATE_CONTAINER,
        hooks.CreatesContainer,
        EventRequest,
        lambda p, r: p.create_container(r.pod, r.container),
        _creation,
        refuses=True,
    ),
    "PostCreateContainer": _of_container(
        Event.POST_CREATE_CONTAINER, hooks.PostCreatesContainer, "post_create_container"
    ),
    "StartContainer": _of_container(Event.START_CONTAINER, hooks.StartsContainer, "start_container", refuses=True),
    "PostStartContainer": _of_container(Event.POST_START_CONTAINER, hooks.PostStartsContainer, "post_start_container"),
    "UpdateContainer": Rpc(
        Event.UPDATE_CONTAINER,
        hooks.UpdatesContainer,
        UpdateContainerRequest,
        lambda p, r: p.update_container(r.pod, r.container, r.linux_resources),
        _updates,
        refuses=True,
    ),
    "PostUpdateContainer": _of_container(
        Event.POST_UPDATE_CONTAINER, hooks.PostUpdatesContainer, "post_update_container"
    ),
    "StopContainer": Rpc(
        Event.STOP_CONTAINER,
        hooks.StopsContainer,
        EventRequest,
        lambda p, r: p.stop_container(r.pod, r.container),
        _updates,
        refuses=False,
    ),
    "RemoveContainer": _of_container(Event.REMOVE_CONTAINER, hooks.RemovesContainer, "remove_container"),
    "UpdatePodSandbox": Rpc(
        Event.UPDATE_POD_SANDBOX,
        hooks.UpdatesPodSandbox,
        UpdatePodSandboxRequest,
        lambda p, r: p.update_pod_sandbox(r.pod, r.overhead_linux_resources, r.linux_resources),
        _nothing,
        refuses=True,
    ),
    "PostUpdatePodSandbox": _of_pod(
        Event.POST_UPDATE_POD_SANDBOX, hooks.PostUpdatesPodSandbox, "post_update_pod_sandbox"
    ),
    "ValidateContainerAdjustment": Rpc(
        Event.VALIDATE_CONTAINER_ADJUSTMENT,
        hooks.ValidatesContainerAdjustment,
        ValidateContainerAdjustmentRequest,
        lambda p, r: p.validate_container_adjustment(r),
        _verdict,
        refuses=True,
    ),
}
"""By the name of the call."""

BY_EVENT = {rpc.event: (name, rpc) for name, rpc in RPCS.items()}
"""The same by event, for a runtime that has one call for all (StateChange)."""
