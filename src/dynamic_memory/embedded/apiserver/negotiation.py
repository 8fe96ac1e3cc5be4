# SPDX-License-Identifier: Apache-2.0
"""What a client wants to read: the Accept header, parsed and matched.

Kubernetes clients write parameters into it (`application/json;as=Table;v=v1;g=meta.k8s.io`) and list forms in order of
preference. A form that this server does not know is passed over; when none is left, JSON is answered: a client that
reads protobuf alone reads the Content-Type of the answer and decodes accordingly.
"""

from __future__ import annotations

import dataclasses

__all__ = ["JSON", "YAML", "MediaRange", "Target", "discovery_version", "negotiate", "parse_accept", "strict_match"]

JSON = "application/json"
YAML = "application/yaml"
LONGEST = 4096  # characters of an Accept header that are read; the longest of kubectl has 250

TRANSFORMS = ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")


@dataclasses.dataclass(frozen=True, slots=True)
class MediaRange:
    """One entry of an Accept header: `application/json;as=Table;v=v1;g=meta.k8s.io;q=0.9`."""

    type: str
    params: dict[str, str]
    quality: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """The form of an answer.

    `kind` is empty (the object itself) or one of `Table`, `PartialObjectMetadata`, `PartialObjectMetadataList`;
    `version` is the version of `meta.k8s.io` which that kind is wanted in.
    """

    media_type: str = JSON
    kind: str = ""
    version: str = "v1"
    pretty: bool = False

    @property
    def table(self) -> bool:
        """Whether the answer is a Table."""
        return self.kind == "Table"

    @property
    def partial(self) -> bool:
        """Whether only the metadata of objects is answered."""
        return self.kind.startswith("Partial")


def parse_accept(header: str) -> list[MediaRange]:
    """Return the entries of an Accept header, most wanted first; what cannot be read is left out."""
    found = []
    for part in header[:LONGEST].split(","):
        kind, *params = (piece.strip() for piece in part.split(";"))
        if "/" not in kind:
            continue
        values = {
            name.strip().lower(): value.strip().strip('"') for name, _, value in (p.partition("=") for p in params)
        }
        try:
            quality = float(values.pop("q", "1"))
        except ValueError:
            quality = 1.0
        if quality > 0:
            found.append(MediaRange(kind.lower(), values, quality))
    return sorted(found, key=lambda entry: -entry.quality)


def _media_type(entry: MediaRange) -> str:
    match entry.type:
        case "application/json" | "*/*" | "application/*":
            return JSON
        case "application/yaml" | "application/x-yaml":
            return YAML
    return ""


def negotiate(header: str, *, transforms: bool = True) -> Target:
    """Choose the form of an answer.

    Args:
        header: the Accept header, empty when there is none.
        transforms: whether Table and PartialObjectMetadata can be had here; without them such entries are passed over.

    """
    for entry in parse_accept(header):
        media_type = _media_type(entry)
        if not media_type:
            continue
        kind = entry.params.get("as", "")
        pretty = entry.params.get("pretty") == "1"
        if not kind:
            return Target(media_type, pretty=pretty)
        known = kind in TRANSFORMS and entry.params.get("g") == "meta.k8s.io"
        version = entry.params.get("v", "")
        if transforms and known and version in {"v1", "v1beta1"}:
            return Target(media_type, kind, version, pretty)
    return Target()


def discovery_version(header: str) -> str:
    """Return `v2` or `v2beta1` when aggregated discovery is wanted in that version, else an empty string.

    The first entry that names something known decides: plain JSON before an aggregated form is plain JSON.
    """
    for entry in parse_accept(header):
        if not _media_type(entry):
            continue
        wanted = entry.params.get("as", "")
        if not wanted:
            return ""
        version = entry.params.get("v", "")
        group = entry.params.get("g")
        if (wanted, group) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io") and version in {"v2", "v2beta1"}:
            return version
    return ""


def strict_match(header: str, offered: tuple[str, ...]) -> str | None:
    """Return the first of `offered` that the client accepts, or None (406): for documents of one form."""
    if not header:
        return offered[0]
    for entry in parse_accept(header):
        for media_type in offered:
            main = media_type.partition("/")[0]
            if entry.type in {media_type.partition(";")[0], f"{main}/*", "*/*"}:
                return media_type
    return None
