# SPDX-License-Identifier: Apache-2.0
"""The wire format of protocol buffers by field number: for peers of which no definitions are in the tree.

`field(3, "x")` is bytes; `fields(data)` is a dict of the values of each number: integers, or bytes.
"""

from __future__ import annotations

from typing import Any


def varint(number: int) -> bytes:
    made = bytearray()
    number &= (1 << 64) - 1
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])


def field(number: int, value: Any) -> bytes:
    """One field; a list is a repeated one, a dict a map of strings, None nothing."""
    match value:
        case None:
            return b""
        case bool() | int():
            return varint(number << 3) + varint(int(value))
        case list():
            return b"".join(field(number, each) for each in value)
        case dict():
            return b"".join(field(number, field(1, key) + field(2, each)) for key, each in value.items())
        case str():
            return field(number, value.encode())
        case _:
            return varint(number << 3 | 2) + varint(len(value)) + bytes(value)


def fields(data: bytes) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    position = 0

    def take() -> int:
        nonlocal position
        result = shift = 0
        while True:
            byte = data[position]
            position += 1
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return result

    while position < len(data):
        tag = take()
        if tag & 7 == 0:
            value: Any = take()
        else:
            size = {1: 8, 5: 4}.get(tag & 7) or take()
            value = data[position : position + size]
            position += size
        found.setdefault(tag >> 3, []).append(value)
    return found


def text(data: bytes, *path: int) -> str:
    """The text at a path of field numbers."""
    for number in path:
        data = fields(data).get(number, [b""])[-1]
    return data.decode()
