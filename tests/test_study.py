"""Studies: measurements with their programs, and what is left of them after a crash."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
import torch
from conftest import fresh

from taskbits.errors import UserError
from taskbits.measure import measure, parse_budget
from taskbits.methods import method
from taskbits.study import Score, Study

INFO = {"name": "a study", "model": "m", "task": "t", "storage": None}


def finish(trial, size, value):
    return trial.finish(
        f"program of {size}".encode(),
        ["an output"],
        method="few-shot",
        family="inference control",
        settings={"k": size},
        bytes=size,
        payload_bytes=1,
        ideal_bits=7.5,
        validation=Score(value, 0.0, 1.0, 10),
        adapted="ab",
        content={},
        seconds=1.0,
        scoring_seconds=0.5,
        seed=0,
        versions={},
    )


def test_measurements_come_back_shortest_first(tmp_path):
    study = Study.create(tmp_path, INFO)
    for size, value in ((300, 0.5), (200, 0.25)):
        with study.trial("few-shot", {"k": size}) as trial:
            finish(trial, size, value)
    again = Study.open(tmp_path).measurements()
    assert [(m.bytes, m.validation.value) for m in again] == [(200, 0.25), (300, 0.5)]
    assert all(study.path(m.program).exists() for m in again)


def test_a_trial_that_dies_is_not_done(tmp_path):
    study = Study.create(tmp_path, INFO)
    with pytest.raises(ZeroDivisionError), study.trial("few-shot", {"k": 1}):
        raise ZeroDivisionError
    with study.trial("few-shot", {"k": 2}) as trial:
        trial.give_up("impossible")
    assert study.measurements() == [] and study.done() == {("few-shot", '{"k": 2}')}


def test_test_scores_are_taken_once(tmp_path):
    study = Study.create(tmp_path, INFO)
    with study.trial("few-shot", {"k": 1}) as trial:
        program = finish(trial, 100, 0.5).program
    study.record_test(program, Score(0.4, 0.3, 0.5, 10), ["a", "\u2028\n"])
    assert study.outputs(program, "test") == ["a", "\u2028\n"] and study.outputs(program, "train") is None
    assert study.measurements()[0].test.value == 0.4
    with pytest.raises(ValueError):
        study.record_test(program, Score(0.9, 0.8, 1.0, 10), [])


def test_a_folder_holds_one_study(tmp_path):
    Study.create(tmp_path, INFO)
    with pytest.raises(UserError, match="another name"):
        Study.create(tmp_path, {**INFO, "name": "another"})


@pytest.mark.parametrize("text, seconds", [("90s", 90), ("3m", 180), ("2h", 7200), ("1h30m", 5400), ("0.5m", 30)])
def test_budgets(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "3", "-3m", "0s", "3 m", "m"])
def test_budgets_that_are_not_times(text):
    with pytest.raises(UserError, match="not a time"):
        parse_budget(text)


def test_kill_loses_at_most_the_running_trial_and_the_same_command_resumes(model_folder, task_folder, tmp_path):
    out = tmp_path / "study"
    parts = ["--model", model_folder, "--task", task_folder, "--out", str(out)]
    command = ["measure", *parts, "--methods", "zero-shot,instructed"]
    started = [sys.executable, "-m", "taskbits", *command]
    process = subprocess.Popen(started, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (kept := list(out.glob("programs/*.tbp"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert kept
    survived = {m.program for m in Study.open(out).measurements()}
    assert len(survived) >= len(kept) - 1
    result = fresh(*command)
    assert result.returncode == 0, result.stderr
    found = Study.open(out).measurements()
    assert survived <= {m.program for m in found}
    assert len(found) == len({(m.method, json.dumps(m.settings)) for m in found}) == 4
    assert all(m.test for m in found[:1])


def test_verify_notices_a_record_that_does_not_match(model_folder, task_folder, tmp_path):
    study = measure(model_folder, task_folder, str(tmp_path / "study"), methods=["zero-shot"])
    [found] = study.measurements()
    with sqlite3.connect(tmp_path / "study" / "study.db") as database:
        database.execute(
            "update trial_user_attributes set value_json = replace(value_json, ?, ?)",
            (f'"bytes": {found.bytes}', f'"bytes": {found.bytes - 1}'),
        )
    command = [sys.executable, "-m", "taskbits", "verify", study.path(found.program)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode != 0 and "length" in result.stderr and "Traceback" not in result.stderr


def test_a_trial_that_needs_too_much_memory_does_not_end_the_search(tmp_path, model_folder, task_folder, monkeypatch):
    def fit(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 80 GiB.")

    monkeypatch.setattr(method("instructed"), "fit", fit)
    study = measure(model_folder, task_folder, str(tmp_path / "study"), methods=["instructed", "zero-shot"])
    assert {m.method for m in study.measurements()} == {"zero-shot"}
    assert {a.method for a in study.history()} == {"instructed", "zero-shot"}
