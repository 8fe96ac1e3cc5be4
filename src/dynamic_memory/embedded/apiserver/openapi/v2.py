# SPDX-License-Identifier: Apache-2.0
"""The old document of everything, `/openapi/v2`, made of the v3 documents: definitions, and paths with body parameters.

Old tools read it as JSON. kubectl wants it as protobuf and goes on without it where v3 is served.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["to_v2"]

Json = dict[str, Any]


def to_v2(documents: Iterable[Json], info: Json) -> Json:
    """Return one v2 document for the v3 documents of all group versions."""
    definitions: Json = {}
    paths: Json = {}
    for document in documents:
        for name, schema in document["components"]["schemas"].items():
            _merge(definitions, name, _schema(schema))
        for path, entry in document["paths"].items():
            paths[path] = _path(entry)
    return {
        "swagger": "2.0",
        "info": info,
        "paths": dict(sorted(paths.items())),
        "definitions": dict(sorted(definitions.items())),
    }


def _merge(definitions: Json, name: str, schema: Json) -> None:
    """Add a definition; types that several groups share keep the identities of all (DeleteOptions)."""
    identity = "x-kubernetes-group-version-kind"
    known = definitions.setdefault(name, schema)
    for entry in schema.get(identity, ()):
        if entry not in known.setdefault(identity, []):
            known[identity].append(entry)


def _schema(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_schema(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    parts = schema.get("allOf")
    if parts and len(parts) == 1 and "$ref" in parts[0]:
        rest = {key: value for key, value in schema.items() if key not in {"allOf", "default"}}
        return {"$ref": _reference(parts[0]["$ref"]), **rest}
    if "oneOf" in schema and "type" not in schema and "properties" not in schema:
        rest = {key: value for key, value in schema.items() if key != "oneOf"}
        return {**rest, "type": "string"}
    found: Json = {}
    for key, value in schema.items():
        if key == "properties":
            found[key] = {name: _schema(child) for name, child in value.items()}
        elif key == "$ref":
            found[key] = _reference(value)
        elif key not in {"oneOf", "anyOf", "not", "nullable"}:
            found[key] = _schema(value) if key in {"items", "additionalProperties", "allOf"} else value
    return found


def _reference(ref: str) -> str:
    return ref.replace("#/components/schemas/", "#/definitions/")


def _parameter(parameter: Json) -> Json:
    schema = parameter["schema"]
    return {**{key: value for key, value in parameter.items() if key != "schema"}, **schema}


def _path(entry: Json) -> Json:
    found: Json = {}
    for method, operation in entry.items():
        if method == "parameters":
            found[method] = [_parameter(parameter) for parameter in operation]
            continue
        parameters = [_parameter(parameter) for parameter in operation.get("parameters", ())]
        turned = {key: value for key, value in operation.items() if key not in {"requestBody", "responses"}}
        if body := operation.get("requestBody"):
            content = body["content"]
            turned["consumes"] = list(content)
            schema = _schema(next(iter(content.values()))["schema"])
            required = body.get("required", False)
            parameters.insert(0, {"name": "body", "in": "body", "schema": schema, "required": required})
        turned["produces"] = ["application/json", "application/yaml"]
        turned["parameters"] = parameters
        turned["responses"] = {
            code: {
                "description": response["description"],
                "schema": _schema(next(iter(response["content"].values()))["schema"]),
            }
            for code, response in operation["responses"].items()
        }
        found[method] = turned
    return found
