# SPDX-License-Identifier: Apache-2.0
"""Whether a role can do its work right now, as named checks that its parts report; each change is logged."""

from __future__ import annotations

import logging

__all__ = ["Readiness"]

log = logging.getLogger(__name__)


class Readiness:
    """Ready when at least one check was reported and all are good, or good enough (degraded)."""

    def __init__(self) -> None:
        self._checks: dict[str, tuple[bool, str]] = {}
        self._degraded: dict[str, str] = {}

    def set(self, name: str, ok: bool, why: str = "", *, degraded: str = "") -> None:
        """Report a check; `why` says what is missing while it is not good, `degraded` while it is good enough."""
        old, before = self._checks.get(name), self._degraded.get(name, "")
        self._checks[name], self._degraded[name] = (ok, why), degraded
        if degraded and degraded != before:
            log.warning("%s is degraded", name, extra={"why": degraded})
        elif old is None or old[0] != ok or (before and not degraded):
            log.info("%s is %s", name, "ready" if ok else "not ready", extra={"why": why} if why else None)

    def __bool__(self) -> bool:
        return bool(self._checks) and all(ok for ok, _ in self._checks.values())

    def report(self) -> str:
        """Return one line a check, as /readyz shows it."""
        lines = []
        for name, (ok, why) in sorted(self._checks.items()):
            note = self._degraded[name]
            told = f" (degraded): {note}" if ok and note else f": {why}" if why and not ok else ""
            lines.append(f"[{'+' if ok else '-'}]{name}{told}\n")
        return "".join(lines)
