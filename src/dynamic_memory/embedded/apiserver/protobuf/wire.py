# SPDX-License-Identifier: Apache-2.0
"""The wire format of protobuf: a message is a row of numbered values. Read once, forwards, without trusting a length.

Source: the encoding chapter of the protobuf documentation.
"""

from __future__ import annotations

from collections.abc import Iterator

from dynamic_memory.errors import InvalidInput

__all__ = ["Value", "fields", "signed", "varint"]

Value = int | bytes | memoryview

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
LONGEST_VARINT = 10  # bytes of 64 bits
WIDTH = 64


def _broken(expected: str, got: object) -> InvalidInput:
    return InvalidInput("protobuf", expected, got)


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the number that starts at a place, and the place after it.

    Raises:
        InvalidInput: it does not end, or has more than 64 bits.

    """
    value = 0
    for index, byte in enumerate(data[at : at + LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004 - the bit that says "more follows"
            if value >> WIDTH:
                raise _broken("a number of 64 bits", "more bits")
            return value, at + index + 1
    raise _broken("a number that ends", f"{min(len(data) - at, LONGEST_VARINT)} bytes without an end")


def signed(value: int) -> int:
    """Return a number of 64 bits as two's complement."""
    return value - (1 << WIDTH) if value >> (WIDTH - 1) else value


def fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Yield number and value of each field: an integer, or the bytes of a string, of a message or of packed numbers.

    Raises:
        InvalidInput: the bytes are no message.

    """
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        number, kind = key >> 3, key & 7
        if not number:
            raise _broken("a field number", 0)
        if kind == VARINT:
            value, at = varint(data, at)
            yield number, value
            continue
        if kind == BYTES:
            length, at = varint(data, at)
        elif kind == FIXED64:
            length = 8
        elif kind == FIXED32:
            length = 4
        else:
            raise _broken("a wire type of 0, 1, 2 or 5", kind)
        if length > len(data) - at:
            raise _broken(f"{length} bytes", f"{len(data) - at}")
        piece = data[at : at + length]
        at += length
        yield number, piece if kind == BYTES else int.from_bytes(piece, "little")
