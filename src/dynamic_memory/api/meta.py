# SPDX-License-Identifier: Apache-2.0
"""Wire types of `meta/v1`: what every object carries."""

from msgspec import field

from dynamic_memory.api.wire import Wire

__all__ = ["Condition", "LabelSelector", "LabelSelectorRequirement", "ObjectMeta", "OwnerReference", "PartialObject"]


class OwnerReference(Wire, frozen=True, kw_only=True):
    """An object that this one belongs to."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class ObjectMeta(Wire, frozen=True, kw_only=True):
    """Identity and bookkeeping of an object; times are RFC 3339 strings as the server wrote them."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: list[str] = []
    owner_references: list[OwnerReference] = []


class PartialObject(Wire, frozen=True, kw_only=True):
    """Any object of which only the metadata is read (also what a watch bookmark is decoded as)."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = field(default_factory=ObjectMeta)


class Condition(Wire, frozen=True, kw_only=True):
    """A condition; of `metav1.Condition` the server refuses an empty reason and a missing transition time.

    The conditions of nodes and pods are older types, in which the time may also be null.
    """

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None
    observed_generation: int = 0


class LabelSelectorRequirement(Wire, frozen=True, kw_only=True):
    """One line of a label selector."""

    key: str
    operator: str
    values: list[str] = []


class LabelSelector(Wire, frozen=True, kw_only=True):
    """`metav1.LabelSelector`: all of it must hold."""

    match_labels: dict[str, str] = {}
    match_expressions: list[LabelSelectorRequirement] = []
