# SPDX-License-Identifier: Apache-2.0
"""A body: four bytes that say so, then `runtime.Unknown` with apiVersion, kind and the message itself.

The result is what the same client would have sent as JSON: absent and zero values are left out where Go's `omitempty`
leaves them out, bytes are base64, quantities and times are texts.
"""

from __future__ import annotations

from typing import Any

from dynamic_memory.embedded.apiserver.errors import StatusError, bad_request, unsupported_media_type
from dynamic_memory.embedded.apiserver.protobuf.message import decode_message
from dynamic_memory.embedded.apiserver.protobuf.tables import message, package_of
from dynamic_memory.embedded.apiserver.protobuf.wire import fields
from dynamic_memory.errors import InvalidInput

__all__ = ["PROTOBUF", "decode"]

PROTOBUF = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"
OPTIONS = "DeleteOptions"  # sent under any apiVersion


def decode(body: bytes) -> dict[str, Any]:
    """Return the object of a body.

    Raises:
        StatusError: 400, the bytes are not such a body; 415, its kind is not among those that are known in this form.

    """
    if not body.startswith(MAGIC):
        raise bad_request("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    try:
        return _decode(memoryview(body)[len(MAGIC) :])
    except InvalidInput as error:
        raise bad_request(f"unable to decode the protobuf body: {error}") from error


def _text(value: object) -> str:
    if not isinstance(value, memoryview):
        raise InvalidInput("protobuf", "a text", value)
    try:
        return bytes(value).decode()
    except UnicodeDecodeError as error:
        raise InvalidInput("protobuf", "a text in UTF-8", "other bytes") from error


def _decode(data: memoryview) -> dict[str, Any]:
    envelope = dict(fields(data))
    head = envelope.get(1, memoryview(b""))
    if not isinstance(head, memoryview):
        raise InvalidInput("protobuf", "apiVersion and kind", head)
    names = dict(fields(head))
    api_version, kind = _text(names.get(1, memoryview(b""))), _text(names.get(2, memoryview(b"")))
    if envelope.get(3):
        raise InvalidInput("protobuf", "no content encoding", _text(envelope[3]))
    raw = envelope.get(2, memoryview(b""))
    if not isinstance(raw, memoryview):
        raise InvalidInput("protobuf", "a message", raw)
    shape = message("meta/v1" if kind == OPTIONS else package_of(api_version), kind)
    if shape is None or not kind:
        raise _unknown()
    return {"kind": kind, "apiVersion": api_version, **decode_message(raw, shape)}


def _unknown() -> StatusError:
    return unsupported_media_type(("application/json", "application/yaml"))
