import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import FIELDS
from hypothesis import given
from hypothesis import strategies as st

from taskbits.errors import UserError
from taskbits.search.aim import aim
from taskbits.studies.frontier import (
    as_cheap,
    candidates,
    claims,
    complexity,
    envelope,
    on_test,
    ratios,
    round_numbers,
    rows,
    spread,
    within,
)
from taskbits.studies.measurement import Measurement
from taskbits.tasks.metrics import Score, mean_score


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
    low, high = max(0.0, value - 0.05), min(1.0, value + 0.05)
    return Score(value, low, high, 100, bound=low)


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


def running(size, validation, times, method="prompt", test=None):
    return replace(measured(size, validation, test), method=method, flops_per_input=times * 3e6)


BARE = running(100, 0.1, 1, "zero-shot")
COSTS = [
    BARE,
    running(200, 0.6, 2.5),
    running(300, 0.5, 1.9),
    running(400, 0.4, 1.9),  # beaten by what is as cheap
    running(500, 0.55, 3.9),  # beaten by what is cheaper
    running(600, 0.9, 9.0),
    running(700, 0.7, 1.0),
]


def test_a_program_within_a_factor_of_the_bare_model_s_cost():
    assert [m.bytes for m in within(COSTS, 2)] == [100, 300, 400, 700]
    assert [m.bytes for m in within(COSTS, 1)] == [100, 700] and within(COSTS, 9.0) == COSTS
    tested = [replace(m, test=score(m.validation.value)) for m in COSTS]
    assert complexity(tested, 0.5).bytes == 200 and complexity(within(tested, 2), 0.5).bytes == 700
    assert complexity(within(tested, 2), 0.4).bytes == 300
    assert [row["per_input"] for row in rows(tested)] == pytest.approx([1, 2.5, 9])


def test_where_the_bare_model_s_cost_is_unknown():
    with pytest.raises(UserError, match="the method zero-shot"):
        within(COSTS[1:], 2)
    unknown = [replace(BARE, flops_per_input=None), *COSTS[1:]]
    assert as_cheap(unknown, 1e6) == unknown and candidates(unknown) == envelope(unknown)
    assert {row["per_input"] for row in rows(unknown)} == {None}
    assert candidates([]) == candidates([replace(BARE, unconfirmed="lost")]) == []


def test_what_is_scored_on_test_may_be_cheap_to_run_or_short():
    assert [m.bytes for m in envelope(COSTS)] == [100, 200, 600]
    assert [m.bytes for m in candidates(COSTS)] == [100, 200, 300, 600, 700]
    assert [m.bytes for m in as_cheap(COSTS, 0.5 * 3e6)] == [100, 700]
    assert [m.bytes for m in as_cheap(COSTS, 2.01 * 3e6)] == [100, 200, 300, 400, 700]


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
        "bound": 0.25,
        "flops_once": None,
        "flops_per_input": None,
        "per_input": None,
        "elsewhere": {},
        "program": "100-0.2.tbp",
    }
    assert untested["test"] is None and untested["bound"] is None
    assert untested["interval"] == [score(0.6).low, score(0.6).high]


def test_a_claim_is_the_shortest_that_passed_before_the_first_that_did_not():
    programs = [measured(100, 0.5, 0.9), measured(200, 0.6, 0.3), measured(400, 0.7, 0.6), measured(800, 0.8, 0.8)]
    assert [(round(level, 2), m.bytes) for level, m in claims(programs)] == [
        (0.25, 100),
        (0.25, 200),
        (0.55, 400),
        (0.75, 800),
    ]
    assert complexity(programs, 0.5).bytes == 400  # what is shorter than the 200 bytes that fail is not looked at
    assert complexity(programs, 0.25).bytes == 100
    assert complexity(programs, 0.6).bytes == 800
    assert complexity(programs, 0.76) is None


def test_programs_that_were_not_tested_are_left_out_of_the_sequence():
    programs = [measured(100, 0.5, 0.4), measured(200, 0.6), measured(400, 0.7, 0.6)]
    assert complexity(programs, 0.3).bytes == 100 and complexity([measured(100, 0.9)], 0.1) is None


def test_what_was_seen_on_the_test_rows_is_a_fact_apart():
    programs = [measured(100, 0.5, 0.45), measured(200, 0.6, 0.3), measured(400, 0.7, 0.6)]
    assert on_test(programs, 0.45).bytes == 100 and complexity(programs, 0.45).bytes == 400
    assert on_test(programs, 0.6).bytes == 400 and complexity(programs, 0.6) is None
    assert on_test(programs, 0.61) is None


def test_scores_of_before_there_were_bounds_have_a_valid_one():
    accuracy = mean_score(np.repeat([1.0, 0.0], [400, 100]), {})
    old = Score(**{"value": 0.8, "low": accuracy.low, "high": accuracy.high, "n": 500, "also": {}})
    assert 0.75 < old.at_least < accuracy.at_least < 0.8
    assert Score(0.99999, 0.99997, 1.0, 100).at_least < 0.97  # a bootstrap of 99 ones and one 0.999
    assert Score(0.5, 0.4, 0.6, 100_000).at_least == 0.4  # of a corpus metric, which is no mean over rows
    assert Score(0.5, None, None, None).at_least == 0.5  # a published estimate


def draws(random, truth, rows, graded):
    """Scores of so many rows."""
    values = random.beta(4 * truth, 4 - 4 * truth, rows) if graded else random.random(rows) < truth
    return values.astype(float)


@pytest.mark.parametrize("rows", [(300, 500), (40, 40)])
@pytest.mark.parametrize("graded, studies", [(False, 150), (True, 50)])
def test_at_most_one_claim_in_twenty_is_wrong(rows, graded, studies):
    """Of 60 programs all but the longest score a little less than the level in truth."""
    random, level = np.random.default_rng(0), 0.6
    truths = np.array([*np.linspace(level - 0.1, level - 0.002, 59), level + 0.15])
    wrong = {complexity: 0, by_both_scores: 0}
    for _ in range(studies):
        found = [
            measured(300 + i, draws(random, truth, rows[0], graded).mean(), name=str(i))
            for i, truth in enumerate(truths)
        ]
        tested = []
        for m in reversed(envelope(found)):
            values = draws(random, truths[int(m.program)], rows[1], graded)
            stopped = tested and tested[0].test.at_least < level  # what comes then needs no bound, which takes long
            test = Score(values.mean(), 0.0, 1.0, len(values), bound=0.0) if stopped else mean_score(values, {})
            tested.insert(0, replace(m, test=test))
        for rule in wrong:
            m = rule(tested, level)
            wrong[rule] += m is not None and truths[int(m.program)] < level
    assert wrong[complexity] / studies <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / studies)
    assert wrong[by_both_scores] / studies > 0.1


def by_both_scores(programs, level):
    """The rule that selects on test."""
    return next((m for m in programs if min(m.validation.value, m.test.value) >= level), None)


@pytest.mark.parametrize("validation, test", [(300, 500), (40, 40), (200, 1000)])
def test_what_reaches_the_aim_can_be_claimed_nine_times_in_ten(validation, test):
    random, level = np.random.default_rng(1), 0.6
    goal, claimed = aim(level, validation, test), []
    while len(claimed) < 300:
        truth = random.random()
        if draws(random, truth, validation, False).mean() > goal:
            claimed.append(mean_score(draws(random, truth, test, False), {}).at_least >= level)
    assert level < goal < 1 and np.mean(claimed) >= 0.9
    near = [v / validation for v in range(validation + 1) if 0 <= v / validation - goal < 1 / validation]
    assert len(near) == 1  # no mean of 0/1 scores is the aim itself: to beat it is to reach it


def test_the_aim_at_the_ends():
    assert aim(0.0, 40, 40) == 0.0
    assert aim(0.99, 40, 40) == 39.5 / 40  # 40 right ones prove 0.93: nothing but all of validation will do
    assert aim(0.2, 40, 40) < aim(0.5, 40, 40) < aim(0.6, 40, 40)


def test_ratios_at_given_levels():
    frontiers = {
        "random": [measured(1000, 0.2, test=0.2)],
        "pretrained": [measured(100, 0.2, test=0.2), measured(500, 0.8, test=0.75)],
    }
    low, high, beyond = ratios(frontiers, levels=[0.15, 0.7, 0.9])
    assert low["bytes"] == {"random": 1000, "pretrained": 100}
    assert low["ratios"] == {"random": 10.0, "pretrained": 1.0}
    assert high["bytes"] == {"random": None, "pretrained": 500}
    assert high["ratios"] == {"random": None, "pretrained": 1.0}
    assert beyond["ratios"] == {"random": None, "pretrained": None}


def test_ratios_choose_levels_that_two_studies_reach_and_the_highest_of_each():
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
    assert all(any(row["bytes"].values()) for row in table)
    assert all(level <= 0.85 for level in spread(frontiers.values()))


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
