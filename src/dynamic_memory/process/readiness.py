# SPDX-License-Identifier: Apache-2.0
"""Whether a role can do its work right now, as named checks that its parts report; each change is logged."""

from __future__ import annotations

import logging

__all__ = ["Readiness"]

log = logging.getLogger(__name__)


class Readiness:
    """Ready when at least one check was reported and all are good."""

    def __init__(self) -> None:
        self._checks: dict[str, tuple[bool, str]] = {}

    def set(self, name: str, ok: bool, why: str = "") -> None:
        """Report a check; `why` says what is missing while it is not good."""
        old = self._checks.get(name)
        self._checks[name] = (ok, why)
        if old is None or old[0] != ok:
            log.info("%s is %s", name, "ready" if ok else "not ready", extra={"why": why} if why else None)

    def __bool__(self) -> bool:
        return bool(self._checks) and all(ok for ok, _ in self._checks.values())

    def report(self) -> str:
        """Return one line a check, as /readyz shows it."""
        return "".join(
            f"[{'+' if ok else '-'}]{name}{'' if ok or not why else f': {why}'}\n"
            for name, (ok, why) in sorted(self._checks.items())
        )
