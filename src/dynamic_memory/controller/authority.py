# SPDX-License-Identifier: Apache-2.0
"""The authority of this cluster's certificates: where its key is kept, and the child process that uses it.

Secret `dynamic-memory-ca` holds certificate and key; ConfigMap `dynamic-memory-ca` holds the certificate alone, for
everybody. The Secret is only ever created, never updated: of two controllers that both find none, the API server lets
one win, and the other reads what the winner wrote.
"""

from __future__ import annotations

import base64
import binascii
import logging

import msgspec

from dynamic_memory.api import kinds, names
from dynamic_memory.api.core import Secret
from dynamic_memory.controller.approver import Grant, Requested
from dynamic_memory.controller.authority_messages import Create, Created, Inspect, Sign, Signed
from dynamic_memory.controller.faultpoints import ROLE
from dynamic_memory.errors import NeverError
from dynamic_memory.kube.certificates import CA_NAME
from dynamic_memory.kube.errors import AlreadyExists, NotFound
from dynamic_memory.kube.interface import Kube
from dynamic_memory.process import faults
from dynamic_memory.process.child import run_module

__all__ = ["Authority", "BadAuthority", "ensure", "inspect"]

_MODULE = "dynamic_memory.controller.ca"
_CERTIFICATE, _KEY = "tls.crt", "tls.key"

log = logging.getLogger(__name__)


class BadAuthority(NeverError):
    """The Secret of the authority is not what it should be; people have to look."""

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        self.why = why
        super().__init__(name, why)

    def __str__(self) -> str:
        return f"secret {self.name}: {self.why}"


class Authority:
    """An authority that can sign."""

    def __init__(self, certificate: str, key: str) -> None:
        self.certificate = certificate
        self._key = key

    async def sign(self, csr: str, grant: Grant, *, lifetime: float) -> str:
        """Return a certificate (PEM) for what was granted.

        Raises:
            ChildFailed: the authority, or the request, is not usable.
            ChildTimeout: it took too long.

        """
        request = Sign(
            csr=csr,
            ca_certificate=self.certificate,
            ca_key=self._key,
            identity=grant.identity,
            dns=grant.dns,
            server=grant.server,
            lifetime=float(lifetime),  # settings have a type of their own, which has no form on the wire
        )
        return msgspec.json.decode(await run_module(_MODULE, msgspec.json.encode(request)), type=Signed).certificate


async def inspect(csr: str) -> Requested:
    """Read a PKCS#10 request (PEM).

    Raises:
        ChildFailed: it is not one.
        ChildTimeout: it took too long.

    """
    out = await run_module(_MODULE, msgspec.json.encode(Inspect(csr=csr)))
    return msgspec.json.decode(out, type=Requested)


async def ensure(kube: Kube, *, namespace: str, owner: str) -> Authority:
    """Return the authority of this cluster; made if there is none. Its certificate is published in the ConfigMap.

    Raises:
        BadAuthority: the Secret exists and is not usable.
        ApiError: the API server refuses or does not answer.

    """
    try:
        secret = await kube.get(kinds.SECRETS, CA_NAME, namespace)
    except NotFound:
        secret = await _create(kube, namespace, owner)
    authority = Authority(_field(secret, _CERTIFICATE), _field(secret, _KEY))
    await _publish(kube, namespace, authority.certificate)
    return authority


async def _create(kube: Kube, namespace: str, owner: str) -> Secret:
    request = Create(name=f"dynamic-memory {owner}")
    made = msgspec.json.decode(await run_module(_MODULE, msgspec.json.encode(request)), type=Created)
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": CA_NAME, "namespace": namespace},
        "type": "kubernetes.io/tls",
        "data": {_CERTIFICATE: _encoded(made.certificate), _KEY: _encoded(made.key)},
    }
    try:
        secret = await kube.create(kinds.SECRETS, body, namespace=namespace)
    except AlreadyExists:
        return await kube.get(kinds.SECRETS, CA_NAME, namespace)
    faults.point(f"{ROLE}.ca-created")
    log.info("certificate authority created", extra={"secret": f"{namespace}/{CA_NAME}"})
    return secret


async def _publish(kube: Kube, namespace: str, certificate: str) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CA_NAME, "namespace": namespace},
        "data": {"ca.crt": certificate},
    }
    await kube.apply(kinds.CONFIG_MAPS, body, manager=names.MANAGER_CONTROLLER)


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _field(secret: Secret, key: str) -> str:
    value = secret.data.get(key)
    if not value:
        raise BadAuthority(secret.metadata.name, f"has no {key}")
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise BadAuthority(secret.metadata.name, f"{key} is not PEM") from None
