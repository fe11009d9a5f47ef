import math

import pytest
from conftest import FIELDS
from hypothesis import given
from hypothesis import strategies as st

from taskbits.frontier import complexity, envelope, ratios, round_numbers, rows
from taskbits.study import Measurement, Score


def measured(size, validation, test=None, name=None):
    return Measurement(
        method="prompt",
        family="inference control",
        settings={"words": size},
        bytes=size,
        payload_bytes=size - 10,
        validation=score(validation),
        program=name or f"{size}-{validation}",
        **FIELDS,
        test=None if test is None else score(test),
    )


def score(value):
    return Score(value, max(0.0, value - 0.05), min(1.0, value + 0.05), 100)


def test_envelope_keeps_only_what_no_shorter_program_matches():
    kept = [measured(100, 0.1), measured(300, 0.5), measured(900, 0.6)]
    beaten = [measured(200, 0.05), measured(200, 0.1), measured(300, 0.4), measured(5000, 0.6)]
    assert envelope(beaten + kept[::-1]) == kept


def test_envelope_of_nothing_is_empty():
    assert envelope([]) == [] and rows([]) == [] and complexity([], 0.0) is None


def test_test_scores_choose_nothing():
    lucky, chosen = measured(100, 0.4, test=0.9), measured(100, 0.5, test=0.1)
    assert envelope([lucky, chosen]) == [chosen]
    assert complexity([lucky, chosen], 0.4) is None


def test_equal_programs_give_the_same_envelope_in_any_order():
    twins = [measured(100, 0.5, name="b"), measured(100, 0.5, name="a")]
    assert envelope(twins)[0].program == envelope(twins[::-1])[0].program == "a"


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 20)), max_size=40))
def test_envelope_rises_and_dominates_everything(points):
    everything = [measured(size, value / 20) for size, value in points]
    kept = envelope(everything)
    steps = [(m.bytes, m.validation.value) for m in kept]
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in zip(steps, steps[1:], strict=False))
    for m in everything:
        assert any(k.bytes <= m.bytes and k.validation.value >= m.validation.value for k in kept)


def test_rows_hold_plain_numbers_and_the_interval_of_the_reported_score():
    tested, untested = rows([measured(100, 0.2, test=0.3), measured(200, 0.6)])
    assert tested == {
        "bytes": 100,
        "payload_bytes": 90,
        "bits": 800,
        "ideal_bits": None,
        "method": "prompt",
        "settings": {"words": 100},
        "validation": 0.2,
        "test": 0.3,
        "also": {},
        "interval": [0.25, 0.35],
        "program": "100-0.2.tbp",
    }
    assert untested["test"] is None and untested["interval"] == [score(0.6).low, score(0.6).high]


def test_complexity_needs_both_scores():
    programs = [measured(100, 0.5, test=0.3), measured(200, 0.6, test=0.5), measured(400, 0.7)]
    assert complexity(programs, 0.3).bytes == 100
    assert complexity(programs, 0.5).bytes == 200  # The shorter one reaches it on validation only.
    assert complexity(programs, 0.55) is None  # Not confirmed by 200, not tested at 400.
    assert complexity([measured(100, 0.4, test=0.6)], 0.5) is None  # Luck on test alone is none.


def test_ratios_at_given_levels():
    frontiers = {
        "random": [measured(1000, 0.2, test=0.2)],
        "pretrained": [measured(100, 0.2, test=0.2), measured(500, 0.8, test=0.7)],
    }
    low, high, beyond = ratios(frontiers, levels=[0.2, 0.7, 0.9])
    assert low["bytes"] == {"random": 1000, "pretrained": 100}
    assert low["ratios"] == {"random": 10.0, "pretrained": 1.0}
    assert high["bytes"] == {"random": None, "pretrained": 500}
    assert high["ratios"] == {"random": None, "pretrained": 1.0}
    assert beyond["ratios"] == {"random": None, "pretrained": None}


def test_ratios_choose_levels_that_two_studies_reach_and_the_low_ends_of_the_best():
    frontiers = {
        "random": [measured(100, 0.0, test=0.0), measured(9000, 0.15, test=0.15)],
        "pretrained": [measured(100, 0.02, test=0.02), measured(800, 0.67, test=0.67)],
        "posttrained": [measured(100, 0.3, test=0.3), measured(200, 0.9, test=0.9)],
    }
    table = ratios(frontiers)
    plain = [row for row in table if not row["note"]]
    assert 3 <= len(plain) <= 7
    assert all(sum(n is not None for n in row["bytes"].values()) >= 2 for row in plain)
    assert [row["level"] for row in table] == sorted(row["level"] for row in table)
    noted = {row["note"].split()[-1]: row["level"] for row in table if row["note"]}
    assert noted == pytest.approx({"random": 0.1, "pretrained": 0.62, "posttrained": 0.85}, abs=0.0011)
    assert table[-1]["bytes"] == {"random": None, "pretrained": None, "posttrained": 200}


def test_ratios_without_test_scores_prove_nothing():
    assert ratios({"a": [measured(100, 0.5)], "b": []}) == []
    assert ratios({}) == []


@pytest.mark.parametrize("low, high", [(0, 1), (0, 0.7), (0.03, 0.07), (0.25, 0.9), (0, 0.013), (0.5, 0.501)])
def test_round_numbers_are_few_and_inside(low, high):
    found = round_numbers(low, high)
    assert 3 <= len(found) <= 7
    assert all(low < x <= high for x in found)
    step = found[1] - found[0]
    assert round(step / 10 ** math.floor(math.log10(step) + 1e-6), 6) in (1, 2, 5)


def test_round_numbers_of_an_empty_range():
    assert round_numbers(0.5, 0.5) == []
