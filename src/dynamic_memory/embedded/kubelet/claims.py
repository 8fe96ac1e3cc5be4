# SPDX-License-Identifier: Apache-2.0
"""The claims of this node's pods: prepared once, before the first pod that has them, unprepared after the last.

What is prepared stands in a checkpoint in the kubelet's folder, so that neither a second pod nor a restart prepares
again, and nothing is left behind: a claim is written down before its driver is called, and crossed out after the driver
has let go of it. A pod may come while its claim is being unprepared for another: it has it prepared again. A claim
that has the name of one that is still prepared is refused (pkg/kubelet/cm/dra).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from dynamic_memory.embedded.kubelet.objects import CLAIMS, Object, Pod
from dynamic_memory.embedded.kubelet.plugins import ClaimRef, DriverError, Plugins, PreparedDevice
from dynamic_memory.kube.errors import NotFound
from dynamic_memory.kube.interface import Kube
from dynamic_memory.process import durable
from dynamic_memory.process.locks import KeyedLocks

__all__ = ["CHECKPOINT", "ClaimManager", "ClaimState", "claim_names"]

log = logging.getLogger(__name__)

CHECKPOINT = "dra_manager_state"


class ClaimState(msgspec.Struct, kw_only=True, rename="camel"):
    """What is known of a claim.

    Attributes:
        namespace: of the claim.
        name: of the claim.
        drivers: those that have devices of it.
        pods: UIDs of the pods on this node that use it.
        prepared: all drivers have said yes.
        devices: what they said, by driver.

    """

    namespace: str
    name: str
    drivers: list[str]
    pods: list[str]
    prepared: bool = False
    devices: dict[str, tuple[PreparedDevice, ...]] = {}


class _Checkpoint(msgspec.Struct):
    claims: dict[str, ClaimState] = {}


class ClaimManager:
    """The claims of one node.

    Args:
        folder: of the kubelet; the checkpoint is there.
        kube: the API server.
        plugins: the drivers.

    """

    def __init__(self, folder: Path, kube: Kube, plugins: Plugins) -> None:
        self._path = folder / CHECKPOINT
        self._kube = kube
        self._plugins = plugins
        self._claims: dict[str, ClaimState] = {}
        self._locks = KeyedLocks()
        self._saving = asyncio.Lock()
        self._changes = 0
        self._saved = 0
        """How many of the changes are in the file."""
        self.calls: list[tuple[str, str, str]] = []
        """(`prepare` or `unprepare`, claim UID, error) of the calls of drivers, the last thousand."""

    def load(self) -> None:
        """Read the checkpoint. A broken one is a defect that has to be seen.

        Raises:
            msgspec.DecodeError: it is not one.

        """
        data = durable.read(self._path)
        self._claims = {} if data is None else msgspec.json.decode(data, type=_Checkpoint).claims

    @property
    def claims(self) -> Mapping[str, ClaimState]:
        """What is in the checkpoint, by UID."""
        return self._claims

    def pods(self) -> set[str]:
        """Return the UIDs of pods that have claims in the checkpoint."""
        return {uid for state in self._claims.values() for uid in state.pods}

    def has(self, pod_uid: str) -> bool:
        """Tell whether a pod has claims in the checkpoint."""
        return any(pod_uid in state.pods for state in self._claims.values())

    def is_prepared(self, pod: Pod) -> bool:
        """Tell whether a pod has claims, and all of them are prepared for it."""
        mine = [state for state in self._claims.values() if pod.metadata.uid in state.pods]
        # two entries may be one claim
        return bool(mine) and len(mine) == len(set(claim_names(pod).values())) and all(each.prepared for each in mine)

    async def prepare(self, pod: Pod) -> None:
        """Have all claims of a pod prepared.

        Raises:
            DriverError: that is not possible now.
            ApiError: the claims could not be read.

        """
        wanted: dict[str, list[ClaimRef]] = {}
        for entry, name in claim_names(pod).items():
            if not name:
                raise DriverError(f"pod {pod.metadata.name}: resource claim of {entry} not created yet")
            claim = await self._reserved(pod, name)
            state = await self._remember(pod, claim)
            ref = ClaimRef(state.namespace, state.name, claim.metadata.uid)
            for driver in state.drivers:
                refs = wanted.setdefault(driver, [])
                refs += [ref] if ref not in refs else []  # two entries may be one claim
            if not state.drivers:
                state.prepared = True
        for driver, refs in wanted.items():
            async with self._locked(refs):  # what is prepared now may be on its way back
                await self._prepare(driver, [ref for ref in refs if driver not in self._claims[ref.uid].devices])

    async def _prepare(self, driver: str, refs: list[ClaimRef]) -> None:
        if not refs:
            return
        try:
            devices = await self._plugins.prepare(driver, refs)
        except DriverError as error:
            self._called("prepare", refs, str(error))
            raise
        self._called("prepare", refs, "")
        for uid, found in devices.items():
            state = self._claims[uid]
            state.devices[driver] = found
            state.prepared = state.devices.keys() >= set(state.drivers)
        self._changes += 1
        await self._save()

    async def _reserved(self, pod: Pod, name: str) -> Object:
        namespace = pod.metadata.namespace
        try:
            claim = await self._kube.get(CLAIMS, name, namespace)
        except NotFound:
            raise DriverError(f"could not find ResourceClaim {namespace}/{name}") from None
        if not claim.status.get("allocation"):
            raise DriverError(f"ResourceClaim {name} is not allocated yet")
        if pod.metadata.uid not in {entry.get("uid") for entry in claim.status.get("reservedFor") or ()}:
            raise DriverError(f"pod {pod.metadata.name}({pod.metadata.uid}) is not allowed to use ResourceClaim {name}")
        return claim

    async def _remember(self, pod: Pod, claim: Object) -> ClaimState:
        uid, meta = claim.metadata.uid, claim.metadata
        for other, state in self._claims.items():
            if other != uid and (state.namespace, state.name) == (meta.namespace, meta.name):
                raise DriverError(
                    f"old ResourceClaim with same name {meta.name} and different UID {other} still exists "
                    "(previous pod force-deleted?!)"
                )
        results = claim.status["allocation"].get("devices", {}).get("results") or ()
        drivers = sorted({result["driver"] for result in results})
        state = self._claims.setdefault(
            uid, ClaimState(namespace=meta.namespace, name=meta.name, drivers=drivers, pods=[])
        )
        if pod.metadata.uid not in state.pods:
            state.pods.append(pod.metadata.uid)
            self._changes += 1
        await self._save()
        return state

    async def unprepare(self, pod_uid: str) -> None:
        """Let go of the claims of a pod that has ended; those that no other pod uses are unprepared.

        Raises:
            DriverError: a driver does not let go; to be called again.

        """
        mine = [uid for uid in self._claims if not self._leave_to_others(uid, pod_uid)]
        while mine:
            wanted: dict[str, list[ClaimRef]] = {}
            for uid in mine:
                state = self._claims[uid]
                for driver in state.drivers:
                    wanted.setdefault(driver, []).append(ClaimRef(state.namespace, state.name, uid))
            for driver, refs in wanted.items():
                async with self._locked(refs):
                    # another pod may have come since
                    alone = [ref for ref in refs if not self._leave_to_others(ref.uid, pod_uid)]
                    await self._unprepare(driver, alone)
            # one that came and went meanwhile may have had something prepared again
            mine = [uid for uid in mine if not self._leave_to_others(uid, pod_uid) and self._claims[uid].devices]
        for uid in [uid for uid, state in self._claims.items() if pod_uid in state.pods]:
            del self._claims[uid]
            self._changes += 1
        await self._save()

    def _leave_to_others(self, uid: str, pod_uid: str) -> bool:
        """Tell whether a claim is not this pod's alone; it is not the pod's at all any more then.

        Both happen at once: whoever is the last one has to find itself alone.
        """
        state = self._claims.get(uid)
        if state is not None and pod_uid in state.pods:
            if len(state.pods) == 1:
                return False
            state.pods.remove(pod_uid)
            self._changes += 1
        return True

    async def _unprepare(self, driver: str, refs: list[ClaimRef]) -> None:
        if not refs:
            return
        try:
            await self._plugins.unprepare(driver, refs)
        except DriverError as error:
            self._called("unprepare", refs, str(error))
            raise
        self._called("unprepare", refs, "")
        for ref in refs:
            state = self._claims[ref.uid]
            state.devices.pop(driver, None)
            state.prepared = False
        self._changes += 1
        if any(len(self._claims[ref.uid].pods) > 1 for ref in refs):
            await self._save()  # a kubelet that starts again must not take it for prepared for those that came

    def devices(self, pod: Pod, container: Mapping[str, Any]) -> list[str]:
        """Return the CDI names of the devices that a container asks for."""
        by_entry = claim_names(pod)
        states = {(state.namespace, state.name): state for state in self._claims.values()}
        found: list[str] = []
        for wanted in (container.get("resources") or {}).get("claims") or ():
            state = states.get((pod.metadata.namespace, by_entry.get(wanted["name"], "")))
            if state is None:
                continue
            request = wanted.get("request", "")
            for device in (each for devices in state.devices.values() for each in devices):
                if not request or not device.requests or request in device.requests:
                    found += device.cdi
        return found

    @contextlib.asynccontextmanager
    async def _locked(self, refs: Iterable[ClaimRef]) -> AsyncIterator[None]:
        """Hold claims: Prepare and Unprepare of one never run at the same time, whatever else is in their calls."""
        async with contextlib.AsyncExitStack() as stack:
            for uid in sorted({ref.uid for ref in refs}):  # in one order, so that no two wait for each other
                await stack.enter_async_context(self._locks(uid))
            yield

    def _called(self, verb: str, refs: Iterable[ClaimRef], error: str) -> None:
        self.calls += [(verb, ref.uid, error) for ref in refs]
        del self.calls[:-1000]

    async def _save(self) -> None:
        """Return when all changes until now are in the file; one write may be for many."""
        wanted = self._changes
        async with self._saving:
            if self._saved >= wanted:
                return
            changes, data = self._changes, msgspec.json.encode(_Checkpoint(self._claims))
            write = asyncio.ensure_future(asyncio.to_thread(durable.write, self._path, data))
            try:
                await asyncio.shield(write)
            except asyncio.CancelledError:
                await asyncio.wait({write})  # nobody else may write before, nor read when started again
                raise
            self._saved = changes


def claim_names(pod: Pod) -> dict[str, str]:
    """Return the names of a pod's ResourceClaims by entry of `spec.resourceClaims`; empty if not made yet.

    An entry whose template made no claim, because none was needed, is left out.
    """
    made = {entry["name"]: entry.get("resourceClaimName") for entry in pod.status.get("resourceClaimStatuses") or ()}
    names: dict[str, str] = {}
    for entry in pod.spec.get("resourceClaims") or ():
        name = entry["name"]
        if entry.get("resourceClaimName"):
            names[name] = entry["resourceClaimName"]
        elif name not in made:
            names[name] = ""
        elif made[name]:
            names[name] = made[name]
    return names
