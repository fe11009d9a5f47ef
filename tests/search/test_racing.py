"""Racing: a program is dropped when it can't win, and hardly ever when it would have won."""

import numpy as np
import pytest
from conftest import write_task
from hypothesis import given, settings
from hypothesis import strategies as st

from taskbits.search import racing
from taskbits.search.measure import measure
from taskbits.search.racing import is_dominated
from taskbits.search.scoring import Dominated, score
from taskbits.studies.study import Study
from taskbits.tasks.load import load_task


def seen_until_dropped(differences):
    """Rows after which it is dropped, looking at each; None if it never is."""
    return next((n for n in range(1, len(differences)) if is_dominated(differences[:n], len(differences))), None)


def test_a_clear_loser_is_dropped_soon_and_a_winner_or_an_equal_never():
    draw = np.random.default_rng(0)
    loser = -(draw.random(300) < 0.6).astype(float)
    assert seen_until_dropped(loser) < 20
    assert seen_until_dropped(-loser) is None
    assert seen_until_dropped(np.zeros(300)) is None


@pytest.mark.parametrize("ahead", [1, 3])
def test_one_that_would_win_is_dropped_in_at_most_one_of_a_hundred_orders(ahead):
    """It wins by a row or three of 120, and is looked at after each: the worst case."""
    draw = np.random.default_rng(1)
    differences = np.array([1.0] * (40 + ahead) + [-1.0] * 40 + [0.0] * (40 - ahead))
    dropped = [is_dominated(draw.permutation(differences)[:-1], 120) for _ in range(1500)]
    assert np.mean(dropped) <= racing.ERROR


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60), st.integers(0, 40))
def test_any_differences_give_an_answer(differences, more):
    total = len(differences) + more
    found = is_dominated(np.array(differences), total)
    assert found in (True, False)
    if min(differences) >= 0:
        assert not found


@pytest.mark.parametrize("beyond", [float("nan"), -1.5])
def test_differences_that_the_bets_do_not_allow_for_drop_nothing(beyond):
    assert is_dominated(-np.ones(80), 200) and not is_dominated(np.array([beyond] + [-1.0] * 79), 200)


def test_scoring_stops_a_dominated_program(tmp_path, model, model_folder):
    folder = write_task(tmp_path / "task", metric="python:metric_of_nothing.score")
    (tmp_path / "task" / "metric_of_nothing.py").write_text("def score(output, row):\n    return 0.0\n")
    measure(model_folder, folder, str(tmp_path / "study"), methods=["zero-shot"], race=False)
    study = Study.open(tmp_path / "study")
    (found,) = study.measurements()
    content = study.path(found.program).read_bytes()
    task = load_task(folder)
    task.splits["validation"].extend({"question": f"more {n}", "answer": "1"} for n in range(200))
    with pytest.raises(Dominated, match=r"dominated: 0.000 on 64 of 212 rows, .* has 1.000"):
        score(content, model, task, ["validation"], rival=lambda flops: np.ones(212))
    whole = score(content, model, task, ["validation"], rival=lambda flops: np.zeros(212))
    assert whole.scores["validation"].value == 0
    # What it must beat depends on what it costs to run, which is about the same for all rows here.
    seen = []
    score(content, model, task, ["validation"], rival=lambda flops: seen.append(flops))
    assert len(seen) > 1 and seen == pytest.approx([whole.flops_per_input] * len(seen), rel=0.2)


def test_a_program_that_was_found_before_is_not_scored_again(tmp_path, model_folder, task_folder, monkeypatch):
    """Two settings of the same method often find the same program."""
    from taskbits.methods import method
    from taskbits.search import trials

    monkeypatch.setattr(method("zero-shot"), "sweep", lambda model, task: [{}, {"again": 1}, {"again": 2}])
    scored = []
    monkeypatch.setattr(trials, "score", lambda *given: scored.append(given) or score(*given))
    study = measure(model_folder, task_folder, str(tmp_path / "study"), methods=["zero-shot"])
    assert len(study.measurements()) == 3 and len(scored) == 1
    assert len({(m.program, m.validation.value, m.adapted) for m in study.measurements()}) == 1
