# SPDX-License-Identifier: Apache-2.0
"""Evaluations a second of a selector, beside Google's engine in the same run.

    python tests/bench/bench_cel.py

The other engine cannot hold a Quantity as a value, so it compares the capacity as an integer of bytes, and its
activations are made beforehand: both differences favour it. No memo is used.
"""

from __future__ import annotations

import time

from cel_expr_python import cel as oracle

from dynamic_memory.cel import DeviceView, compile_selector
from dynamic_memory.cel.memo import Memo
from dynamic_memory.quantity import Quantity

NODE = 'device.attributes["dra.memory"].numaNode == 0'
SELECTOR = f'{NODE} && device.capacity["dra.memory"].size.compareTo(quantity("2Gi")) >= 0'
ORACLE = f'{NODE} && device.capacity["dra.memory"].size >= 2147483648'
DEVICES = 1000


def rate(evaluate, inputs, rounds: int) -> tuple[float, int]:
    """Return the best rate of five tries, and how many matched."""
    best, matched = 0.0, 0
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(rounds):
            matched = 0
            for given in inputs:
                if evaluate(given):
                    matched += 1
        best = max(best, rounds * len(inputs) / (time.perf_counter() - start))
    return best, matched


def main() -> None:
    plain = [(number % 2, (number % 7) << 30) for number in range(DEVICES)]
    views = [DeviceView("dra.memory", {"numaNode": node}, {"size": Quantity.of_bytes(size)}) for node, size in plain]
    selector = compile_selector(SELECTOR)
    ours, matched = rate(selector.matches, views, 100)
    interpreted, matched_interpreted = rate(selector.interpret, views, 2)
    memo = Memo()
    remembered, matched_memo = rate(lambda view: memo.matches(selector, view), views, 20)

    environment = oracle.NewEnv(variables={"device": oracle.Type.Map(oracle.Type.STRING, oracle.Type.DYN)})
    program = environment.compile(ORACLE)
    data = [
        {"device": {"attributes": {"dra.memory": {"numaNode": n}}, "capacity": {"dra.memory": {"size": s}}}}
        for n, s in plain
    ]
    activations = [environment.Activation(given) for given in data]
    kept, matched_kept = rate(lambda activation: program.eval(activation).plain_value(), activations, 10)
    fresh, _ = rate(lambda given: program.eval(data=given).plain_value(), data, 5)
    assert matched == matched_interpreted == matched_memo == matched_kept

    start = time.perf_counter()
    for _ in range(50):
        compile_selector(SELECTOR)
    compiling = (time.perf_counter() - start) / 50
    print(f"{matched} of {DEVICES} devices match; evaluations a second:")
    for name, value in (
        ("generated code", ours), ("interpreter", interpreted), ("generated code behind the memo", remembered),
        ("cel-expr-python, activation kept", kept), ("cel-expr-python, values each time", fresh),
    ):  # fmt: skip
        print(f"  {name:36}{value:14,.0f}   {value / kept:7.2f} x cel-expr-python")
    print(f"  compiling: {compiling * 1000:.2f} ms")


if __name__ == "__main__":
    main()
