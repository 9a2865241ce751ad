"""Quantities with units."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from asyncsim.errors import UserError
from asyncsim.units import (
    NANOSECONDS,
    RATE,
    SIZE,
    TIME,
    Bytes,
    BytesPerSecond,
    PositiveSeconds,
    Seconds,
    nanoseconds,
    show_seconds,
)

SECONDS, POSITIVE, BYTES, BANDWIDTH = (TypeAdapter(kind) for kind in (Seconds, PositiveSeconds, Bytes, BytesPerSecond))
numbers = st.floats(1e-6, 1e6)


@given(numbers, st.sampled_from(sorted(TIME)), st.sampled_from(["", " ", "  "]))
def test_a_number_with_a_unit_is_its_product(number, unit, space):
    if not 1e-9 <= number * TIME[unit] <= 9e9:
        return
    assert SECONDS.validate_python(f"{number!r}{space}{unit}") == number * TIME[unit]
    assert SECONDS.validate_python(f" {number!r}{space}{unit} ") == number * TIME[unit]


@given(numbers, st.sampled_from(sorted(SIZE)), st.sampled_from(sorted(RATE)))
def test_sizes_and_rates(number, size, rate):
    assert BYTES.validate_python(f"{number!r}{size}") == number * SIZE[size]
    assert BANDWIDTH.validate_python(f"{number!r} {rate}") == number * RATE[rate]


@given(st.just(0.0) | st.floats(1e-9, 9e9))
def test_numbers_and_their_text_are_base_units(number):
    assert SECONDS.validate_python(number) == SECONDS.validate_python(repr(number)) == number


@given(st.text(max_size=12))
def test_any_other_text_is_a_duration_or_a_validation_error(text):
    try:
        value = SECONDS.validate_python(text)
    except ValidationError:
        return
    assert 0 <= value <= 9e9


@pytest.mark.parametrize(
    "value", ["", "ms", "5 parsecs", "1 2", "1e400", "nan", "inf", "0x10", "1,5", True, None, [], 10**400, math.nan]
)
def test_what_is_no_duration(value):
    with pytest.raises(ValidationError) as caught:
        SECONDS.validate_python(value)
    assert "50ms" in caught.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (SECONDS, "-1s"), (SECONDS, 1e10), (POSITIVE, 0), (POSITIVE, "0ms"), (BYTES, -1), (BANDWIDTH, 0), (BYTES, 1e22),
        (SECONDS, "0.1ns"), (POSITIVE, 5e-324), (BANDWIDTH, 1e-300),
    ],
)  # fmt: skip
def test_bounds(kind, value):
    with pytest.raises(ValidationError):
        kind.validate_python(value)


@pytest.mark.parametrize("seconds", [math.inf, math.nan])
def test_what_is_not_finite_is_no_time(seconds):
    with pytest.raises(UserError, match="allowed are finite ones"):
        nanoseconds(seconds)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("50ms", 0.05), ("2h", 7200), ("1.5 min", 90), (".5s", 0.5), ("2d", 172800), ("3us", 3e-6), ("3µs", 3e-6), ("1e3ns", 1e-6)],
)
def test_examples(text, seconds):
    assert SECONDS.validate_python(text) == pytest.approx(seconds, rel=1e-15)


def test_bits_are_an_eighth_of_bytes():
    assert BANDWIDTH.validate_python("10Gbit/s") == 1.25e9 == BANDWIDTH.validate_python("1250MB/s")


@given(st.floats(0, 9e9))
def test_nanoseconds_round_to_the_nearest_tick(seconds):
    ticks = nanoseconds(seconds)
    assert isinstance(ticks, int)
    assert abs(ticks - seconds * NANOSECONDS) <= 0.5
    assert ticks < 2**63


@given(st.floats(1e-9, 1e9))
def test_shown_seconds_read_back_to_three_digits(seconds):
    assert SECONDS.validate_python(show_seconds(seconds).replace(",", "")) == pytest.approx(seconds, rel=6e-3)
