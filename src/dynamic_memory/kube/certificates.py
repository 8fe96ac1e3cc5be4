# SPDX-License-Identifier: Apache-2.0
"""How a role gets its client certificate, and a new one in time.

The role makes a key, asks with a CertificateSigningRequest whose identity is a URI, waits until the controller has
approved and signed it, and puts `ca.crt`, `tls.crt` and `tls.key` in a folder. The private key never leaves that
folder. It is kept there before the request is made, and the request is named after it, so that a role that was killed
half-way goes on with the same request instead of leaving another one behind.

The three files are links into a folder that is swapped in one step: a reader sees the old set or the new one.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from dynamic_memory.api import kinds, names
from dynamic_memory.api.certificates import CertificateSigningRequest
from dynamic_memory.errors import DynamicMemoryError, Kind, NeverError, RetryError
from dynamic_memory.kube.errors import AlreadyExists, NotFound
from dynamic_memory.kube.interface import Kube
from dynamic_memory.kube.key_messages import Check, Checked, Made, Make, Request
from dynamic_memory.process import clock, durable
from dynamic_memory.process.backoff import Backoff
from dynamic_memory.process.child import ChildFailed, run_module

__all__ = [
    "CA_NAME",
    "CertificateDenied",
    "CertificateTimeout",
    "Files",
    "Wanted",
    "keep_fresh",
    "main_keep",
    "main_obtain",
    "obtain",
    "usages_for",
]

CA_NAME = "dynamic-memory-ca"
"""Name of the Secret of the authority, and of the ConfigMap with its certificate."""
CA_KEY = "ca.crt"
RENEW_AT = 2 / 3
"""Part of a certificate's life after which it is renewed."""
LIFETIME = 24 * 3600
_MODULE = "dynamic_memory.kube.keys"
_CURRENT = "current"
_PENDING = "pending.key"

T = TypeVar("T")

log = logging.getLogger(__name__)


class CertificateDenied(NeverError):
    """The request was denied, or signing failed for good.

    Args:
        name: of the CertificateSigningRequest.
        reason: one word.
        message: the sentence of whoever denied it.

    """

    def __init__(self, name: str, reason: str, message: str) -> None:
        self.name = name
        self.reason = reason
        self.message = message
        super().__init__(name, reason, message)

    def __str__(self) -> str:
        return f"certificate request {self.name} was denied ({self.reason}): {self.message}"


class CertificateTimeout(RetryError):
    """Nobody signed the request in time; the same request is taken up again."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self.seconds = seconds
        super().__init__(name, seconds)

    def __str__(self) -> str:
        return f"certificate request {self.name} was not signed within {self.seconds:g} s: is the controller running?"


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """Where the certificate is, and how long it lasts (seconds since 1970, UTC)."""

    ca: Path
    certificate: Path
    key: Path
    not_before: float
    not_after: float

    @property
    def renew_at(self) -> float:
        """When a new one should be asked for."""
        return self.not_before + (self.not_after - self.not_before) * RENEW_AT


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate to obtain.

    Attributes:
        identity: URI, `dynamic-memory://<owner>/node/<name>` or `…/role/<role>`.
        directory: folder for the three files; made if missing.
        namespace: where the ConfigMap of the authority is.
        dns: DNS names; the service's only.
        usages: of the certificate; empty for those that fit the identity.

    """

    identity: str
    directory: Path
    namespace: str
    dns: tuple[str, ...] = ()
    usages: tuple[str, ...] = ()

    @property
    def ca(self) -> Path:
        """Certificate of the authority."""
        return self.directory / "ca.crt"

    @property
    def certificate(self) -> Path:
        """The certificate."""
        return self.directory / "tls.crt"

    @property
    def key(self) -> Path:
        """Its key, readable by the owner alone."""
        return self.directory / "tls.key"


def usages_for(identity: str) -> tuple[str, ...]:
    """Return the key usages that a certificate of this identity needs."""
    server = ("server auth",) if identity.endswith("/role/service") else ()
    return ("digital signature", "client auth", *server)


async def obtain(
    kube: Kube,
    identity: str,
    *,
    directory: Path,
    namespace: str,
    dns: tuple[str, ...] = (),
    usages: tuple[str, ...] = (),
    timeout: float = 300.0,
    renew: bool = False,
) -> Files:
    """Return a certificate for this identity: the one in the folder while it is good, a new one otherwise.

    Args:
        kube: API client, with the right to create and get CertificateSigningRequests.
        identity: see `Wanted`.
        directory: see `Wanted`.
        namespace: see `Wanted`.
        dns: see `Wanted`.
        usages: see `Wanted`.
        timeout: seconds to wait for the signature.
        renew: get a new one in any case.

    Raises:
        CertificateDenied: the approver refuses, and says why.
        CertificateTimeout: nobody answered in time.
        ApiError: the API server refuses or does not answer.

    """
    wanted = Wanted(
        identity=identity, directory=directory, namespace=namespace, dns=dns, usages=usages or usages_for(identity)
    )
    await asyncio.to_thread(wanted.directory.mkdir, parents=True, exist_ok=True, mode=0o700)
    if not renew:
        existing = await _existing(wanted)
        if existing is not None and clock.now().timestamp() < existing.renew_at:
            return existing
    made = await _make(wanted)
    name = f"dynamic-memory-{made.key_hash[:32]}"
    try:
        async with asyncio.timeout(timeout):
            certificate = await _signed(kube, wanted, name, made)
            ca = await _authority(kube, namespace)
    except TimeoutError:
        raise CertificateTimeout(name, timeout) from None
    except CertificateDenied:
        # The next try is for a new key, hence a new request.
        await asyncio.to_thread(durable.remove, wanted.directory / _PENDING)
        raise
    checked = await _check(ca, certificate, made.key)
    if checked.uris != [identity]:
        # The request of an earlier try, for who this process was then.
        await asyncio.to_thread(durable.remove, wanted.directory / _PENDING)
        raise CertificateDenied(name, "WrongIdentity", f"it is for {', '.join(checked.uris)}")
    await asyncio.to_thread(_install, wanted, ca, certificate, made.key)
    log.info("certificate obtained", extra={"identity": identity, "csr": name, "not_after": checked.not_after})
    return _files(wanted, checked)


async def keep_fresh(
    kube: Kube,
    identity: str,
    *,
    directory: Path,
    namespace: str,
    dns: tuple[str, ...] = (),
    usages: tuple[str, ...] = (),
    now: Callable[[], float] | None = None,
) -> None:
    """Renew the certificate at two thirds of its life, for ever. Errors are logged and tried again with back-off."""
    wall = now or (lambda: clock.now().timestamp())
    backoff = Backoff(initial=1.0, maximum=300.0)
    renew = False
    while True:
        try:
            files = await obtain(
                kube, identity, directory=directory, namespace=namespace, dns=dns, usages=usages, renew=renew
            )
        except (DynamicMemoryError, OSError) as error:
            # Also a denial: whoever runs the cluster may mend the rules, and the old certificate is still good. And a
            # folder that is full, or a child process for which there is no room: a role does not end for that.
            level = logging.WARNING if getattr(error, "kind", None) is Kind.RETRY else logging.ERROR
            log.log(level, "certificate not obtained", extra={"identity": identity, "error": str(error)})
            await clock.sleep(backoff.next())
            continue
        backoff.reset()
        renew = True
        await clock.sleep(max(1.0, files.renew_at - wall()))


async def main_obtain(kube: Kube, wanted: Wanted, *, timeout: float = 300.0) -> Files:
    """Obtain a certificate once: the command `certificates obtain`."""
    return await obtain(
        kube,
        wanted.identity,
        directory=wanted.directory,
        namespace=wanted.namespace,
        dns=wanted.dns,
        usages=wanted.usages,
        timeout=timeout,
    )


async def main_keep(kube: Kube, wanted: Wanted) -> None:
    """Obtain a certificate and keep it fresh for ever: the command `certificates keep`."""
    await keep_fresh(
        kube,
        wanted.identity,
        directory=wanted.directory,
        namespace=wanted.namespace,
        dns=wanted.dns,
        usages=wanted.usages,
    )


async def _existing(wanted: Wanted) -> Files | None:
    read = [await asyncio.to_thread(durable.read, path) for path in (wanted.ca, wanted.certificate, wanted.key)]
    ca, certificate, key = (content.decode(errors="replace") if content else "" for content in read)
    if not (ca and certificate and key):
        return None
    try:
        checked = await _check(ca, certificate, key)
    except ChildFailed as error:
        log.warning("certificate in the folder is not usable", extra={"why": error.error})
        return None
    right = checked.uris == [wanted.identity] and sorted(checked.dns) == sorted(wanted.dns)
    return _files(wanted, checked) if right else None


async def _make(wanted: Wanted) -> Made:
    """Return key and request: those of a try that was cut short, or new ones, kept before anybody is asked."""
    pending = wanted.directory / _PENDING
    kept = await asyncio.to_thread(durable.read, pending)
    if kept:
        try:
            return await _ask_keys(Make(identity=wanted.identity, dns=wanted.dns, key=kept.decode()), Made)
        except (ChildFailed, UnicodeDecodeError):
            log.warning("the key of an earlier try is not usable", extra={"path": str(pending)})
    made = await _ask_keys(Make(identity=wanted.identity, dns=wanted.dns), Made)
    await asyncio.to_thread(durable.write, pending, made.key.encode(), 0o600)
    return made


async def _signed(kube: Kube, wanted: Wanted, name: str, made: Made) -> str:
    """Return the signed certificate, PEM; asks, and waits for as long as it is let."""
    body = {
        "apiVersion": kinds.CSRS.api_version,
        "kind": kinds.CSRS.kind,
        "metadata": {"name": name},
        "spec": {
            "request": base64.b64encode(made.csr.encode()).decode(),
            "signerName": names.SIGNER,
            "usages": list(wanted.usages),
            "expirationSeconds": LIFETIME,
        },
    }
    backoff = Backoff(initial=0.25, maximum=5.0, factor=1.5)
    while True:
        try:
            csr = await _get_or_ask(kube, name, body)
        except DynamicMemoryError as error:
            if error.kind is not Kind.RETRY:
                raise
            log.warning("API server does not answer", extra={"error": str(error)})
        else:
            _check_denied(csr)
            if csr.status.certificate:
                return base64.b64decode(csr.status.certificate).decode()
        await clock.sleep(backoff.next())


async def _get_or_ask(kube: Kube, name: str, body: dict[str, Any]) -> CertificateSigningRequest:
    try:
        return await kube.get(kinds.CSRS, name)
    except NotFound:
        # Not asked yet, or removed by the controller that cleans old requests up.
        with contextlib.suppress(AlreadyExists):
            return await kube.create(kinds.CSRS, body)
        return await kube.get(kinds.CSRS, name)


def _check_denied(csr: CertificateSigningRequest) -> None:
    for condition in csr.status.conditions:
        if condition.type in {"Denied", "Failed"}:
            raise CertificateDenied(csr.metadata.name, condition.reason, condition.message)


async def _authority(kube: Kube, namespace: str) -> str:
    """Return the certificate of the authority, PEM. The controller writes it before it signs anything."""
    backoff = Backoff(initial=0.25, maximum=5.0)
    while True:
        try:
            data = (await kube.get(kinds.CONFIG_MAPS, CA_NAME, namespace)).data
        except NotFound:
            data = {}
        except DynamicMemoryError as error:
            if error.kind is not Kind.RETRY:
                raise
            data = {}
        if data.get(CA_KEY):
            return data[CA_KEY]
        await clock.sleep(backoff.next())


async def _check(ca: str, certificate: str, key: str) -> Checked:
    return await _ask_keys(Check(ca=ca, certificate=certificate, key=key), Checked)


async def _ask_keys(request: Request, type_: type[T]) -> T:
    out = await run_module(_MODULE, msgspec.json.encode(request))
    return msgspec.json.decode(out, type=type_)


def _files(wanted: Wanted, checked: Checked) -> Files:
    return Files(
        ca=wanted.ca,
        certificate=wanted.certificate,
        key=wanted.key,
        not_before=checked.not_before,
        not_after=checked.not_after,
    )


def _install(wanted: Wanted, ca: str, certificate: str, key: str) -> None:
    """Put a new set of files in place in one step, and remove the old one."""
    folder = wanted.directory
    generation = folder / f"set-{secrets.token_hex(8)}"
    generation.mkdir(mode=0o700)
    content = (
        (wanted.ca.name, ca, 0o644),
        (wanted.certificate.name, certificate, 0o644),
        (wanted.key.name, key, 0o600),
    )
    for name, text, mode in content:
        durable.write(generation / name, text.encode(), mode)
    _link(generation.name, folder / _CURRENT)
    for name, _, _ in content:
        target = f"{_CURRENT}/{name}"
        link = folder / name
        if not (link.is_symlink() and str(link.readlink()) == target):
            _link(target, link)
    durable.remove(folder / _PENDING)
    for old in folder.glob("set-*"):
        if old != generation:
            shutil.rmtree(old, ignore_errors=True)


def _link(target: str, link: Path) -> None:
    temporary = link.with_name(f".{link.name}.{secrets.token_hex(4)}")
    temporary.symlink_to(target)
    temporary.replace(link)
