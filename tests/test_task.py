"""Tasks, splits, templates and metrics."""

import json
from dataclasses import asdict

import pytest
import yaml
from conftest import write_task

from taskbits.errors import UserError
from taskbits.metrics import metric
from taskbits.task import SPLITS, load_task


def test_prompts_and_targets(task_folder):
    task = load_task(task_folder)
    assert task.prompts("train")[3] == "Q: after 3 comes\nA:"
    assert task.targets("train")[3] == " 4"
    assert task.score("train", task.targets("train")).value == 1.0


def write_single_file(folder, count):
    folder.mkdir(exist_ok=True)
    rows = [{"question": f"what is {i}", "answer": str(i)} for i in range(count)]
    (folder / "all.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = {"data": "all.jsonl", "prompt": "{question}", "target": "{answer}", "metric": "exact"}
    (folder / "task.yaml").write_text(yaml.safe_dump(settings))
    return str(folder)


def test_hashed_splits_never_move_when_rows_are_added(tmp_path):
    small = load_task(write_single_file(tmp_path / "small", 200))
    large = load_task(write_single_file(tmp_path / "large", 400))
    for split in SPLITS:
        names = {row["question"] for row in small.splits[split]}
        assert names and names <= {row["question"] for row in large.splits[split]}
    assert len(small.splits["train"]) > 130


@pytest.mark.parametrize(
    "name, pattern, output, target, value",
    [
        ("exact", None, " a ", "a", 1.0),
        ("exact", None, "b", "a", 0.0),
        ("regex", r"#### (-?\d+)", "3+4=7 #### 7", "#### 7", 1.0),
        ("regex", r"#### (-?\d+)", "7", "#### 7", 0.0),
        ("bleu", None, "the cat sat on the mat", "the cat sat on the mat", 1.0),
        ("chrf", None, "xyz", "the cat sat on the mat", 0.0),
    ],
)
def test_metrics(name, pattern, output, target, value):
    score = metric(name, pattern).score([output] * 20, [target] * 20, [{}] * 20)
    assert score.value == pytest.approx(value) and 0 <= score.low <= score.value <= score.high <= 1


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_corpus_scores_have_an_interval_and_can_be_stored(name):
    targets = [f"the {animal} sat on the mat" for animal in ("cat", "dog", "old horse", "frog")] * 5
    score = metric(name).score(["the cat sat on the mat"] * 20, targets, [{}] * 20)
    assert 0 < score.low < score.value < score.high < 1
    assert json.loads(json.dumps(asdict(score))) == asdict(score)


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_corpus_scores_of_outputs_that_hardly_match_have_an_interval(name):
    score = metric(name).score(["zzz"] * 19 + ["the cat sat on the mat"], ["the cat sat on the mat"] * 20, [{}] * 20)
    assert 0 <= score.low <= score.value < score.high < 0.5
    assert metric(name).score([""] * 5, ["the cat"] * 5, [{}] * 5).value == 0


def test_intervals_are_wilson_for_accuracies():
    outputs = ["a"] * 7 + ["b"] * 3
    score = metric("exact").score(outputs, ["a"] * 10, [{}] * 10)
    assert (score.low, score.high) == pytest.approx((0.3968, 0.8922), abs=1e-4)  # published example of n = 10, p = 0.7


def test_intervals_of_other_values_are_bootstrapped():
    score = metric("python:test_task.partial").score(["x" * n for n in range(11)], [""] * 11, [{}] * 11)
    assert score.value == pytest.approx(0.5) and 0.2 < score.low < 0.5 < score.high < 0.8


def partial(output, row):
    """A metric of a user's own."""
    return len(output) / 10


def test_duplicates_across_splits_are_named(tmp_path):
    folder = write_task(tmp_path / "task")
    rows = (tmp_path / "task" / "train.jsonl").read_text().splitlines()
    with open(tmp_path / "task" / "test.jsonl", "a") as file:
        file.write(rows[5] + "\n")
    with pytest.raises(UserError, match="both train and test: 'after 5 comes'"):
        load_task(folder)


def test_a_metric_of_the_users_own_may_lie_beside_the_task(tmp_path):
    folder = write_task(tmp_path / "task", metric="python:my_metric_of_tests.half")
    (tmp_path / "task" / "my_metric_of_tests.py").write_text("def half(output, row):\n    return 0.5\n")
    assert load_task(folder).score("test", ["x"] * 16).value == 0.5
