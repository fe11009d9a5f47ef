"""Studies: measurements with their programs, and what is left of them after a crash."""

import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import forked, fresh
from optuna.trial import TrialState

from taskbits.errors import UserError, hidden
from taskbits.report.page import write_page
from taskbits.search.measure import measure
from taskbits.studies.files import Files
from taskbits.studies.frontier import envelope
from taskbits.studies.study import Study
from taskbits.tasks.metrics import Score
from taskbits.times import seconds as parse_budget

INFO = {"name": "a study", "model": "m", "task": "t", "storage": None}


def finish(trial, size, value, **fields):
    measured = {
        "method": "few-shot",
        "family": "inference control",
        "settings": {"k": size},
        "bytes": size,
        "payload_bytes": 1,
        "ideal_bits": 7.5,
        "validation": Score(value, 0.0, 1.0, 10),
        "adapted": "ab",
        "content": {},
        "seconds": 1.0,
        "scoring_seconds": 0.5,
        "seed": 0,
        "versions": {},
    }
    return trial.finish(f"program of {size}".encode(), ["an output"], **{**measured, **fields})


def study_of(folder, *sizes, **info):
    """A study with programs of these sizes, each better than the shorter ones."""
    study = Study.create(folder, {**INFO, **info})
    for size in sizes:
        with study.trial("few-shot", {"k": size}) as trial:
            finish(trial, size, size / 1000)
    return study


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


NAN = math.nan
BAD = {
    "NaN": {"validation": Score(NAN, 0.0, 1.0, 10)},
    "infinite": {"validation": Score(math.inf, 0.0, math.inf, 10)},
    "above 1": {"validation": Score(1.5, 0.0, 2.0, 10)},
    "below -1": {"validation": Score(-1.5, -2.0, 0.0, 10)},
    "outside its interval": {"validation": Score(0.5, 0.6, 0.7, 10)},
    "an interval of NaN": {"validation": Score(0.5, NAN, 1.0, 10)},
    "no examples": {"validation": Score(0.5, 0.0, 1.0, 0)},
    "NaN beside it": {"validation": Score(0.5, 0.0, 1.0, 10, {"chrf": NAN})},
    "a text for a score": {"validation": Score("0.5", 0.0, 1.0, 10)},
    "no bytes": {"bytes": 0},
    "bytes that are not whole": {"bytes": 10.5},
    "bytes that are true": {"bytes": True},
    "settings of NaN": {"settings": {"rate": NAN}},
    "settings that are not JSON": {"settings": {"rate": {1}}},
    "time of NaN": {"seconds": NAN},
    "a family that is none": {"family": "magic"},
}


@pytest.mark.parametrize("fields", BAD.values(), ids=BAD.keys())
def test_what_is_no_measurement_is_not_kept(tmp_path, fields):
    study = Study.create(tmp_path, INFO)
    with study.trial("few-shot", {"k": 1}) as trial:
        with pytest.raises(UserError):
            finish(trial, 100, 0.5, **fields)
        finish(trial, 100, -0.5, validation=Score(-0.5, -1.0, 0.0, 10))
    assert [m.validation.value for m in study.measurements()] == [-0.5]


def test_a_test_score_of_nan_is_not_kept(tmp_path):
    study = study_of(tmp_path, 100)
    [m] = study.measurements()
    with pytest.raises(UserError, match="nan .* not a score"):
        study.record_test(m.program, Score(NAN, 0.3, 0.5, 10), [])
    study.record_test(m.program, Score(0.4, 0.3, 0.5, 10), [])


def test_a_study_that_holds_bad_records_opens_without_them(tmp_path, taskbits):
    study = study_of(tmp_path, 100, 200)
    good = study._records.trials(TrialState.COMPLETE)[0].user_attrs["measurement"]
    for k, change in enumerate(({"validation": {**good["validation"], "value": NAN}}, {"bytes": "many"}, {"more": 1})):
        # As it was kept before there were checks.
        study._records.add({"method": "few-shot", "settings": str(k), "measurement": {**good, **change}})
        [trial] = study._records.trials(TrialState.RUNNING)
        with suppress(AssertionError):
            study._records.close(trial, TrialState.COMPLETE, [300, NAN if k == 0 else 0.5])
    result = taskbits("frontier", tmp_path, "--json")
    assert result.returncode == 0 and [row["bytes"] for row in json.loads(result.stdout)] == [100, 200]
    assert "3 damaged records are left out" in result.stderr
    again = Study.open(tmp_path)
    with again.trial("few-shot", {"k": 9}) as trial:
        finish(trial, 900, 0.9)
    assert [m.bytes for m in again.measurements()] == [100, 200, 900] and len(again.history()) >= 3


def test_what_cannot_be_confirmed_leaves_the_frontier_until_it_is_tried_again(tmp_path):
    study = study_of(tmp_path, 100, 200)
    best = study.measurements()[-1]
    study.record_refusal(best.program, "the row is too long")
    assert [m.bytes for m in envelope(study.measurements())] == [100]
    assert Study.open(tmp_path).measurements()[-1].unconfirmed == "the row is too long"
    study.retry()
    assert [m.bytes for m in envelope(study.measurements())] == [100, 200]


def test_a_trial_that_failed_is_kept_with_its_error_and_can_be_tried_again(tmp_path):
    study = Study.create(tmp_path, INFO)
    with study.trial("few-shot", {"k": 1}) as trial:
        try:
            raise ZeroDivisionError("at s3://me:secret@bucket\nin the second line")
        except ZeroDivisionError as error:
            assert trial.fail(error) == "ZeroDivisionError: at s3://me:***@bucket"
    [attempt] = study.history()
    assert attempt.failed and attempt.bytes is None and attempt.error.startswith("ZeroDivisionError")
    [kept] = [t.user_attrs["failure"] for t in study._records.trials(TrialState.PRUNED)]
    assert kept["class"] == "ZeroDivisionError" and "test_study.py" in kept["traceback"] and "secret" not in str(kept)
    assert study.done() == {("few-shot", '{"k": 1}')}
    study.retry()
    assert study.done() == set() and study.history() == []
    with study.trial("few-shot", {"k": 1}) as trial:
        finish(trial, 100, 0.5)
    assert study.done() == {("few-shot", '{"k": 1}')} and len(study.measurements()) == 1


@pytest.mark.parametrize("name", ["a%20b", "a b", "what?", "a#b", "100%", "{x}", "a::b", "été", "a&b=c"])
def test_any_name_will_do_for_a_folder(tmp_path, name):
    study_of(tmp_path / name, 100)
    assert {path.name for path in (tmp_path / name).iterdir()} == {"study.json", "study.db", "programs", "outputs"}
    assert [path.name for path in tmp_path.iterdir()] == [name]
    found = Study.open(tmp_path / name)
    [m] = found.measurements()
    assert found.path(m.program).exists() and found.outputs(m.program, "validation") == ["an output"]


def test_reading_changes_nothing(tmp_path, taskbits):
    study_of(tmp_path, 100)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for command in (["frontier"], ["complexity", "--at", "0.5"], ["records", "--out", "/dev/null"], ["card"]):
        assert taskbits(command[0], tmp_path, *command[1:]).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.skipif(not hasattr(os, "setuid") or os.getuid() != 0, reason="only root can become somebody else")
def test_a_folder_that_cannot_be_written_is_read():
    with tempfile.TemporaryDirectory() as folder:
        study_of(Path(folder, "study"), 100)
        for path in (Path(folder), *Path(folder).rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        result = forked(_read_as_nobody, folder)
    assert result.returncode == 0 and "[100]" in result.stdout, result.stderr


def _read_as_nobody(folder):
    Study.open(Path(folder, "study")).measurements()  # loads what nobody may not
    os.setuid(65534)
    assert not os.access(folder, os.W_OK)
    print([m.bytes for m in Study.open(Path(folder, "study")).measurements()])


def test_a_database_whose_writer_died_in_the_middle_is_read(tmp_path):
    study_of(tmp_path / "study", 100, 200)
    with sqlite3.connect(tmp_path / "study" / "study.db", isolation_level=None) as writer:
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN")
        writer.execute("UPDATE trial_user_attributes SET value_json = value_json || zeroblob(5000)")
        shutil.copytree(tmp_path / "study", tmp_path / "left")  # as a kill leaves it
        writer.execute("ROLLBACK")
    assert (tmp_path / "left" / "study.db-journal").stat().st_size
    before = sorted(path.name for path in (tmp_path / "left").iterdir())
    assert [m.bytes for m in Study.open(tmp_path / "left").measurements()] == [100, 200]
    assert sorted(path.name for path in (tmp_path / "left").iterdir()) == before


@pytest.fixture
def refused(taskbits):
    def run(*arguments):
        result = taskbits(*arguments)
        assert result.returncode == 2 and result.stderr.count("\n") == 1, result
        return result.stderr

    return run


def test_a_study_opens_nothing_outside_its_folder_unless_trusted(tmp_path, taskbits, refused):
    elsewhere = tmp_path / "elsewhere.db"
    study = study_of(tmp_path / "study", 100, storage=f"sqlite:///{elsewhere}", files=f"file://{tmp_path}/files")
    kept = elsewhere.read_bytes()
    for command in (["frontier"], ["complexity", "--at", "0.5"], ["report"], ["card"], ["compare"], ["records"]):
        assert "--trust" in refused(command[0], tmp_path / "study", *command[1:])
    assert taskbits("frontier", tmp_path / "study", "--trust").returncode == 0
    assert elsewhere.read_bytes() == kept
    [m] = study.measurements()
    with pytest.raises(UserError, match="--trust"):
        Study.open(tmp_path / "study").outputs(m.program, "validation")
    assert Study.open(tmp_path / "study", trust=True).outputs(m.program, "validation") == ["an output"]
    elsewhere.unlink()
    refused("frontier", tmp_path / "study")
    refused("frontier", tmp_path / "study", "--trust")
    assert not elsewhere.exists()


def test_links_lead_nowhere(tmp_path, refused):
    study = study_of(tmp_path / "study", 100)
    [m] = study.measurements()
    path = study.path(m.program)
    for link in (path, tmp_path / "study" / "study.db"):
        link.rename(tmp_path / "moved")
        link.symlink_to(tmp_path / "moved")
        with pytest.raises(UserError, match="--trust"):
            Study.open(tmp_path / "study").path(m.program) if link == path else Study.open(link.parent).measurements()
        link.unlink()
        (tmp_path / "moved").rename(link)


@pytest.mark.parametrize("name", ["../../etc/passwd", "0" * 11, "0" * 12 + "/x", "A" * 12, ""])
def test_a_program_is_named_by_a_hash(tmp_path, name):
    study = study_of(tmp_path)
    for ask in (study.path, lambda name: study.outputs(name, "test")):
        with pytest.raises(UserError, match="not the name of a program"):
            ask(name)


HOSTILE = {
    "not JSON": "{",
    "no object": "[]",
    "deep": "[" * 100_000,
    "large": " " * 2_000_000 + "{}",
    "empty": "{}",
    "numbers for names": json.dumps({**INFO, "model": 5}),
    "a list for a storage": json.dumps({**INFO, "storage": ["sqlite://"]}),
    "no URL": json.dumps({**INFO, "storage": "nonsense"}),
    "a port that is none": json.dumps({**INFO, "storage": "postgresql://h:x/y"}),
    "a folder for rows": json.dumps({**INFO, "rows": "x"}),
    "published without a family": json.dumps({**INFO, "published": "x"}),
    "bytes": b"\xff\xfe",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_study(tmp_path, refused, text):
    (tmp_path / "study.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    for command in ("frontier", "report"):
        refused(command, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE VIEW more AS SELECT 1",
        "CREATE TRIGGER more AFTER INSERT ON trials BEGIN DELETE FROM trials; END",
        "DROP TABLE trials",
        "UPDATE studies SET study_name = 'another'",
        None,
    ],
)
def test_a_hostile_database(tmp_path, refused, change):
    study_of(tmp_path, 100)
    if change:
        with sqlite3.connect(tmp_path / "study.db") as database:
            database.execute(change)
    else:
        (tmp_path / "study.db").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)
    assert "cannot open the study" in refused("frontier", tmp_path)


def test_passwords_are_not_shown(tmp_path):
    told = {
        "s3://key:se/cr@et@bucket/x": "s3://key:***@bucket/x",
        "can't read simplecache::sftp://me:pw@host: no": "can't read simplecache::sftp://me:***@host: no",
        "postgresql://me@host/d?password=pw&x=1": "postgresql://me@host/d?password=***&x=1",
        "s3://bucket/study at 10:30": "s3://bucket/study at 10:30",
    }
    assert {text: hidden(text) for text in told} == told
    place = "nonsense://me:secret@host/x"
    with pytest.raises(UserError) as error:
        Files(place)
    assert "nonsense://me:***@host/x" in str(error.value)
    with pytest.raises(UserError) as error:
        study_of(tmp_path / "a")
        study_of(tmp_path / "a", files=place)
    assert "another files" in str(error.value) and "secret" not in str(error.value)
    study = study_of(tmp_path / "b", 100, files="memory://me:secret@host/x")
    write_page(study, tmp_path / "page.html")
    assert "secret" not in (tmp_path / "page.html").read_text()
