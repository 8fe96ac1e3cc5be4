# SPDX-License-Identifier: Apache-2.0
"""What a write is to, by whom, and with what options."""

from __future__ import annotations

from dataclasses import dataclass, field

from dynamic_memory.embedded.apiserver.errors import Cause, StatusError, invalid
from dynamic_memory.embedded.apiserver.records import Object
from dynamic_memory.embedded.apiserver.request import Request, UserInfo
from dynamic_memory.embedded.apiserver.resource import Resource
from dynamic_memory.embedded.apiserver.routes import Route

__all__ = ["Target", "dry_run_of", "manager_of", "target_of"]

_MAX_MANAGER = 128
_VALIDATIONS = ("Ignore", "Strict", "Warn")


@dataclass(slots=True)
class Target:
    """See the module.

    Attributes:
        manager: who owns the fields that it sets.
        validation: Strict, Warn or Ignore: what becomes of unknown fields.
        dry_run: whether to stop before storing.
        warnings: texts of Warning headers, added to.
        force: whether an apply takes over fields of others.
        audit: what is found out about the request, for the audit log.

    """

    resource: Resource
    namespace: str
    name: str
    user: UserInfo
    warnings: list[str]
    subresource: str = ""
    manager: str = "unknown"
    validation: str = "Warn"
    dry_run: bool = False
    force: bool = False
    audit: Object = field(default_factory=dict)

    @property
    def options(self) -> Object:
        """The options of the request, as admission sees them."""
        options: Object = {"fieldManager": self.manager, "fieldValidation": self.validation}
        if self.dry_run:
            options["dryRun"] = ["All"]
        return options


def target_of(request: Request, route: Route, options: str) -> Target:
    """Return the target of a request.

    Args:
        request: the request.
        route: what its path means.
        options: kind of the options, for messages (`CreateOptions`).

    Raises:
        StatusError: 422, an option has a value that it cannot have.

    """
    return Target(
        route.resource,
        route.namespace,
        route.name,
        request.user,
        request.warnings,
        subresource=route.subresource,
        manager=manager_of(request, options),
        validation=_validation(request, options),
        dry_run=dry_run_of(request.query.get("dryRun", ()), options),
        force=request.flag("force"),
        audit=request.audit,
    )


def dry_run_of(values: object, options: str) -> bool:
    """Return what `dryRun` says, from a query or a body.

    Raises:
        StatusError: 422, it is not `All`.

    """
    said = [value for value in values if value] if isinstance(values, list | tuple) else []
    for value in said:
        if value != "All":
            shown = ",".join(f'"{each}"' for each in said)
            raise _invalid(options, "dryRun", f'Unsupported value: [{shown}]: supported values: "All"')
    return bool(said)


def _validation(request: Request, options: str) -> str:
    value = request.first("fieldValidation") or "Warn"
    if value not in _VALIDATIONS:
        known = '"", "Ignore", "Strict", "Warn"'
        raise _invalid(options, "fieldValidation", f'Unsupported value: "{value}": supported values: {known}')
    return value


def manager_of(request: Request, options: str) -> str:
    """Return who owns what a request sets: what it says, else the first part of the user agent.

    Raises:
        StatusError: 422, the name is too long.

    """
    said = request.first("fieldManager")
    if len(said) > _MAX_MANAGER:
        raise _invalid(options, "fieldManager", f"Too long: may not be more than {_MAX_MANAGER} bytes")
    if said:
        return said
    return request.headers.get("user-agent", "").partition("/")[0][:_MAX_MANAGER] or "unknown"


def _invalid(options: str, field: str, text: str) -> StatusError:
    reason = "FieldValueTooLong" if text.startswith("Too long") else "FieldValueNotSupported"
    return invalid("meta.k8s.io", options, "", [Cause(reason, text, field)])
