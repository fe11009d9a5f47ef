"""Devices: a model that lies elsewhere is measured as one on the CPU is, by all methods; none is taken for granted."""

import functools
import os
import runpy
import sys

import pytest
import torch
import transformers
from conftest import QUICK, nothing, shorten_lessons, write_adapter
from elsewhere import DEVICE, Elsewhere
from packaging.version import Version

from taskbits.errors import UserError
from taskbits.methods import LAST, NAMES, distilled, method, self_train
from taskbits.models.devices import repeatable
from taskbits.models.model import load_model
from taskbits.programs import decode
from taskbits.programs.export import standalone
from taskbits.programs.program import Part, Program
from taskbits.programs.runners import prequential
from taskbits.search.scoring import score
from taskbits.tasks.frame import Frame
from taskbits.tasks.load import load_task
from taskbits.testing import write_model

SHORT = {
    "subset": {"n": 4, "tries": 1},
    "distilled": {"tries": 4},
    "few-shot": {"tries": 4},
    "self-train": {"number": 2},
    "prompt-search": {"tries": 4},
    "seeded-prompt": {"tries": 2, "tokens": 4},
}
METRIC = [("tiny", 4), ("lora", 200)]  # by evolution, by policy gradient


# With a GPU the model of the tests lies there, and no stand-in is needed. Before 2.13 autocast knows no such device.
pytestmark = pytest.mark.skipif(
    torch.cuda.is_available() or Version(torch.__version__) < Version("2.13"), reason="no stand-in for a GPU here"
)


@pytest.fixture(scope="module")
def elsewhere(model_folder):
    model = load_model(model_folder)
    with Elsewhere():
        model.lm.to(DEVICE)
        model.lm.tie_weights()  # as a move to a GPU keeps them
        yield model


@pytest.fixture(scope="module")
def tasks(task_folder, choices_folder):
    return {"written": load_task(task_folder), "chosen": load_task(choices_folder)}


def found(name, model, task, **changes):
    first = method(name).sweep(model, task)[0]
    settings = {**first, **QUICK.get(name, {}), **SHORT.get(name, {}), **changes}
    with model.preserved():
        program = method(name).fit(model, task, settings, 0, nothing).program
    return program.to_bytes(), score(program.to_bytes(), model, task, ["validation"])


def test_a_gpu_is_asked_to_repeat_itself_and_says_what_it_can_not_repeat(monkeypatch):
    asked = torch.are_deterministic_algorithms_enabled
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with repeatable():
        assert asked() and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    with pytest.raises(UserError, match="can't be repeated bit by bit on this GPU: put_"), repeatable():
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))  # either may be the last
    with pytest.raises(RuntimeError, match="something else"), repeatable():
        raise RuntimeError("something else")
    assert not asked()


def test_what_a_program_decodes_to_is_asked_to_repeat(monkeypatch, model, tasks):
    content, _ = found("subset", model, tasks["written"])
    asked = []
    adapt = prequential.adapt

    def watched(*given, **settings):
        asked.append(torch.are_deterministic_algorithms_enabled())
        return adapt(*given, **settings)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(prequential, "adapt", functools.wraps(adapt)(watched))
    with model.preserved():
        decode.results(model, Program.from_bytes(content).parts[0])
    assert asked == [True]


@pytest.mark.parametrize("runner", ["plain", "sampled"])
def test_standalone_files_in_float64_go_where_there_is_float64(monkeypatch, runner, tmp_path):
    settings = {"sampled": {"stem": "", "seed": 0, "count": 2}}.get(runner, {})
    program = Program("zero-shot", b"", Frame("{n}"), (Part(runner, settings),))
    asked = []
    monkeypatch.setattr(transformers, "pipeline", lambda *_, **how: asked.append(how) or sys.exit())
    for number, (dtype, gpus) in enumerate([("float64", 0), ("float64", 1), ("float32", 0)]):
        file = tmp_path / f"{number}.py"
        file.write_bytes(standalone(program, dtype))
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        monkeypatch.setattr(sys, "argv", [str(file), "--model", "M", "--input", "-"])
        with pytest.raises(SystemExit):
            runpy.run_path(str(file), run_name="__main__")
    assert asked == [
        {"dtype": "float64", "device": -1},
        {"dtype": "float64", "device": 0 if runner == "sampled" else -1},
        {"dtype": "float32", "device_map": "auto"},
    ]


@pytest.mark.parametrize("name", NAMES)
def test_each_method_works_elsewhere_and_its_program_here(
    monkeypatch, elsewhere, model, model_folder, tasks, name, tmp_path
):
    shorten_lessons(monkeypatch)
    donor = write_adapter(tmp_path, model_folder) if name == "shrunk" else write_model(tmp_path, seed=8)
    for one in (elsewhere, model):
        monkeypatch.setattr(one, "donor", donor)
    for module in (distilled, self_train):
        monkeypatch.setattr(module, "_CHOSEN_FROM", 4)
    task = tasks["chosen" if name in LAST else "written"]
    changes = {"steps": 2} if "steps" in method(name).sweep(model, task)[0] else {}
    content, scored = found(name, elsewhere, task, **changes)
    here = score(content, model, task, ["validation"])
    assert here.outputs == scored.outputs
    # What trains rounds otherwise where attention is computed step by step, as it is elsewhere.
    assert here.adapted == scored.adapted or method(name).FAMILY == "data"


@pytest.mark.parametrize("kind", ["written", "chosen"])
@pytest.mark.parametrize(("name", "size"), METRIC)
def test_training_on_the_metric_works_elsewhere(monkeypatch, elsewhere, tasks, kind, name, size):
    monkeypatch.setattr("taskbits.fitting.coefficients._EVOLVED", 100)
    _, scored = found(name, elsewhere, tasks[kind], bytes=size, steps=2, objective="metric")
    assert len(scored.outputs["validation"]) == len(tasks[kind].splits["validation"])


def test_what_lies_elsewhere_meets_nothing_here(elsewhere):
    with pytest.raises(RuntimeError, match="one device"):
        elsewhere.lm.lm_head.weight + torch.zeros_like(elsewhere.lm.lm_head.weight, device="cpu")
    with pytest.raises(TypeError):
        elsewhere.lm.lm_head.weight.detach().numpy()
