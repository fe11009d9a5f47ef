"""The conformance suite: what a method, a runner and a task must do, ours or yours, as classes for pytest.

    from taskbits.testing import MethodSuite

    class TestMine(MethodSuite):
        method = "my-method"

Each class needs the name that an entry point gives. Needs pytest.
"""

import ast
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

import taskbits
from taskbits.methods import method
from taskbits.programs import decode, runners
from taskbits.search import combined
from taskbits.search.measure import measure
from taskbits.shipped import resolve
from taskbits.studies.measurement import FAMILIES, Measurement
from taskbits.studies.study import Study
from taskbits.tasks.rows import SPLITS

ROWS = {"train": 48, "validation": 12, "test": 16}


def write_model(folder: Path | str, seed: int = 7, **sizes: int) -> str:
    """A Llama with the laboratory's tokenizer, as a Hugging Face folder: of 60,000 parameters unless its config is told
    other sizes. Returns its path."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(resolve("lab:random", "models"))
    torch.manual_seed(seed)
    usual = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "max_position_embeddings": 512}
    config = transformers.LlamaConfig(
        **{**usual, **sizes},
        vocab_size=len(tokenizer),
        num_attention_heads=2,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def counting() -> dict:
    """A task about counting, as `taskbits.load_task` takes it."""
    start, splits = 0, {}
    for split, count in ROWS.items():
        numbers = range(start, start + count)
        splits[split] = [
            {"n": n, "question": f"after {n} comes", "answer": str(n + 1), "kind": "odd" if n % 2 else "even"}
            for n in numbers
        ]
        start += count
    return {
        "name": "counting",
        **splits,
        "prompt": "Q: {question}\nA:",
        "target": " {answer}",
        "metric": "exact",
        "stop": ["\n"],
        "max_new_tokens": 6,
        "description": "Say which number comes next.",
    }


def choosing() -> dict:
    """A task with two choices, as `taskbits.load_task` takes it: what kind of number it is that is counted from."""
    return {**counting(), "target": " {kind}", "choices": ["even", "odd"], "stop": []}


class MethodSuite:
    """What a method must do: fit, write, decode in a fresh process, score the same, run alone. Set `method`, or methods
    in turn (`few-shot+my-method`).

    settings: over those that its sweep begins with (the last one's), to make the test short. task: for methods that
    need another than `counting`, with as many rows. donor: for methods that carry the weights of one.
    """

    method: ClassVar[str]
    settings: ClassVar[dict] = {}
    task: ClassVar[dict] = counting()
    donor: ClassVar[str | None] = None

    @pytest.fixture(scope="class")
    @classmethod
    def measured(cls, tmp_path_factory) -> Iterator[Study]:
        """A study with one program of the method, confirmed on test in a fresh process; in turn, of each before it."""
        folder = tmp_path_factory.mktemp("conformance")
        *bases, last = map(method, cls.method.split("+"))
        settings = cls.settings

        def sweep(model, task, known=last.sweep):
            first, *more = known(model, task)
            return [{**first, **settings}, *([] if bases else more)]

        with pytest.MonkeyPatch.context() as patched:
            for base in bases:
                patched.setattr(base, "sweep", lambda model, task, known=base.sweep: known(model, task)[:1])
            patched.setattr(last, "sweep", sweep)
            model, budget = write_model(folder / "M"), None if bases else 0.01
            options = {"methods": [cls.method], "budget": budget, "race": False, "donor": cls.donor}
            yield measure(model, cls.task, str(folder / "study"), **options)

    @pytest.fixture
    def found(self, measured: Study) -> Measurement:
        [measurement] = [m for m in measured.measurements() if m.method == self.method]
        return measurement

    def command(self, *arguments) -> subprocess.CompletedProcess:
        """Run the command line in a process of its own."""
        return self.python("-m", "taskbits", *arguments)

    def python(self, *arguments) -> subprocess.CompletedProcess:
        """Run Python in a process of its own."""
        return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=600)

    def test_says_what_it_is(self):
        for module in map(method, self.method.split("+")):
            assert module.FAMILY in FAMILIES and module.__doc__.strip()

    def test_every_setting_of_the_sweep_has_its_own_key(self, measured, found):
        model, task = taskbits.load_model(measured.info["model"]), taskbits.load_task(measured.info["task"])
        model.donor = found.settings.get("donor")
        sweep = combined.sweeps(measured, model, task, [found.method], False)[found.method]
        settings = [json.dumps(s, sort_keys=True) for s in sweep]
        assert len(settings) == len(set(settings)) and json.dumps(found.settings, sort_keys=True) == settings[0]

    def test_writes_a_small_container(self, measured, found):
        content = measured.path(found.program).read_bytes()
        program = taskbits.Program.from_bytes(content)
        assert program.method == found.method and program.to_bytes() == content
        assert len(program.payload) == found.payload_bytes
        before_sections, checksum = content.index(b'{"'), 4
        assert before_sections + checksum <= 24 + 4 * (len(program.parts) - 1)
        assert found.validation.n == ROWS["validation"] and (not found.test or found.test.n == ROWS["test"])

    def test_finds_the_same_program_again(self, measured, found):
        model, task = taskbits.load_model(measured.info["model"]), taskbits.load_task(measured.info["task"])
        before = [weight.detach().clone() for weight in model.lm.parameters()]
        with model.preserved():
            fitted = combined.fits(measured, self.method).fit(
                model, task, found.settings, found.seed, lambda done, of: None
            )
        assert fitted.program.to_bytes() == measured.path(found.program).read_bytes()
        assert all((new == old).all() for new, old in zip(model.lm.parameters(), before, strict=True))

    def test_changes_only_what_its_runners_say(self, measured, found):
        model = taskbits.load_model(measured.info["model"])
        program = taskbits.load_program(measured.path(found.program))
        before = {name: weight.detach().clone() for name, weight in model.lm.named_parameters()}
        with program.applied(model):
            said = decode.changed(model, program)
            after = {name: weight for name, weight in model.lm.named_parameters() if name in before}
            assert {name for name, weight in after.items() if not (weight == before[name]).all()} <= said
        assert all((weight == before[name]).all() for name, weight in model.lm.named_parameters())

    def test_length_is_the_size_of_the_standalone_file(self, measured, found, tmp_path):
        file = tmp_path / "alone.py"
        result = self.command("export", measured.path(found.program), "--standalone", file)
        assert result.returncode == 0, result.stderr
        assert file.stat().st_size == found.bytes

    def test_verifies_in_a_fresh_process(self, measured, found):
        result = self.command("verify", measured.path(found.program))
        assert result.returncode == 0, result.stderr
        score = found.test or found.validation  # with its bases in a study, it may not be one for the test
        assert f"{score.value:.4f}, recorded {score.value:.4f}" in result.stdout

    def test_standalone_file_gives_the_outputs_of_run(self, measured, found, tmp_path):
        model, task = taskbits.load_model(measured.info["model"]), taskbits.load_task(measured.info["task"])
        program, rows = taskbits.load_program(measured.path(found.program)), task.splits["test"][:6]
        file, inputs = tmp_path / "alone.py", tmp_path / "inputs.jsonl"
        file.write_bytes(program.standalone(model))
        inputs.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        result = self.python(file, "--model", measured.info["model"], "--input", inputs)
        assert result.returncode == 0, result.stderr
        assert [json.loads(line) for line in result.stdout.splitlines()] == program.run(model, rows)

    def test_has_its_place_in_the_report(self, measured, found):
        page, *_ = taskbits.open_study(measured.folder).report()
        assert (f"p-{found.program}" if found.test else found.method) in page.read_text(encoding="utf-8")

    def test_refuses_another_model(self, measured, found):
        program = taskbits.load_program(measured.path(found.program))
        with pytest.raises(taskbits.UserError, match="another model"):
            program.run(taskbits.load_model("lab:random"), [{"question": "?"}])


class RunnerSuite:
    """What a runner must look like to be inlined into a standalone file. Set `runner`; its methods test the rest."""

    runner: ClassVar[str]

    def test_can_be_inlined(self):
        module = runners.runner(self.runner)
        assert isinstance(module.WORD, str) and module.__doc__.strip()
        parameters = list(inspect.signature(module.adapt).parameters)
        assert parameters[:2] == ["pipe", "data"]
        [function] = ast.parse(inspect.getsource(module.adapt)).body
        inner = [node for node in ast.walk(function) if isinstance(node, ast.FunctionDef | ast.Lambda)][1:]
        theirs = {id(node) for one in inner for node in ast.walk(one)}
        returns = [n for n in ast.walk(function) if isinstance(n, ast.Return) and id(n) not in theirs]
        assert [node.end_lineno for node in returns] == [function.end_lineno], "one return, at its end"

    def test_checks_what_it_is_given(self):
        module = runners.runner(self.runner)
        settings = list(inspect.signature(module.adapt).parameters)[2:]
        assert set(settings) <= set(inspect.signature(module.check).parameters) | {"text"}


class TaskSuite:
    """What a task that comes by name must do. Set `task`, and `data` if its files lie in a folder."""

    task: ClassVar[str]
    data: ClassVar[str | None] = None

    def test_its_rows_can_be_asked_and_judged(self):
        task = taskbits.load_task(self.task, data=self.data)
        assert list(task.splits) == list(SPLITS) and all(task.splits.values())
        for split in SPLITS:
            few = list(range(min(20, len(task.splits[split]))))
            rewards = task.rewards(split, few, [task.targets(split)[i] for i in few])
            assert ((rewards >= 0) & (rewards <= 1)).all()

    def test_is_the_same_task_each_time(self):
        one, other = (taskbits.load_task(self.task, data=self.data) for _ in range(2))
        assert one.fingerprint == other.fingerprint
