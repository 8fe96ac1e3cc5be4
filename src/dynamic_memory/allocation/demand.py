# SPDX-License-Identifier: Apache-2.0
"""The claims of a pod, compiled: what is wanted, independent of any node.

Everything that can be wrong with a claim alone is found here, before a node is looked at. What is left are *wants*:
an exact request is one want; a prioritized list is one want for each alternative, of which the first that works is
taken. Source: `k8s.io/dynamic-resource-allocation` 0.37.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from dynamic_memory.allocation.capacity import Charge
from dynamic_memory.allocation.errors import InvalidRequest, TooManyDevices
from dynamic_memory.allocation.features import Features
from dynamic_memory.allocation.matching import Matcher, Shape
from dynamic_memory.api import core, resource

__all__ = ["RESULT_LIMIT", "ClaimDemand", "Demand", "Link", "Want", "compile_demand"]

RESULT_LIMIT = 32
"""Results that a claim can hold (resource.k8s.io/v1, AllocationResultsMaxSize)."""

_COUNT_LIMIT = 2**63 - 1

ClassLookup = Callable[[str], resource.DeviceClass | None]


class Want:
    """One request, or one alternative of a prioritized list.

    `count` is meaningless when `everything` is set: then the devices of the node decide.
    """

    __slots__ = (
        "admin",
        "charge",
        "claim",
        "class_",
        "count",
        "derived",
        "everything",
        "name",
        "need",
        "parent",
        "shape",
        "tolerations",
    )

    def __init__(self, claim: str, parent: str, name: str, class_: resource.DeviceClass, shape: Shape) -> None:
        self.claim = claim
        self.parent = parent
        self.name = name
        self.class_ = class_
        self.shape = shape
        self.count = 0
        self.everything = False
        self.admin = False
        self.tolerations: Sequence[core.Toleration] = ()
        self.charge: Charge | None = None
        self.derived: dict[str, str] = {}
        self.need: object = None

    @property
    def full_name(self) -> str:
        """The name as it stands in results: request, or request/sub-request."""
        return f"{self.parent}/{self.name}" if self.parent else self.name

    def named_in(self, requests: frozenset[str]) -> bool:
        """Tell whether a list of requests (constraint, configuration) means this one; an empty list means all."""
        if not requests:
            return True
        return self.full_name in requests or (bool(self.parent) and self.parent in requests)

    def tolerates(self, taints: Sequence[resource.DeviceTaint]) -> bool:
        """Tell whether all of these taints are put up with."""
        return all(any(_tolerates(toleration, taint) for toleration in self.tolerations) for taint in taints)


def _tolerates(toleration: core.Toleration, taint: resource.DeviceTaint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator in {"", "Equal"}:
        return toleration.value == taint.value
    return toleration.operator == "Exists"


class Link(msgspec.Struct, frozen=True):
    """One constraint of a claim: the attribute, whose devices it binds, and whether values must match or differ."""

    attribute: str
    requests: frozenset[str]
    distinct: bool


class ClaimDemand(msgspec.Struct, frozen=True):
    """One claim: its requests in order, each with its alternatives (one, unless it is a prioritized list)."""

    name: str
    claim: resource.ResourceClaim
    requests: tuple[tuple[Want, ...], ...]
    links: tuple[Link, ...]
    fewest: int
    """Devices needed at least, without those of requests for all devices."""


class Demand(msgspec.Struct, frozen=True):
    """All claims of a pod."""

    claims: tuple[ClaimDemand, ...]
    filterable: bool
    """Whether a node can be ruled out by counting devices, without missing an error that the search would meet."""


def compile_demand(
    claims: Sequence[resource.ResourceClaim], classes: ClassLookup, matcher: Matcher, features: Features
) -> Demand:
    """Compile claims.

    Raises:
        InvalidRequest: a claim uses what is disabled, unknown or missing.
        TooManyDevices: more devices than a claim can hold.
        InvalidInput: a quantity is none.

    """
    compiled = tuple(_Compiler(claim, classes, matcher, features).compile() for claim in claims)
    return Demand(compiled, all(_filterable(claim) for claim in compiled))


def _filterable(demand: ClaimDemand) -> bool:
    wants = [want for request in demand.requests for want in request]
    if any(want.everything or want.derived for want in wants):
        return False
    # Beyond the limit the search ends in an error or an answer, depending on what it tries first.
    most = sum(max(want.count for want in request) for request in demand.requests)
    return most <= RESULT_LIMIT


class _Compiler:
    """Compiles one claim."""

    def __init__(
        self, claim: resource.ResourceClaim, classes: ClassLookup, matcher: Matcher, features: Features
    ) -> None:
        self._claim = claim
        self._name = f"{claim.metadata.namespace}/{claim.metadata.name}".lstrip("/")
        self._classes = classes
        self._matcher = matcher
        self._features = features

    def compile(self) -> ClaimDemand:
        devices = self._claim.spec.devices
        requests = tuple(self._request(request) for request in devices.requests)
        fewest = sum(min(0 if want.everything else want.count for want in request) for request in requests)
        if fewest > RESULT_LIMIT:
            raise TooManyDevices(self._name, fewest, RESULT_LIMIT)
        links = tuple(self._link(index, entry) for index, entry in enumerate(devices.constraints))
        return ClaimDemand(self._name, self._claim, requests, links, fewest)

    def _refuse(self, where: str, problem: str) -> InvalidRequest:
        return InvalidRequest(self._name, where, problem)

    def _request(self, request: resource.DeviceRequest) -> tuple[Want, ...]:
        where = f"request {request.name}"
        options = request.first_available
        if options and not self._features.prioritized_list:
            raise self._refuse(where, "has subrequests, but the feature PrioritizedList is disabled")
        exact = request.exactly
        # The stable allocator knows nothing of capacities and does not even refuse them.
        if not self._features.consumable_capacity and self._features.variant != "stable":
            for name, entry in ((request.name, exact), *((option.name, option) for option in options)):
                if entry is not None and entry.capacity is not None:
                    raise self._refuse(
                        f"request {name}", "has capacity requests, but the feature ConsumableCapacity is disabled"
                    )
        if options:
            return tuple(
                self._want(f"subrequest {option.name}", request.name, option.name, option, admin=None)
                for option in options
            )
        if exact is None:
            raise self._refuse(where, "neither exactly nor firstAvailable is set (unsupported request type?)")
        return (self._want(where, "", request.name, exact, admin=exact.admin_access),)

    def _want(
        self,
        where: str,
        parent: str,
        name: str,
        entry: resource.ExactDeviceRequest | resource.DeviceSubRequest,
        *,
        admin: bool | None,
    ) -> Want:
        if entry.derived_attributes and not self._features.derived_attributes:
            raise self._refuse(where, "has derived attributes, but the feature DerivedAttributes is disabled")
        expressions = []
        for index, selector in enumerate(entry.selectors):
            if selector.cel is None:
                raise self._refuse(where, f"selector #{index} has no CEL expression (unsupported selector type?)")
            expressions.append(selector.cel.expression)
        if admin is not None and not self._features.admin_access:
            raise self._refuse(where, "asks for admin access, but the feature AdminAccess is disabled")
        if not entry.device_class_name:
            raise self._refuse(where, "names no device class (unsupported request type?)")
        class_ = self._classes(entry.device_class_name)
        if class_ is None:
            raise self._refuse(where, f"device class {entry.device_class_name} not found")
        mode = entry.allocation_mode
        if mode not in {"ExactCount", "All"}:
            raise self._refuse(where, f"unsupported allocation mode {mode!r}")
        if mode == "ExactCount" and entry.count > _COUNT_LIMIT:
            raise self._refuse(where, f"exact count {entry.count} is too large")
        shape = self._matcher.shape(
            [selector.cel.expression for selector in class_.spec.selectors if selector.cel is not None], expressions
        )
        want = Want(self._name, parent, name, class_, shape)
        want.everything = mode == "All"
        want.count = 0 if want.everything else entry.count
        want.admin = admin is True
        want.tolerations = entry.tolerations
        if self._features.consumable_capacity:
            want.charge = self._matcher.charge(entry.capacity.requests if entry.capacity is not None else {})
        want.derived = {derived.name: derived.expression for derived in entry.derived_attributes}
        tolerations = tuple((t.key, t.operator, t.value, t.effect) for t in entry.tolerations)
        charge = want.charge.number if want.charge is not None else None
        want.need = (shape.number, charge, tolerations, want.admin)
        return want

    def _link(self, index: int, entry: resource.DeviceConstraint) -> Link:
        requests = frozenset(entry.requests)
        if entry.match_attribute is not None:
            return Link(entry.match_attribute, requests, distinct=False)
        if entry.distinct_attribute is not None and self._features.variant != "stable":
            return Link(entry.distinct_attribute, requests, distinct=True)
        raise self._refuse(f"constraint #{index}", "is empty (unsupported constraint type?)")
