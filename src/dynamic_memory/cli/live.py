# SPDX-License-Identifier: Apache-2.0
"""A picture of the demo on a terminal that follows what happens: tables above, the last lines below (rich)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Self

from rich.console import Group
from rich.live import Live as Screen
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

__all__ = ["Live"]


class Live:
    """Shows the story of the demo.

    Args:
        tables: columns of each table.
        lines: how many of the last lines are shown.

    """

    def __init__(self, tables: Mapping[str, Sequence[str]], lines: int) -> None:
        self._tables = tables
        self._lines: deque[Text] = deque(maxlen=lines)
        self._picture: Any = None
        self._screen = Screen(refresh_per_second=10, transient=False)

    def __enter__(self) -> Self:
        self._screen.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._screen.update(self._render(), refresh=True)
        self._screen.stop()

    def chapter(self, title: str) -> None:
        """Begin another part."""
        self._add(Text(title, style="bold"))

    def say(self, text: str) -> None:
        """Tell something."""
        self._add(Text(text))

    def happened(self, seconds: float, text: str) -> None:
        """Tell what just happened."""
        self._add(Text(f"{seconds:8.3f} s  {text}"))

    def show(self, picture: Any, *, whole: bool) -> None:
        """Show the cluster."""
        del whole
        self._picture = picture
        self._screen.update(self._render())

    def _add(self, line: Text) -> None:
        self._lines.append(line)
        self._screen.update(self._render())

    def _render(self) -> Group:
        parts: list[Any] = []
        for name, header in self._tables.items():
            rows = getattr(self._picture, name, None)
            if rows:
                shown = Table(*header, expand=False)
                for row in rows:
                    shown.add_row(*row)
                parts.append(shown)
        parts.append(Panel(Group(*self._lines), title="what happens"))
        return Group(*parts)
