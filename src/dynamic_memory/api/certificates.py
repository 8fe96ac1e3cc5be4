# SPDX-License-Identifier: Apache-2.0
"""Wire types of `certificates.k8s.io/v1`: the requests by which roles get their client certificates."""

from msgspec import field

from dynamic_memory.api.meta import Condition, ObjectMeta
from dynamic_memory.api.wire import Wire

__all__ = ["CertificateSigningRequest", "CertificateSigningRequestSpec", "CertificateSigningRequestStatus"]


class CertificateSigningRequestSpec(Wire, frozen=True, kw_only=True):
    """What is asked for and by whom; `request` is base64 of a PEM PKCS#10; `extra` is set by the API server."""

    request: str = ""
    signer_name: str = ""
    expiration_seconds: int | None = None
    usages: list[str] = []
    username: str = ""
    uid: str = ""
    groups: list[str] = []
    extra: dict[str, list[str]] = {}


class CertificateSigningRequestStatus(Wire, frozen=True, kw_only=True):
    """Approved, Denied or Failed, and the certificate chain (base64 of PEM) once it is signed."""

    conditions: list[Condition] = []
    certificate: str = ""


class CertificateSigningRequest(Wire, frozen=True, kw_only=True):
    """A request; cluster-scoped."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: CertificateSigningRequestSpec = field(default_factory=CertificateSigningRequestSpec)
    status: CertificateSigningRequestStatus = field(default_factory=CertificateSigningRequestStatus)
