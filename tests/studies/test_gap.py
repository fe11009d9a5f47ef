"""Bytes at half of the way and at 95% of it."""

import math

import pytest
from test_frontier import measured

from taskbits.studies.gap import gap

SIZES = [330, 400, 500, 700, 1000, 1500, 2500, 5000, 10_000, 40_000]


@pytest.mark.parametrize("middle, slope", [(900, 4.0), (1500, 3.0), (4000, 5.0)])
def test_what_a_logistic_curve_was_drawn_from_is_found_again(middle, slope):
    curve = [0.1 + 0.8 / (1 + math.exp(slope * math.log(middle / size))) for size in SIZES]
    found = gap([measured(size, value, value) for size, value in zip(SIZES, curve, strict=True)])
    for share, (size, low, high) in found.bytes.items():
        part = (curve[0] + share * (curve[-1] - curve[0]) - 0.1) / 0.8
        true = middle * (part / (1 - part)) ** (1 / slope)
        assert low < true < high and size == pytest.approx(true, rel=0.35)
    half, low, high = found.bytes[0.5]
    assert (found.worst, found.best) == (curve[0], curve[-1])
    assert f"{half:,} bytes ({low:,} to {high:,})" in str(found)


def test_a_jump_is_between_the_programs_beside_it():
    values = [0.1, 0.11, 0.12, 0.88, 0.89, 0.9]
    found = gap([measured(size, value, value) for size, value in zip(SIZES, values, strict=False)])
    assert 500 <= found.bytes[0.5][1] and found.bytes[0.95][2] <= 1100


def test_fewer_than_four_programs_or_none_better_have_no_gap():
    assert gap([measured(size, size / 1e5, size / 1e5) for size in SIZES[:3]]) is None
    assert gap([measured(size, size / 1e5, 0.5) for size in SIZES]) is None
    assert gap([measured(size, size / 1e5) for size in SIZES]) is None
