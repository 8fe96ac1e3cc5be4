# SPDX-License-Identifier: Apache-2.0
"""How an expression can be wrong: before it runs, while it runs, or by taking too long.

Functions of the libraries know no positions, so they raise `Fault`; the interpreter makes an `EvaluationError` of it,
which knows line and column.
"""

from __future__ import annotations

from dynamic_memory.errors import InvalidInput, NeverError

__all__ = ["CompileError", "CostExceeded", "EvaluationError", "Fault"]


class CompileError(InvalidInput):
    """An expression that is not CEL, or does not fit its environment.

    Args:
        message: what is wrong, in the words of cel-go where it has them.
        expected: what was expected there, as half a sentence.
        line: from 1.
        column: from 1, in characters.

    """

    def __init__(self, message: str, expected: str, line: int = 1, column: int = 1) -> None:
        self.message = message
        self.line = line
        self.column = column
        super().__init__(f"{line}:{column}", expected)

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: {self.message}: expected {self.expected}"

    def report(self, source: str) -> str:
        """Return the error as cel-go shows it, with the line of the source and a mark under the place."""
        lines = source.split("\n")
        shown = lines[self.line - 1] if self.line <= len(lines) else ""
        mark = "." * (self.column - 1) + "^"
        return f"ERROR: <input>:{self.line}:{self.column}: {self.message}\n | {shown}\n | {mark}"


class EvaluationError(NeverError):
    """An expression failed on these values."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message, line, column)
        self.message = message
        self.line = line
        self.column = column

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: {self.message}"


class CostExceeded(EvaluationError):
    """The evaluation cost more than its limit; neither `&&` nor `||` absorbs this."""


class Fault(Exception):
    """What a library function raises: a message without a place."""
