# SPDX-License-Identifier: Apache-2.0
"""The files by which a container learns of its devices' attributes (KEP-5304): written on the node, mounted by CDI.

One file for each request, at the path that the KEP names, with the same object once for each version of its API, the
newest first (`metadata.resource.k8s.io/v1beta1` of 1.37, `v1alpha1` of 1.36): a reader takes the first that it knows.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from dynamic_memory.api.names import DRIVER
from dynamic_memory.api.resource import ResourceClaim
from dynamic_memory.driver import cdi
from dynamic_memory.driver.grants import Grant
from dynamic_memory.driver.local_claims import POD_CLAIM_NAME

__all__ = ["MetadataFiles", "documents"]

VERSIONS = ("v1beta1", "v1alpha1")
IN_CONTAINER = "/var/run/kubernetes.io/dra-device-attributes"
FILE = f"{DRIVER}-metadata.json"
_SAFE = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]*")


def documents(
    claim: ResourceClaim, request: str, given: Sequence[Grant], attributes: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the objects of one request's file.

    Args:
        claim: the claim.
        request: its name.
        given: what the request was granted.
        attributes: of the devices, by name.

    """
    meta = claim.metadata
    devices = [
        {"driver": DRIVER, "pool": grant.pool, "name": grant.device, "attributes": dict(attributes[grant.device])}
        if grant.device in attributes
        else {"driver": DRIVER, "pool": grant.pool, "name": grant.device}
        for grant in given
    ]
    body: dict[str, Any] = {
        "metadata": {
            "name": meta.name,
            "namespace": meta.namespace,
            "uid": meta.uid,
            "generation": meta.generation,
        },
        "requests": [{"name": request, "devices": devices}],
    }
    if POD_CLAIM_NAME in meta.annotations:
        body["podClaimName"] = meta.annotations[POD_CLAIM_NAME]
    return [
        {"apiVersion": f"metadata.resource.k8s.io/{version}", "kind": "DeviceMetadata", **body} for version in VERSIONS
    ]


class MetadataFiles:
    """The folder of these files. The methods block for small files.

    Args:
        folder: on the node; the runtime mounts from there.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def mounts(self, claim: ResourceClaim, given: Sequence[Grant]) -> dict[str, tuple[cdi.Mount, ...]]:
        """Return the mount of each request's file."""
        meta = claim.metadata
        made_for = meta.annotations.get(POD_CLAIM_NAME)
        where = f"resourceclaimtemplates/{made_for}" if made_for else f"resourceclaims/{meta.name}"
        return {
            request: (
                cdi.Mount(
                    host_path=str(self._path(meta.uid, request)),
                    container_path=f"{IN_CONTAINER}/{where}/{request}/{FILE}",
                    options=("ro", "bind", "nosuid", "nodev", "noexec"),
                ),
            )
            for request in dict.fromkeys(grant.request for grant in given)
        }

    def write(self, claim: ResourceClaim, given: Sequence[Grant], attributes: Mapping[str, Mapping[str, Any]]) -> None:
        """Write the files of a claim.

        Raises:
            OSError: the disk refuses.

        """
        for request in dict.fromkeys(grant.request for grant in given):
            mine = [grant for grant in given if grant.request == request]
            text = b"".join(
                msgspec.json.encode(document) + b"\n" for document in documents(claim, request, mine, attributes)
            )
            path = self._path(claim.metadata.uid, request)
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            partial = path.with_suffix(".tmp")
            partial.write_bytes(text)
            partial.chmod(0o644)
            partial.replace(path)

    def remove(self, uid: str) -> None:
        """Remove the files of a claim; they may be gone already."""
        if _SAFE.fullmatch(uid):
            shutil.rmtree(self._folder / uid, ignore_errors=True)

    def _path(self, uid: str, request: str) -> Path:
        return self._folder / uid / request / FILE
