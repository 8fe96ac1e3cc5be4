# SPDX-License-Identifier: Apache-2.0
"""The expressions of the allocator, in the CEL of Kubernetes.

Stored expressions are compiled, as the scheduler does: they may use everything that any API server let through. An
expression is compiled once; what it says of a kind of device is kept by the caller.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from dynamic_memory.allocation.devices import Kind
from dynamic_memory.allocation.features import Features
from dynamic_memory.allocation.matching import SelectorProblem
from dynamic_memory.api import resource
from dynamic_memory.cel.environments.device import (
    DeviceFeatures,
    DeviceView,
    Selector,
    attribute_value,
    compile_selector,
)
from dynamic_memory.cel.errors import CompileError, EvaluationError, Fault
from dynamic_memory.cel.values import Semver, Uint, kind_of
from dynamic_memory.errors import InvalidInput
from dynamic_memory.quantity import Quantity

__all__ = ["CelProvider", "evaluate_expression"]

_COMPILED_KEPT = 1024

Env = Literal["stored", "new"]


class CelProvider:
    """What the allocator asks of its host (see `allocator.Provider`).

    Args:
        features: those of the inventory.
        share_id: makes UUIDs.

    """

    def __init__(self, features: Features, share_id: Callable[[], str]) -> None:
        self._features = _device_features(features)
        # The stable allocator does not tell expressions that a device can be shared.
        self._blind = features.variant == "stable"
        self._share_id = share_id
        self._compiled: OrderedDict[tuple[str, bool], Selector | str] = OrderedDict()
        self._views: weakref.WeakKeyDictionary[Kind, DeviceView] = weakref.WeakKeyDictionary()

    def evaluate(self, expression: str, kind: Kind) -> bool:
        """Apply a selector to a device.

        Raises:
            SelectorProblem: it does not compile, or fails on the device.

        """
        selector = self._compile(expression, derived=False)
        try:
            return selector.matches(self._view(kind))
        except EvaluationError as error:
            raise SelectorProblem(str(error), compiling=False) from error

    def derive(self, expression: str, kind: Kind) -> resource.DeviceAttribute:
        """Compute a derived attribute of a device.

        Raises:
            SelectorProblem: it does not compile, or fails on the device.

        """
        selector = self._compile(expression, derived=True)
        try:
            return _as_attribute(selector.value(self._view(kind)))
        except EvaluationError as error:
            raise SelectorProblem(str(error), compiling=False) from error

    def share_id(self) -> str:
        """Return a new UUID."""
        return self._share_id()

    def _compile(self, expression: str, *, derived: bool) -> Selector:
        key = (expression, derived)
        found = self._compiled.get(key)
        if found is None:
            try:
                found = compile_selector(expression, self._features, derived=derived)
            except CompileError as error:
                found = str(error)
            self._compiled[key] = found
            if len(self._compiled) > _COMPILED_KEPT:
                self._compiled.popitem(last=False)
        if isinstance(found, str):
            raise SelectorProblem(found, compiling=True)
        return found

    def _view(self, kind: Kind) -> DeviceView:
        view = self._views.get(kind)
        if view is None:
            view = self._views[kind] = _view_of(kind.driver, kind.spec, multi=kind.multi and not self._blind)
        return view


def _device_features(features: Features) -> DeviceFeatures:
    return DeviceFeatures(
        consumable_capacity=features.consumable_capacity, list_attributes=features.list_type_attributes
    )


def _view_of(driver: str, device: resource.Device, *, multi: bool) -> DeviceView:
    attributes = {}
    for name, attribute in device.attributes.items():
        try:
            attributes[name] = attribute_value(msgspec.to_builtins(attribute))
        except Fault as fault:
            raise SelectorProblem(f"attribute {name}: {fault}", compiling=False) from fault
    try:
        capacity = {name: Quantity.parse(own.value) for name, own in device.capacity.items()}
    except InvalidInput as error:
        raise SelectorProblem(str(error), compiling=False) from error
    return DeviceView(driver, attributes, capacity, allow_multiple_allocations=multi)


def _as_attribute(value: Any) -> resource.DeviceAttribute:
    """Return a value as an attribute.

    Raises:
        SelectorProblem: attributes have no such type.

    """
    if isinstance(value, list | tuple):
        types = {_type_of(own) for own in value} or {"string"}
        if len(types) > 1:
            raise SelectorProblem("the elements of the list are of different types", compiling=False)
        body = {f"{types.pop()}s": [_plain(own) for own in value]}
    else:
        body = {_type_of(value): _plain(value)}
    return msgspec.convert(body, type=resource.DeviceAttribute)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Semver) else value


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int) and not isinstance(value, Uint):
        return "int"
    if isinstance(value, str):
        return "string"
    if isinstance(value, Semver):
        return "version"
    raise SelectorProblem(f"unsupported CEL return type: {kind_of(value)}", compiling=False)


def evaluate_expression(
    expression: str, driver: str, device: resource.Device, features: Features, env: Env
) -> dict[str, Any]:
    """Say what an expression makes of a device, in the words of the JSON protocol.

    It is compiled as for a derived attribute, whose types include those of a selector; a bool is a match, anything else
    a value.
    """
    try:
        selector = compile_selector(expression, _device_features(features), env=env, derived=True)
    except CompileError as error:
        return {"compileError": str(error)}
    try:
        view = _view_of(driver, device, multi=device.allow_multiple_allocations is True)
        value = selector.value(view)
        if isinstance(value, bool):
            return {"match": value}
        return {"value": _as_attribute(value)}
    except EvaluationError as error:
        return {"runtimeError": str(error)}
    except SelectorProblem as problem:
        return {"runtimeError": problem.text}
