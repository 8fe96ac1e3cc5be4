# SPDX-License-Identifier: Apache-2.0
"""Which claims a container has, and whether it may have them.

The answer is in the ledger alone: Prepare wrote which pod owns a claim and which of its containers refer to it, and
only Unprepare takes that back. What a container *says* (its CDI devices where the runtime shows them, its environment)
is compared with the ledger, and a container that says more than the ledger is refused: anybody can write a variable
into a pod, and a CDI device into an annotation of it. So the refusal of a pod leaves no trace, and its removal frees
nothing. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from dynamic_memory.driver import environment
from dynamic_memory.driver.grants import split_key
from dynamic_memory.driver.settings import ClaimSettings, RequestSettings, parse_device
from dynamic_memory.errors import InvalidInput
from dynamic_memory.nri.errors import Refused

__all__ = ["CLAIM_PREFIX", "MAX_CLAIMS", "PREFIXES", "Container", "NotGranted", "recognise", "says_anything"]

CLAIM_PREFIX = "DYNAMIC_MEMORY_CLAIM_"
"""Variable that names a claim, dashes of its UID as underscores, and perhaps a request after it (see `spec`)."""
PREFIXES = (environment.PREFIX, CLAIM_PREFIX)
"""Of the variables that matter here."""
UID_LENGTH = 36
MAX_CLAIMS = 64
"""Claims that one container may name."""

ClaimOf = Callable[[str], ClaimSettings | None]


class NotGranted(Refused):
    """A container names a claim that the ledger does not give it.

    Args:
        claim: UID of the claim.
        why: a sentence for the pod's owner.

    """

    def __init__(self, claim: str, why: str) -> None:
        self.claim = claim
        super().__init__(why)


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """What a runtime tells of a container, as far as claims go.

    Attributes:
        pod: UID.
        name: of the container in the pod.
        cdi: qualified names of its CDI devices.
        env: `NAME=value`.
        shows_cdi: whether the runtime tells all CDI devices.

    """

    pod: str
    name: str
    cdi: Sequence[str] = ()
    env: Sequence[str] = ()
    shows_cdi: bool = False


def says_anything(container: Container) -> bool:
    """Whether a container names any claim of this driver; as cheap as can be, for most do not."""
    return any(entry.startswith(PREFIXES) for entry in container.env) or any(map(parse_device, container.cdi))


def recognise(container: Container, claim_of: ClaimOf, owned: Iterable[ClaimSettings]) -> list[RequestSettings]:
    """Return what the claims of a container give it, all or nothing; none if it has no claims.

    Args:
        container: the container.
        claim_of: the prepared claim with this UID.
        owned: the prepared claims that its pod owns.

    Raises:
        NotGranted: it names a claim that it has not been given.
        Refused: what it says is malformed.

    """
    granted = {
        key: request
        for claim in owned
        # without names of containers only the container itself can say that it has the claim
        if claim.owner is not None and claim.owner.containers
        for key, request in _usable(container, claim).items()
    }
    devices = {found[1] for name in container.cdi if (found := parse_device(name)) is not None}
    told, named = _exact(container, granted), _claims(container)
    exact = told is not None
    told = _keys(container) if told is None else told
    if len(devices) + len(told) + len(named) > MAX_CLAIMS:
        raise Refused(f"container {container.name} names more than {MAX_CLAIMS} claims")
    for key in sorted(devices | told):
        if key not in granted:
            granted |= _granted(container, split_key(key)[0], key, claim_of)
    for uid in sorted(named - {split_key(key)[0] for key in granted}):
        granted |= _granted(container, uid, "", claim_of)
    if container.shows_cdi:
        _no_forgery(container, devices, told, named)
    if not exact:
        _as_prepared(container, granted)
    return [granted[key] for key in sorted(granted)]


def _exact(container: Container, granted: dict[str, RequestSettings]) -> set[str] | None:
    """Return what `_keys` does if the environment says, word for word, what the claims set; None if not."""
    known = {f"{name}={value}": key for key, request in granted.items() for name, value in request.env.items()}
    ours = [known.get(entry, "") for entry in container.env if entry.startswith(environment.PREFIX)]
    return set(ours) if all(ours) else None


def _keys(container: Container) -> set[str]:
    """Return the keys that the environment names."""
    ours = [entry for entry in container.env if entry.startswith(environment.PREFIX)]
    if len(ours) > MAX_CLAIMS:
        raise Refused(f"container {container.name} has more than {MAX_CLAIMS} variables {environment.PREFIX}*")
    try:
        return set(environment.parse(ours))
    except InvalidInput as error:
        raise Refused(f"container {container.name} has a malformed variable {error}") from error


def _claims(container: Container) -> set[str]:
    """Return the UIDs of the claims that the environment names in our own variables (see `spec`)."""
    return {
        entry.removeprefix(CLAIM_PREFIX).partition("=")[0][:UID_LENGTH].replace("_", "-")
        for entry in container.env
        if entry.startswith(CLAIM_PREFIX)
    }


def _usable(container: Container, claim: ClaimSettings) -> dict[str, RequestSettings]:
    return {
        key: request for key, request in claim.requests.items() if claim.may_use(container.pod, container.name, key)
    }


def _granted(container: Container, uid: str, key: str, claim_of: ClaimOf) -> dict[str, RequestSettings]:
    """Return what one key of a claim gives (or all that it may use, without a key); or refuse."""
    claim = claim_of(uid)
    if claim is None:
        raise NotGranted(uid, f"container {container.name} names claim {uid}, which is not prepared on this node")
    name = f"{claim.namespace}/{claim.name}"
    usable = _usable(container, claim)
    if (key in usable) if key else usable:
        return {key: usable[key]} if key else usable
    if key and key not in claim.requests:
        why = f"{key} is not a request of it"
    elif claim.owner is not None and claim.owner.uid != container.pod:
        why = f"pod {claim.owner.name} owns it"
    else:
        why = "its pod does not give it to this container"
    raise NotGranted(uid, f"container {container.name} may not use claim {name}: {why}")


def _no_forgery(container: Container, devices: set[str], told: set[str], named: set[str]) -> None:
    """Refuse variables of claims whose CDI device the container has not got: the kubelet did not give them."""
    with_device = {split_key(key)[0] for key in devices}
    forged = {split_key(key)[0] for key in told - devices} | (named - with_device)
    for uid in sorted(forged):
        raise NotGranted(uid, f"container {container.name} has variables of claim {uid} but not its device")


def _as_prepared(container: Container, granted: dict[str, RequestSettings]) -> None:
    """Refuse variables that differ from those that the claims set."""
    wanted = {name: value for request in granted.values() for name, value in request.env.items()}
    for entry in container.env:
        if not entry.startswith(environment.PREFIX):
            continue
        name, _, value = entry.partition("=")
        if wanted.get(name) != value:
            raise Refused(f"container {container.name} sets {name}, which is reserved for claims, to another value")
