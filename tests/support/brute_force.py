# SPDX-License-Identifier: Apache-2.0
"""Is there any allocation at all? Answered by trying everything, with nothing of the engine but its questions.

Works on the JSON of a case. It knows all features of the allocator, but no errors: cases that end in one are for
others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from dynamic_memory.quantity import Quantity

__all__ = ["satisfiable"]

Matches = Callable[[str, str, dict[str, Any]], bool]
"""Expression, driver and device: does it match?"""


def satisfiable(case: dict[str, Any], enabled: frozenset[str], matches: Matches) -> bool:
    """Tell whether the claims of a case can be allocated."""
    return _Solver(case, enabled, matches).solve()


DERIVED: dict[str, tuple[str, Any]] = {"1": ("int", 1), '"a"': ("string", "a"), "true": ("bool", True)}
"""What the expressions of the random cases evaluate to; the only other one is the driver."""


def _number(text: Any) -> Fraction:
    return Quantity.parse(text).as_fraction()


class _Solver:
    def __init__(self, case: dict[str, Any], enabled: frozenset[str], matches: Matches) -> None:
        self.enabled = enabled
        self.matches = matches
        self.node = case["node"]
        self.classes = {entry["metadata"]["name"]: entry["spec"] for entry in case["classes"]}
        self.claims = case["claims"]
        self.whole: set[tuple[str, ...]] = set()
        self.shares: dict[tuple[str, ...], dict[str, Fraction]] = {}
        for claim in case["allocatedClaims"]:
            for result in claim["status"]["allocation"]["devices"]["results"]:
                if result.get("adminAccess"):
                    continue
                key = (result["driver"], result["pool"], result["device"])
                if "ConsumableCapacity" in enabled and "shareID" in result:
                    used = self.shares.setdefault(key, {})
                    for name, text in result.get("consumedCapacity", {}).items():
                        used[name] = used.get(name, Fraction(0)) + _number(text)
                else:
                    self.whole.add(key)
        self.devices: list[tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]] = []
        self.counters: dict[tuple[str, ...], Fraction] = {}
        self.groups: dict[tuple[str, ...], list[frozenset[str]]] = {}
        for key in sorted({(piece["spec"]["driver"], piece["spec"]["pool"]["name"]) for piece in case["slices"]}):
            self.read_pool(key, [piece for piece in case["slices"] if self.of(piece) == key])

    @staticmethod
    def of(piece: dict[str, Any]) -> tuple[str, str]:
        return piece["spec"]["driver"], piece["spec"]["pool"]["name"]

    # --- the inventory

    def reached(self, place: dict[str, Any]) -> bool:
        if place.get("nodeName"):
            return place["nodeName"] == self.node["metadata"]["name"]
        if place.get("allNodes"):
            return True
        if "nodeSelector" in place:
            return any(self.term(term) for term in place["nodeSelector"]["nodeSelectorTerms"])
        return place.get("perDeviceNodeSelection", False) and any(self.reached(own) for own in place.get("devices", ()))

    def term(self, term: dict[str, Any]) -> bool:
        labels = self.node["metadata"]["labels"]
        for rule in term.get("matchExpressions", ()):
            value, values = labels.get(rule["key"]), rule.get("values", [])
            number = int(value) if value is not None and value.isdigit() else None
            fits = {
                "In": value in values,
                "NotIn": value not in values,
                "Exists": value is not None,
                "DoesNotExist": value is None,
                "Gt": number is not None and bool(values) and values[0].isdigit() and number > int(values[0]),
                "Lt": number is not None and bool(values) and values[0].isdigit() and number < int(values[0]),
            }.get(rule["operator"], False)
            if not fits:
                return False
        name = self.node["metadata"]["name"]
        return all((name in rule["values"]) == (rule["operator"] == "In") for rule in term.get("matchFields", ()))

    def visible(self, piece: dict[str, Any]) -> bool:
        spec = piece["spec"]
        if "PartitionableDevices" not in self.enabled and (
            "perDeviceNodeSelection" in spec or "sharedCounters" in spec
        ):
            return False
        grouped = any(
            entry.get("compatibilityGroups")
            for device in spec.get("devices", ())
            for entry in device.get("consumesCounters", ())
        )
        return not grouped or "CompatibilityGroups" in self.enabled

    def read_pool(self, key: tuple[str, str], slices: list[dict[str, Any]]) -> None:
        stable = self.enabled <= {"AdminAccess", "DeviceTaints", "PartitionableDevices", "PrioritizedList"}
        mine = [
            piece
            for piece in slices
            if self.visible(piece) and (self.reached(piece["spec"]) or (stable and "sharedCounters" in piece["spec"]))
        ]
        if not mine:
            return
        generation = max(piece["spec"]["pool"]["generation"] for piece in mine)
        mine = [piece for piece in mine if piece["spec"]["pool"]["generation"] == generation]
        wanted = mine[0]["spec"]["pool"]["resourceSliceCount"]
        everything = mine
        if len(mine) != wanted:
            if any(piece["spec"]["pool"]["generation"] > generation for piece in slices):
                return
            everything = [piece for piece in slices if piece["spec"]["pool"]["generation"] == generation]
            everything = [piece for piece in everything if not self.dropped(piece)]
            if len(everything) != wanted:
                return
        for piece in everything:
            for entry in piece["spec"].get("sharedCounters", ()):
                for name, counter in entry["counters"].items():
                    self.counters[*key, entry["name"], name] = _number(counter["value"])
        for piece in everything:
            for device in piece["spec"].get("devices", ()):
                own = (*key, device["name"])
                if own in self.whole or own in self.shares:
                    self.charge(own, device)
        for piece in mine:
            for device in piece["spec"].get("devices", ()):
                if not piece["spec"].get("perDeviceNodeSelection") or self.reached(device):
                    self.devices.append(((*key, device["name"]), device, piece["spec"]))

    def dropped(self, piece: dict[str, Any]) -> bool:
        return "CompatibilityGroups" not in self.enabled and any(
            entry.get("compatibilityGroups")
            for device in piece["spec"].get("devices", ())
            for entry in device.get("consumesCounters", ())
        )

    def charge(self, own: tuple[str, ...], device: dict[str, Any], sign: int = 1) -> None:
        for entry in device.get("consumesCounters", ()):
            place = (*own[:2], entry["counterSet"])
            members = self.groups.setdefault(place, [])
            groups = frozenset(entry.get("compatibilityGroups", ()))
            members.append(groups) if sign > 0 else members.remove(groups)
            for name, counter in entry["counters"].items():
                if (*place, name) in self.counters:
                    self.counters[*place, name] -= sign * _number(counter["value"])

    # --- the search: wants in order, all sets of devices for each

    def solve(self) -> bool:
        wants = []
        for index, claim in enumerate(self.claims):
            for request in claim["spec"]["devices"]["requests"]:
                if "exactly" in request:
                    wants.append((index, [("", request["name"], request["exactly"])]))
                else:
                    options = [(request["name"], own["name"], own) for own in request["firstAvailable"]]
                    wants.append((index, options))
        return self.step(wants, 0, [])

    def step(self, wants: list[Any], position: int, taken: list[Any]) -> bool:
        if position == len(wants):
            return True
        claim, options = wants[position]
        for parent, name, body in options:
            for devices in self.sets(body):
                if self.room(claim, taken, devices):
                    added = []
                    if all(self.take(claim, parent, name, body, own, taken, added) for own in devices) and self.step(
                        wants, position + 1, taken
                    ):
                        return True
                    for undo in reversed(added):
                        undo()
        return False

    @staticmethod
    def room(claim: int, taken: list[Any], devices: tuple[Any, ...]) -> bool:
        return sum(1 for own in taken if own[0] == claim) + len(devices) <= 32

    def sets(self, body: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        fitting = [own for own in self.devices if self.selected(body, own)]
        if body["allocationMode"] == "All":
            fitting = [own for own in fitting if self.amounts(body, own[1], {}) is not None]
            if fitting:
                yield tuple(fitting)
            return
        if body["count"] <= len(fitting):
            yield from itertools.combinations(fitting, body["count"])

    def selected(self, body: dict[str, Any], own: tuple[Any, ...]) -> bool:
        key, device, _ = own
        if device.get("bindingConditions") and "DeviceBindingAndStatus" not in self.enabled:
            return False
        rules = [*self.classes[body["deviceClassName"]].get("selectors", ()), *body.get("selectors", ())]
        return all(self.matches(rule["cel"]["expression"], key[0], device) for rule in rules)

    def amounts(
        self, body: dict[str, Any], device: dict[str, Any], used: dict[str, Fraction]
    ) -> dict[str, Fraction] | None:
        """Return what is taken of each capacity, None if it does not fit beside what is used."""
        if "ConsumableCapacity" not in self.enabled:
            return {}
        wanted = body.get("capacity", {}).get("requests", {})
        capacities = device.get("capacity", {})
        if not set(wanted) <= set(capacities):
            return None
        result = {}
        for name, capacity in capacities.items():
            amount = self.rounded(wanted.get(name), capacity)
            if amount is None or used.get(name, Fraction(0)) + amount > _number(capacity["value"]):
                return None
            result[name] = amount
        return result

    def rounded(self, text: str | None, capacity: dict[str, Any]) -> Fraction | None:
        policy = capacity.get("requestPolicy", {})
        if text is None:
            return _number(policy.get("default", capacity["value"]))
        wanted = _number(text)
        if "validRange" in policy:
            span = policy["validRange"]
            low = _number(span["min"])
            if wanted < low:
                wanted = low
            elif "step" in span:
                milli = "FractionalCapacityRange" in self.enabled
                unit = Fraction(1, 1000) if milli else Fraction(1)
                wanted = math.ceil(wanted / unit) * unit
                step = _number(span["step"])
                wanted = low + math.ceil((wanted - low) / step) * step
            return None if "max" in span and wanted > _number(span["max"]) else wanted
        if "validValues" in policy:
            return min((own for own in map(_number, policy["validValues"]) if own >= wanted), default=None)
        return wanted

    def take(  # noqa: PLR0911 - one list of checks
        self,
        claim: int,
        parent: str,
        name: str,
        body: dict[str, Any],
        own: tuple[Any, ...],
        taken: list[Any],
        added: Any,
    ) -> bool:
        key, device, spec = own
        admin = body.get("adminAccess", False)
        shared = "ConsumableCapacity" in self.enabled and device.get("allowMultipleAllocations", False)
        marked = [other for other in taken if other[1] == key and not other[3]]
        if admin:
            if any(other[0] == claim for other in marked):
                return False
        elif key in self.whole or marked:
            return False
        alpha = {"CompatibilityGroups", "DerivedAttributes", "ListTypeAttributes", "OptionalNodeOperations"}
        if spec.get("skipNodeOperations") and self.enabled & alpha:
            declared = self.node.get("status", {}).get("declaredFeatures", ())
            if "OptionalNodeOperations" not in self.enabled or not declared:
                return False
        if not self.tolerated(body, device):
            return False
        amounts = self.amounts(body, device, self.shares.get(key, {}))
        if amounts is None:
            return False
        counted = bool(device.get("consumesCounters")) and not (shared and key in self.shares)
        if counted and "PartitionableDevices" not in self.enabled:
            return False
        entry = (claim, key, (parent, name, body, device), shared)
        taken.append(entry)
        added.append(lambda: taken.remove(entry))
        if counted:
            if not self.compatible(key, device):
                return False
            self.charge(key, device)
            added.append(lambda: self.charge(key, device, -1))
            if any(left < 0 for place, left in self.counters.items() if place[:2] == key[:2]):
                return False
        if shared:
            before = dict(self.shares[key]) if key in self.shares else None
            used = self.shares.setdefault(key, {})
            for capacity, amount in amounts.items():
                used[capacity] = used.get(capacity, Fraction(0)) + amount
            added.append(lambda: self.shares.pop(key) if before is None else self.shares.__setitem__(key, before))
        return self.constraints_hold(claim, taken)

    def compatible(self, key: tuple[str, ...], device: dict[str, Any]) -> bool:
        if "CompatibilityGroups" not in self.enabled:
            return True
        for entry in device["consumesCounters"]:
            members = self.groups.get((*key[:2], entry["counterSet"]), [])
            own = frozenset(entry.get("compatibilityGroups", ()))
            if not members:
                continue
            if not members[0] and not own:
                continue
            if not members[0] or not own or not own.intersection(*[member for member in members if member]):
                return False
        return True

    def tolerated(self, body: dict[str, Any], device: dict[str, Any]) -> bool:
        if "DeviceTaints" not in self.enabled:
            return True
        for taint in device.get("taints", ()):
            if taint["effect"] == "None":
                continue
            for own in body.get("tolerations", ()):
                if own.get("key") not in {None, taint["key"]} or own.get("effect") not in {None, taint["effect"]}:
                    continue
                if own.get("operator") == "Exists" or own.get("value", "") == taint.get("value", ""):
                    break
            else:
                return False
        return True

    def constraints_hold(self, claim: int, taken: list[Any]) -> bool:  # noqa: PLR0911 - one list of checks
        for constraint in self.claims[claim]["spec"]["devices"].get("constraints", ()):
            names = constraint.get("requests", ())
            attribute = constraint.get("matchAttribute") or constraint["distinctAttribute"]
            values = []
            for own, key, (parent, name, body, device), _ in taken:
                full = f"{parent}/{name}" if parent else name
                if own == claim and (not names or full in names or parent in names):
                    derived = {own["name"]: own["expression"] for own in body.get("derivedAttributes", ())}
                    if attribute in derived:
                        values.append(frozenset([DERIVED.get(derived[attribute], ("string", key[0]))]))
                    else:
                        values.append(self.value(key[0], device, attribute))
            if any(value is None for value in values):
                return False
            lists = "ListTypeAttributes" in self.enabled
            if "matchAttribute" in constraint:
                if lists and values and not frozenset.intersection(*values):
                    return False
                if not lists and len(values) > 1 and (len(set(values)) > 1 or not values[0]):
                    return False
            else:
                if lists and any(not value for value in values):
                    return False
                if any(one & two for one, two in itertools.combinations(values, 2)):
                    return False
                if not lists and any(not value for value in values[1:]):
                    return False
        return True

    def value(self, driver: str, device: dict[str, Any], name: str) -> frozenset[Any] | None:
        domain, _, short = name.partition("/")
        attributes = device["attributes"]
        found = attributes.get(name, attributes.get(short) if domain == driver else None)
        if found is None:
            return None
        ((kind, value),) = found.items()
        if isinstance(value, list):
            return (
                frozenset((kind.removesuffix("s"), own) for own in value)
                if "ListTypeAttributes" in self.enabled
                else frozenset()
            )
        return frozenset([(kind, value)])
