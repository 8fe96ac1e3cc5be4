# SPDX-License-Identifier: Apache-2.0
"""Generation v1: claims for a number of devices of pools that only count them.

For each claim sets of pools are tried: single pools first, then pairs, and so on, in lexicographic order. Within a set
each pool gives what it has until the claim has enough. Unlike the original, what one claim takes is gone for the next,
and a class' own constraints and attributes count.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from dynamic_memory.allocation.prototype.errors import UnknownName
from dynamic_memory.allocation.prototype.expressions import Expressions
from dynamic_memory.allocation.prototype.inventory import Pool
from dynamic_memory.allocation.prototype.ledger import Ledger
from dynamic_memory.allocation.prototype.matching import DRIVER_MISMATCH, ERROR, NOT_MET, drivers_of
from dynamic_memory.allocation.prototype.solver import Budget, solve
from dynamic_memory.allocation.prototype.types import ConfigRef, DeviceClaimSpec, Value
from dynamic_memory.allocation.prototype.world import World
from dynamic_memory.errors import InvalidInput

__all__ = ["Counting", "CountingClaim", "Outcome", "PoolCount"]

NO_DEVICES = "no available devices"
NO_MATCH = "claim MatchAttributes constraint failed"
MAX_RECORDED = 1000


class CountingClaim(NamedTuple):
    """A claim with its class looked up. `group` is shared by the claims of a set, which have to agree in `common`."""

    name: str
    drivers: frozenset[str] | None
    constraints: tuple[tuple[str, str], ...]
    fewest: int
    most: int | None
    match: tuple[str, ...]
    configs: tuple[tuple[ConfigRef, ...], tuple[ConfigRef, ...]] = ((), ())
    group: str = ""
    common: tuple[str, ...] = ()


class PoolCount(NamedTuple):
    """So many devices of a pool."""

    pool: Pool
    number: int


class Outcome(NamedTuple):
    """What came of the claims on one node; `document` is the result in the words of the original."""

    chosen: list[list[PoolCount]] | None
    score: int
    document: dict[str, Any]


def counting_claim(name: str, spec: DeviceClaimSpec, world: World) -> CountingClaim:
    """Look the class of a claim up.

    Raises:
        UnknownName: there is no such class.
        InvalidInput: numbers that cannot be.

    """
    found = world.classes.get(spec.device_class)
    if found is None:
        raise UnknownName(f"claim {name}: spec.deviceClass", "a DeviceClass", spec.device_class)
    definition = found.spec.definition
    if definition is None:
        raise InvalidInput(f"claim {name}: spec.deviceClass", "a class with a definition", spec.device_class)
    drivers: frozenset[str] | None = frozenset(drivers_of(world, definition))
    if not drivers and not (definition.driver or world.drivers):
        drivers = None  # nothing is known of drivers: any may serve the type
    if spec.driver:
        drivers = frozenset({spec.driver}) if drivers is None else drivers & {spec.driver}
    fewest = next((n for n in (spec.min_device_count, definition.min_device_count) if n is not None), 1)
    most = next((n for n in (spec.max_device_count, definition.max_device_count) if n is not None), None)
    if fewest < 1 or (most is not None and most < fewest):
        raise InvalidInput(f"claim {name}: spec.minDeviceCount", "from 1 to maxDeviceCount", fewest)
    constraints = (
        (definition.constraints or "", f"class {spec.device_class}: spec.definition.constraints"),
        (spec.constraints or "", f"claim {name}: spec.constraints"),
    )
    match = (*definition.match_attributes, *spec.match_attributes)
    configs = (tuple(definition.configs), tuple(spec.configs))
    return CountingClaim(name, drivers, constraints, fewest, most, match, configs)


class Counting:
    """Decides about nodes one after the other."""

    def __init__(self, claims: Sequence[CountingClaim], expressions: Expressions) -> None:
        self._claims = claims
        self._expressions = expressions

    def on_node(self, node: str, pools: Sequence[Pool], ledger: Ledger, budget: Budget | None = None) -> Outcome:
        """Choose pools of a node for all claims.

        Raises:
            ExpressionError: an expression is wrong in itself.
            SearchTooLong: there are too many ways to try.

        """
        free = {pool.name: (pool.count or 0) - ledger.counted.get(pool.name, 0) for pool in pools}
        agreed: dict[str, list[PoolCount]] = {}
        records = [_Record(claim.name) for claim in self._claims]
        steps = budget or Budget(node)
        goals = [
            self._goal(claim, [pool for pool in pools if pool.node == node], free, agreed, record=record, budget=steps)
            for claim, record in zip(self._claims, records, strict=True)
        ]
        solution = solve(goals, steps)
        if solution.chosen is None:
            for record in records[solution.deepest :]:
                record.best = -1
        scores = [100 if record.best >= 0 else 0 for record in records]
        # One claim without devices makes the node useless; no claims are met by any node.
        score = 0 if 0 in scores else 100
        document = {
            "nodeName": node,
            "score": score,
            "deviceClaimResults": [record.document() for record in records],
        }
        return Outcome(solution.chosen, score, document)

    def _goal(
        self,
        claim: CountingClaim,
        pools: list[Pool],
        free: dict[str, int],
        agreed: dict[str, list[PoolCount]],
        *,
        record: _Record,
        budget: Budget,
    ) -> Callable[[], Iterator[list[PoolCount]]]:
        def options() -> Iterator[list[PoolCount]]:
            record.restart()
            first = -1
            usable = self._usable(claim, pools, free, record)
            for combination in _combinations(usable, sum(free[pool.name] for pool in usable) < claim.fewest):
                budget.step()
                taken = self._fill(claim, combination, free, agreed.get(claim.group, []), record)
                if taken is None:
                    continue
                record.best = record.number - 1
                first = record.best if first < 0 else first
                for part in taken:
                    free[part.pool.name] -= part.number
                agreed.setdefault(claim.group, []).extend(taken)
                yield taken
                for part in taken:
                    free[part.pool.name] += part.number
                    agreed[claim.group].pop()
            # If nothing works out for the others, it is still told what would have been for this claim.
            record.best = first

        return options

    def _usable(self, claim: CountingClaim, pools: list[Pool], free: dict[str, int], record: _Record) -> list[Pool]:
        usable = []
        for pool in pools:
            reason = self._reason(claim, pool, free[pool.name])
            if reason:
                record.ignored.append({"poolName": pool.name, "failureReason": reason})
            else:
                usable.append(pool)
        return usable

    def _reason(self, claim: CountingClaim, pool: Pool, free: int) -> str:
        if free <= 0:
            return NO_DEVICES
        if claim.drivers is not None and pool.driver not in claim.drivers:
            return DRIVER_MISMATCH
        for expression, where in claim.constraints:
            answer = self._expressions.matches(expression, pool.kind, where)
            if isinstance(answer, str):
                return f"{ERROR}{answer}"
            if not answer:
                return NOT_MET
        return ""

    def _fill(
        self,
        claim: CountingClaim,
        pools: tuple[Pool, ...],
        free: dict[str, int],
        others: list[PoolCount],
        record: _Record,
    ) -> list[PoolCount] | None:
        missing = claim.fewest
        taken: list[PoolCount] = []
        results = []
        for pool in pools:
            reason = "" if self._agrees(claim, pool, taken, others) else NO_MATCH
            count = 0 if reason else min(free[pool.name], missing)
            missing -= count
            if count:
                taken.append(PoolCount(pool, count))
            results.append({"poolName": pool.name, "deviceCount": count, "failureReason": reason})
        failure = f"unable to satisfy {missing} of {claim.fewest} device requests" if missing else ""
        # A pool that gives nothing makes this set the same as a smaller one, which was tried before.
        record.add({"poolResults": results, "score": 0 if missing else 100, "failureReason": failure})
        return None if missing or len(taken) < len(pools) else taken

    @staticmethod
    def _agrees(claim: CountingClaim, pool: Pool, taken: list[PoolCount], others: list[PoolCount]) -> bool:
        return _equal(claim.match, pool, taken) and _equal(claim.common, pool, [*others, *taken])


def _equal(names: Sequence[str], pool: Pool, others: Sequence[PoolCount]) -> bool:
    own: dict[str, Value] = pool.kind.attributes
    return all(name in own and (not others or others[0].pool.kind.attributes.get(name) == own[name]) for name in names)


def _combinations(pools: list[Pool], hopeless: bool) -> Iterator[tuple[Pool, ...]]:
    """Yield sets of pools by size; if all together have too little, only single ones and all, for the record."""
    sizes = sorted({1, len(pools)}) if hopeless else range(1, len(pools) + 1)
    for size in sizes:
        if size:
            yield from itertools.combinations(pools, size)


class _Record:
    """What was tried for one claim."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.restart()

    def restart(self) -> None:
        self.best = -1
        self.number = 0
        self.sets: list[dict[str, Any]] = []
        self.ignored: list[dict[str, str]] = []

    def add(self, result: dict[str, Any]) -> None:
        self.number += 1
        if len(self.sets) < MAX_RECORDED:
            self.sets.append(result)

    def document(self) -> dict[str, Any]:
        return {
            "claimName": self.name,
            "best": self.best,
            "poolSetResults": self.sets,
            "ignoredPools": self.ignored,
        }
