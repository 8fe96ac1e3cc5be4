# SPDX-License-Identifier: Apache-2.0
"""The strings extension of cel-go (version 2) and Kubernetes' regex library.

Source: github.com/google/cel-go/ext/strings, k8s.io/apiserver/pkg/cel/library/regex.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dynamic_memory.cel.errors import Fault
from dynamic_memory.cel.functions.signature import declare
from dynamic_memory.cel.functions.standard import to_text
from dynamic_memory.cel.regex import compile_regex
from dynamic_memory.cel.values import BoolKey, kind_of

__all__ = ["OVERLOADS", "format_text"]

_SPACES = " \t\n\v\f\r\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_LOWER = {code: code + 32 for code in range(65, 91)}
_UPPER = {code: code - 32 for code in range(97, 123)}
_QUOTES = str.maketrans(
    {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", "\\": r"\\", '"': r"\""}
)
_MAX_RESULT = 1 << 24


def _char_at(text: str, at: int) -> str:
    if not 0 <= at <= len(text):
        raise Fault(f"index out of range: {at}")
    return text[at : at + 1]


def _index_of(text: str, part: str, start: int = 0) -> int:
    if not part:
        return start
    if not 0 <= start < len(text):
        if start == 0:
            return -1
        raise Fault(f"index out of range: {start}")
    return text.find(part, start)


def _last_index_of(text: str, part: str, start: int | None = None) -> int:
    if start is None:
        return text.rfind(part)
    if not part:
        return start
    if not 0 <= start < len(text):
        raise Fault(f"index out of range: {start}")
    return text.rfind(part, 0, start + len(part))


def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    count = text.count(old) if limit < 0 else min(limit, text.count(old))
    if len(text) + count * len(new) > _MAX_RESULT:
        raise Fault("operation cancelled: result too large")
    return text.replace(old, new, count)


def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if limit == 1:
        return [text]
    if not separator:
        parts = list(text)
        return parts if limit < 0 or len(parts) <= limit else [*parts[: limit - 1], text[limit - 1 :]]
    return text.split(separator, limit - 1 if limit > 0 else -1)


def _substring(text: str, start: int, end: int | None = None) -> str:
    end = len(text) if end is None else end
    if not (0 <= start <= len(text) and 0 <= end <= len(text)):
        raise Fault(f"index out of range: {end if 0 <= start <= len(text) else start}")
    if start > end:
        raise Fault(f"invalid substring range. start: {start}, end: {end}")
    return text[start:end]


def _join(parts: Any, separator: str = "") -> str:
    if not all(type(part) is str for part in parts):
        raise Fault("no such overload")
    return separator.join(parts)


_VERB = re.compile(r"%(?:%|(?:\.(\d{1,3}))?(.?))", re.DOTALL)


def format_text(template: str, arguments: Any) -> str:
    """Fill a template of `string.format`.

    Raises:
        Fault: a verb does not suit its argument, or there are too few.

    """
    rest = iter(arguments)

    def one(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        try:
            value = next(rest)
        except StopIteration:
            raise Fault("index out of range in format string") from None
        return _formatted(match[2], int(match[1]) if match[1] else 6, value)

    return _VERB.sub(one, template)


def _formatted(verb: str, precision: int, value: Any) -> str:
    kind = kind_of(value)
    if verb == "s":
        return _shown(value)
    if verb == "d" and kind in ("int", "uint"):
        return str(int(value))
    if verb in ("f", "e") and verb and kind in ("double", "int", "uint"):
        return f"{float(value):.{precision}{verb}}"
    if verb == "b" and kind in ("int", "uint", "bool"):
        return f"{int(value):b}"
    if verb == "o" and kind in ("int", "uint"):
        return f"{int(value):o}"
    if verb in ("x", "X") and verb and kind in ("int", "uint", "string", "bytes"):
        shown = f"{int(value):x}" if kind in ("int", "uint") else (value.encode() if kind == "string" else value).hex()
        return shown if verb == "x" else shown.upper()
    raise Fault(f"error during formatting: {verb!r} cannot be applied to a value of type {kind}")


def _shown(value: Any, *, quoted: bool = False) -> str:
    kind = kind_of(value)
    if quoted and kind == "string":
        return f'"{value}"'
    if kind == "list":
        return f"[{', '.join(_shown(element, quoted=True) for element in value)}]"
    if kind == "map" and isinstance(value, Mapping):
        entries = sorted(
            (_shown(key.value if type(key) is BoolKey else key, quoted=True), _shown(item, quoted=True))
            for key, item in value.items()
        )
        return f"{{{', '.join(f'{key}:{item}' for key, item in entries)}}}"
    if kind == "null":
        return "null"
    return repr(value) if kind == "type" else to_text(value)


def _find(text: str, pattern: str) -> str:
    span = compile_regex(pattern).find(text)
    return text[span[0] : span[1]] if span else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    regex, at, last_end = compile_regex(pattern), 0, -1
    found: list[str] = []
    while at <= len(text) and (limit < 0 or len(found) < limit):
        span = regex.find(text, at)
        if span is None:
            break
        start, end = span
        if end > start or start != last_end:
            found.append(text[start:end])
            last_end = end
        at = end if end > start else end + 1
    return found


OVERLOADS = declare(
    [
        ("string_char_at_int", "string.charAt(int) -> string", _char_at),
        ("string_index_of_string", "string.indexOf(string) -> int", _index_of),
        ("string_index_of_string_int", "string.indexOf(string, int) -> int", _index_of),
        ("string_last_index_of_string", "string.lastIndexOf(string) -> int", _last_index_of),
        ("string_last_index_of_string_int", "string.lastIndexOf(string, int) -> int", _last_index_of),
        ("list_join", "list(string).join() -> string", _join),
        ("list_join_string", "list(string).join(string) -> string", _join),
        ("string_lower_ascii", "string.lowerAscii() -> string", lambda s: s.translate(_LOWER)),
        ("string_upper_ascii", "string.upperAscii() -> string", lambda s: s.translate(_UPPER)),
        ("string_replace_string_string", "string.replace(string, string) -> string", _replace),
        ("string_replace_string_string_int", "string.replace(string, string, int) -> string", _replace),
        ("string_split_string", "string.split(string) -> list(string)", _split),
        ("string_split_string_int", "string.split(string, int) -> list(string)", _split),
        ("string_substring_int", "string.substring(int) -> string", _substring),
        ("string_substring_int_int", "string.substring(int, int) -> string", _substring),
        ("string_trim", "string.trim() -> string", lambda s: s.strip(_SPACES)),
        ("string_format", "string.format(list(dyn)) -> string", format_text),
        ("strings_quote", "strings.quote(string) -> string", lambda s: f'"{s.translate(_QUOTES)}"'),
        ("string_find_string", "string.find(string) -> string", _find),
        ("string_find_all_string", "string.findAll(string) -> list(string)", _find_all),
        ("string_find_all_string_int", "string.findAll(string, int) -> list(string)", _find_all),
    ],
    static=["strings"],
)
