from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AddMemoryRequest(_message.Message):
    __slots__ = ("node", "pool", "device", "bytes", "tag")
    NODE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    node: str
    pool: str
    device: str
    bytes: int
    tag: str
    def __init__(self, node: _Optional[str] = ..., pool: _Optional[str] = ..., device: _Optional[str] = ..., bytes: _Optional[int] = ..., tag: _Optional[str] = ...) -> None: ...

class AddMemoryResponse(_message.Message):
    __slots__ = ("share",)
    SHARE_FIELD_NUMBER: _ClassVar[int]
    share: Share
    def __init__(self, share: _Optional[_Union[Share, _Mapping]] = ...) -> None: ...

class RemoveMemoryRequest(_message.Message):
    __slots__ = ("tag", "host_off", "force")
    TAG_FIELD_NUMBER: _ClassVar[int]
    HOST_OFF_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    tag: str
    host_off: bool
    force: bool
    def __init__(self, tag: _Optional[str] = ..., host_off: _Optional[bool] = ..., force: _Optional[bool] = ...) -> None: ...

class RemoveMemoryResponse(_message.Message):
    __slots__ = ("state",)
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[RemoveMemoryResponse.State]
        STATE_DONE: _ClassVar[RemoveMemoryResponse.State]
        STATE_REQUESTED: _ClassVar[RemoveMemoryResponse.State]
        STATE_UNKNOWN: _ClassVar[RemoveMemoryResponse.State]
    STATE_UNSPECIFIED: RemoveMemoryResponse.State
    STATE_DONE: RemoveMemoryResponse.State
    STATE_REQUESTED: RemoveMemoryResponse.State
    STATE_UNKNOWN: RemoveMemoryResponse.State
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: RemoveMemoryResponse.State
    def __init__(self, state: _Optional[_Union[RemoveMemoryResponse.State, str]] = ...) -> None: ...

class GetCapacityRequest(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class ListExtentsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("snapshot", "change")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    snapshot: Snapshot
    change: Change
    def __init__(self, snapshot: _Optional[_Union[Snapshot, _Mapping]] = ..., change: _Optional[_Union[Change, _Mapping]] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("revision", "shares")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    revision: int
    shares: _containers.RepeatedCompositeFieldContainer[Share]
    def __init__(self, revision: _Optional[int] = ..., shares: _Optional[_Iterable[_Union[Share, _Mapping]]] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("revision", "share", "removed_tag", "capacity")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    REMOVED_TAG_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    revision: int
    share: Share
    removed_tag: str
    capacity: Capacity
    def __init__(self, revision: _Optional[int] = ..., share: _Optional[_Union[Share, _Mapping]] = ..., removed_tag: _Optional[str] = ..., capacity: _Optional[_Union[Capacity, _Mapping]] = ...) -> None: ...

class Share(_message.Message):
    __slots__ = ("tag", "owner", "node", "pool", "device", "size", "ranges", "release_requested")
    TAG_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    RELEASE_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    tag: str
    owner: str
    node: str
    pool: str
    device: str
    size: int
    ranges: _containers.RepeatedCompositeFieldContainer[Range]
    release_requested: bool
    def __init__(self, tag: _Optional[str] = ..., owner: _Optional[str] = ..., node: _Optional[str] = ..., pool: _Optional[str] = ..., device: _Optional[str] = ..., size: _Optional[int] = ..., ranges: _Optional[_Iterable[_Union[Range, _Mapping]]] = ..., release_requested: _Optional[bool] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("device_offset", "size")
    DEVICE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    device_offset: int
    size: int
    def __init__(self, device_offset: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...

class Capacity(_message.Message):
    __slots__ = ("revision", "pools", "hosts", "simulated")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    POOLS_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_FIELD_NUMBER: _ClassVar[int]
    revision: int
    pools: _containers.RepeatedCompositeFieldContainer[PoolDevice]
    hosts: _containers.RepeatedCompositeFieldContainer[HostWindow]
    simulated: bool
    def __init__(self, revision: _Optional[int] = ..., pools: _Optional[_Iterable[_Union[PoolDevice, _Mapping]]] = ..., hosts: _Optional[_Iterable[_Union[HostWindow, _Mapping]]] = ..., simulated: _Optional[bool] = ...) -> None: ...

class PoolDevice(_message.Message):
    __slots__ = ("pool", "device", "domain", "total", "free", "unit", "healthy", "why", "attributes")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Attribute
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Attribute, _Mapping]] = ...) -> None: ...
    POOL_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    FREE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    pool: str
    device: str
    domain: str
    total: int
    free: int
    unit: int
    healthy: bool
    why: str
    attributes: _containers.MessageMap[str, Attribute]
    def __init__(self, pool: _Optional[str] = ..., device: _Optional[str] = ..., domain: _Optional[str] = ..., total: _Optional[int] = ..., free: _Optional[int] = ..., unit: _Optional[int] = ..., healthy: _Optional[bool] = ..., why: _Optional[str] = ..., attributes: _Optional[_Mapping[str, Attribute]] = ...) -> None: ...

class Attribute(_message.Message):
    __slots__ = ("int", "bool", "string")
    INT_FIELD_NUMBER: _ClassVar[int]
    BOOL_FIELD_NUMBER: _ClassVar[int]
    STRING_FIELD_NUMBER: _ClassVar[int]
    int: int
    bool: bool
    string: str
    def __init__(self, int: _Optional[int] = ..., bool: _Optional[bool] = ..., string: _Optional[str] = ...) -> None: ...

class HostWindow(_message.Message):
    __slots__ = ("node", "host", "domain", "device", "total", "max_extents", "used", "used_extents", "unit", "healthy", "why", "session", "session_age_seconds", "session_lapsed")
    NODE_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    MAX_EXTENTS_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    USED_EXTENTS_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SESSION_LAPSED_FIELD_NUMBER: _ClassVar[int]
    node: str
    host: str
    domain: str
    device: str
    total: int
    max_extents: int
    used: int
    used_extents: int
    unit: int
    healthy: bool
    why: str
    session: bool
    session_age_seconds: float
    session_lapsed: bool
    def __init__(self, node: _Optional[str] = ..., host: _Optional[str] = ..., domain: _Optional[str] = ..., device: _Optional[str] = ..., total: _Optional[int] = ..., max_extents: _Optional[int] = ..., used: _Optional[int] = ..., used_extents: _Optional[int] = ..., unit: _Optional[int] = ..., healthy: _Optional[bool] = ..., why: _Optional[str] = ..., session: _Optional[bool] = ..., session_age_seconds: _Optional[float] = ..., session_lapsed: _Optional[bool] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("exhausted", "window_full", "bad_argument", "unknown_node", "unknown_device", "conflict", "denied", "device_down", "rejected", "backend_failure", "unreachable", "unauthenticated")
    class Exhausted(_message.Message):
        __slots__ = ("want", "have", "unreleased", "held")
        WANT_FIELD_NUMBER: _ClassVar[int]
        HAVE_FIELD_NUMBER: _ClassVar[int]
        UNRELEASED_FIELD_NUMBER: _ClassVar[int]
        HELD_FIELD_NUMBER: _ClassVar[int]
        want: int
        have: int
        unreleased: int
        held: int
        def __init__(self, want: _Optional[int] = ..., have: _Optional[int] = ..., unreleased: _Optional[int] = ..., held: _Optional[int] = ...) -> None: ...
    class WindowFull(_message.Message):
        __slots__ = ("want", "have", "extents", "want_extents")
        WANT_FIELD_NUMBER: _ClassVar[int]
        HAVE_FIELD_NUMBER: _ClassVar[int]
        EXTENTS_FIELD_NUMBER: _ClassVar[int]
        WANT_EXTENTS_FIELD_NUMBER: _ClassVar[int]
        want: int
        have: int
        extents: int
        want_extents: int
        def __init__(self, want: _Optional[int] = ..., have: _Optional[int] = ..., extents: _Optional[int] = ..., want_extents: _Optional[int] = ...) -> None: ...
    class BadArgument(_message.Message):
        __slots__ = ("field", "expected")
        FIELD_FIELD_NUMBER: _ClassVar[int]
        EXPECTED_FIELD_NUMBER: _ClassVar[int]
        field: str
        expected: str
        def __init__(self, field: _Optional[str] = ..., expected: _Optional[str] = ...) -> None: ...
    class Conflict(_message.Message):
        __slots__ = ("tag", "field")
        TAG_FIELD_NUMBER: _ClassVar[int]
        FIELD_FIELD_NUMBER: _ClassVar[int]
        tag: str
        field: str
        def __init__(self, tag: _Optional[str] = ..., field: _Optional[str] = ...) -> None: ...
    class DeviceDown(_message.Message):
        __slots__ = ("name", "why")
        NAME_FIELD_NUMBER: _ClassVar[int]
        WHY_FIELD_NUMBER: _ClassVar[int]
        name: str
        why: str
        def __init__(self, name: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...
    EXHAUSTED_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FULL_FIELD_NUMBER: _ClassVar[int]
    BAD_ARGUMENT_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_NODE_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_DEVICE_FIELD_NUMBER: _ClassVar[int]
    CONFLICT_FIELD_NUMBER: _ClassVar[int]
    DENIED_FIELD_NUMBER: _ClassVar[int]
    DEVICE_DOWN_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FAILURE_FIELD_NUMBER: _ClassVar[int]
    UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    UNAUTHENTICATED_FIELD_NUMBER: _ClassVar[int]
    exhausted: Failure.Exhausted
    window_full: Failure.WindowFull
    bad_argument: Failure.BadArgument
    unknown_node: str
    unknown_device: str
    conflict: Failure.Conflict
    denied: str
    device_down: Failure.DeviceDown
    rejected: str
    backend_failure: str
    unreachable: str
    unauthenticated: str
    def __init__(self, exhausted: _Optional[_Union[Failure.Exhausted, _Mapping]] = ..., window_full: _Optional[_Union[Failure.WindowFull, _Mapping]] = ..., bad_argument: _Optional[_Union[Failure.BadArgument, _Mapping]] = ..., unknown_node: _Optional[str] = ..., unknown_device: _Optional[str] = ..., conflict: _Optional[_Union[Failure.Conflict, _Mapping]] = ..., denied: _Optional[str] = ..., device_down: _Optional[_Union[Failure.DeviceDown, _Mapping]] = ..., rejected: _Optional[str] = ..., backend_failure: _Optional[str] = ..., unreachable: _Optional[str] = ..., unauthenticated: _Optional[str] = ...) -> None: ...
