# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the input, and where: file, document, path."""

from __future__ import annotations

from dynamic_memory.errors import InvalidInput, NeverError

__all__ = ["DocumentError", "ExpressionError", "SearchTooLong", "UnknownName"]


class DocumentError(InvalidInput):
    """A document that cannot be used.

    Args:
        source: the file as the user named it, or another word for where the text came from.
        number: which document of it, from 1.
        path: where in the document; empty for the whole.
        expected: what was expected there, as half a sentence.
        got: what stood there; None if nothing did.

    """

    def __init__(self, source: str, number: int, path: str, expected: str, got: object = None) -> None:
        super().__init__(path, expected, got)
        self.source = source
        self.number = number

    def __str__(self) -> str:
        place = f"{self.source}: document {self.number}"
        return f"{place}: {super().__str__()}" if self.path else f"{place}{super().__str__()}"


class UnknownName(InvalidInput):
    """Something is called by a name that nothing has."""

    def __init__(self, path: str, what: str, name: str) -> None:
        super().__init__(path, f"the name of {what} that exists", name)
        self.what = what
        self.name = name


class ExpressionError(NeverError):
    """An expression that cannot be compiled, or costs too much to run.

    Args:
        where: whose expression, as people write it (`class x: spec.definition.constraints`).
        problem: what the compiler says.

    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(where, problem)
        self.where = where
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}"


class SearchTooLong(NeverError):
    """The search for devices was given up; an answer may or may not exist.

    Args:
        node: where it was searched.
        limit: how many steps were allowed.

    """

    def __init__(self, node: str, limit: int) -> None:
        super().__init__(node, limit)
        self.node = node
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"node {self.node}: no answer after {self.limit} steps; there are too many ways to combine the devices: "
            "ask for fewer devices, or make constraints or classes narrower"
        )
