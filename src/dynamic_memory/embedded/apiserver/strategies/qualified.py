# SPDX-License-Identifier: Apache-2.0
"""Names in resource.k8s.io: of attributes and capacities (`domain/identifier`), and of pools. Pure."""

from __future__ import annotations

from typing import Final

from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.names import c_identifier, dns_subdomain
from dynamic_memory.embedded.apiserver.strategies.checks import check_driver_name

__all__ = ["check_full_name", "check_pool_name", "check_qualified_name"]

MAX_ID: Final = 32
MAX_POOL: Final = 253


def _identifier(name: str, path: str) -> list[Cause]:
    causes = [fields.too_long(path, MAX_ID)] if len(name) > MAX_ID else []
    return causes + [fields.invalid(path, name, text) for text in c_identifier(name)]


def check_qualified_name(name: str, path: str) -> list[Cause]:
    """Check a name with or without a domain."""
    parts = name.split("/")
    if len(parts) == 1:
        return _identifier(parts[0], path)
    if len(parts) > 2:  # noqa: PLR2004 - the real server lets these pass
        return []
    domain, last = parts
    causes = check_driver_name(domain, path) if domain else [fields.invalid(path, "", "the domain must not be empty")]
    return causes + (_identifier(last, path) if last else [fields.invalid(path, "", "the name must not be empty")])


def check_full_name(name: str, path: str) -> list[Cause]:
    """Check a name that must have a domain."""
    causes = check_qualified_name(name, path)
    if "/" not in name:
        text = "a fully qualified name must be a domain and a name separated by a slash"
        causes.append(fields.invalid(path, name, text))
    return causes


def check_pool_name(name: str, path: str) -> list[Cause]:
    """Check the name of a pool: DNS subdomains joined by slashes."""
    if not name:
        return [fields.required(path)]
    causes = [fields.too_long(path, MAX_POOL)] if len(name) > MAX_POOL else []
    for part in name.split("/"):
        causes += [fields.invalid(path, part, text) for text in dns_subdomain(part)]
    return causes
