# SPDX-License-Identifier: Apache-2.0
"""Errors over gRPC: a status code for people and generic tools, and a `Failure` message with the fields.

The message travels in the trailing metadata, and the client makes the same exception of it again. A status without it
comes from gRPC itself, from a proxy, or from a fault of the service: nothing is known of what was done, so it is
`Unreachable`, which is tried again.
"""

from __future__ import annotations

import grpc
import msgspec
from google.protobuf.message import DecodeError

from dynamic_memory.fabric import errors
from dynamic_memory.fabric.proto import fabric_pb2 as pb

__all__ = ["FAILURE_KEY", "ROWS", "Row", "error_from", "failure_to", "status_of"]

FAILURE_KEY = "dynamic-memory-failure-bin"
"""Trailing metadata that carries a `Failure`."""


class Row(msgspec.Struct, frozen=True):
    """One kind of failure: field of `Failure`, exception, status, fields of the exception and of the message alike.

    With one field the message is a plain string.
    """

    name: str
    error: type[errors.FabricError]
    status: grpc.StatusCode
    fields: tuple[str, ...]


_Code = grpc.StatusCode
# A class stands before the classes that it derives from.
ROWS = (
    Row("exhausted", errors.Exhausted, _Code.RESOURCE_EXHAUSTED, ("want", "have", "unreleased", "held")),
    Row("window_full", errors.WindowFull, _Code.RESOURCE_EXHAUSTED, ("want", "have", "extents", "want_extents")),
    Row("bad_argument", errors.BadArgument, _Code.INVALID_ARGUMENT, ("field", "expected")),
    Row("unknown_node", errors.UnknownNode, _Code.NOT_FOUND, ("name",)),
    Row("unknown_device", errors.UnknownDevice, _Code.NOT_FOUND, ("name",)),
    Row("conflict", errors.Conflicts, _Code.ALREADY_EXISTS, ("tag", "field")),
    Row("unauthenticated", errors.Unauthenticated, _Code.UNAUTHENTICATED, ("why",)),
    Row("denied", errors.Denied, _Code.PERMISSION_DENIED, ("why",)),
    Row("device_down", errors.DeviceDown, _Code.FAILED_PRECONDITION, ("name", "why")),
    Row("rejected", errors.Rejected, _Code.FAILED_PRECONDITION, ("why",)),
    Row("backend_failure", errors.BackendFailure, _Code.INTERNAL, ("why",)),
    Row("unreachable", errors.Unreachable, _Code.UNAVAILABLE, ("why",)),
)
_BY_NAME = {row.name: row for row in ROWS}


def status_of(error: errors.FabricError) -> grpc.StatusCode:
    """Status code of a failure."""
    return _row(error).status


def failure_to(error: errors.FabricError) -> bytes:
    """Details of a failure, for the trailing metadata."""
    row = _row(error)
    failure = pb.Failure()
    if len(row.fields) == 1:
        setattr(failure, row.name, getattr(error, row.fields[0]))
    else:
        message = getattr(failure, row.name)
        message.SetInParent()
        for field in row.fields:
            setattr(message, field, getattr(error, field))
    return failure.SerializeToString()


def error_from(error: grpc.aio.AioRpcError) -> errors.FabricError:
    """The failure that a status with its trailing metadata stands for."""
    data = next((value for key, value in error.trailing_metadata() or () if key == FAILURE_KEY), b"")
    try:
        failure = pb.Failure.FromString(data)
    except DecodeError:
        failure = pb.Failure()
    row = _BY_NAME.get(failure.WhichOneof("what") or "")
    if row is None:
        return errors.Unreachable(f"{error.code().name}: {error.details()}")
    value = getattr(failure, row.name)
    if len(row.fields) == 1:
        return row.error(value)
    return row.error(*(getattr(value, field) for field in row.fields))


def _row(error: errors.FabricError) -> Row:
    return next(row for row in ROWS if isinstance(error, row.error))
