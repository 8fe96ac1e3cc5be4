# SPDX-License-Identifier: Apache-2.0
"""Rules of names, labels, annotations, selectors and conditions, with the texts of apimachinery. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.errors import Cause

__all__ = [
    "NameRule",
    "c_identifier",
    "config_key",
    "dns1035_label",
    "dns_label",
    "dns_subdomain",
    "label_key",
    "label_value",
    "path_segment",
    "validate_annotations",
    "validate_conditions",
    "validate_finalizers",
    "validate_labels",
    "validate_metadata",
    "validate_metadata_update",
    "validate_owners",
    "validate_selector",
]

NameRule = Callable[[str], list[str]]
"""Returns what is wrong with a name."""

_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN: Final = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_1035: Final = "[a-z]([-a-z0-9]*[a-z0-9])?"
_KEY: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE: Final = f"({_KEY})?"
_IDENTIFIER: Final = "[A-Za-z_][A-Za-z0-9_]*"
_CONFIG_KEY: Final = "[-._a-zA-Z0-9]+"
_REASON: Final = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"
_MATCHES: Final = {
    pattern: re.compile(pattern, re.ASCII).fullmatch
    for pattern in (_LABEL, _SUBDOMAIN, _LABEL_1035, _KEY, _VALUE, _IDENTIFIER, _CONFIG_KEY, _REASON)
}
_KEY_TEXT: Final = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)
_VALUE_TEXT: Final = f"a valid label must be an empty string or {_KEY_TEXT.removeprefix('must ')}"
MAX_LABEL: Final = 63
MAX_SUBDOMAIN: Final = 253
MAX_ANNOTATIONS: Final = 256 * 1024
MAX_REASON: Final = 1024
MAX_MESSAGE: Final = 32 * 1024


def max_length(limit: int) -> str:
    """Return the text for a name that is too long."""
    return f"must be no more than {limit} bytes"


def _regex_error(text: str, pattern: str, *examples: str) -> str:
    """Join as apimachinery does, double space and all."""
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{text} (e.g. {shown}regex used for validation is '{pattern}')"


def _checked(name: str, pattern: str, limit: int, text: str, *examples: str) -> list[str]:
    matches = _MATCHES[pattern](name)
    if matches and len(name) <= limit:  # it is ASCII then
        return []
    found = []
    if len(name.encode()) > limit:
        found.append(max_length(limit))
    if not matches:
        found.append(_regex_error(text, pattern, *examples))
    return found


def dns_label(name: str) -> list[str]:
    """Check a DNS label of RFC 1123: 63 characters, no dots."""
    text = (
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
        "with an alphanumeric character"
    )
    if "." in name and len(name) <= MAX_LABEL and _MATCHES[_SUBDOMAIN](name):
        return ["must not contain dots"]
    return _checked(name, _LABEL, MAX_LABEL, text, "my-name", "123-abc")


def dns1035_label(name: str) -> list[str]:
    """Check a DNS label of RFC 1035: begins with a letter."""
    text = (
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
        "character, and end with an alphanumeric character"
    )
    return _checked(name, _LABEL_1035, MAX_LABEL, text, "my-name", "abc-123")


def dns_subdomain(name: str) -> list[str]:
    """Check a DNS subdomain: 253 characters, labels joined by dots."""
    text = (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
        "and end with an alphanumeric character"
    )
    return _checked(name, _SUBDOMAIN, MAX_SUBDOMAIN, text, "example.com")


def path_segment(name: str) -> list[str]:
    """Check a name that may be anything that fits into a URL path."""
    if name in (".", ".."):
        return [f"may not be '{name}'"]
    return [f"may not contain '{mark}'" for mark in ("/", "%") if mark in name]


def c_identifier(name: str) -> list[str]:
    """Check an identifier of C."""
    if _MATCHES[_IDENTIFIER](name):
        return []
    text = (
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric "
        "characters or '_'"
    )
    return [_regex_error(text, _IDENTIFIER, "my_name", "MY_NAME", "MyName")]


def config_key(name: str) -> list[str]:
    """Check a key of a ConfigMap or Secret."""
    text = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
    found = _checked(name, _CONFIG_KEY, MAX_SUBDOMAIN, text, "key.name", "KEY_NAME", "key-name")
    if name in (".", ".."):
        found.append(f"must not be '{name}'")
    elif name.startswith(".."):
        found.append("must not start with '..'")
    return found


def label_key(name: str) -> list[str]:
    """Check a qualified name: an optional DNS subdomain and `/`, then at most 63 characters."""
    parts = name.split("/")
    if len(parts) > 2:  # noqa: PLR2004 - prefix and name
        text = _regex_error(_KEY_TEXT, _KEY, "MyName", "my.name", "123-abc")
        return [f"a valid label key {text} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    found = []
    if len(parts) == 2:  # noqa: PLR2004 - prefix and name
        if not parts[0]:
            found.append("prefix part must be non-empty")
        else:
            found += [f"prefix part {text}" for text in dns_subdomain(parts[0])]
    last = parts[-1]
    if not last:
        found.append("name part must be non-empty")
    elif len(last) > MAX_LABEL:
        found.append(f"name part {max_length(MAX_LABEL)}")
    if not _MATCHES[_KEY](last):
        found.append(f"name part {_regex_error(_KEY_TEXT, _KEY, 'MyName', 'my.name', '123-abc')}")
    return found


def label_value(value: str) -> list[str]:
    """Check the value of a label."""
    return _checked(value, _VALUE, MAX_LABEL, _VALUE_TEXT, "MyValue", "my_value", "12345")


def validate_labels(labels: Any, path: str) -> list[Cause]:
    """Return what is wrong with labels."""
    causes: list[Cause] = []
    for name, value in (labels or {}).items():
        causes += [fields.invalid(path, name, text) for text in label_key(name)]
        causes += [fields.invalid(path, value, text) for text in label_value(value)]
    return causes


def validate_annotations(annotations: Any, path: str) -> list[Cause]:
    """Return what is wrong with annotations."""
    causes: list[Cause] = []
    size = 0
    for name, value in (annotations or {}).items():
        causes += [fields.invalid(path, name, text) for text in label_key(name.lower())]
        size += len(name.encode()) + len(value.encode())
    if size > MAX_ANNOTATIONS:
        causes.append(fields.too_long(path, MAX_ANNOTATIONS))
    return causes


def validate_owners(owners: Any, path: str) -> list[Cause]:
    """Return what is wrong with owner references."""
    causes: list[Cause] = []
    controller = ""
    for index, owner in enumerate(owners or ()):
        here = fields.at(path, index)
        version = owner.get("apiVersion", "")
        if not version:
            causes.append(fields.required(f"{here}.apiVersion", "must not be empty"))
        elif version.count("/") > 1 or version.endswith("/"):
            causes.append(fields.invalid(f"{here}.apiVersion", version, "must be <group>/<version> or <version>"))
        causes += [
            fields.required(f"{here}.{name}", "must not be empty")
            for name in ("kind", "name", "uid")
            if not owner.get(name)
        ]
        if (version, owner.get("kind")) == ("v1", "Event"):
            causes.append(fields.invalid(here, owner, "/v1, Kind=Event is disallowed from being an owner"))
        if owner.get("controller"):
            this = f"{owner.get('kind')}/{owner.get('name')}"
            if controller:
                text = (
                    'Only one reference can have Controller set to true. Found "true" in references for '
                    f"{controller} and {this}"
                )
                causes.append(fields.invalid(path, owners, text))
            controller = controller or this
    return causes


def validate_metadata(metadata: Mapping[str, Any], rule: NameRule, path: str = "metadata") -> list[Cause]:
    """Return what is wrong with the metadata of an object that has been given its name."""
    causes: list[Cause] = []
    base, name = metadata.get("generateName", ""), metadata.get("name", "")
    if base:
        causes += [fields.invalid(f"{path}.generateName", base, text) for text in rule(_prefix(base))]
    if not name:
        causes.append(fields.required(f"{path}.name", "name or generateName is required"))
    else:
        causes += [fields.invalid(f"{path}.name", name, text) for text in rule(name)]
    return causes + validate_metadata_update(metadata, path)


_FINALIZERS = frozenset({"kubernetes", "orphan", "foregroundDeletion"})


def _prefix(base: str) -> str:
    """Hide a dash at the end: something is appended."""
    return f"{base[:-2]}a" if len(base) > 1 and base.endswith("-") else base


def validate_metadata_update(metadata: Mapping[str, Any], path: str = "metadata") -> list[Cause]:
    """Return what is wrong with metadata beside the name and what is immutable."""
    causes = validate_labels(metadata.get("labels"), f"{path}.labels")
    causes += validate_annotations(metadata.get("annotations"), f"{path}.annotations")
    causes += validate_owners(metadata.get("ownerReferences"), f"{path}.ownerReferences")
    for finalizer in metadata.get("finalizers") or ():
        causes += [fields.invalid(f"{path}.finalizers", finalizer, text) for text in label_key(finalizer)]
    both = metadata.get("finalizers") or ()
    if "orphan" in both and "foregroundDeletion" in both:
        text = "finalizer orphan and foregroundDeletion cannot be both set"
        causes.append(fields.invalid(f"{path}.finalizers", both, text))
    return causes


def validate_finalizers(metadata: Mapping[str, Any]) -> list[Cause]:
    """Return which finalizers of a builtin kind are nobody's: without a domain there are three only."""
    text = "name is neither a standard finalizer name nor is it fully qualified"
    return [
        fields.invalid(f"metadata.finalizers[{index}]", finalizer, text)
        for index, finalizer in enumerate(metadata.get("finalizers") or ())
        if "/" not in finalizer and finalizer not in _FINALIZERS
    ]


def validate_selector(selector: Any, path: str) -> list[Cause]:
    """Return what is wrong with a LabelSelector."""
    if not isinstance(selector, dict):
        return []
    causes = validate_labels(selector.get("matchLabels"), f"{path}.matchLabels")
    for index, term in enumerate(selector.get("matchExpressions") or ()):
        here = f"{path}.matchExpressions[{index}]"
        operator, values = term.get("operator", ""), term.get("values") or []
        if operator in ("In", "NotIn"):
            if not values:
                text = "must be specified when `operator` is 'In' or 'NotIn'"
                causes.append(fields.required(f"{here}.values", text))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                causes.append(fields.forbidden(f"{here}.values", text))
        else:
            causes.append(fields.invalid(f"{here}.operator", operator, "not a valid selector operator"))
        causes += [fields.invalid(f"{here}.key", term.get("key", ""), text) for text in label_key(term.get("key", ""))]
        for at, value in enumerate(values):
            causes += [fields.invalid(f"{here}.values[{at}]", value, text) for text in label_value(value)]
    return causes


def validate_conditions(conditions: Any, path: str) -> list[Cause]:
    """Return what is wrong with a list of metav1.Condition."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, condition in enumerate(conditions or ()):
        here = fields.at(path, index)
        kind = condition.get("type", "")
        if kind in seen:
            causes.append(fields.duplicate(here, kind))
        seen.add(kind)
        causes += _condition(condition, here)
    return causes


def _condition(condition: Mapping[str, Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    kind, status, reason = (condition.get(name, "") for name in ("type", "status", "reason"))
    if not kind:
        causes.append(fields.required(f"{path}.type", "is required"))
    else:
        causes += [fields.invalid(f"{path}.type", kind, text) for text in label_key(kind)]
    if not status:
        causes.append(fields.required(f"{path}.status"))
    elif status not in ("False", "True", "Unknown"):
        causes.append(fields.not_supported(f"{path}.status", status, ("False", "True", "Unknown")))
    if condition.get("observedGeneration", 0) < 0:
        text = "must be greater than or equal to zero"
        causes.append(fields.invalid(f"{path}.observedGeneration", condition["observedGeneration"], text))
    if not condition.get("lastTransitionTime"):
        causes.append(fields.required(f"{path}.lastTransitionTime"))
    if not reason:
        causes.append(fields.required(f"{path}.reason"))
    elif not _MATCHES[_REASON](reason):
        text = (
            "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric "
            "characters or '_,:', and must end with an alphanumeric character or '_'"
        )
        examples = ("my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB")
        causes.append(fields.invalid(f"{path}.reason", reason, _regex_error(text, _REASON, *examples)))
    if len(reason) > MAX_REASON:
        causes.append(fields.too_long(f"{path}.reason", MAX_REASON))
    if len(condition.get("message", "")) > MAX_MESSAGE:
        causes.append(fields.too_long(f"{path}.message", MAX_MESSAGE))
    return causes
