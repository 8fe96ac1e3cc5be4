# SPDX-License-Identifier: Apache-2.0
"""Quantities are read and printed as apimachinery 0.37 does, and computed with exactly."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_memory.errors import InvalidInput
from dynamic_memory.quantity import Quantity, format_bytes, parse_bytes

# Rows of [input] (refused), [input, canonical] or [input, canonical, value, milli value]: answers of apimachinery
# itself. The last two stand only where they fit into the 64 bits that it computes with.
CORPUS = json.loads((Path(__file__).parent / "apimachinery.json").read_text())

SUFFIXES = [
    "n",
    "u",
    "m",
    "",
    "k",
    "M",
    "G",
    "T",
    "P",
    "E",
    "Ki",
    "Mi",
    "Gi",
    "Ti",
    "Pi",
    "Ei",
    "e0",
    "e3",
    "E-3",
    "e+6",
]
FACTORS = {"n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1)}
FACTORS |= {suffix: Fraction(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)}
FACTORS |= {f"{suffix}i": Fraction(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)}
FACTORS |= {"e0": Fraction(1), "e3": Fraction(1000), "E-3": Fraction(1, 1000), "e+6": Fraction(10**6)}
SUFFIXES = sorted(FACTORS)


def test_corpus_is_large():
    assert len(CORPUS) > 800
    assert sum(len(row) == 1 for row in CORPUS) > 50


def test_each_row_of_apimachinery():
    wrong = []
    for text, *expected in CORPUS:
        try:
            quantity = Quantity.parse(text)
        except InvalidInput:
            got = []
        else:
            got = [str(quantity), quantity.value(), quantity.milli_value()][: max(1, len(expected))]
        if got != expected:
            wrong.append((text, expected, got))
    assert wrong == []


texts = st.builds(
    lambda sign, number, fraction, suffix: (f"{sign}{number}{fraction}{suffix}", sign, f"{number}{fraction}", suffix),
    st.sampled_from(["", "-", "+"]),
    st.integers(min_value=0, max_value=10**9),
    st.one_of(st.just(""), st.integers(min_value=0, max_value=999).map(lambda n: f".{n:03}")),
    st.sampled_from(SUFFIXES),
)


@given(texts)
def test_value_is_exact_or_rounded_away_from_zero(case):
    text, sign, number, suffix = case
    exact = Fraction(number) * FACTORS[suffix]
    if suffix.endswith("i"):
        exact = min(exact, Fraction(2**63 - 1))
    nanos = -(-(exact * 10**9).numerator // (exact * 10**9).denominator)
    assert Quantity.parse(text).as_fraction() == Fraction(-nanos if sign == "-" else nanos, 10**9)


@given(texts)
def test_canonical_text_reads_back_and_is_stable(case):
    quantity = Quantity.parse(case[0])
    assert Quantity.parse(str(quantity)) == quantity
    assert str(Quantity.parse(str(quantity))) == str(quantity)


@given(texts, texts)
def test_order_equality_and_hash_are_those_of_exact_fractions(one, other):
    a, b = Quantity.parse(one[0]), Quantity.parse(other[0])
    assert (a < b, a == b, a > b) == (
        a.as_fraction() < b.as_fraction(),
        a.as_fraction() == b.as_fraction(),
        a.as_fraction() > b.as_fraction(),
    )
    if a == b:
        assert hash(a) == hash(b)
    assert (a + b).as_fraction() == a.as_fraction() + b.as_fraction()
    assert (a - b).as_fraction() == a.as_fraction() - b.as_fraction()


@given(st.integers(min_value=0, max_value=2**62))
def test_bytes_read_back(count):
    assert parse_bytes(format_bytes(count)) == count
    assert Quantity.of_bytes(count) == count


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (1023, "1023"),
        (1024, "1Ki"),
        (1 << 30, "1Gi"),
        (3 << 29, "1536Mi"),
        (512 << 20, "512Mi"),
        (-1024, "-1Ki"),
    ],
)
def test_bytes_are_printed_in_binary_units(count, text):
    assert format_bytes(count) == text


def test_arithmetic_keeps_the_format_of_the_left_unless_it_is_zero():
    assert str(Quantity.parse("1Gi") + Quantity.parse("1G")) == str(Quantity.of_bytes((1 << 30) + 10**9))
    assert str(Quantity.parse("0") + Quantity.parse("1Gi")) == "1Gi"
    assert str(Quantity.parse("2Gi") * 3 - (1 << 30)) == "5Gi"
    assert str(-Quantity.parse("100m")) == "-100m"
    assert Quantity.parse("1500m").round_up(0) == 2
    assert Quantity.parse("0").is_zero()
    assert [Quantity.parse(text).sign for text in ("-1n", "0", "1n")] == [-1, 0, 1]


@pytest.mark.parametrize("text", ["", "1e3Mi", "1 Gi", "1" * 2000, "1e9999", None, 1.5, True])
def test_refusal_names_the_place(text):
    with pytest.raises(InvalidInput) as refused:
        Quantity.parse(text)
    assert refused.value.path == "quantity"
    assert "expected" in str(refused.value)
