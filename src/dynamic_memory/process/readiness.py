# SPDX-License-Identifier: Apache-2.0
"""Whether a role can do its work right now, as named checks that its parts report."""

from __future__ import annotations

__all__ = ["Readiness"]


class Readiness:
    """Ready when at least one check was reported and all are good."""

    def __init__(self) -> None:
        self._checks: dict[str, tuple[bool, str]] = {}

    def set(self, name: str, ok: bool, why: str = "") -> None:
        """Report a check; `why` says what is missing while it is not good."""
        self._checks[name] = (ok, why)

    def __bool__(self) -> bool:
        return bool(self._checks) and all(ok for ok, _ in self._checks.values())

    def report(self) -> str:
        """Return one line a check, as /readyz shows it."""
        return "".join(
            f"[{'+' if ok else '-'}]{name}{'' if ok or not why else f': {why}'}\n"
            for name, (ok, why) in sorted(self._checks.items())
        )
