# SPDX-License-Identifier: Apache-2.0
"""Expressions and names of the prototype, as `resource.k8s.io/v1` wants them.

An expression is changed as text, so that people find their own words again: only where it reads an attribute, and where
it compares one that is an amount. The syntax tree says whether all such places were found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from dynamic_memory.cel import ast
from dynamic_memory.cel.parser import parse

__all__ = ["attributes_of", "identifier", "label", "quoted", "rewritten", "subdomain"]

_IDENTIFIER = re.compile(r"[^A-Za-z0-9_]")
_LABEL = re.compile(r"[^a-z0-9-]")


def attributes_of(expression: str) -> set[str] | None:
    """Return the attributes that an expression reads; None if it computes their names.

    Raises:
        CompileError: it is no expression.

    """
    names = {name for _, _, name in _reads(expression)}
    return None if None in names else {name for name in names if name is not None}


def rewritten(expression: str, driver: str, amounts: AbstractSet[str]) -> str:
    """Return an expression with `device.x` replaced by where attribute x of the driver is now.

    Args:
        expression: one whose attributes are known (`attributes_of`).
        driver: whose domain the attributes are in.
        amounts: attributes that are quantities; they became capacities.

    """
    text, compares = expression, False
    for start, end, name in sorted(_reads(expression), reverse=True, key=lambda place: place[0]):
        kind = "capacity" if name in amounts else "attributes"
        compares = compares or name in amounts
        text = f"{text[:start]}device.{kind}[{quoted(driver)}].{identifier(str(name))}{text[end:]}"
    if compares:
        text = _AMOUNT_TEXT.sub(lambda match: f"{match[1]}quantity({match[2]})", text)
        text = _AMOUNT_ORDER.sub(_compared, text)
    return text


def quoted(text: str) -> str:
    """Return a text as a literal of CEL; names need no escapes."""
    return f'"{text}"'


_STRING = r"""(?:'[^'\\]*'|"[^"\\]*")"""
_AMOUNT = r'device\.capacity\["[^"]+"\]\.\w+'
_AMOUNT_TEXT = re.compile(rf"({_AMOUNT}\s*(?:==|!=|<=|>=|<|>)\s*)({_STRING})")
_AMOUNT_ORDER = re.compile(rf"({_AMOUNT})\s*(<=|>=|<|>)\s*(quantity\({_STRING}\))")


def _compared(match: re.Match[str]) -> str:
    return f"{match[1]}.compareTo({match[3]}) {match[2]} 0"


def _reads(source: str) -> Iterator[tuple[int, int, str | None]]:
    """Yield where an expression reads an attribute: begin, end and its name; None if the name is computed."""
    direct = {match.start(): match for match in _ACCESS.finditer(source) if not _in_string(source, match.start())}
    waiting: list[object] = [parse(source)]
    names = 0
    while waiting:
        node = waiting.pop()
        if isinstance(node, list | tuple):
            waiting.extend(node)
        elif isinstance(node, ast.Node):
            names += isinstance(node, ast.Ident) and node.name == "device"
            for kind in type(node).__mro__:
                waiting.extend(getattr(node, slot, None) for slot in getattr(kind, "__slots__", ()) if slot != "type")
    for match in direct.values():
        yield match.start(), match.end(), match["field"] or match["key"]
    if names != len(direct):
        yield 0, 0, None


_ACCESS = re.compile(r"""(?<![\w.])device(?:\.(?P<field>[A-Za-z_]\w*)(?!\s*\()|\[\s*['"](?P<key>[^'"\\]+)['"]\s*\])""")


def _in_string(source: str, position: int) -> bool:
    return any(match.start() < position < match.end() for match in re.finditer(_STRING, source))


# --- names


def subdomain(name: str) -> str:
    """Return a name as a DNS subdomain, as drivers and objects have to be called: lower case, no slash."""
    return re.sub(r"[^a-z0-9.-]", "-", name.lower()).strip("-.")


def identifier(name: str) -> str:
    """Return a name as a C identifier, as attributes have to be called."""
    found = _IDENTIFIER.sub("_", name.rpartition("/")[2])
    return f"_{found}" if found[:1].isdigit() else found


def label(name: str) -> str:
    """Return a name as a DNS label, as devices and requests have to be called."""
    return _LABEL.sub("-", name.lower()).strip("-")[:63]
