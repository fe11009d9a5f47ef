"""Methods in turn: which are tried, and on what."""

from dataclasses import replace

import pytest
import torch
from conftest import write_task

import taskbits
from taskbits.errors import UserError
from taskbits.methods import method
from taskbits.models.model import load_model
from taskbits.search import combined
from taskbits.search.measure import measure
from taskbits.tasks.load import load_task


@pytest.fixture(scope="module")
def study(model_folder, tmp_path_factory):
    """A few-shot program, a steering vector, and the two in turn."""
    folder = tmp_path_factory.mktemp("combined")
    with pytest.MonkeyPatch.context() as patched:
        sweeps = {"few-shot": {"k": 1, "tries": 1}, "steer": {"bytes": 24, "objective": "loss", "steps": 3}}
        for name, settings in sweeps.items():
            patched.setattr(method(name), "sweep", lambda model, task, settings=settings: [settings])
        names = ["few-shot+steer", "steer+few-shot"]
        yield measure(model_folder, write_task(folder / "task"), str(folder / "s"), methods=names, race=False)


def test_what_they_build_on_is_found_first_and_once(study):
    assert combined.with_bases(["lora", "few-shot+tiny+lora"]) == [
        "lora",
        "few-shot",
        "few-shot+tiny",
        "few-shot+tiny+lora",
    ]
    order = [attempt.method for attempt in study.history()]
    assert sorted(order) == ["few-shot", "few-shot+steer", "steer", "steer+few-shot"]
    assert order.index("few-shot") < order.index("few-shot+steer")


def test_each_part_is_that_of_its_method(study, model_folder):
    found = {m.method: m for m in study.measurements()}
    parts = {name: taskbits.load_program(study.path(m.program)).parts for name, m in found.items()}
    assert [part.runner for part in parts["few-shot+steer"]][0] in ("literal", "coded")
    assert parts["few-shot+steer"][:1] == parts["few-shot"] and parts["steer+few-shot"][:1] == parts["steer"]
    assert found["few-shot+steer"].settings["on"] == found["few-shot"].program
    assert [part["method"] for part in found["few-shot+steer"].content["parts"]] == ["few-shot", "steer"]
    assert found["few-shot+steer"].payload_bytes == sum(len(part.payload) for part in parts["few-shot+steer"])
    model, row = load_model(model_folder), {"question": "after 3 comes"}
    texts = []
    for name in ("few-shot", "few-shot+steer"):
        with taskbits.load_program(study.path(found[name].program)).applied(model) as adapted:
            texts.append(adapted.prefix)
            assert adapted.prompt(row) == adapted.prefix + "Q: after 3 comes\nA:"
    assert texts[0] == texts[1] != "" and model.lead == ""


def test_a_text_goes_before_each_prompt_while_the_last_method_fits(study, model_folder, monkeypatch):
    seen = []
    real = method("steer").fit

    def fit(model, task, settings, seed, progress):
        seen.append((model.lead, [name for name, _ in model.lm.named_parameters() if name.endswith("bias")]))
        return real(model, task, settings, seed, progress)

    monkeypatch.setattr(method("steer"), "fit", fit)
    model, task = load_model(model_folder), load_task(study.info["task"])
    [m] = [m for m in study.measurements() if m.method == "few-shot+steer"]
    fitted = combined.fits(study, m.method).fit(model, task, m.settings, m.seed, lambda done, of: None)
    assert fitted.program.to_bytes() == study.path(m.program).read_bytes()
    assert seen == [(taskbits.load_program(study.path(m.program)).parts[0].settings["text"], [])]


def test_a_change_of_weights_comes_out_for_peft_with_its_text(study, model_folder, tmp_path):
    [m] = [m for m in study.measurements() if m.method == "few-shot+steer"]
    program, model = taskbits.load_program(study.path(m.program)), load_model(model_folder)
    assert program.write_peft(model, tmp_path / "peft") == "adapter"
    with program.applied(model) as adapted:
        assert (tmp_path / "peft/prefix.txt").read_text() == adapted.prefix
    replace(program, parts=program.parts[1:]).write_peft(model, tmp_path / "peft")
    assert not (tmp_path / "peft/prefix.txt").exists()  # that of another program
    model.save(tmp_path / "model")
    with pytest.raises(UserError, match=r"config\.json is there already.*another folder"):
        program.write_peft(model, tmp_path / "model")
    [alone] = [m for m in study.measurements() if m.method == "few-shot"]
    with pytest.raises(UserError, match="only a change to the weights"):
        taskbits.load_program(study.path(alone.program)).write_peft(model, tmp_path / "none")


def test_pairs_of_the_frontier_are_tried_text_before_data_before_weights(study, model_folder):
    model, task = load_model(model_folder), load_task(study.info["task"])
    measured = study.measurements()
    frontier = [m for m in measured if "+" not in m.method]
    pairs = combined._pairs(frontier)
    assert [(a.method, b.method) for a, b in pairs] == [("few-shot", "steer")]
    found = combined.sweeps(study, model, task, ["lora"], True)
    assert list(found)[0] == "lora" and all("+" in name for name in list(found)[1:])


def test_what_can_not_be_combined_is_refused(model_folder, tmp_path):
    task = write_task(tmp_path / "task")
    for wrong, match in (("zero-shot+tiny", "adds nothing"), ("tiny+nothing", "unknown method 'nothing'"), ("+", "")):
        with pytest.raises(UserError, match=match):
            measure(model_folder, task, str(tmp_path / "s"), methods=[wrong])


def test_what_a_base_has_added_stays_until_it_is_taken_out(model):
    names = {name for name, _ in model.lm.named_parameters()}
    module = next(module for name, module in model.lm.named_modules() if name.endswith("down_proj"))
    with model.preserved([]):
        module.bias = torch.nn.Parameter(torch.ones(module.out_features, dtype=torch.float64))
        with model.preserved([]):
            pass
        assert module.bias is not None
    assert module.bias is None and {name for name, _ in model.lm.named_parameters()} == names
