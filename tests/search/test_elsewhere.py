"""What a program changes on other tasks: the frontier's candidates are scored there once, and nothing hangs on it."""

import json

import pytest
from conftest import write_task

import taskbits
from taskbits.errors import UserError
from taskbits.search.confirm import waiting_elsewhere
from taskbits.studies.study import Study


@pytest.fixture
def others(tmp_path):
    """A task as good as another, and one whose metric fails for each output."""
    folder = tmp_path / "failing"
    failing = write_task(folder, metric="python:metric_that_fails.score")
    (folder / "metric_that_fails.py").write_text("def score(output, row):\n    raise ValueError('no such thing')\n")
    return [write_task(tmp_path / "other"), failing]


def test_scores_on_other_tasks(tmp_path, model_folder, task_folder, choices_folder, others):
    out, also = str(tmp_path / "study"), [choices_folder, *others]
    options = {"methods": ["zero-shot"], "out": out}
    assert taskbits.measure(model_folder, task_folder, **options).frontier()[0].elsewhere == {}
    study = taskbits.measure(model_folder, task_folder, also=also, **options)  # what was tested before, too
    (bare,) = study.measurements()
    assert bare.elsewhere.keys() == set(also[:2])
    assert bare.elsewhere[others[0]].value == bare.test.value  # the same rows and the same model
    alone = taskbits.measure(model_folder, choices_folder, str(tmp_path / "alone"), methods=["zero-shot"])
    assert bare.elsewhere[choices_folder].value == alone.frontier()[0].test.value
    assert study.rows()[0]["elsewhere"] == {task: found.value for task, found in bare.elsewhere.items()}
    # Neither what has a score nor what failed is tried again, unless that is asked for.
    store = Study.open(out, trust=True)
    assert waiting_elsewhere(store) == [] and not store.begin_elsewhere(bare.program, others[1])
    store.retry()
    assert waiting_elsewhere(store) == [(bare.program, others[1])]
    assert store.begin_elsewhere(bare.program, others[1]) and not store.begin_elsewhere(bare.program, others[1])


def test_another_task_that_is_none(tmp_path, model_folder, task_folder):
    with pytest.raises(UserError, match="nowhere"):
        taskbits.measure(model_folder, task_folder, str(tmp_path), methods=["zero-shot"], also=["lab:nowhere"])
    assert not (tmp_path / "study.json").exists()


def test_other_tasks_in_tables_and_in_the_report(tmp_path, taskbits, model_folder, task_folder, others):
    arguments = ["--model", model_folder, "--task", task_folder, "--out", tmp_path / "s", "--methods", "zero-shot"]
    result = taskbits("measure", *arguments, "--also", others[0])
    assert result.returncode == 0 and " other " in result.stdout
    assert json.loads(taskbits("frontier", tmp_path / "s", "--json").stdout)[0]["elsewhere"].keys() == {others[0]}
    assert taskbits("report", tmp_path / "s").returncode == 0
    page = (tmp_path / "s" / "report.html").read_text(encoding="utf-8")
    assert "On other" in page and "--also" in page and page.count(others[0]) > 1
