"""What every method must do, by being registered: the conformance suite; and choosing by likelihood."""

import json
import subprocess
from dataclasses import replace
from typing import ClassVar

import pytest
from conftest import ROWS, alone, fresh, nothing, write_task

from taskbits.methods import method
from taskbits.models.model import load_model
from taskbits.programs import runners
from taskbits.programs.export import standalone
from taskbits.tasks.frame import CHOOSE
from taskbits.tasks.load import load_task
from taskbits.testing import MethodSuite, RunnerSuite, choosing


class Forked(MethodSuite):
    """In processes that are forked, which is quicker."""

    def command(self, *arguments) -> subprocess.CompletedProcess:
        return fresh(*arguments)

    def python(self, *arguments) -> subprocess.CompletedProcess:
        return alone(*arguments)


class TestMethods(Forked):
    """All of ours: the fixture `measured` has one of each."""

    @pytest.fixture(autouse=True)
    def named(self, measured):
        [found] = measured.measurements()
        self.method = found.method

    @pytest.fixture
    def measured(self, measured):
        return measured


class TestPromptAndAdapter(Forked):
    method, settings = "few-shot+tiny", {"bytes": 8, "steps": 4}


class TestAdapterDataAndPrompt(Forked):
    method = "steer+subset+few-shot"


class TestPromptWordsAndOffsets(Forked):
    method = "few-shot+label-words+choice-bias"
    task: ClassVar[dict] = choosing()


@pytest.mark.parametrize("name", runners.NAMES)
class TestRunners(RunnerSuite):
    @pytest.fixture(autouse=True)
    def named(self, name):
        self.runner = name


@pytest.mark.parametrize(
    "choose, biased", [*((choose, False) for choose in CHOOSE), ("likelihood", True), ("per-character", True)]
)
def test_choices_are_scored_by_likelihood_and_the_standalone_file_agrees(choose, biased, model_folder, tmp_path):
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
    if biased:
        offsets = tuple(-50.0 * (n in (4, 7)) for n in range(len(choices)))
        program = replace(program, frame=replace(program.frame, offsets=offsets))
    (tmp_path / "alone.py").write_bytes(standalone(program, model.dtype))
    written = program.run(model, task.splits["validation"])
    assert set(written) <= {f" {choice}" for choice in (["5", "8"] if biased else choices)}
    result = alone(tmp_path / "alone.py", "--model", model_folder, "--input", f"{folder}/validation.jsonl")
    assert [json.loads(line) for line in result.stdout.splitlines()] == written, result.stderr
