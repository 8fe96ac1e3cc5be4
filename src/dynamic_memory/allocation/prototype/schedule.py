# SPDX-License-Identifier: Apache-2.0
"""Where does a pod go, and what does it get? All claims of a pod on one node, of whichever generation.

Every node is asked, in the order of names; the best score wins, and of equal scores the first name. Nothing is written:
a `Decision` says what would have to be. Claims that are allocated already keep what they have, so that a pod that was
placed before changes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import structs

from dynamic_memory.allocation.allocator import Allocator
from dynamic_memory.allocation.errors import FatalAllocationError, NodeAllocationError
from dynamic_memory.allocation.inventory import Inventory as StableInventory
from dynamic_memory.allocation.node_selectors import compile_selector
from dynamic_memory.allocation.prototype.documents import Document
from dynamic_memory.allocation.prototype.errors import SearchTooLong
from dynamic_memory.allocation.prototype.expressions import Expressions
from dynamic_memory.allocation.prototype.ledger import Ledger
from dynamic_memory.allocation.prototype.loader import convert
from dynamic_memory.allocation.prototype.matching import Classes
from dynamic_memory.allocation.prototype.nodes import unfit
from dynamic_memory.allocation.prototype.outcomes import ClaimOutcome, Decision, NodeOutcome
from dynamic_memory.allocation.prototype.pods import ClaimUse, claims_of
from dynamic_memory.allocation.prototype.reporters import Reporter, Tracing
from dynamic_memory.allocation.prototype.stable import check_requests, reserved_for, stable_inventory
from dynamic_memory.allocation.prototype.statuses import MissingConfig, counted_status, device_status, key_text
from dynamic_memory.allocation.prototype.types import (
    ClaimStatus,
    DeviceClaim,
    DevicePrivilegedClaim,
    DeviceSetClaim,
)
from dynamic_memory.allocation.prototype.v1 import Counting, CountingClaim, PoolCount, counting_claim
from dynamic_memory.allocation.prototype.v2 import Pick, Search, parts_of
from dynamic_memory.allocation.prototype.world import World, key_of
from dynamic_memory.allocation.selectors import CelProvider
from dynamic_memory.api import core, resource
from dynamic_memory.api.meta import ObjectMeta
from dynamic_memory.errors import InvalidInput

__all__ = ["Scheduler"]

ADMIN_LABEL = "resource.kubernetes.io/admin-access"
MAX_PODS = 256


class _Found(NamedTuple):
    """A solution on one node."""

    picks: list[Pick]
    counts: dict[str, list[PoolCount]]
    stable: list[resource.AllocationResult]


class Scheduler:
    """Decides about pods of one world; a decision changes nothing.

    Args:
        world: all objects.
        share_id: returns a new UUID, for shares of devices of `resource.k8s.io`.
        verbose: keep what was tried.
        progress: called now and then with nodes done and nodes in all.

    """

    def __init__(
        self,
        world: World,
        share_id: Callable[[], str],
        *,
        verbose: bool = False,
        progress: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> None:
        self._world = world
        self._share_id = share_id
        self._verbose = verbose
        self._progress = progress
        self._expressions = Expressions()

    def place(self, pod: Document) -> Decision:
        """Decide where a pod goes.

        Raises:
            InvalidInput: the pod, a claim or a class is not valid, or refers to what does not exist.
            ExpressionError: a constraint is wrong in itself.
            SearchTooLong: no node was found, and on some the search was given up.

        """
        run = _Run(self._world, pod, claims_of(pod, self._world), self._expressions, self._share_id)
        nodes: list[NodeOutcome] = []
        best: NodeOutcome | None = None
        found: _Found | None = None
        too_long: SearchTooLong | None = None
        names = run.nodes(every=self._verbose)
        for number, name in enumerate(names):
            reporter = Tracing() if self._verbose else Reporter()
            try:
                outcome, solution = run.on_node(name, reporter)
            except SearchTooLong as error:
                too_long = too_long or error
                outcome, solution = NodeOutcome(name, 0, (), str(error)), None
            if isinstance(reporter, Tracing):
                run.would_have(name, reporter)
                dropped = (f"… and {reporter.dropped} more steps",) if reporter.dropped else ()
                outcome = outcome._replace(options=(*reporter.lines, *dropped))
            nodes.append(outcome)
            if solution is not None and (best is None or outcome.score > best.score):
                best, found = outcome, solution
            self._progress(number + 1, len(names))
        if best is None or found is None:
            if too_long is not None:
                raise too_long
            return Decision(run.key, None, "", nodes, [])
        try:
            claims = run.outcomes(found)
        except MissingConfig as missing:
            return Decision(run.key, None, str(missing), nodes, [])
        return Decision(run.key, best.node, "", nodes, claims, bound=run.bound_to == best.node)

    def commit(self, decision: Decision) -> None:
        """Enter a decision into the world, as if it had been written; the next pod then sees it."""
        if decision.node is None:
            return
        for outcome in decision.claims:
            claim, status = outcome.use.claim, outcome.status
            if isinstance(claim, resource.ResourceClaim):
                done = resource.ResourceClaimStatus(
                    allocation=status["allocation"],
                    reserved_for=convert(status["reservedFor"], list[resource.ResourceClaimConsumerReference]),
                    devices=claim.status.devices,
                )
                metadata = claim.metadata
                if not metadata.namespace:
                    metadata = structs.replace(metadata, namespace=decision.pod[0])
                self._world.put_stable(structs.replace(claim, metadata=metadata, status=done))
            else:
                self._world.put(structs.replace(claim, status=convert(status, ClaimStatus)))


class _Run:
    """One decision: the claims of a pod, sorted by who decides about them."""

    def __init__(
        self, world: World, pod: Document, uses: list[ClaimUse], expressions: Expressions, share_id: Callable[[], str]
    ) -> None:
        self._world = world
        self._uses = uses
        self._expressions = expressions
        self._share_id = share_id
        self.key = key_of(pod.body)
        self._pod = pod.body
        spec = pod.body.get("spec") or {}
        self.bound_to = str(spec.get("nodeName") or "")
        self._devices: dict[int, DeviceClaim] = {}
        self._counting: list[tuple[int, CountingClaim]] = []
        self._privileged: list[tuple[int, DevicePrivilegedClaim]] = []
        self._stable: list[tuple[int, resource.ResourceClaim]] = []
        self._homes: set[str] = set()
        self._held: set[int] = set()
        self._selectors: list[resource.AllocationResult] = []
        self._classes = Classes(world, expressions)
        self._ledger = Ledger(world.inventory)
        self._ledger.enter(world.claims.values())
        self._ledger.enter_counts(world.sets.values())
        self._stable_inventory: StableInventory | None = None
        for index, use in enumerate(uses):
            self._sort(index, use)
        self._goals = {index: parts_of(index, claim.metadata.name, claim) for index, claim in self._devices.items()}
        self._check_before()

    def _sort(self, index: int, use: ClaimUse) -> None:
        match use.claim:
            case DeviceClaim() | DeviceSetClaim() if use.claim.status.allocations:
                pools = (
                    self._world.inventory.pools.get(entry.device_pool_name) for entry in use.claim.status.allocations
                )
                self._homes |= {pool.node for pool in pools if pool is not None and pool.node}
                if not (isinstance(use.claim, DeviceClaim) and use.claim.spec.counts_devices):
                    self._held.add(index)
            case DeviceClaim(spec=spec) if spec.counts_devices:
                self._counting.append((index, counting_claim(use.claim.metadata.name, spec, self._world)))
            case DeviceClaim():
                self._devices[index] = use.claim
            case DeviceSetClaim(metadata=metadata, spec=set_spec):
                for number, spec in enumerate(set_spec.claim_spec):
                    claim = counting_claim(f"{metadata.name}[{number}]", spec, self._world)
                    common = tuple(set_spec.match_attributes)
                    self._counting.append((index, claim._replace(group=metadata.name, common=common)))
            case DevicePrivilegedClaim():
                self._privileged.append((index, use.claim))
            case resource.ResourceClaim(status=status):
                if status.allocation is None:
                    self._stable.append((index, use.claim))
                else:
                    self._selectors.append(status.allocation)

    def _check_before(self) -> None:
        """Find mistakes that no node can mend."""
        namespace = self.key[0]
        for _, stable in self._stable:
            check_requests(stable)
        for goals in self._goals.values():
            for part in (part for goal in goals for part in goal):
                self._classes.leaves(part.detail.class_, part.path)
                if part.detail.admin_access and namespace not in self._world.admin_namespaces:
                    raise InvalidInput(
                        f"{part.path}.adminAccess", f'namespace {namespace} to have the label {ADMIN_LABEL}: "true"'
                    )
        if self._privileged and namespace not in self._world.admin_namespaces:
            name = self._privileged[0][1].metadata.name
            raise InvalidInput(f"claim {name}", f'namespace {namespace} to have the label {ADMIN_LABEL}: "true"')

    # --- nodes

    def nodes(self, *, every: bool = True) -> list[str]:
        """Return the nodes to look at, by name: of a pod that is bound only its own, unless every one is asked for."""
        if self.bound_to and not every:
            return [self.bound_to]
        names = {*self._world.inventory.nodes(), *self._world.nodes}
        names |= {piece.spec.node_name for piece in self._world.slices.values() if piece.spec.node_name}
        return sorted(names)

    def on_node(self, node: str, reporter: Reporter) -> tuple[NodeOutcome, _Found | None]:
        """Try one node."""
        known = self._world.nodes.get(node)
        reason = unfit(known, self._pod) if known is not None and not self.bound_to else ""
        if not reason and self.bound_to not in {"", node}:
            reason = f"the pod is on node {self.bound_to}"
        if not reason and (self._homes - {node} or not self._selected(node)):
            reason = "a claim of the pod is allocated on another node"
        if reason:
            return NodeOutcome(node, 0, (), reason), None
        failed: dict[str, str] = {}
        picks = self._try_devices(node, reporter, failed) if self._devices else []
        counts: dict[str, list[PoolCount]] = {}
        document = self._try_counting(node, counts, failed) if self._counting else None
        for _, claim in self._privileged:
            found = self._administrated(claim, node)
            if found:
                counts[claim.metadata.name] = found
            else:
                failed[claim.metadata.name] = "no pool of the driver meets the constraints"
        stable = self._try_stable(node, failed) if self._stable else []
        if failed:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items() if reason)
            return NodeOutcome(node, 0, tuple(failed), reasons, (), document), None
        return NodeOutcome(node, 100, (), "", (), document), _Found(picks, counts, stable)

    def _try_devices(self, node: str, reporter: Reporter, failed: dict[str, str]) -> list[Pick]:
        search = self._search(node, list(self._devices), reporter)
        picks = search.run()
        if picks is None:
            failed |= self._who_failed(node, search)
            return []
        self._undo(picks)
        return picks

    def _try_counting(self, node: str, counts: dict[str, list[PoolCount]], failed: dict[str, str]) -> dict[str, Any]:
        counting = Counting([claim for _, claim in self._counting], self._expressions)
        outcome = counting.on_node(node, self._world.inventory.of_node(node), self._ledger)
        for number, result in enumerate(outcome.document["deviceClaimResults"]):
            if result["best"] < 0:
                failed[result["claimName"]] = _why(result)
            elif outcome.chosen is not None:
                counts[result["claimName"]] = outcome.chosen[number]
        return outcome.document

    def _try_stable(self, node: str, failed: dict[str, str]) -> list[resource.AllocationResult]:
        answer = self._allocate(node)
        if isinstance(answer, str):
            failed |= {claim.metadata.name: answer for _, claim in self._stable}
            return []
        return answer

    def would_have(self, node: str, reporter: Reporter) -> None:
        """Tell the reporter what could be tried for claims that are allocated, had they nothing yet."""
        held = {index: use.claim for index, use in enumerate(self._uses) if index in self._held}
        claims = {index: claim for index, claim in held.items() if isinstance(claim, DeviceClaim)}
        if not claims:
            return
        ledger = Ledger(self._world.inventory)
        own = {id(claim) for claim in claims.values()}
        ledger.enter(claim for claim in self._world.claims.values() if id(claim) not in own)
        ledger.enter_counts(self._world.sets.values())
        search = Search(
            node,
            self._world.inventory.of_node(node),
            [goal for index, claim in claims.items() for goal in parts_of(index, claim.metadata.name, claim)],
            claims,
            classes=self._classes,
            ledger=ledger,
            reporter=reporter,
        )
        # What is shown is what was tried until then.
        with contextlib.suppress(SearchTooLong):
            search.run()

    def _selected(self, node: str) -> bool:
        labels: Mapping[str, str] = self._node(node).metadata.labels
        return all(
            allocation.node_selector is None
            or compile_selector(allocation.node_selector, "allocation").matches(node, labels)
            for allocation in self._selectors
        )

    def _node(self, name: str) -> core.Node:
        known = self._world.nodes.get(name)
        return known if known is not None else core.Node(metadata=ObjectMeta(name=name))

    # --- v2

    def _search(self, node: str, claims: Sequence[int], reporter: Reporter) -> Search:
        return Search(
            node,
            self._world.inventory.of_node(node),
            [goal for index in claims for goal in self._goals[index]],
            {index: self._devices[index] for index in claims},
            classes=self._classes,
            ledger=self._ledger,
            reporter=reporter,
        )

    def _undo(self, picks: Sequence[Pick]) -> None:
        for pick in picks:
            if not pick.part.detail.admin_access:
                for device, grant in zip(pick.devices, pick.grants, strict=True):
                    self._ledger.give_back(device, grant)

    def _who_failed(self, node: str, search: Search) -> dict[str, str]:
        """Return the claims that cannot be met even alone, or else the one that the search got stuck at."""
        failed: dict[str, str] = {}
        if len(self._devices) > 1:
            for index, claim in self._devices.items():
                alone = self._search(node, [index], Reporter())
                picks = alone.run()
                if picks is None:
                    failed[claim.metadata.name] = alone.why
                else:
                    self._undo(picks)
        if not failed and search.failed is not None:
            failed[search.failed.claim_name] = search.why
        return failed

    # --- v1

    def _administrated(self, claim: DevicePrivilegedClaim, node: str) -> list[PoolCount]:
        where = f"claim {claim.metadata.name}: spec.constraints"
        return [
            PoolCount(pool, pool.count if pool.count is not None else len(pool.devices))
            for pool in self._world.inventory.of_node(node)
            if pool.driver == claim.spec.driver
            and self._expressions.matches(claim.spec.constraints, pool.kind, where) is True
        ]

    # --- resource.k8s.io/v1

    def _allocate(self, node: str) -> list[resource.AllocationResult] | str:
        if self._stable_inventory is None:
            self._stable_inventory = stable_inventory(self._world, (self._node(name) for name in self.nodes()))
        provider = CelProvider(self._stable_inventory.features, self._share_id)
        allocator = Allocator(self._stable_inventory, provider)
        claims = [claim for _, claim in self._stable]
        try:
            found = allocator.allocate(claims, node)
            if found is not None:
                return found
            return allocator.explain(claims, [node]).get(node, "")
        except (FatalAllocationError, NodeAllocationError) as error:
            return str(error)

    # --- what is to be written

    def outcomes(self, found: _Found) -> list[ClaimOutcome]:
        """Return what to write for each claim.

        Raises:
            MissingConfig: a claim refers to an object that does not exist (yet).

        """
        stable = {index: allocation for (index, _), allocation in zip(self._stable, found.stable, strict=True)}
        return [self._outcome(index, use, found, stable) for index, use in enumerate(self._uses)]

    def _outcome(
        self, index: int, use: ClaimUse, found: _Found, stable: Mapping[int, resource.AllocationResult]
    ) -> ClaimOutcome:
        claim = use.claim
        if isinstance(claim, resource.ResourceClaim):
            allocation = stable.get(index, claim.status.allocation)
            reserved = reserved_for(claim, self._pod, use.group, self.key[1])
            changed = index in stable or len(reserved) != len(claim.status.reserved_for)
            return ClaimOutcome(use, {"allocation": allocation, "reservedFor": reserved}, changed)
        pods = [*claim.status.pod_names, *({self.key[1]} - set(claim.status.pod_names))]
        if len(pods) > MAX_PODS:
            raise InvalidInput(f"claim {claim.metadata.name}: status.podNames", f"at most {MAX_PODS} pods")
        if claim.status.allocations:
            status = key_text(claim.status)
        elif index in self._devices:
            picks = [pick for pick in found.picks if pick.part.claim == index]
            status = device_status(self._world, self.key[0], picks)
        else:
            pairs = [(own, found.counts[own.name]) for number, own in self._counting if number == index]
            if isinstance(claim, DevicePrivilegedClaim):
                configs = ((), tuple(claim.spec.configs))
                own = CountingClaim(claim.metadata.name, None, (), 1, None, (), configs)
                pairs = [(own, found.counts[claim.metadata.name])]
            status = counted_status(self._world, self.key[0], pairs)
        status["podNames"] = pods
        return ClaimOutcome(use, status, len(pods) != len(claim.status.pod_names) or not claim.status.allocations)


def _why(result: dict[str, Any]) -> str:
    """Return the last thing that went wrong for a claim of v1."""
    if result["poolSetResults"]:
        last = result["poolSetResults"][-1]
        reasons = [entry["failureReason"] for entry in last["poolResults"] if entry["failureReason"]]
        return reasons[-1] if reasons else str(last["failureReason"])
    ignored = result["ignoredPools"]
    return str(ignored[-1]["failureReason"]) if ignored else "the node has no pools"
