# SPDX-License-Identifier: Apache-2.0
"""Keys and certificates of a test cluster: one authority for the API server and for everyone who calls it.

The certificate authority of the roles is not here: that one is theirs, and part of what is tested.
"""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

__all__ = ["Authority"]


class Authority:
    """Issues certificates below `folder` and writes kubeconfigs with them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.certificate = folder / "ca.crt"
        self._ca.cert_pem.write_to_path(self.certificate)

    def serving(self, name: str, *identities: str) -> tuple[Path, Path]:
        """Return certificate and key of a server that is reached by these names and addresses."""
        return self._write(name, self._ca.issue_cert(*identities, common_name=name))

    def client(self, name: str, user: str, group: str) -> tuple[Path, Path]:
        """Return certificate and key by which the API server knows `user` as a member of `group`."""
        # a certificate without any alternative name would mark them critical, and Go refuses that
        return self._write(name, self._ca.issue_cert(f"{name}.test", common_name=user, organization_name=group))

    def _write(self, name: str, issued: trustme.LeafCert) -> tuple[Path, Path]:
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return certificate, key

    def signing_key(self, name: str) -> tuple[Path, Path]:
        """Return public and private key for service account tokens."""
        private = ec.generate_private_key(ec.SECP256R1())
        public_file, private_file = self._folder / f"{name}.pub", self._folder / f"{name}.key"
        private_file.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public_file.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        return public_file, private_file

    def context(self, credentials: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """Return a TLS context that trusts this authority."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        if credentials is not None:
            context.load_cert_chain(*map(str, credentials))
        return context

    def kubeconfig(
        self, server: str, *, credentials: tuple[Path, Path] | None = None, token: str | None = None
    ) -> dict[str, Any]:
        """Return a kubeconfig for the bearer of a certificate or a token; it holds all it needs."""
        user: dict[str, str] = {}
        if credentials is not None:
            user["client-certificate-data"] = _encode(credentials[0])
            user["client-key-data"] = _encode(credentials[1])
        if token is not None:
            user["token"] = token
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "test", "cluster": {"server": server, "certificate-authority-data": _encode(self.certificate)}}
            ],
            "users": [{"name": "user", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
            "current-context": "test",
        }


def _encode(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
