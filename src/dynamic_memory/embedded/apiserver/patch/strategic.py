# SPDX-License-Identifier: Apache-2.0
"""Strategic merge patches: merge patches that know which lists are maps.

The schema says how: `patch_strategy` holds merge, replace or retainKeys (or merge,retainKeys), `patch_merge_key` the
field by which items of a list are the same. Directives in the patch: `$patch: delete | replace | merge`,
`$deleteFromPrimitiveList/<field>`, `$setElementOrder/<field>` and `$retainKeys`.

Source: k8s.io/apimachinery, pkg/util/strategicpatch. (Its sort of mixed lists compares inconsistently; here it is
stable and puts the patch's items in the patch's order.)
"""

from __future__ import annotations

from typing import Any

from dynamic_memory.embedded.apiserver.errors import StatusError, bad_request
from dynamic_memory.embedded.apiserver.schema import MISSING, Schema, clone

__all__ = ["apply"]

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_DELETE = "$deleteFromPrimitiveList"
_ORDER = "$setElementOrder"
_TYPES = {
    dict: "map[string]interface {}",
    list: "[]interface {}",
    str: "string",
    bool: "bool",
    int: "int64",
    float: "float64",
    type(None): "%!s(<nil>)",
}
_REJECTED = "the server rejected our request due to an error in our request"


class _Problem(Exception):
    """A patch does not fit; `code` is the HTTP status that it gets."""

    def __init__(self, text: str, code: int = 500) -> None:
        super().__init__(text)
        self.code = code


def apply(schema: Schema, obj: dict[str, Any], patch: Any) -> dict[str, Any]:
    """Return an object after a patch.

    Raises:
        StatusError: 400, 422 or 500 as Kubernetes has it: the patch is malformed, or does not fit the object.

    """
    if not isinstance(patch, dict):
        kind = {list: "array", str: "string", bool: "bool", type(None): "null"}.get(type(patch), "number")
        raise bad_request(f"json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
    try:
        return _merge_map(schema, clone(obj), clone(patch))
    except _Problem as problem:
        if problem.code == 400:  # noqa: PLR2004 - Bad Request
            raise bad_request(str(problem)) from None
        text = _REJECTED if problem.code == 422 else str(problem)  # noqa: PLR2004 - Unprocessable Entity
        raise StatusError(problem.code, "Invalid" if problem.code == 422 else "", text) from None  # noqa: PLR2004


def _no_key(item: dict[str, Any], key: str) -> _Problem:
    return _Problem(f"map: {_go(item)} does not contain declared merge key: {key}")


def _wrong_type(wanted: type, got: Any) -> _Problem:
    return _Problem(f"expected a {_TYPES[wanted]}, but received a {_TYPES.get(type(got), 'string')}")


def _go(value: Any) -> str:
    """Print a value as Go's `%v` does."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{name}:{_go(value[name])}' for name in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_go, value))}]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _strategies(schema: Schema | None) -> tuple[str, ...]:
    return tuple(part for part in schema.patch_strategy.split(",") if part) if schema is not None else ()


def _strategy(schema: Schema | None) -> str:
    """Return merge, replace or nothing."""
    return next((part for part in _strategies(schema) if part != "retainKeys"), "")


def _child(schema: Schema | None, name: str) -> Schema | None:
    return None if schema is None else schema.properties.get(name, schema.additional)


def _directed(patch: dict[str, Any]) -> dict[str, Any]:
    """Return what an object becomes by the directive in its patch."""
    directive = patch.pop(_DIRECTIVE)
    if directive == "replace":
        return patch
    if directive == "delete":
        return {}
    raise _Problem(f"unknown patch type: {_go(directive)} in map: {_go({**patch, _DIRECTIVE: directive})}")


def _merge_map(schema: Schema | None, original: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Merge a patch into an object; both are ours to change."""
    if _DIRECTIVE in patch:
        return _directed(patch)
    _retain_keys(original, patch)
    _set_orders(schema, original, patch)
    for key, value in patch.items():
        deletes = key.startswith(_DELETE)
        name = _directive_field(key, _DELETE) if deletes else key
        if value is None:
            original.pop(name, None)
            continue
        here = original.get(name, MISSING)
        if here is MISSING or type(here) is not type(value) or type(value) not in {dict, list}:
            if not deletes:
                _put(original, name, _without_directives(value))
            continue
        child = _child(schema, name)
        if type(value) is dict:
            original[name] = value if _strategy(child) == "replace" else _merge_map(child, here, value)
        elif deletes or _strategy(child) == "merge":
            original[name] = _merge_list(child, here, value, deletes=deletes)
        else:
            original[name] = value
    return original


def _put(original: dict[str, Any], name: str, value: Any) -> None:
    if value is MISSING:
        original.pop(name, None)
    else:
        original[name] = value


def _directive_field(key: str, prefix: str) -> str:
    before, slash, name = key.partition("/")
    if not slash or before != prefix:
        what = "primitive list" if prefix == _DELETE else "setElementOrder list"
        raise _Problem(f"invalid patch format of {what}", 400)
    return name


def _retain_keys(original: dict[str, Any], patch: dict[str, Any]) -> None:
    if _RETAIN not in patch:
        return
    retained = patch.pop(_RETAIN)
    if not isinstance(retained, list):
        raise _Problem("invalid patch format of retainKeys", 400)
    for key, value in patch.items():
        if value is not None and not key.startswith((_DELETE, _ORDER)) and key not in retained:
            raise _Problem("invalid patch format of retainKeys", 400)
    for key in [key for key in original if key not in retained]:
        del original[key]


def _set_orders(schema: Schema | None, original: dict[str, Any], patch: dict[str, Any]) -> None:
    """Merge the lists whose order the patch says."""
    for key in [key for key in patch if key.startswith(_ORDER)]:
        order = patch.pop(key)
        if not isinstance(order, list):
            raise _wrong_type(list, order)
        name = _directive_field(key, _ORDER)
        child = _child(schema, name)
        merge_key = child.patch_merge_key if child is not None else ""
        here, there = original.get(name, MISSING), patch.get(name, MISSING)
        for value in (here, there):
            if value is not MISSING and not isinstance(value, list):
                raise _wrong_type(list, value)
        _check_order(there or [], order, merge_key)
        if there is MISSING:
            if here is MISSING:
                continue
            merged = here
        elif here is MISSING:
            merged = _without_directives(there)
        elif _strategy(child) == "merge":
            merged = _merge_list(child, clone(here), there, deletes=False)
        else:
            merged = there
        original[name] = _in_order(merged, order, _overwritten(here or [], there or [], merge_key), merge_key)
        patch.pop(name, None)


def _overwritten(here: list[Any], there: list[Any], merge_key: str) -> list[Any]:
    """Return the list that says where items were.

    In Kubernetes that is the old list after what is deleted has been taken out of it in place, and what is new has been
    put at its end, as far as it has room: a new item that fits in has a place, one that does not has none.
    """
    deleted = [item.get(merge_key) for item in there if isinstance(item, dict) and item.get(_DIRECTIVE) == "delete"]
    rest = [item for item in here if not isinstance(item, dict) or item.get(merge_key, MISSING) not in deleted]
    if len(rest) == len(here):
        return here
    known = _place(rest, merge_key)
    fresh = [item for item in there if _DIRECTIVE not in item and item.get(merge_key) not in known]
    return (rest + fresh)[: len(here)]


def _identity(item: Any, merge_key: str) -> Any:
    if not merge_key:
        return item
    if not isinstance(item, dict):
        raise _wrong_type(dict, item)
    if merge_key not in item:
        raise _no_key(item, merge_key)
    return item[merge_key]


def _check_order(items: list[Any], order: list[Any], merge_key: str) -> None:
    """Check that the items of a patch come in the order that it says."""
    if not items or not order:
        return
    rest = iter(order)
    for item in items:
        if isinstance(item, dict) and _DIRECTIVE in item:
            continue
        wanted = _identity(item, merge_key)
        if not any(_identity(other, merge_key) == wanted for other in rest):
            raise _Problem(f"The order in patch list:\n{_go(items)}\n doesn't match {_ORDER} list:\n{_go(order)}\n")


def _hashable(identity: Any) -> Any:
    """Return what stands for a merge key in sets; one that is no scalar is refused when the object is read."""
    return _go(identity) if isinstance(identity, dict | list) else identity


def _place(items: list[Any], merge_key: str) -> dict[Any, int]:
    places: dict[Any, int] = {}
    for number, item in enumerate(items):
        identity = item.get(merge_key) if merge_key and isinstance(item, dict) else item
        places.setdefault(_hashable(identity), number)
    return places


def _in_order(merged: list[Any], order: list[Any], before: list[Any], merge_key: str) -> list[Any]:
    """Put the items that the patch names in its order, the others where they were, relative to those."""
    wanted, was = _place(order, merge_key), _place(before, merge_key)

    def known(item: Any) -> Any:
        return _hashable(_identity(item, merge_key))

    named = sorted((item for item in merged if known(item) in wanted), key=lambda item: wanted[known(item)])
    others = sorted(
        (item for item in merged if known(item) not in wanted), key=lambda item: was.get(known(item), len(was))
    )
    result: list[Any] = []
    left = right = 0
    while left < len(others) or right < len(named):
        if left >= len(others):
            result.append(named[right])
            right += 1
        elif right >= len(named):
            result.append(others[left])
            left += 1
        else:
            here, there = (was.get(known(x)) for x in (others[left], named[right]))
            if here is not None and there is not None and here < there:
                result.append(others[left])
                left += 1
            else:
                result.append(named[right])
                right += 1
    return result


def _merge_list(schema: Schema | None, original: list[Any], patch: list[Any], *, deletes: bool) -> list[Any]:
    if not original and not patch:
        return original
    kinds = {type(item) for item in (*original, *patch)}
    if list in kinds:
        raise _Problem("lists of lists are not supported", 422)
    if len(kinds) != 1:
        raise _Problem(f"list element types are not identical: {_go([original, patch])}")
    if kinds != {dict}:
        if deletes:
            return [item for item in original if item not in patch]
        return _in_order(list(dict.fromkeys([*original, *patch])), patch, original, "")
    merge_key = schema.patch_merge_key if schema is not None else ""
    if not merge_key:
        name = schema.ref if schema is not None else ""
        raise _Problem(f"cannot merge lists without merge key for {name}")
    return _merge_items(schema, *_special_items(original, patch, merge_key), merge_key)


def _merge_items(schema: Schema | None, original: list[Any], wanted: list[dict[str, Any]], merge_key: str) -> list[Any]:
    items = schema.items if schema is not None else None
    merged = list(original)
    for item in wanted:
        identity = _identity(item, merge_key)
        for number, here in enumerate(merged):
            if isinstance(here, dict) and merge_key in here and here[merge_key] == identity:
                merged[number] = _merge_map(items, here, item)
                break
        else:
            kept = _without_directives(item)
            if kept is not MISSING:
                merged.append(kept)
    return _in_order(merged, wanted, original, merge_key)


def _special_items(original: list[Any], patch: list[Any], merge_key: str) -> tuple[list[Any], list[dict[str, Any]]]:
    """Follow the directives in the items of a list; return what is left of the list and of the patch."""
    rest, replace = [], False
    for item in patch:
        directive = item.get(_DIRECTIVE, MISSING)
        if directive is MISSING:
            rest.append(item)
        elif directive == "delete":
            identity = _identity(item, merge_key)
            original = [here for here in original if here.get(merge_key, MISSING) != identity]
        elif directive == "replace":
            replace = True
        elif directive == "merge":
            raise _Problem("merging lists cannot yet be specified in the patch")
        else:
            raise _Problem(f"unknown patch type: {_go(directive)} in map: {_go(item)}")
    return (rest, []) if replace else (original, rest)


def _without_directives(value: Any) -> Any:
    """Return a value that is new to the object without directives; MISSING if it is nothing but one."""
    if type(value) is dict:
        if _DIRECTIVE in value:
            return MISSING
        kept = ((name, _without_directives(item)) for name, item in value.items())
        return {name: item for name, item in kept if item is not MISSING}
    if type(value) is list:
        return [item for item in map(_without_directives, value) if item is not MISSING]
    return value
