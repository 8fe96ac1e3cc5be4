# SPDX-License-Identifier: Apache-2.0
"""Memory by time: what annotations mean, and that a crossing of the limit is found exactly where sampling finds it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_memory.embedded.runtime.curves import Flat, Model, Ramp, Sine, Steps, parse
from dynamic_memory.errors import InvalidInput

MI = 1 << 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100Mi", Model(Flat(100 * MI))),
        ("ramp 100Mi..2Gi 60s", Model(Ramp(100 * MI, 2048 * MI, 60))),
        ("sine 100Mi..1Gi 1.5m; cache 300Mi", Model(Sine(100 * MI, 1024 * MI, 90), 300 * MI)),
        ("steps 100Mi 10s, 1Gi 5s, 200Mi", Model(Steps((0, 10, 15), (100 * MI, 1024 * MI, 200 * MI)))),
    ],
)
def test_an_annotation_is_a_model(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "lots", "ramp 1Mi..2Mi", "ramp 1Mi..2Mi 0s", "sine 1Mi 2Mi 3s", "steps 1Mi, 2Mi 3s", "1Mi; cash 2Mi", "-1"],
)
def test_what_is_no_model_is_refused_with_what_was_expected(text):
    with pytest.raises(InvalidInput, match=r"simulation\.dynamicmemory\.dev/memory"):
        parse(text)


SIZES = st.integers(0, 1000).map(lambda pages: pages * 4096)
CURVES = st.one_of(
    st.builds(Flat, SIZES),
    st.builds(Ramp, SIZES, SIZES, st.floats(1, 100)),
    st.builds(Sine, SIZES, SIZES, st.floats(1, 100)),
    st.lists(SIZES, min_size=1, max_size=4).map(
        lambda sizes: Steps(tuple(float(i * 7) for i in range(len(sizes))), tuple(sizes))
    ),
)


@given(CURVES, SIZES, st.floats(0, 150))
def test_the_crossing_of_a_limit_is_where_sampling_finds_it(curve, limit, age):
    found = curve.above(limit, age)
    samples = [age + step * 0.1 for step in range(1200)]
    first = next((sample for sample in samples if curve.at(sample) > limit), None)
    if found is None:
        assert first is None
    else:
        assert found >= age
        assert curve.at(found + 1e-3) > limit or curve.at(found) > limit or isinstance(curve, Sine)
        if first is not None:
            assert found <= first + 1e-3


def test_page_cache_gives_way_and_shows_as_pressure():
    model = Model(Flat(60), cache=50)
    assert model.read(0, None).current == 110
    reading = model.read(0, 100)
    assert (reading.anonymous, reading.cache) == (60, 40)
    assert reading.pressure == 100.0
    assert model.read(0, 200).pressure == 0
