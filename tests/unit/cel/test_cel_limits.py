# SPDX-License-Identifier: Apache-2.0
"""No expression of 10 KiB takes more than 50 ms: to parse, check, compile and evaluate.

Machines differ, and a busy one is slow: the 50 ms are those of a machine that runs the loop of `unit` in 25 ms, and
expression and loop are timed in turn.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import pytest

from dynamic_memory.cel import CompileError, EvaluationError, compile_selector
from dynamic_memory.cel.lexer import MAX_SOURCE

TEN = "[1,2,3,4,5,6,7,8,9,10]"


def nested(levels: int, body: str, macro: str = "all") -> str:
    for level in range(levels):
        body = f"{TEN}.{macro}(x{level}, {body})"
    return body


def filled(unit: str, joiner: str = "", head: str = "", tail: str = "") -> str:
    count = (MAX_SOURCE - len(head) - len(tail)) // (len(unit) + len(joiner))
    return head + joiner.join([unit] * count) + tail


EVIL = {
    "sums": filled("1", "+", tail=" > 0"),
    "ands": filled("true", "&&"),
    "short ands": filled("b", "&&", head="cel.bind(b, true, ", tail=")"),
    "ors of errors": filled("1/0>0", "||"),
    "list": filled("1", ",", "[", "].size() > 0"),
    "list of strings": filled("'a'", ",", "'z' in [", "]"),
    "list of lists": filled("[]", ",", "[", "].size() > 0"),
    "map": "{" + ",".join(f"{n}:1" for n in range(1400)) + "}.size() > 0",
    "parentheses": "(" * 5000 + "true" + ")" * 5000,
    "allowed parentheses": "(" * 249 + "true" + ")" * 249,
    "brackets": "[" * 5000 + "]" * 5000,
    "allowed brackets": "[" * 249 + "]" * 249 + ".size() > 0",
    "nots": "!" * 10000 + "true",
    "minuses": "-" * 10000 + "1 < 0",
    "selects": "device" + ".a" * 5000,
    "ternaries": filled("true?", tail="true" + ":true" * 200),
    "indexes": "device.attributes" + "['a']" * 2000,
    "calls": filled("size('a')", ",", "[", "].size() > 0"),
    "attributes": filled("device.attributes['a'].b==1", "||"),
    "quantities": filled("quantity('1')==quantity('1')", "&&"),
    "long string": f"'{'a' * 10000}' == 'b'",
    "escapes": "'" + "\\n" * 5000 + "' == ''",
    "unterminated": "'" + "a" * 10000,
    "unterminated triple": "'''" + '"' * 10000,
    "comments": "//" + "x" * 10000,
    "garbage": "§" * 5000,
    "exponential regex": f"'{'a' * 9000}'.matches('(a*)*b')",
    "wide regex": f"'{'ab' * 4500}'.matches('(a|b)*a(a|b){{50}}')",
    "long regex": f"'{'a' * 1000}'.matches('{'(a|b)?' * 1500}')",
    "repeats": "'a'.matches('((a{30}){30}){30}')",
    "quadratic find": f"'{'a' * 9000}'.find('a*b') == ''",
    "loops 6": nested(6, "true"),
    "loops 5": nested(5, "x0 < 100"),
    "loops 4": nested(4, "x0 + x1 + x2 + x3 < 100"),
    "loops that fail": nested(4, "x0 / 0 == 1 || x1 < 100"),
    "loops that are absorbed": nested(4, "x0 / 0 == 1") + " || true",
    "maps 5": nested(5, "x0", "map") + ".size() > 0",
    "exists 5": nested(5, "x0 > 100", "exists"),
    "one of 5": nested(5, "x0 > 100", "exists_one"),
    "doubling": "cel.bind(a, 'aaaaaaaaaa', " + "".join(f"cel.bind(a{n}, {'a' if n == 0 else f'a{n - 1}'} + {'a' if n == 0 else f'a{n - 1}'}, " for n in range(40)) + "a39.size() > 0" + ")" * 41,  # noqa: E501 - one pattern or case a line
    "finds": nested(7, "int('1'.find('[0-9]*')) < 100"),
    "finds within the limit": nested(4, "int('1'.find('[0-9]*')) < 100"),
    "sums in loops": nested(4, "1" + "+1" * 200 + " > 0"),
    "sums in loops within the limit": nested(3, "x0" + "+1" * 200 + " > 0"),
    "timestamps": nested(5, "timestamp('2020-01-01T00:00:00Z').getHours() < 25"),
    "ranges": "lists.range(100000).all(x, lists.range(100000).all(y, x != y))",
    "dynamic loops": "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, a == b || b == c || true)))",  # noqa: E501 - one pattern or case a line
    "replaces": f"'{'a' * 4000}'.replace('a', '{'b' * 4000}').size() > 0",
    "sets": f"sets.contains([{','.join(['1'] * 2000)}], [{','.join(['2'] * 2000)}])",
}  # fmt: skip


def run(source: str, device) -> str:
    try:
        selector = compile_selector(source)
    except CompileError:
        return "refused"
    if selector.program.max_cost > selector.program.cost_limit:  # noqa: SIM108 - the comment belongs to one branch
        # The API server stores no such expression; evaluated all the same, it must stop at the limit.
        limit = "over"
    else:
        limit = "within"
    try:
        return f"{limit}: {selector.matches(device)}"
    except EvaluationError as error:
        return f"{limit}: {type(error).__name__}"


def unit() -> None:
    total = 0
    for number in range(400_000):
        total += number & 7


def processor_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.mark.parametrize("name", EVIL)
def test_nothing_takes_long(name, device):
    source = EVIL[name]
    run("true", device)
    units: list[float] = []
    gc.collect()
    for _ in range(4):
        took = processor_seconds(lambda: run(source, device))
        units.append(took / processor_seconds(unit))
        if min(units) < 2:
            break
    assert min(units) < 2, f"{min(units) * 25:.0f} ms"


def test_longer_sources_are_refused():
    assert compile_selector("true" + " " * (MAX_SOURCE - 4))
    with pytest.raises(CompileError, match="at most 10240 bytes"):
        compile_selector("true" + " " * (MAX_SOURCE - 3))
    with pytest.raises(CompileError, match="at most 10240 bytes"):
        compile_selector(f"'{'é' * 5200}' == ''")


def test_cost_limit_stops_what_the_estimate_did_not_refuse(device):
    selector = compile_selector(nested(7, "int('1'.find('[0-9]*')) < 100"))
    assert selector.program.max_cost > selector.program.cost_limit
    with pytest.raises(EvaluationError, match="cost limit exceeded"):
        selector.matches(device)


def test_neither_logical_operator_absorbs_the_cost_limit(device):
    with pytest.raises(EvaluationError, match="cost limit exceeded"):
        compile_selector(f"({nested(7, 'true')} || true) && false").matches(device)
