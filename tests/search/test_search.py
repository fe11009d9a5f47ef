"""What a search tries next: pure functions of what was tried."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbits import methods
from taskbits.methods import NAMES
from taskbits.search.bandit import hypervolume, in_turn, paces, propose
from taskbits.search.measure import measure
from taskbits.studies.measurement import Attempt, key

LIMIT = 1e6
SWEEPS = {
    "lora": [{"bytes": size, "objective": "loss"} for size in (1024, 256, 4096, 512, 65536)],
    "few-shot": [{"k": k, "tries": tries} for k, tries in ((1, 1), (1, 32), (2, 32), (4, 1), (8, 1))],
    "zero-shot": [{}],
}


def search(programs, rounds=60, target=None, sweeps=SWEEPS, choose=propose):
    """What is tried, in order, where `programs` says which bytes, score and seconds settings lead to."""
    history, taken = [], set()
    for _ in range(rounds):
        chosen = choose(sweeps, history, taken, *([] if choose is in_turn else [LIMIT, 0, target]))
        if chosen is None:
            break
        method, settings = chosen
        assert (method, key(settings)) not in taken
        taken.add((method, key(settings)))
        size, score, seconds = programs(method, settings)
        history.append(Attempt(method, settings, seconds, size, score, dropped=False))
    return history


def world(method, settings):
    """LoRA's score rises with its bytes, demonstrations stay where they are."""
    if method == "lora":
        return settings["bytes"] + 400, min(1.0, 0.1 * math.log(settings["bytes"] / 16)), 10.0
    return 300 + 50 * settings.get("k", 0), 0.1, 10.0


def test_every_method_is_tried_and_most_time_goes_where_the_frontier_moves():
    history = search(world, rounds=40)
    assert {attempt.method for attempt in history} == set(SWEEPS)
    assert sum(attempt.method == "lora" for attempt in history) > 20


def test_settings_between_those_of_the_sweep_are_tried_too():
    sizes = [a.settings["bytes"] for a in search(world, rounds=40) if a.method == "lora"]
    known = {settings["bytes"] for settings in SWEEPS["lora"]}
    assert len(sizes) == len(set(sizes)) and known < set(sizes) and all(256 <= size <= 65536 for size in sizes)


def test_a_search_knows_every_method():
    files = [path.stem.replace("_", "-") for path in Path(methods.__file__).parent.glob("[a-z]*.py")]
    assert sorted(files) == sorted(NAMES)


def test_a_search_without_anything_new_ends():
    assert [a.method for a in search(world, sweeps={"zero-shot": [{}]})] == ["zero-shot"]
    assert propose({}, [], set(), LIMIT, 0) is None


def test_the_same_history_gives_the_same_proposal():
    assert search(world, rounds=25) == search(world, rounds=25)


def test_in_turn_goes_through_the_sweeps_by_time():
    def costs(method, settings):
        return 500, 0.1, 100.0 if method == "lora" else 1.0

    history = search(costs, choose=in_turn)
    assert len(history) == sum(map(len, SWEEPS.values()))
    assert [a.method for a in history[:3]] == ["lora", "few-shot", "zero-shot"]
    assert [a.method for a in history[-4:]] == ["lora"] * 4


def test_bisection_closes_in_on_the_shortest_size_that_reaches_the_target():
    history = search(world, target=0.6)
    needed = 16 * math.exp(6)
    reached = min(a.settings["bytes"] for a in history if a.method == "lora" and a.score >= 0.6)
    assert needed <= reached <= 1.1 * needed
    assert sum(a.method == "lora" for a in history) <= 12


def test_sizes_that_cannot_be_shorter_than_what_reaches_the_target_are_not_tried():
    def easy(method, settings):
        size, score, seconds = world(method, settings)
        return (320, 0.9, seconds) if method == "few-shot" else (size, score, seconds)

    history = search(easy, target=0.6, sweeps=dict(sorted(SWEEPS.items())))
    assert [a.settings["bytes"] for a in history if a.method == "lora"] == [256]


def test_dropped_programs_gain_nothing():
    def attempt(score, dropped):
        return Attempt("lora", {"bytes": 256}, 2.0, 700, score, dropped)

    assert paces([attempt(0.5, True)], LIMIT) == {"lora": 0.0}
    gained = paces([attempt(0.5, False)], LIMIT)["lora"]
    assert gained == pytest.approx(0.5 * math.log(LIMIT / 700) / 2)


points = st.lists(st.tuples(st.integers(1, 10**7), st.floats(0, 1)), max_size=8)


@given(points, points)
def test_more_programs_never_lessen_the_hypervolume(some, more):
    assert hypervolume(some, LIMIT) <= hypervolume(some + more, LIMIT) + 1e-9


def test_a_measurement_with_a_target_keeps_nothing_longer_than_what_reaches_it(model_folder, task_folder, tmp_path):
    study = measure(model_folder, task_folder, str(tmp_path / "s"), methods=["zero-shot", "instructed"], target=0.0)
    assert [m.method for m in study.measurements()] == ["zero-shot"]
    assert [(a.method, a.dropped) for a in study.history()] == [("zero-shot", False)] + [("instructed", True)] * 3
