# SPDX-License-Identifier: Apache-2.0
"""Which optional parts of dynamic resource allocation are on.

Upstream keeps three allocators and takes the most stable one that has every enabled feature; they differ in a few
details beyond the features themselves (what is sorted, which slices count). `variant` names the one that would run, so
that those details can be followed. Source: `k8s.io/dynamic-resource-allocation` 0.37.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from dynamic_memory.errors import InvalidInput

__all__ = ["Features"]


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """Feature gates of the scheduler as the allocator sees them; the default is that of Kubernetes 1.37."""

    admin_access: bool = True
    compatibility_groups: bool = False
    consumable_capacity: bool = True
    derived_attributes: bool = False
    device_binding_and_status: bool = True
    device_taints: bool = True
    fractional_capacity_range: bool = False
    list_type_attributes: bool = False
    optional_node_operations: bool = False
    partitionable_devices: bool = True
    prioritized_list: bool = True

    @classmethod
    def everything(cls) -> Features:
        """All of them, also those that are alpha."""
        return cls(**dict.fromkeys(cls.__struct_fields__, True))

    @classmethod
    def nothing(cls) -> Features:
        """None: what was there in 1.34 when structured parameters became stable."""
        return cls(**dict.fromkeys(cls.__struct_fields__, False))

    @classmethod
    def of(cls, names: str | Iterable[str] | None) -> Features:
        """Read what the JSON protocol says: None (the defaults), "all", "none", or names like "AdminAccess".

        Raises:
            InvalidInput: a name is unknown.

        """
        match names:
            case None:
                return cls()
            case "all":
                return cls.everything()
            case "none":
                return cls.nothing()
            case str():
                raise InvalidInput("features", '"all", "none" or a list of names', names)
        chosen = dict.fromkeys(cls.__struct_fields__, False)
        for name in names:
            field = _FIELDS.get(name)
            if field is None:
                raise InvalidInput("features", f"names out of {', '.join(_FIELDS)}", name)
            chosen[field] = True
        return cls(**chosen)

    @property
    def variant(self) -> str:
        """The upstream allocator that runs with these features: stable, incubating or experimental."""
        if (
            self.compatibility_groups
            or self.derived_attributes
            or self.list_type_attributes
            or self.optional_node_operations
        ):
            return "experimental"
        if self.consumable_capacity or self.device_binding_and_status or self.fractional_capacity_range:
            return "incubating"
        return "stable"


_FIELDS = {"".join(part.capitalize() for part in name.split("_")): name for name in Features.__struct_fields__}
