# SPDX-License-Identifier: Apache-2.0
"""What users may say in a claim's opaque configuration: how its memory is enforced, and whether it is a file system.

    config:
    - requests: [mem]              # all, if left out
      opaque:
        driver: dra.memory
        parameters:
          apiVersion: dynamicmemory.dev/v1
          kind: MemoryConfig
          mode: limit              # limit | protect | advise
          fileSystem: {path: /mnt/dynamic-memory}

A device class may say the same; what the claim says counts more, and a later entry more than an earlier one, each
field on its own. The JSON schema (`schema()`) is generated from these types. Pure.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec

from dynamic_memory.api.names import DOMAIN, DRIVER
from dynamic_memory.api.resource import DeviceAllocationConfiguration
from dynamic_memory.driver.grants import Mode
from dynamic_memory.errors import InvalidInput

__all__ = ["FileSystem", "MemoryConfig", "RequestConfig", "resolve", "schema"]

VERSION = f"{DOMAIN}/v1"
KIND = "MemoryConfig"
FORBIDDEN = ("/proc", "/sys", "/dev")
PATH = r"^/[A-Za-z0-9._/-]+$"


class FileSystem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The memory as a file system of the claimed size, its pages on the claimed node.

    A tmpfs for ordinary memory, a hugetlbfs for huge pages.

    Attributes:
        path: where the container finds it; made by the runtime.

    """

    path: Annotated[
        str,
        msgspec.Meta(
            pattern=PATH,
            max_length=255,
            description="Where the container finds the file system: an absolute path.",
            examples=["/mnt/dynamic-memory"],
        ),
    ]


class MemoryConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Configuration of a claim (or class) for memory.

    Attributes:
        api_version: `dynamicmemory.dev/v1`.
        kind: `MemoryConfig`.
        mode: how memory is enforced.
        file_system: where it is a file system.

    """

    api_version: Literal["dynamicmemory.dev/v1"]
    kind: Literal["MemoryConfig"]
    mode: Mode | None = None
    file_system: FileSystem | None = None


class RequestConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What counts for one request: its mode, and the path of its file system, if it is one."""

    mode: Mode = Mode.LIMIT
    path: str = ""


def resolve(configs: Iterable[DeviceAllocationConfiguration], request: str, default: Mode) -> RequestConfig:
    """Return what counts for a request (with an alternative's name, `request/alternative`, where it was one).

    Raises:
        InvalidInput: a configuration for this driver is not one.

    """
    found = RequestConfig(mode=default)
    base = request.partition("/")[0]
    numbered = list(enumerate(configs))
    for source in ("FromClass", "FromClaim"):
        for number, config in numbered:
            if config.opaque is None or config.opaque.driver != DRIVER or (config.source or "FromClaim") != source:
                continue
            if config.requests and not {base, request} & set(config.requests):
                continue
            said = _decode(config.opaque.parameters, f"config[{number}].opaque.parameters")
            found = RequestConfig(
                mode=said.mode or found.mode,
                path=said.file_system.path.rstrip("/") if said.file_system else found.path,
            )
    return found


def schema() -> dict[str, Any]:
    """Return the JSON schema of the parameters."""
    made = msgspec.json.schema(MemoryConfig)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"{KIND} ({VERSION})", **made}


def _decode(parameters: Any, path: str) -> MemoryConfig:
    try:
        config = msgspec.convert(parameters, MemoryConfig)
    except msgspec.ValidationError as error:
        raise InvalidInput(path, f"a {KIND} of {VERSION} ({error})") from error
    if config.file_system is not None:
        where = config.file_system.path
        plain = posixpath.normpath(where)
        reserved = any(plain == folder or plain.startswith(f"{folder}/") for folder in FORBIDDEN)
        # `$` is also before a newline at the end, and `normpath` keeps two slashes at the beginning
        odd = re.fullmatch(PATH, where) is None or where.startswith("//")
        if odd or plain != where.rstrip("/") or plain == "/" or reserved:
            raise InvalidInput(f"{path}.fileSystem.path", "an absolute path without .., not of the system", where)
    return config
