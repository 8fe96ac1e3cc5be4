# SPDX-License-Identifier: Apache-2.0
"""Certificate files of both ends, which are replaced while the process runs.

Nothing watches them: they are looked at when they are needed, at a connection or before a call, by what the file system
says of them (modification time, size, inode; a mounted Secret is a link to a new file each time).
"""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc
import msgspec

__all__ = ["ServerCertificates", "TlsFiles", "signature"]

Signature = tuple[tuple[int, int, int], ...]


class TlsFiles(msgspec.Struct, frozen=True):
    """Files of one end, PEM.

    Attributes:
        ca: certificates of those whom the peer's certificate may be signed by.
        certificate: one's own, with what chains it to the peer's ca.
        key: its private key.

    """

    ca: str
    certificate: str
    key: str


def signature(*paths: str) -> Signature:
    """What changes when a file is replaced; files that are not there count as such.

    Raises:
        OSError: a file cannot be looked at.

    """
    found = []
    for path in paths:
        try:
            status = Path(path).stat()
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        except FileNotFoundError:
            found.append((0, 0, 0))
    return tuple(found)


class ServerCertificates:
    """Credentials of a server that follow its files; clients have to show a certificate.

    Args:
        files: its own.
        owner_cas: further files of certificate authorities that clients' certificates may be signed by.

    Raises:
        OSError: a file cannot be read.
        ssl.SSLError: certificate and key do not belong together.

    """

    def __init__(self, files: TlsFiles, owner_cas: tuple[str, ...] = ()) -> None:
        self._files = files
        self._cas = tuple(dict.fromkeys((*owner_cas,) or (files.ca,)))
        self._signature: Signature = ()
        self.failure = ""
        self._configuration = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """For `add_secure_port`."""
        return grpc.dynamic_ssl_server_credentials(self._configuration, self._fetch, require_client_authentication=True)

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC at each connection, in a thread of its own; None leaves things as they are."""
        try:
            if signature(*self._paths()) == self._signature:
                return None
            configuration = self._read()
        except (OSError, ssl.SSLError) as error:
            # Half of a replacement: the next connection looks again.
            self.failure = str(error)
            return None
        self.failure = ""
        return configuration

    def _read(self) -> grpc.ServerCertificateConfiguration:
        seen = signature(*self._paths())
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._files.certificate, self._files.key)
        roots = b"\n".join(Path(path).read_bytes() for path in self._cas)
        pair = (Path(self._files.key).read_bytes(), Path(self._files.certificate).read_bytes())
        configuration = grpc.ssl_server_certificate_configuration([pair], root_certificates=roots)
        self._signature = seen
        return configuration

    def _paths(self) -> tuple[str, ...]:
        return (self._files.certificate, self._files.key, *self._cas)
