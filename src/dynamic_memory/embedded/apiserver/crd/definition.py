# SPDX-License-Identifier: Apache-2.0
"""The Strategy of CustomResourceDefinitions: defaults of names, and what makes one refused.

Source: `pkg/apis/apiextensions/validation` of apiextensions-apiserver. Conversion by webhook is refused: this server
calls nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.crd.structural import check_schema
from dynamic_memory.embedded.apiserver.crd.validations import field_schema
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.names import dns1035_label, dns_subdomain
from dynamic_memory.embedded.apiserver.resource import Context, Strategy

__all__ = ["DefinitionStrategy", "is_established"]

MAX_SELECTABLE: Final = 8
APPROVAL: Final = "api-approved.kubernetes.io"
_COLUMN_TYPES: Final = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS: Final = (
    "binary", "byte", "date", "date-time", "double", "float", "int32", "int64", "password",
)  # fmt: skip
_PARTS: Final = {
    "schema": "validation",
    "subresources": "subresources",
    "additionalPrinterColumns": "additionalPrinterColumns",
    "selectableFields": "selectableFields",
}
"""Parts of versions, and what they are called where all versions have them alike."""
_PROTECTED: Final = ("k8s.io", "kubernetes.io")


def is_established(crd: Mapping[str, Any]) -> bool:
    """Say whether the kinds of a definition are served."""
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(item.get("type") == "Established" and item.get("status") == "True" for item in conditions)


class DefinitionStrategy(Strategy):
    """CustomResourceDefinition."""

    def default(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Derive the names that are left out from the kind."""
        names = (obj.get("spec") or {}).get("names")
        if isinstance(names, dict) and names.get("kind"):
            names.setdefault("singular", names["kind"].lower())
            names.setdefault("listKind", f"{names['kind']}List")
        return obj

    def prepare_create(self, obj: dict[str, Any], ctx: Context) -> dict[str, Any]:  # noqa: ARG002 - a hook
        """Forget a status that the client sent."""
        obj.pop("status", None)
        return obj

    def validate_create(self, obj: dict[str, Any]) -> list[Cause]:
        """Check name, names, versions and schemas."""
        return [*_name(obj), *_approval(obj), *_spec(obj.get("spec") or {})]

    def validate_update(self, new: dict[str, Any], old: dict[str, Any], subresource: str | None) -> list[Cause]:
        """Check the spec again, and what may not change."""
        if subresource == "status":
            return []
        spec, before = new.get("spec") or {}, old.get("spec") or {}
        causes = [*_spec(spec)] if spec != before else []
        causes += _immutable(spec, before, ("group",), ("names", "plural"))
        if is_established(old):
            causes += _immutable(spec, before, ("scope",), ("names", "kind"))
        return [*causes, *_stored(new)]


def _immutable(new: Mapping[str, Any], old: Mapping[str, Any], *paths: tuple[str, ...]) -> Iterator[Cause]:
    for path in paths:
        one: Any = new
        other: Any = old
        for name in path:
            one, other = (one or {}).get(name), (other or {}).get(name)
        if one != other:
            yield fields.invalid(".".join(("spec", *path)), one, "field is immutable")


def _stored(crd: Mapping[str, Any]) -> Iterator[Cause]:
    versions = {version.get("name") for version in (crd.get("spec") or {}).get("versions") or ()}
    for index, name in enumerate((crd.get("status") or {}).get("storedVersions") or ()):
        if name not in versions:
            text = (
                f"missing from spec.versions; {name} was previously a storage version, and must remain in "
                f"spec.versions until a storage migration ensures no data remains persisted in {name} and removes "
                f"{name} from status.storedVersions"
            )
            yield fields.invalid(f"status.storedVersions[{index}]", name, text)


def _name(crd: Mapping[str, Any]) -> Iterator[Cause]:
    spec, name = crd.get("spec") or {}, (crd.get("metadata") or {}).get("name", "")
    if name != f"{(spec.get('names') or {}).get('plural', '')}.{spec.get('group', '')}":
        yield fields.invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group')


def _approval(crd: Mapping[str, Any]) -> Iterator[Cause]:
    group = (crd.get("spec") or {}).get("group", "")
    if not any(group == domain or group.endswith(f".{domain}") for domain in _PROTECTED):
        return
    value = ((crd.get("metadata") or {}).get("annotations") or {}).get(APPROVAL, "")
    path = f"metadata.annotations[{APPROVAL}]"
    see = "see https://github.com/kubernetes/enhancements/pull/1111"
    if not value:
        yield fields.required(path, f'protected groups must have approval annotation "{APPROVAL}", {see}')
    elif not value.startswith(("unapproved", "https://", "http://")):
        text = (
            f'protected groups must have approval annotation "{APPROVAL}" with either a URL or a reason starting with '
        )
        yield fields.invalid(path, value, f'{text}"unapproved", {see}')


def _spec(spec: Mapping[str, Any]) -> list[Cause]:
    causes = []
    group = spec.get("group", "")
    if not group:
        causes.append(fields.required("spec.group"))
    elif wrong := dns_subdomain(group):
        causes.append(fields.invalid("spec.group", group, ",".join(wrong)))
    elif "." not in group:
        causes.append(fields.invalid("spec.group", group, "should be a domain with at least one dot"))
    scope = spec.get("scope", "")
    if not scope:
        causes.append(fields.required("spec.scope"))
    elif scope not in ("Cluster", "Namespaced"):
        causes.append(fields.not_supported("spec.scope", scope, ("Cluster", "Namespaced")))
    if spec.get("preserveUnknownFields"):
        text = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        causes.append(fields.invalid("spec.preserveUnknownFields", fields.OMIT, text))
    return [*causes, *_versions(spec), *_names(spec.get("names") or {}), *_conversion(spec.get("conversion"))]


def _versions(spec: Mapping[str, Any]) -> list[Cause]:
    causes = []
    versions = spec.get("versions") or []
    alike = {
        part for part in _PARTS if len(versions) > 0 and all(v.get(part) == versions[0].get(part) for v in versions)
    }
    for index, version in enumerate(versions):
        path = f"spec.versions[{index}]"
        name = version.get("name", "")
        if wrong := dns1035_label(name):
            causes.append(fields.invalid(f"{path}.name", name, ",".join(wrong)))
        causes += _version(version, path, alike)
    causes = list(dict.fromkeys(causes))
    names = [version.get("name") for version in versions]
    if len(set(names)) != len(names):
        causes.append(fields.invalid("spec.versions", versions, "must contain unique version names"))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        text = "must have exactly one version marked as storage version"
        causes.append(fields.invalid("spec.versions", versions, text))
    return causes


def _version(version: Mapping[str, Any], path: str, alike: set[str]) -> list[Cause]:
    """Check a version; what all versions have alike is said of the definition as a whole, as the real server does."""
    causes: list[Cause] = []
    at = {part: f"spec.{_PARTS[part]}" if part in alike else f"{path}.{part}" for part in _PARTS}
    source = (version.get("schema") or {}).get("openAPIV3Schema")
    if source is None:
        causes.append(fields.required(f"{path}.schema.openAPIV3Schema"))
    else:
        causes += check_schema(source, f"{at['schema']}.openAPIV3Schema")
    warning = version.get("deprecationWarning")
    if warning is not None and not version.get("deprecated"):
        causes.append(fields.invalid(f"{path}.deprecationWarning", warning, "can only be set for deprecated versions"))
    causes += _scale((version.get("subresources") or {}).get("scale"), f"{at['subresources']}.scale")
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        causes += _column(column, fields.at(at["additionalPrinterColumns"], index))
    if isinstance(source, dict):
        causes += _selectable(version.get("selectableFields") or [], source, at["selectableFields"])
    return causes


def _scale(scale: Any, path: str) -> Iterator[Cause]:
    if not isinstance(scale, dict):
        return
    for name, prefix, needed in (
        ("specReplicasPath", ".spec.", True),
        ("statusReplicasPath", ".status.", True),
        ("labelSelectorPath", (".spec.", ".status."), False),
    ):
        value = scale.get(name, "")
        if not value:
            if needed:
                yield fields.required(f"{path}.{name}")
        elif not value.startswith(prefix):
            which = ".spec" if prefix == ".spec." else ".status" if prefix == ".status." else "either .spec or .status"
            yield fields.invalid(f"{path}.{name}", value, f"should be a json path under {which}")


def _column(column: Mapping[str, Any], path: str) -> Iterator[Cause]:
    for name in ("name", "type", "jsonPath"):
        if not column.get(name):
            yield fields.required(f"{path}.{'JSONPath' if name == 'jsonPath' else name}")
    kind = column.get("type")
    if kind and kind not in _COLUMN_TYPES:
        yield fields.invalid(f"{path}.type", kind, f"must be one of {','.join(sorted(_COLUMN_TYPES))}")
    form = column.get("format")
    if form and form not in _COLUMN_FORMATS:
        yield fields.invalid(f"{path}.format", form, f"must be one of {','.join(sorted(_COLUMN_FORMATS))}")
    place = column.get("jsonPath", "")
    if place and not place.startswith("."):
        yield fields.invalid(f"{path}.JSONPath", place, "must be a simple json path starting with .")


def _selectable(selectable: list[Mapping[str, Any]], source: Mapping[str, Any], path: str) -> list[Cause]:
    causes = []
    seen: set[str] = set()
    for index, entry in enumerate(selectable):
        place, here = entry.get("jsonPath", ""), f"{path}[{index}].jsonPath"
        if not place:
            causes.append(fields.required(here))
            continue
        found = field_schema(source, place) if "[" not in place else None
        if found is None:
            text = "is an invalid path: does not refer to a valid field"
            causes.append(fields.invalid(here, place, text))
            continue
        if place.startswith(".metadata"):
            causes.append(fields.invalid(here, place, "must not point to fields in metadata"))
        if found.get("type") not in ("string", "boolean", "integer"):
            text = (
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats "
                "are allowed."
            )
            causes.append(fields.invalid(here, place, text))
        if place in seen:
            causes.append(fields.duplicate(here, place))
        seen.add(place)
    if len(seen) > MAX_SELECTABLE:
        causes.append(fields.too_many(path, len(seen), MAX_SELECTABLE))
    return causes


def _names(names: Mapping[str, Any]) -> list[Cause]:
    path = "spec.names"
    causes = [
        fields.required(f"{path}.{name}") for name in ("plural", "singular", "kind", "listKind") if not names.get(name)
    ]
    for name in ("plural", "singular"):
        value = names.get(name, "")
        if value and (wrong := dns1035_label(value)):
            causes.append(fields.invalid(f"{path}.{name}", value, ",".join(wrong)))
    for name in ("kind", "listKind"):
        value = names.get(name, "")
        if value and (wrong := dns1035_label(value.lower())):
            text = f"may have mixed case, but should otherwise match: {','.join(wrong)}"
            causes.append(fields.invalid(f"{path}.{name}", value, text))
    for name in ("shortNames", "categories"):
        for index, value in enumerate(names.get(name) or ()):
            if wrong := dns1035_label(value):
                causes.append(fields.invalid(f"{path}.{name}[{index}]", value, ",".join(wrong)))
    if names.get("kind") and names.get("kind") == names.get("listKind"):
        causes.append(fields.invalid(f"{path}.listKind", names["listKind"], "kind and listKind may not be the same"))
    return causes


def _conversion(conversion: Any) -> Iterator[Cause]:
    if not isinstance(conversion, dict):
        return
    path, strategy = "spec.conversion", conversion.get("strategy", "")
    if not strategy:
        yield fields.required(f"{path}.strategy")
    elif strategy == "Webhook":
        text = "conversion by webhook is not supported by this server, use None"
        yield fields.forbidden(f"{path}.strategy", text)
    elif strategy != "None":
        yield fields.not_supported(f"{path}.strategy", strategy, ("None", "Webhook"))
    elif conversion.get("webhook") is not None:
        yield fields.forbidden(f"{path}.webhook", "should not be set when strategy is not set to Webhook")
