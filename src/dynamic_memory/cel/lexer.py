# SPDX-License-Identifier: Apache-2.0
"""Source text to tokens, with one regular expression that cannot backtrack far.

Source: the lexical part of the CEL specification (langdef.md, "Syntax").
"""

from __future__ import annotations

import re
import sys
from typing import Any, NamedTuple

from dynamic_memory.cel.errors import CompileError
from dynamic_memory.cel.values import INT_MAX, UINT_MAX, Uint

__all__ = ["MAX_SOURCE", "Tokens", "place", "tokenize"]

MAX_SOURCE = 10 * 1024
"""Longest source in bytes of UTF-8 (resource.k8s.io: CELSelectorExpressionMaxLength)."""

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f]+|//[^\n]*)
    |(?P<double>(?:\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?))
    |(?P<int>(?:0x[0-9a-fA-F]+|\d+)[uU]?)
    |(?P<string>(?:[rR][bB]?|[bB][rR]?)?(?:\"{3}|'{3}|["']))
    |(?P<ident>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<op>==|!=|<=|>=|&&|\|\||[-+*/%<>!?:.,()\[\]{}])
    |(?P<quoted>`[A-Za-z0-9_.\-/ ]+`)""",
    re.VERBOSE | re.ASCII,
)
_SIMPLE_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "?": "?", '"': '"', "'": "'", "`": "`",
}  # fmt: skip
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\?\"'`])|[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.?))", re.DOTALL
)
_SURROGATES = range(0xD800, 0xE000)
_LONG = 3
"""Characters of the quotes around a string that may span lines."""


def _ending(quote: str) -> str:
    if len(quote) == _LONG:
        return rf"(?:[^\\{quote[0]}]|\\.|{quote[0]}(?!{quote[0] * 2}))*?{quote}"
    return rf"(?:[^\\{quote}\r\n]|\\[^\r\n])*+{quote}"


def _raw_ending(quote: str) -> str:
    return rf".*?{quote}" if len(quote) == _LONG else rf"[^{quote}\r\n]*{quote}"


_QUOTES = ('"', "'", '"""', "'''")
_ENDS = {quote: re.compile(_ending(quote), re.DOTALL) for quote in _QUOTES}
_RAW_ENDS = {quote: re.compile(_raw_ending(quote), re.DOTALL) for quote in _QUOTES}


class Tokens(NamedTuple):
    """Parallel lists: `kinds` are `literal`, `ident`, `quoted`, `end` or the operator itself."""

    kinds: list[str]
    values: list[Any]
    positions: list[int]


def place(source: str, pos: int) -> tuple[int, int]:
    """Return line and column, both from 1."""
    return source.count("\n", 0, pos) + 1, pos - (source.rfind("\n", 0, pos) + 1) + 1


def tokenize(source: str) -> Tokens:
    """Split a source into tokens.

    Raises:
        CompileError: it is too long, or has a character or literal that CEL does not know.

    """
    if len(source) > MAX_SOURCE or len(source.encode("utf-8", "surrogatepass")) > MAX_SOURCE:
        raise CompileError("expression too long", f"at most {MAX_SOURCE} bytes")
    kinds: list[str] = []
    values: list[Any] = []
    positions: list[int] = []
    pos, match = 0, _TOKEN.match
    while pos < len(source):
        found = match(source, pos)
        if found is None:
            raise _error(source, pos, f"token recognition error at: {source[pos]!r}", "a CEL token")
        kind, text, start = found.lastgroup, found.group(), pos
        pos = found.end()
        if kind == "space":
            continue
        positions.append(start)
        if kind == "ident":
            kinds.append("ident")
            values.append(text)
        elif kind == "op":
            kinds.append(text)
            values.append(None)
        elif kind == "quoted":
            kinds.append("quoted")
            values.append(text[1:-1])
        else:
            kinds.append("literal")
            if kind == "int":
                values.append(_integer(source, start, text))
            elif kind == "double":
                values.append(float(text))
            else:
                value, pos = _string(source, start, text, pos)
                values.append(value)
    kinds.append("end")
    values.append(None)
    positions.append(len(source))
    return Tokens(kinds, values, positions)


def _integer(source: str, start: int, text: str) -> int:
    digits = text.rstrip("uU")
    number = int(digits, 16) if digits.startswith("0x") else int(digits)
    if len(digits) != len(text):
        if number > UINT_MAX:
            raise _error(source, start, "invalid uint literal", "at most 2^64 - 1")
        return Uint(number)
    if number > INT_MAX + 1:  # the minus sign of the smallest integer is a token of its own
        raise _error(source, start, "invalid int literal", "at most 2^63 - 1")
    return number


def _string(source: str, start: int, opening: str, pos: int) -> tuple[str | bytes, int]:
    prefix = opening.rstrip("\"'").lower()
    quote = opening[len(prefix) :]
    found = (_RAW_ENDS if "r" in prefix else _ENDS)[quote].match(source, pos)
    if found is None:
        raise _error(source, start, "unterminated string", f"a closing {quote}")
    body = found.group()[: -len(quote)]
    is_bytes = "b" in prefix
    if "r" in prefix or "\\" not in body:
        return (body.encode() if is_bytes else body), found.end()
    return _unescape(source, pos, body, is_bytes=is_bytes), found.end()


def _unescape(source: str, pos: int, body: str, *, is_bytes: bool) -> str | bytes:
    parts: list[bytes] = []
    at = 0
    for escape in _ESCAPE.finditer(body):
        parts.append(body[at : escape.start()].encode())
        at = escape.end()
        simple, hexadecimal, short, long, octal, _ = escape.groups()
        if simple:
            parts.append(_SIMPLE_ESCAPES[simple].encode())
            continue
        number = int(octal, 8) if octal else int(hexadecimal or short or long or "-1", 16)
        unicode_in_bytes = is_bytes and (short or long)
        if number < 0 or unicode_in_bytes or number > sys.maxunicode or number in _SURROGATES:
            raise _error(source, pos + escape.start(), "unable to unescape string", "an escape sequence of CEL")
        parts.append(bytes([number]) if is_bytes else chr(number).encode())
    parts.append(body[at:].encode())
    joined = b"".join(parts)
    return joined if is_bytes else joined.decode()


def _error(source: str, pos: int, message: str, expected: str) -> CompileError:
    return CompileError(f"Syntax error: {message}", expected, *place(source, pos))
