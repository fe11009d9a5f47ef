"""One bad item never takes down the rest: a trial, a program or a row that fails is recorded, and all else goes on."""

import json
import sqlite3
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import write_task

from taskbits.errors import UserError
from taskbits.fitting.training import batches, train
from taskbits.methods import method
from taskbits.models import intact
from taskbits.models.model import load_model, weights_digest
from taskbits.search.confirm import confirm_in_fresh_process
from taskbits.search.measure import measure
from taskbits.search.trials import Search
from taskbits.studies.study import Study
from taskbits.tasks.load import load_task
from taskbits.tasks.metrics import Score


class Wrapped(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner


def wrap(model, *_):
    """Fails as a library may that has begun to put its own layers around those of the model."""
    layer = model.lm.model.layers[0].self_attn
    layer.q_proj = Wrapped(layer.q_proj)
    raise ValueError("no such module")


def spoil(model, *_):
    with torch.no_grad():
        next(model.lm.parameters()).fill_(torch.nan)
    model.lm.train()
    raise np.linalg.LinAlgError("SVD did not converge")


def hook(model, *_):
    model.lm.register_forward_hook(lambda *_: 1 / 0)
    raise RecursionError


def cast(model, *_):
    model.lm.float()
    raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried")


def exhaust(*_):
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 80 GiB.")


def steal(model, *_):
    layer = model.lm.model.layers[0].mlp
    layer.register_parameter("extra", torch.nn.Parameter(torch.zeros(3)))
    layer.up_proj.weight = None
    raise MemoryError


@pytest.mark.parametrize("failing", [wrap, spoil, hook, cast, exhaust, steal])
def test_a_model_is_what_it_was_after_a_failure(model_folder, failing):
    model = load_model(model_folder)
    marked, weights, dtype = intact.mark(model), weights_digest(model.lm), model.lm.dtype
    with pytest.raises(Exception), model.preserved():  # noqa: B017
        failing(model)
    again = intact.mended(model, marked)
    assert weights_digest(again.lm) == weights and again.lm.dtype == dtype and not again.lm.training
    assert intact.mark(again) == marked and not again.lm._forward_hooks
    assert intact.mended(again, marked) is again


def test_trials_that_fail_are_counted_and_a_method_that_always_fails_is_left(
    model_folder, task_folder, tmp_path, monkeypatch, taskbits
):
    tried = []

    def fail(*_):
        tried.append(1)
        cast(*_)

    monkeypatch.setattr(method("instructed"), "fit", fail)
    monkeypatch.setattr(method("norms"), "fit", wrap)
    monkeypatch.setattr("taskbits.search.measure.confirm_in_fresh_process", lambda study: None)
    arguments = ["measure", "--model", model_folder, "--task", task_folder, "--out", tmp_path / "study"]
    result = taskbits(*arguments, "--methods", "instructed,norms,zero-shot")
    assert result.returncode == 0 and "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert len(tried) == 2 and sum(line.startswith("instructed: 2 trials failed: RuntimeError") for line in lines) == 1
    assert "norms: 2 trials failed: ValueError: no such module" in lines
    assert sum(line.startswith("zero-shot: 0.") and " bytes, " in line for line in lines) == 1
    assert taskbits(*arguments, "--methods", "instructed,norms,zero-shot").returncode == 0 and len(tried) == 2
    assert taskbits(*arguments, "--methods", "instructed,zero-shot", "--retry").returncode == 0 and len(tried) == 4
    study = Study.open(tmp_path / "study")
    assert {m.method for m in study.measurements()} == {"zero-shot"}
    assert {a.method for a in study.history() if a.failed} == {"instructed"}


def test_if_every_trial_fails_the_most_frequent_reason_is_told(
    model_folder, task_folder, tmp_path, monkeypatch, taskbits
):
    monkeypatch.setattr(method("instructed"), "fit", exhaust)
    arguments = ["--model", model_folder, "--task", task_folder, "--out", tmp_path / "study"]
    for _ in range(2):
        result = taskbits("measure", *arguments, "--methods", "instructed")
        last = result.stderr.splitlines()[-1]
        assert result.returncode == 2 and last.startswith("taskbits: no program could be measured: OutOfMemoryError:")


def test_a_person_can_still_end_it(model_folder, task_folder, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(method("zero-shot"), "fit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        measure(model_folder, task_folder, str(tmp_path / "study"), methods=["zero-shot"])
    assert Study.open(tmp_path / "study").history() == []


METRIC = """
def judge(output, row):
    {body}
"""


@pytest.mark.parametrize(
    "body, expected",
    [
        ("return float('nan')", "gave nan, not a number in [0, 1]"),
        ("return None", "gave None, not a number"),
        ("return row['no']", "KeyError: 'no'"),
    ],
)
def test_a_metric_that_fails(model_folder, tmp_path, taskbits, body, expected):
    folder = write_task(tmp_path / "task", metric="python:own_metric.judge")
    (tmp_path / "task" / "own_metric.py").write_text(METRIC.format(body=body))
    arguments = ["--model", model_folder, "--task", folder, "--out", tmp_path / "study", "--methods", "zero-shot"]
    result = taskbits("measure", *arguments)
    assert result.returncode == 2 and expected in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr and Study.open(tmp_path / "study").measurements() == []


def test_one_program_that_cannot_be_confirmed_does_not_keep_the_others_from_it(
    model_folder, task_folder, tmp_path, monkeypatch, taskbits
):
    """Of three programs on the frontier one has a damaged file, and one has none."""
    study = measure_unconfirmed(model_folder, task_folder, tmp_path / "study", monkeypatch, [0.2, 0.5, 0.9])
    short, damaged, missing = study.measurements()
    study.path(damaged.program).write_bytes(b"tbp")
    study.path(missing.program).unlink()
    arguments = ["--model", model_folder, "--task", task_folder, "--out", study.folder, "--methods", "instructed"]
    result = taskbits("measure", *arguments)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if "not confirmed: " in line]
    assert len(lines) == 2 and any("damaged or altered" in line for line in lines)
    found = study.measurements()
    assert [m.test is not None for m in found] == [True, False, False]
    assert [m.unconfirmed is not None for m in found] == [False, True, True]
    assert "not confirmed" in taskbits("frontier", study.folder).stderr
    assert taskbits("report", study.folder).returncode == 0
    assert "could not be confirmed" in (study.folder / "report.html").read_text()


def measure_unconfirmed(model_folder, task_folder, out, monkeypatch, values):
    """A study whose programs, one longer than the other, are recorded with these validation scores."""
    with monkeypatch.context() as patched:
        patched.setattr("taskbits.search.measure.confirm_in_fresh_process", lambda study: None)
        study = measure(model_folder, task_folder, str(out), methods=["instructed"])
    first = study.measurements()
    assert len(first) == len(values)
    with sqlite3.connect(study.folder / "study.db") as database:
        for m, value in zip(first, values, strict=True):
            [(row, text)] = database.execute(
                "SELECT trial_user_attribute_id, value_json FROM trial_user_attributes "
                "WHERE key = 'measurement' AND value_json LIKE ?",
                (f"%{m.program}%",),
            )
            kept = json.loads(text)
            kept["validation"] = {**kept["validation"], "value": value, "low": 0.0, "high": 1.0}
            database.execute(
                "UPDATE trial_user_attributes SET value_json = ? WHERE trial_user_attribute_id = ?",
                (json.dumps(kept), row),
            )
    return Study.open(out)


def test_the_fresh_process_imports_nothing_from_the_current_folder(model_folder, task_folder, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("taskbits.search.measure.confirm_in_fresh_process", lambda study: None)
        study = measure(model_folder, task_folder, str(tmp_path / "study"), methods=["zero-shot"])
    (tmp_path / "tokenizers.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", str(tmp_path))
        with pytest.raises(UserError, match="could not be confirmed in a fresh process: .*the same command"):
            confirm_in_fresh_process(study)
    confirm_in_fresh_process(study)
    assert study.measurements()[0].test


def test_rows_longer_than_the_context_are_cut_with_their_labels(model, tmp_path):
    folder = write_task(tmp_path / "task")
    rows = [{"question": "word " * 900 + str(i), "answer": "1"} for i in range(3)]
    rows += [{"question": f"q {i}", "answer": "one " * 900} for i in range(3)]
    (tmp_path / "task" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for rows in batches(model, load_task(folder), 2, 3, seed=0):
        assert all(0 <= first < len(tokens) <= model.context for tokens, first in rows)


def test_a_training_that_diverges_says_so():
    weight = torch.zeros(3, requires_grad=True)

    def gradients():
        for scale in (1.0, float("nan")):
            (weight * scale).sum().backward()
            yield scale

    with pytest.raises(UserError, match="the training diverged"):
        train([weight], gradients(), 2, 0.1, lambda *_: None)


def search(study, task, budget, **took):
    return Search(study, None, task, 0, 0.0, budget, True, None, **took)


def test_the_confirmation_is_expected_to_take_what_the_same_took_here(tmp_path, task_folder, monkeypatch):
    monkeypatch.setattr("taskbits.search.trials._STARTING", 8.0)
    study = Study.create(tmp_path, {"name": "a", "model": "m", "task": "t", "storage": None})
    for size, seconds in ((100, 26.0), (200, 9.0), (300, 9.0)):
        with study.trial("few-shot", {"k": size}) as trial:
            trial.finish(
                f"{size}".encode(),
                [],
                method="few-shot",
                family="data",
                settings={},
                bytes=size,
                payload_bytes=1,
                ideal_bits=None,
                validation=Score(size / 1000, 0.0, 1.0, 12),
                adapted="",
                content={},
                seconds=30.0,
                scoring_seconds=seconds,
                seed=0,
                versions={},
            )
    one = search(study, load_task(task_folder), 360.0, opening=17.0, scorings=[26.0, 9.0, 9.0])
    least = 8 + 17 + (26 - 9) + 16 / 12 * (26 + 9 + 9)  # there are 12 rows of validation, and 16 of test
    assert least < one.confirming() < 1.5 * least
    first, *others = study.measurements()
    for m in (first, *others[:1]):
        study.record_test(m.program, Score(0.1, 0.0, 1.0, 16), [])
    least -= 16 / 12 * (26 + 9)
    assert least < one.confirming() < 1.5 * least


def test_no_trial_begins_that_cannot_end_within_the_budget(model_folder, task_folder, tmp_path, monkeypatch):
    begun = []
    known = method("instructed").fit

    def fit(*arguments):
        begun.append(1)
        return known(*arguments)

    monkeypatch.setattr(method("instructed"), "fit", fit)
    monkeypatch.setattr("taskbits.search.measure.confirm_in_fresh_process", lambda study: None)
    for _ in range(2):
        measure(model_folder, task_folder, str(tmp_path / "study"), methods=["instructed"], budget=0.01)
    assert len(begun) == 1


@pytest.mark.parametrize(("each", "ends"), [(0.1, True), (5.0, False)])
def test_what_is_prepared_before_the_first_step_is_not_taken_for_steps(
    each, ends, model_folder, task_folder, tmp_path, monkeypatch
):
    now, steps = [0.0], []
    known, known_sweep = method("instructed").fit, method("instructed").sweep

    def fit(model, task, settings, seed, progress):
        now[0] += 30
        for step in range(100):
            progress(step, 100)
            steps.append(step)
            now[0] += each
        return known(model, task, settings, seed, lambda done, of: None)

    monkeypatch.setattr(method("instructed"), "fit", fit)
    monkeypatch.setattr(method("instructed"), "sweep", lambda model, task: known_sweep(model, task)[:1])
    monkeypatch.setattr("taskbits.search.trials.time", SimpleNamespace(monotonic=lambda: now[0], sleep=time.sleep))
    monkeypatch.setattr("taskbits.search.measure.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("taskbits.search.measure.confirm_in_fresh_process", lambda study: None)
    study = measure(model_folder, task_folder, str(tmp_path / "study"), methods=["zero-shot", "instructed"], budget=300)
    assert (len(study.measurements()) == 2) == ends
    assert len(steps) == 100 if ends else len(steps) < 5


def test_lines_tell_what_a_terminal_would_show(model_folder, task_folder, tmp_path):
    command = ["measure", "--model", model_folder, "--task", task_folder, "--out", tmp_path / "study"]
    command = [sys.executable, "-m", "taskbits", *command, "--methods", "instructed"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()
    study = Study.open(tmp_path / "study")
    for m in study.measurements():
        assert sum(m.program in line and f"{m.bytes:,} bytes" in line and "instructed" in line for line in lines)
    confirmed = [m for m in study.measurements() if m.test]
    assert confirmed and all(any(m.program in line and "on test" in line for line in lines) for m in confirmed)


def test_verify_runs_the_code_of_a_task_only_when_trusted(model_folder, tmp_path, monkeypatch, taskbits):
    folder = write_task(tmp_path / "task", metric="python:strangers_metric.judge")
    (tmp_path / "task" / "strangers_metric.py").write_text("def judge(output, row):\n    return 0.5\n")
    with monkeypatch.context() as patched:
        patched.setattr("taskbits.search.measure.confirm_in_fresh_process", lambda study: None)
        study = measure(model_folder, folder, str(tmp_path / "study"), methods=["zero-shot"])
    path = study.path(study.measurements()[0].program)
    (tmp_path / "task" / "strangers_metric.py").write_text("raise SystemExit('it was run')")
    refused = taskbits("verify", path)
    assert refused.returncode == 2 and "strangers_metric" in refused.stderr and "it was run" not in refused.stderr
    assert taskbits("export", path, "--standalone", tmp_path / "alone.py").returncode == 0
