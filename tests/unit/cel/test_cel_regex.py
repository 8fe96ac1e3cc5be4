# SPDX-License-Identifier: Apache-2.0
"""Patterns match as in every engine of Perl's kind, but never slowly."""

from __future__ import annotations

import random
import re
import time

import pytest

from dynamic_memory.cel.errors import Fault
from dynamic_memory.cel.regex import Regex, compile_regex

ATOMS = [
    "a",
    "b",
    "[ab]",
    "[^a]",
    ".",
    "(a|b)",
    "(?:ab|a)",
    r"\d",
    "^",
    "$",
    r"\b",
    "c?",
    "a*",
    "b+",
    "(a*b)*",
    "a{2,3}",
    "b*?",
    "(?i:A)",
]


def test_random_patterns_agree_with_the_standard_library():
    chance = random.Random(4)
    matched = 0
    for _ in range(3000):
        pattern = "".join(chance.choice(ATOMS) for _ in range(chance.randint(1, 5)))
        pattern += f"|{chance.choice(ATOMS)}" if chance.random() < 0.2 else ""
        text = "".join(chance.choice("abc1 ") for _ in range(chance.randint(0, 8)))
        expected = re.search(pattern.replace("$", r"\Z"), text)
        span = expected.span() if expected else None
        assert Regex(pattern).find(text) == span, (pattern, text)
        assert Regex(pattern).matches(text) is (span is not None), (pattern, text)
        matched += span is not None
    assert 500 < matched < 2900


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (r"\pL+", "1é2", (1, 2)), (r"\p{Lu}", "aB", (1, 2)), (r"\PL", "a1", (1, 2)), (r"[[:digit:]]+", "a12", (1, 3)),
        (r"[^[:alpha:]]", "a1", (1, 2)), (r"\Qa.b\E", "axb a.b", (4, 7)), (r"(?s).", "\n", (0, 1)), (r"(?m)^b$", "a\nb\nc", (2, 3)),  # noqa: E501 - one pattern or case a line
        (r"\x41\x{42}", "AB", (0, 2)), (r"a{,2}", "a{,2}", (0, 5)), (r"[\d-]+", "1-2", (0, 3)), (r"[]a]+", "]a", (0, 2)),  # noqa: E501 - one pattern or case a line
        (r"(?P<n>a)", "a", (0, 1)), (r"(?U)a+", "aaa", (0, 1)), (r"\Aa\z", "a", (0, 1)), (r"", "x", (0, 0)), ("é", "é", (0, 1)),  # noqa: E501 - one pattern or case a line
    ],
)  # fmt: skip
def test_syntax_of_re2(pattern, text, expected):
    assert compile_regex(pattern).find(text) == expected


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        ")",
        "[a",
        "a**",
        "*a",
        r"(a)\1",
        "(?=a)",
        "(?<=a)",
        "(?!a)",
        "a{1001}",
        "[b-a]",
        "\\",
        r"\8",
        "[[:no:]]",
        r"\p{No_Such}",
        "(?P<n",
        "((a{99}){99}){99}",
        "(?x)a",
    ],
)
def test_refused(pattern):
    with pytest.raises(Fault, match="error parsing regexp"):
        compile_regex(pattern)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [("(a*)*b", "a" * 10000), ("(a|a)*b", "a" * 10000), ("(x+x+)+y", "x" * 10000), (".*.*.*=", "x" * 10000)],
)
def test_no_catastrophic_backtracking(pattern, text):
    start = time.process_time()
    assert not Regex(pattern).matches(text)
    assert time.process_time() - start < 1


def test_quadratic_search_is_refused_in_time():
    start = time.process_time()
    with pytest.raises(Fault, match="takes too long"):
        Regex("a*c|a*b$").find("a" * 9000 + "b" + "a" * 900 + "c ")
    assert time.process_time() - start < 2
