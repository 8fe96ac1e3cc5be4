# SPDX-License-Identifier: Apache-2.0
"""Approves or denies the certificate requests of our signer, and signs what is approved: the edge of `approver`.

Both steps are level-triggered: a request without a decision gets one, an approved request without a certificate gets
that. Also a request that a person approved by hand is signed only if the rules allow it.
"""

from __future__ import annotations

import base64
import binascii
import logging
from typing import Any

from prometheus_client import Counter

from dynamic_memory.api import kinds, names
from dynamic_memory.api.certificates import CertificateSigningRequest
from dynamic_memory.controller.approver import Denial, Grant, Rules, decide
from dynamic_memory.controller.authority import Authority, inspect
from dynamic_memory.controller.faultpoints import ROLE
from dynamic_memory.kube.errors import NotFound
from dynamic_memory.kube.interface import Kube
from dynamic_memory.process import clock, faults
from dynamic_memory.process.child import ChildFailed

__all__ = ["Signer"]

log = logging.getLogger(__name__)

DECISIONS = Counter("dynamic_memory_certificate_requests", "Certificate requests, by what became of them.", ["result"])
MAX_REQUEST = 16 * 1024
MIN_LIFETIME = 600.0
_FINAL = frozenset({"Denied", "Failed"})


class Signer:
    """Handles certificate requests, each as a whole.

    Args:
        kube: API client.
        authority: who signs.
        rules: whom to sign for.
        lifetime: of a certificate at most, seconds.

    """

    def __init__(self, kube: Kube, authority: Authority, rules: Rules, *, lifetime: float) -> None:
        self._kube = kube
        self._authority = authority
        self._rules = rules
        self._lifetime = lifetime

    async def handle(self, name: str) -> None:
        """Take a request one or two steps further.

        Raises:
            DynamicMemoryError: something did not answer; try again.

        """
        try:
            csr = await self._kube.get(kinds.CSRS, name)
        except NotFound:
            return
        types = {condition.type for condition in csr.status.conditions}
        if csr.spec.signer_name != names.SIGNER or csr.status.certificate or types & _FINAL:
            return
        pem, verdict = await self._decide(csr)
        if isinstance(verdict, Denial):
            # An approval cannot be taken back; then the request fails.
            await self._refuse(csr, verdict, "Failed" if "Approved" in types else "Denied")
            return
        if "Approved" not in types:
            await self._approve(csr, verdict)
        await self._sign(csr, pem, verdict)

    async def _decide(self, csr: CertificateSigningRequest) -> tuple[str, Grant | Denial]:
        try:
            data = base64.b64decode(csr.spec.request, validate=True)
            if len(data) > MAX_REQUEST:
                return "", Denial(reason="BadRequest", why=f"The request is longer than {MAX_REQUEST} bytes.")
            pem = data.decode("ascii")
            requested = await inspect(pem)
        except (binascii.Error, UnicodeDecodeError, ChildFailed):
            return "", Denial(reason="BadRequest", why="The request is not a PKCS#10 request in PEM.")
        return pem, decide(csr.spec, requested, self._rules)

    async def _approve(self, csr: CertificateSigningRequest, grant: Grant) -> None:
        condition = _condition("Approved", "Approved", f"The requester is {grant.identity}.")
        await self._add_condition(csr, condition, "approval")
        faults.point(f"{ROLE}.csr-approved")
        DECISIONS.labels("approved").inc()

    async def _refuse(self, csr: CertificateSigningRequest, denial: Denial, type_: str) -> None:
        condition = _condition(type_, denial.reason, denial.why)
        await self._add_condition(csr, condition, "approval" if type_ == "Denied" else "status")
        DECISIONS.labels(type_.lower()).inc()
        log.warning(
            "certificate refused",
            extra={
                "csr": csr.metadata.name,
                "requester": csr.spec.username,
                "reason": denial.reason,
                "why": denial.why,
            },
        )

    async def _sign(self, csr: CertificateSigningRequest, pem: str, grant: Grant) -> None:
        asked = csr.spec.expiration_seconds
        lifetime = self._lifetime if asked is None else min(self._lifetime, max(float(asked), MIN_LIFETIME))
        certificate = await self._authority.sign(pem, grant, lifetime=lifetime)
        body = {"status": {"certificate": base64.b64encode(certificate.encode()).decode()}}
        await self._patch(csr, body, "status")
        faults.point(f"{ROLE}.csr-signed")
        DECISIONS.labels("signed").inc()
        log.info("certificate signed", extra={"csr": csr.metadata.name, "identity": grant.identity})

    async def _add_condition(self, csr: CertificateSigningRequest, condition: dict[str, Any], subresource: str) -> None:
        kept = [
            {"type": c.type, "status": c.status, "reason": c.reason, "message": c.message}
            for c in csr.status.conditions
        ]
        await self._patch(csr, {"status": {"conditions": [*kept, condition]}}, subresource)

    async def _patch(self, csr: CertificateSigningRequest, body: dict[str, Any], subresource: str) -> None:
        await self._kube.patch(kinds.CSRS, csr.metadata.name, body, style="merge", subresource=subresource)


def _condition(type_: str, reason: str, message: str) -> dict[str, Any]:
    return {
        "type": type_,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastUpdateTime": clock.rfc3339(clock.now()),
    }
