"""What every method must do, by being registered: fit, write, decode in a fresh process, score the same, run alone."""

import json

import pytest
from conftest import ROWS, alone, fresh, nothing, write_task

from taskbits.methods import method
from taskbits.models.model import load_model
from taskbits.programs.export import standalone
from taskbits.programs.program import Program
from taskbits.search.confirm import open_parts
from taskbits.tasks.frame import CHOOSE
from taskbits.tasks.load import load_task


@pytest.fixture
def found(measured):
    [measurement] = measured.measurements()
    return measurement


def test_fits_and_writes_a_small_container(measured, found):
    content = measured.path(found.program).read_bytes()
    program = Program.from_bytes(content)
    assert program.method == found.method
    assert len(program.payload) == found.payload_bytes
    before_sections, checksum = content.index(b'{"'), 4
    assert before_sections + checksum <= 24
    assert found.validation.n == ROWS["validation"] and found.test.n == ROWS["test"]


def test_length_is_the_size_of_the_exported_file(taskbits, measured, found, tmp_path):
    file = tmp_path / "alone.py"
    result = taskbits("export", measured.path(found.program), "--standalone", file)
    assert result.returncode == 0, result.stderr
    assert file.stat().st_size == found.bytes


def test_verifies_in_a_fresh_process(measured, found):
    result = fresh("verify", measured.path(found.program))
    assert result.returncode == 0, result.stderr
    assert f"{found.test.value:.4f}, recorded {found.test.value:.4f}" in result.stdout


def test_standalone_file_gives_the_outputs_of_run(taskbits, measured, found, model_folder, tmp_path):
    model, task = open_parts(measured)
    file = tmp_path / "alone.py"
    file.write_bytes(standalone(Program.from_bytes(measured.path(found.program).read_bytes()), model.dtype))
    inputs = tmp_path / "inputs.jsonl"
    inputs.write_text("".join(json.dumps(row) + "\n" for row in task.splits["test"][:6]))
    arguments = ["--model", model_folder, "--input", inputs]
    ours, theirs = taskbits("run", measured.path(found.program), *arguments), alone(file, *arguments)
    assert ours.returncode == 0, ours.stderr
    assert theirs.returncode == 0, theirs.stderr
    assert ours.stdout.count("\n") == 6
    assert theirs.stdout == ours.stdout


def test_has_its_place_in_the_report(taskbits, measured, found):
    result = taskbits("report", measured.folder)
    assert result.returncode == 0, result.stderr
    assert f"p-{found.program}" in (measured.folder / "report.html").read_text()


def test_refuses_another_model(taskbits, measured, found):
    arguments = ["--model", "lab:random", "--input", "-"]
    result = taskbits("run", measured.path(found.program), *arguments, input='{"question": "?"}\n')
    assert result.returncode == 2
    assert "another model" in result.stderr and "Traceback" not in result.stderr


def test_every_setting_of_the_sweep_has_its_own_key(measured, found, model):
    _, task = open_parts(measured)
    settings = [json.dumps(s, sort_keys=True) for s in method(found.method).sweep(model, task)]
    assert len(settings) == len(set(settings)) and json.dumps(found.settings, sort_keys=True) == settings[0]


@pytest.mark.parametrize("choose", CHOOSE)
def test_choices_are_scored_by_likelihood_and_the_standalone_file_agrees(choose, model_folder, tmp_path):
    from taskbits.search.scoring import outputs

    choices = [str(n) for n in range(1, 78)]
    given = choose == "conditional"
    folder = write_task(tmp_path / "task", choices="options" if given else choices, choose=choose, stop=None)
    if given:
        for split in ROWS:
            path = tmp_path / "task" / f"{split}.jsonl"
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            options = {f" {n}": " " if n < 10 else f" {n // 10}" for n in range(1, 78)}
            path.write_text("".join(json.dumps({**row, "options": options}) + "\n" for row in rows))
    model, task = load_model(model_folder), load_task(folder)
    with model.preserved():
        program = method("few-shot").fit(model, task, {"k": 2, "tries": 1}, 0, nothing).program
    (tmp_path / "alone.py").write_bytes(standalone(program, model.dtype))
    written = outputs(program, model, task.splits["validation"])
    assert set(written) <= {f" {choice}" for choice in choices}
    result = alone(tmp_path / "alone.py", "--model", model_folder, "--input", f"{folder}/validation.jsonl")
    assert [json.loads(line) for line in result.stdout.splitlines()] == written, result.stderr
