"""The public interface: what a notebook does, and what it costs to load."""

import doctest
import functools
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from conftest import ROWS, fresh

import taskbits
from taskbits.testing import counting

ROOT = Path(__file__).parent.parent
LAST = re.compile(r"(\d+)\D*$")
WRONG = 0.25


def last_number(output):
    found = LAST.search(output)
    return found and found[1]


def judge(output, row):
    return 1.0 if last_number(output) == row["answer"] else WRONG * ("1" in output)


@pytest.fixture(scope="module")
def in_memory(model_folder):
    """A user's own model, in bfloat16, as none on disk is."""
    lm = transformers.AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.bfloat16)
    with torch.no_grad():
        lm.model.layers[0].mlp.up_proj.weight += 0.5
    return lm, transformers.AutoTokenizer.from_pretrained(model_folder)


@pytest.fixture(scope="module")
def study(in_memory, tmp_path_factory):
    out = tmp_path_factory.mktemp("api") / "study"
    options = {"methods": ["zero-shot", "few-shot", "norms"], "budget": 0.01}
    return taskbits.measure(in_memory, {**counting(), "metric": judge}, out, **options)


@pytest.mark.parametrize("name", taskbits.__all__)
def test_every_name_is_there_and_says_what_it_is(name):
    assert getattr(taskbits, name).__doc__ and name in dir(taskbits)


@pytest.mark.parametrize("module", sorted({taskbits._HOME[name] for name in taskbits.__all__}))
def test_docstring_examples(module):
    assert doctest.testmod(importlib.import_module(f"taskbits.{module}")).failed == 0


def test_reading_a_program_loads_nothing_that_is_costly():
    code = "import sys; from taskbits import load_program; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert "taskbits" in loaded
    assert not loaded & {"optuna", "sqlalchemy", "scipy", "matplotlib", "sacrebleu", "torch", "transformers", "pandas"}


@pytest.mark.parametrize("code", ["taskbits.list_methods()", "taskbits.open_study(sys.argv[1]).rows()"])
def test_who_reads_a_study_or_lists_methods_loads_no_torch(study, code):
    code = f"import sys, taskbits; {code}; assert not {{'torch', 'matplotlib'}} & sys.modules.keys()"
    result = subprocess.run([sys.executable, "-c", code, str(study.folder)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_what_is_in_memory_is_measured_confirmed_and_can_be_verified_by_others(study, in_memory):
    [m] = study.measurements()
    assert m.test.n == ROWS["test"] and Path(study.info["task"]) == study.folder / "task"
    result = fresh("verify", study.path(m), "--trust")
    assert result.returncode == 0, result.stderr
    assert in_memory[0].dtype == torch.bfloat16


def test_the_same_call_goes_on_and_another_task_is_refused(study, in_memory):
    again = taskbits.measure(in_memory, {**counting(), "metric": judge}, study.folder, methods=["zero-shot"])
    assert len(again.measurements()) == 1
    other = {**counting(), "metric": judge, "prompt": "{question}"}
    with pytest.raises(taskbits.UserError, match="another task"):
        taskbits.measure(in_memory, other, study.folder)


def test_a_task_of_python_objects_is_that_of_its_files(tmp_path):
    from taskbits.tasks.load import write_task

    datasets = pytest.importorskip("datasets")
    given = {**counting(), "metric": judge, "chat": {"system": "Count."}}
    task = taskbits.load_task(given)
    assert write_task(task, tmp_path / "t").fingerprint == task.fingerprint
    source = (tmp_path / "t" / "metric.py").read_text()
    assert "def last_number" in source and "LAST = re.compile" in source and "WRONG = 0.25" in source
    hugging = {split: datasets.Dataset.from_list(given[split]) for split in ROWS}
    assert taskbits.load_task({**given, **hugging}).fingerprint == task.fingerprint
    one_list = [row for split in ROWS for row in given.pop(split)]
    assert {*taskbits.load_task({**given, "data": one_list}).splits} == {*ROWS}


@pytest.mark.parametrize(
    "change, told",
    [
        ({"metric": lambda output, row: np.float64(torch.tensor(1))}, None),
        ({"metric": functools.partial(judge)}, "must be a function"),
        ({"test": [{"question": object(), "answer": "1"}]}, "test, row 1"),
        ({"test": 7}, "'test' must be a list of rows"),
        ({"test": []}, "the test split is empty"),
        ({"target": 5}, "'target' must be a text"),
        ({"stops": []}, "unknown key 'stops'"),
    ],
)
def test_tasks_that_cannot_be(change, told):
    if told is None:
        assert taskbits.load_task({**counting(), **change}).metric == "python:metric.judge"
        return
    with pytest.raises(taskbits.UserError, match=told):
        taskbits.load_task({**counting(), **change})


def test_a_program_is_applied_to_the_users_own_model_and_taken_out_again(in_memory, tmp_path):
    lm, _ = in_memory
    model = taskbits.load_model(in_memory)
    task = taskbits.load_task(counting())
    from taskbits.methods import method

    with model.preserved():
        program = method("norms").fit(model, task, {"bytes": 64, "objective": "loss", "steps": 4}, 0, lambda *_: None)
    program = program.program
    before = {name: weight.clone() for name, weight in lm.named_parameters()}
    row = task.splits["test"][0]
    with program.applied(model) as adapted:
        assert adapted.lm is lm and adapted.prefix == "" and adapted.prompt(row) == task.prompts("test")[0]
        assert any(not torch.equal(weight, before[name]) for name, weight in lm.named_parameters())
        written = lm.generate(**adapted.inputs(row), max_new_tokens=2, do_sample=False)
        assert written.shape[0] == 1
    assert all(torch.equal(weight, before[name]) for name, weight in lm.named_parameters())
    assert program.run(model, [row]) and len(program.standalone(model)) == len(program.standalone())


def test_models_in_memory_that_cannot_be_copied(in_memory):
    with pytest.raises(taskbits.UserError, match="not a whole model"):
        taskbits.load_model((torch.nn.Linear(2, 2), in_memory[1]))
    with pytest.raises(taskbits.UserError, match="for one that is named"):
        taskbits.load_model(in_memory, state="random")


def test_a_study_in_a_notebook(study):
    [m] = study.measurements()
    assert study.frontier() == [m] and study.complexity(0.0) == m and study.complexity(1.0) is None
    page = study._repr_html_()
    assert "<svg" in page and f"{m.bytes:,}" in page and "<script" not in page
    frame = study.to_frame()
    assert list(frame["bytes"]) == [m.bytes] and frame["test"][0] == m.test.value
    assert [path.name for path in study.report()] == ["report.html", "frontier.png", "frontier.svg"]
    assert study.program(m).to_bytes() == study.path(m).read_bytes()


def test_a_copied_program_scores_what_was_recorded(taskbits, study, tmp_path):
    [m] = study.measurements()
    copy = tmp_path / "elsewhere.tbp"
    shutil.copyfile(study.path(m), copy)
    asked = ["--model", study.info["model"], "--task", study.info["task"], "--json"]
    result = taskbits("score", copy, *asked)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["bytes"] == m.bytes and found["score"]["value"] == m.test.value
    assert [found["score"]["low"], found["score"]["high"]] == [m.test.low, m.test.high]
    assert "validation rows" in taskbits("score", copy, *asked[:-1], "--split", "validation").stdout
    result = taskbits("score", copy, *asked, "--split", "tests")
    assert result.returncode == 2 and "no split 'tests'" in result.stderr


def test_records_are_checked_by_others(taskbits, model_folder, tmp_path):
    measured = taskbits("measure", "--model", "lab:pretrained", "--task", "lab:translation", "--rows", 40, "--methods",
                        "zero-shot", "--budget", "1s", "--out", tmp_path / "study")  # fmt: skip
    assert measured.returncode == 0, measured.stderr
    table = tmp_path / "records.md"
    assert taskbits("records", tmp_path / "study", "--out", table).returncode == 0
    shutil.rmtree(tmp_path / "study")
    result = taskbits("records", "--check", table)
    assert result.returncode == 0 and "as recorded" in result.stdout, result.stderr
    size = re.search(r"(\d+) bytes", result.stdout)[1]
    table.write_text(table.read_text().replace(f"| {size} |", f"| {int(size) - 1} |", 1))
    result = taskbits("records", "--check", table)
    assert result.returncode == 1 and "1 of the records" in result.stderr
    table.write_text(table.read_text().replace("records/", "../"))
    result = taskbits("records", "--check", table)
    assert result.returncode == 2 and "does not lie beside the table" in result.stderr
    assert taskbits("records", "--check", tmp_path / "none.md").returncode == 2
    assert taskbits("records").returncode == 2


def test_the_notebook_in_docs_runs(tmp_path):
    taskbits.load_model("lab:pretrained").save(tmp_path / "M")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, ROOT / "docs" / "notebook.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert re.search(r"C\(T_0.1 \| M\) is at most \d+ bytes", result.stdout)
