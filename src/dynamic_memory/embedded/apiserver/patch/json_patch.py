# SPDX-License-Identifier: Apache-2.0
"""JSON patches (RFC 6902) as the API server of Kubernetes takes them.

That is what the library which it uses does: negative indices count from the end, `replace` wants what it replaces,
`add` replaces in objects. A patch that does not apply is 422 with one sentence for all causes; what went wrong is in
the error's cause, `PatchProblem`, whose texts admission policies show.

Source: gopkg.in/evanphx/json-patch.v4; k8s.io/apiserver, pkg/endpoints/handlers/patch.go.
"""

from __future__ import annotations

from typing import Any

from dynamic_memory.embedded.apiserver.errors import StatusError, bad_request, too_large
from dynamic_memory.embedded.apiserver.schema import MISSING, clone

__all__ = ["LIMIT", "PatchProblem", "TestFailed", "apply", "run"]

LIMIT = 10_000
"""Operations in one patch."""
_COPY_LIMIT = 3 * 1024 * 1024
"""Values that all copies of one patch may make, against patches that double themselves."""
_REJECTED = "the server rejected our request due to an error in our request"


class PatchProblem(Exception):
    """An operation does not apply."""


class TestFailed(PatchProblem):
    """A test of the patch says no."""

    __test__ = False  # pytest: no test case


def apply(obj: dict[str, Any], operations: Any) -> dict[str, Any]:
    """Return an object after a patch.

    Args:
        obj: the object.
        operations: as in JSON: `[{"op": "add", "path": "/spec/x", "value": 1}]`.

    Raises:
        StatusError: 400, it is no list of operations; 413, too many; 422, one does not apply.

    """
    if not isinstance(operations, list):
        kind = {dict: "object", str: "string", bool: "bool"}.get(type(operations), "number")
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {kind} into Go value of type []handlers.jsonPatchOp"
        )
    for operation in operations:
        if not isinstance(operation, dict):
            kind = {list: "array", str: "string", bool: "bool"}.get(type(operation), "number")
            raise bad_request(
                f"error decoding patch: json: cannot unmarshal {kind} into Go value of type handlers.jsonPatchOp"
            )
    if len(operations) > LIMIT:
        raise too_large(f"The allowed maximum operations in a JSON patch is {LIMIT}, got {len(operations)}")
    try:
        result = run(obj, operations)
    except PatchProblem as problem:
        raise StatusError(422, "Invalid", _REJECTED) from problem
    if not isinstance(result, dict):
        raise StatusError(422, "Invalid", _REJECTED)
    return result


def run(document: Any, operations: list[dict[str, Any]]) -> Any:
    """Return a document after a patch.

    Raises:
        PatchProblem: an operation does not apply.
        TestFailed: a test said no.

    """
    document = clone(document)
    budget = _COPY_LIMIT
    for operation in operations:
        kind = operation.get("op")
        kind = kind if isinstance(kind, str) else "unknown"
        if kind == "add":
            path = _path(operation)
            _add(document, path, _value(operation), "add")
        elif kind == "remove":
            _remove(document, _path(operation), "remove")
        elif kind == "replace":
            document = _replace(document, _path(operation), _value(operation))
        elif kind == "move":
            value = _remove(document, _from(operation, "move"), "move")
            _add(document, _path(operation), value, "move")
        elif kind == "copy":
            value = _get(document, _from(operation, "copy"), "copy")
            budget -= _size(value)
            if budget < 0:
                raise PatchProblem("error while performing deep copy: the copies are too large")
            _add(document, _path(operation), clone(value), "copy")
        elif kind == "test":
            _test(document, _path(operation), operation.get("value"))
        else:
            raise PatchProblem(f"Unexpected kind: {kind}")
    return document


def _path(operation: dict[str, Any]) -> str:
    path = operation.get("path")
    if not isinstance(path, str):
        raise PatchProblem(f"{operation.get('op')} operation failed to decode path: missing value")
    return path


def _from(operation: dict[str, Any], kind: str) -> str:
    path = operation.get("from")
    if not isinstance(path, str):
        raise PatchProblem(f"{kind} operation failed to decode from: operation, missing from field: missing value")
    return path


def _value(operation: dict[str, Any]) -> Any:
    return clone(operation.get("value"))


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return 2 + sum(len(name) + 4 + _size(item) for name, item in value.items())
    if isinstance(value, list):
        return 2 + sum(1 + _size(item) for item in value)
    return len(value) + 2 if isinstance(value, str) else 5


def _find(document: Any, path: str) -> tuple[Any, str] | None:
    """Return the object or list that a path ends in, and the last step; None if the way is not there."""
    steps = path.split("/")
    if len(steps) < 2:  # noqa: PLR2004 - a path begins with a slash
        return None
    place = document
    for step in steps[1:-1]:
        place = _item(place, _decoded(step))
        if type(place) not in {dict, list}:
            return None
    return (place, _decoded(steps[-1])) if type(place) in {dict, list} else None


def _decoded(step: str) -> str:
    return step.replace("~1", "/").replace("~0", "~")


def _item(place: Any, step: str) -> Any:
    """Return what is at a step, MISSING if nothing is."""
    if type(place) is dict:
        return place.get(step, MISSING)
    try:
        return place[_index(place, step)]
    except PatchProblem:
        return MISSING


def _index(place: list[Any], step: str, *, size: int | None = None) -> int:
    size = len(place) if size is None else size
    try:
        index = int(step) if step.isascii() and "_" not in step and step.strip() == step else None
    except ValueError:
        index = None
    if index is None:
        raise PatchProblem(f'strconv.Atoi: parsing "{step}": invalid syntax')
    if index >= size or index < -size:
        raise PatchProblem(f"Unable to access invalid index: {index}: invalid index referenced")
    return index + size if index < 0 else index


_WHERE = {"move": "destination path", "copy": "destination path"}


def _add(document: Any, path: str, value: Any, kind: str) -> None:
    found = _find(document, path)
    if found is None:
        shown = f'"{path}"' if kind == "add" else path
        raise PatchProblem(
            f"{kind} operation does not apply: doc is missing {_WHERE.get(kind, 'path')}: {shown}: missing value"
        )
    place, step = found
    if type(place) is dict:
        place[step] = value
    elif step == "-":
        place.append(value)
    else:
        try:
            place.insert(_index(place, step, size=len(place) + 1), value)
        except PatchProblem as problem:
            before = f"value was not a proper array index: '{step}': " if "strconv" in str(problem) else ""
            raise PatchProblem(f"error in {kind} for path: '{path}': {before}{problem}") from None


def _get(document: Any, path: str, kind: str) -> Any:
    found = _find(document, path)
    if found is None:
        raise PatchProblem(f"{kind} operation does not apply: doc is missing from path: {path}: missing value")
    place, step = found
    if type(place) is dict:
        return place.get(step)
    try:
        return place[_index(place, step)]
    except PatchProblem as problem:
        raise PatchProblem(f"error in {kind} for path: '{path}': {problem}") from None


def _remove(document: Any, path: str, kind: str) -> Any:
    found = _find(document, path)
    if found is None:
        from_ = f'path: "{path}"' if kind == "remove" else f"from path: {path}"
        raise PatchProblem(f"{kind} operation does not apply: doc is missing {from_}: missing value")
    place, step = found
    if type(place) is dict:
        if step not in place:
            raise PatchProblem(
                f"error in {kind} for path: '{path}': Unable to remove nonexistent key: {step}: missing value"
            )
        return place.pop(step)
    try:
        return place.pop(_index(place, step))
    except PatchProblem as problem:
        raise PatchProblem(f"error in {kind} for path: '{path}': {problem}") from None


def _replace(document: Any, path: str, value: Any) -> Any:
    if not path:
        if type(value) not in {dict, list}:
            raise PatchProblem("replace operation value must be object or array: missing value")
        return value
    found = _find(document, path)
    if found is None:
        raise PatchProblem(f"replace operation does not apply: doc is missing path: {path}: missing value")
    place, step = found
    if type(place) is list:
        try:
            place[_index(place, step)] = value
        except PatchProblem:
            raise PatchProblem(f"replace operation does not apply: doc is missing key: {path}: missing value") from None
    else:
        # the library does not ask whether an object has the key
        place[step] = value
    return document


def _test(document: Any, path: str, wanted: Any) -> None:
    if path:
        found = _find(document, path)
        if found is None:
            raise PatchProblem(f"test operation does not apply: is missing path: {path}: missing value")
        place, step = found
        if type(place) is dict:
            value = place.get(step)
        else:
            try:
                value = place[_index(place, step)]
            except PatchProblem as problem:
                raise PatchProblem(f"error in test for path: '{path}': {problem}") from None
    else:
        value = document
    if not _equal(value, wanted):
        raise TestFailed(f"testing value {path} failed: test failed")


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return len(one) == len(other) and all(name in other and _equal(item, other[name]) for name, item in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)
