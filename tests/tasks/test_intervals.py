"""What a sample tells of a mean: ends that hold, for values of any kind."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskbits.errors import UserError
from taskbits.tasks.intervals import bound_from, of_mean, of_statistic
from taskbits.tasks.metrics import mean_score, metric

KINDS = {
    "smooth": lambda random, n: random.beta(7, 3, n),
    "nearly 0 or 1": lambda random, n: random.beta(0.2, 0.1, n),
    "mostly 0 or 1": lambda random, n: np.where(random.random(n) < 0.2, random.random(n), random.random(n) < 0.7),
    "rarely wrong": lambda random, n: np.where(random.random(n) < 0.05, 0.0, 0.99),
    "constant": lambda random, n: np.full(n, 0.7),
    "negative": lambda random, n: 2 * random.beta(2, 3, n) - 1,
}
MEANS = {
    "smooth": 0.7,
    "nearly 0 or 1": 2 / 3,
    "mostly 0 or 1": 0.2 * 0.5 + 0.8 * 0.7,
    "rarely wrong": 0.95 * 0.99,
    "constant": 0.7,
    "negative": -0.2,
}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=60), st.booleans())
def test_an_interval_holds_the_mean_and_is_no_point(values, negative):
    values = np.array(values) - (1 if negative else 0)
    low, high, bound = of_mean(values)
    assert (-1 if (values < 0).any() else 0) <= low <= values.mean() <= high <= 1
    assert high - low > 0.01 and bound <= values.mean()


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=5, max_size=20), st.integers(0, 100))
def test_more_rows_tell_more(values, seed):
    few, many = np.array(values), np.random.default_rng(seed).permutation(np.tile(values, 8))
    widths = [high - low for low, high, _ in map(of_mean, (few, many))]
    assert widths[1] < widths[0]


@pytest.mark.parametrize("kind", KINDS)
def test_ends_hold(kind):
    random, studies, mean = np.random.default_rng(2), 100, MEANS[kind]
    found = np.array([of_mean(KINDS[kind](random, 60)) for _ in range(studies)])
    inside = (found[:, 0] <= mean) & (mean <= found[:, 1])
    assert inside.mean() >= 0.94
    assert (found[:, 2] <= mean).mean() >= 0.885  # 95% but for three standard errors
    if kind == "smooth":
        assert (found[:, 1] - found[:, 0]).mean() < 0.7 * (
            of_mean(np.arange(60) < 42)[1] - of_mean(np.arange(60) < 42)[0]
        )


def test_scores_that_are_nearly_all_the_same():
    low, high, bound = of_mean(np.array([1.0] * 99 + [0.999]))
    assert 0.95 < low < bound < 0.98 and high == 1
    assert of_mean(np.full(100, 0.5))[1] - of_mean(np.full(100, 0.5))[0] > 0.02
    assert of_mean(np.array([0.5]))[:2] == pytest.approx((0, 1), abs=0.05)
    score = mean_score(np.full(20, 0.25), {})
    assert score.low < score.value < score.high


def test_accuracies_have_an_exact_bound():
    assert of_mean(np.arange(10) < 7)[2] == pytest.approx(0.3934, abs=1e-4)  # Clopper and Pearson, one-sided
    assert of_mean(np.ones(100))[2] == pytest.approx(0.05 ** (1 / 100))
    assert of_mean(np.zeros(100))[2] == 0


@pytest.mark.parametrize("values", [[], [0.5, float("nan")], [2.0], [-1.5], [float("inf")]])
def test_what_is_no_score_is_refused(values):
    with pytest.raises(UserError, match="scores of rows"):
        of_mean(np.array(values))


def test_a_bound_from_the_mean_alone_is_lower_than_one_from_the_rows():
    random = np.random.default_rng(0)
    for values in (random.random(200) < 0.8, random.beta(8, 2, 200)):
        assert 0.5 < bound_from(values.mean(), 200) < of_mean(values)[2]
    assert bound_from(0.0, 10) == 0


def test_what_is_resampled_is_no_point_either():
    assert of_statistic(1.0, 50, lambda sample: 1.0)[0] == pytest.approx(0.025 ** (1 / 50))
    assert of_statistic(0.4, 1, lambda sample: 0.4) == (0.0, 1.0, 0.0)
    low, high, bound = of_statistic(0.5, 100, lambda sample: sample.mean() / 99)
    assert 0.4 < low < bound < 0.5 < high < 0.6


def test_resamples_without_a_score_are_left_out():
    defined = iter([float("nan"), 0.3, 0.5] * 400)
    low, high, _ = of_statistic(0.4, 500, lambda sample: next(defined))
    assert (low, high) == (0.3, 0.5)
    assert of_statistic(0.4, 9, lambda sample: float("nan"))[0] < 0.4


@pytest.mark.parametrize("name", ["bleu", "chrf"])
@pytest.mark.parametrize("count", [1, 30])
def test_outputs_that_are_all_right_leave_some_doubt(name, count):
    text = ["the cat sat on the mat"] * count
    score = metric(name).score(text, text, [{}] * count)
    assert score.value == pytest.approx(1) and score.low < 0.95 and score.low <= score.bound < score.value


@pytest.mark.parametrize("values", [np.linspace(0, 1, 10_000), np.arange(10_000) % 2])
def test_ten_thousand_rows_take_little_memory(values):
    tracemalloc.start()
    try:
        of_mean(values)
        of_statistic(0.5, len(values), lambda sample: 0.5, resamples=20)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_the_order_of_the_rows_says_nothing():
    """Rows sorted by score, as a file sorted by label gives them, have about the interval of mixed ones."""
    values = np.random.default_rng(0).beta(2, 1, 300)
    one, other = of_mean(np.sort(values)), of_mean(values)
    assert one == pytest.approx(other, abs=0.02)
