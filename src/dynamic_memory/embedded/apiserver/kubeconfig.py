# SPDX-License-Identifier: Apache-2.0
"""Kubeconfig files: how clients find the server and who they are there. Readable by their owner alone."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml

from dynamic_memory.embedded.apiserver.tls import Pair
from dynamic_memory.process import durable

__all__ = ["kubeconfig", "write_kubeconfig"]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def kubeconfig(
    url: str, *, name: str = "embedded", ca: bytes = b"", client: Pair | None = None, token: str = ""
) -> dict[str, Any]:
    """Return the content of a kubeconfig.

    Args:
        url: of the server.
        name: of cluster, context and user.
        ca: the authority's certificate, PEM; empty over plain HTTP.
        client: a client certificate; None = none.
        token: a bearer token; empty = none.

    """
    cluster = {"server": url}
    if ca:
        cluster["certificate-authority-data"] = _base64(ca)
    user: dict[str, str] = {}
    if client is not None:
        user["client-certificate-data"] = _base64(client.certificate)
        user["client-key-data"] = _base64(client.key)
    if token:
        user["token"] = token
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
        # some clients insist on a user, even on one without credentials
        "users": [{"name": name, "user": user}],
    }


def write_kubeconfig(path: Path, content: dict[str, Any]) -> None:
    """Write a kubeconfig with mode 0600; blocks for the time of a write to disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write(path, yaml.safe_dump(content, sort_keys=False).encode())
