"""Programs that change weights: as small as asked for, trained on what was asked for, and at home in PEFT."""

import json
from dataclasses import replace

import numpy
import peft
import pytest
import torch
import transformers
from conftest import nothing, write_task

from taskbits.errors import UserError
from taskbits.fitting.training import example_rows
from taskbits.methods import method
from taskbits.models import memory
from taskbits.models.model import load_model
from taskbits.models.predict import predict
from taskbits.programs import decode
from taskbits.search.measure import measure
from taskbits.tasks.frame import Frame
from taskbits.tasks.load import load_task

ROWS = [{"question": f"after {n} comes"} for n in range(100)]
SIZED = ["lora", "tiny", "lora-xs", "steer", "seeded", "norms"]


def settings_for(name, size=64, objective="loss", steps=10):
    """Settings of a short training, whatever the method."""
    if name == "lora-fp16":
        return {"rank": 2, "target": "blocks", "steps": steps, "rate": 5e-3}
    if name == "blora":
        return {"rank": 2, "price": 0.1, "steps": steps, "rate": 1e-2}
    if name == "full":
        return {"steps": steps, "rate": 1e-3, "spread": 0.4}
    return {"bytes": size, "objective": objective, "steps": steps}


def find(name, model, task, **wanted):
    with model.preserved():
        return method(name).fit(model, task, settings_for(name, **wanted), 0, nothing).program


@pytest.fixture(scope="module")
def task(task_folder):
    return load_task(task_folder)


@pytest.mark.parametrize("name", SIZED)
@pytest.mark.parametrize("size", [4, 40, 200])
def test_payload_is_about_as_large_as_asked_for(model, task, name, size):
    found = len(find(name, model, task, size=size).payload)
    widest = 60  # bytes that all coefficients of the method may take in this small model
    assert found <= size and (found >= 0.5 * min(size, widest) or size == 4)


@pytest.mark.parametrize("name", SIZED)
def test_settings_of_the_sweep_name_the_sizes(model, task, name):
    sizes = {s["bytes"] for s in method(name).sweep(model, task)}
    assert len(sizes) >= 5 and max(sizes) >= 16 * min(sizes)


@pytest.mark.parametrize("name", ["lora", "tiny", "lora-xs", "steer", "seeded", "lora-fp16", "blora"])
def test_peft_folder_gives_the_same_outputs(taskbits, model, model_folder, task, tmp_path, name):
    program = find(name, model, task, size=200, steps=40)
    (tmp_path / "a.tbp").write_bytes(program.to_bytes())
    result = taskbits("export", tmp_path / "a.tbp", "--peft", tmp_path / "peft", "--model", model_folder)
    assert result.returncode == 0, result.stderr
    assert "a PEFT adapter" in result.stdout
    base = transformers.AutoModelForCausalLM.from_pretrained(model_folder)
    adapted = peft.PeftModel.from_pretrained(base, tmp_path / "peft").double().eval()
    other = load_model(model_folder)
    ours = program.run(model, ROWS)
    assert ours != predict(other, program.frame, ROWS)  # the program does something
    other.lm = adapted
    assert predict(other, program.frame, ROWS) == ours


def test_adapter_has_the_least_rank(taskbits, model, model_folder, task, tmp_path):
    program = find("tiny", model, task)
    (tmp_path / "a.tbp").write_bytes(program.to_bytes())
    taskbits("export", tmp_path / "a.tbp", "--peft", tmp_path / "peft", "--model", model_folder)
    ranks = json.loads((tmp_path / "peft/adapter_config.json").read_text())["rank_pattern"]
    assert set(ranks.values()) == {1} and len(ranks) == 8


@pytest.mark.parametrize("name", ["full", "norms"])
def test_a_change_that_no_adapter_holds_becomes_a_patched_model(taskbits, model, model_folder, task, tmp_path, name):
    program = find(name, model, task)
    (tmp_path / "a.tbp").write_bytes(program.to_bytes())
    result = taskbits("export", tmp_path / "a.tbp", "--peft", tmp_path / "patched", "--model", model_folder)
    assert result.returncode == 0 and "the patched model" in result.stdout, result.stderr
    patched = load_model(str(tmp_path / "patched"))
    assert predict(patched, program.frame, ROWS) == program.run(model, ROWS)


def test_a_bias_is_taken_away_again(model, task):
    names = [name for name, _ in model.lm.named_parameters()]
    program = find("steer", model, task)
    with model.preserved():
        decode.adapt(model, program)
        assert len(list(model.lm.parameters())) == len(names) + 2
    assert [name for name, _ in model.lm.named_parameters()] == names


@pytest.mark.parametrize("name", [*SIZED, "lora-fp16", "blora"])
@pytest.mark.parametrize(
    "change",
    [{"target": ""}, {"target": "nowhere"}, {"target": 1}, {"rank": 0}, {"rank": 10**9}, {"step": 0.0}]
    + [{"step": float("inf")}, {"spread": -1.0}, {"bound": 10**9}, {"count": 0}, {"blocks": 10**6}],
    ids=str,
)
def test_hostile_settings_are_refused(model, programs, name, change):
    program = programs(name)
    [part] = program.parts
    if not set(change) <= set(part.settings):
        pytest.skip("a setting of other methods")
    with pytest.raises(UserError, match="not valid|can't be decoded"), model.preserved():
        decode.adapt(model, replace(program, parts=(replace(part, settings={**part.settings, **change}),)))


@pytest.fixture(scope="module")
def programs(model, task):
    found = {}

    def get(name):
        if name not in found:
            found[name] = find(name, model, task, size=40)
        return found[name]

    return get


def vowels(output, row):
    """A metric that no reference asks for."""
    return min(1.0, sum(output.count(letter) for letter in "aeiou") / 12)


def even(output, row):
    """Another one."""
    return float(int(output) % 2 == 0)


CHOICES = {"choices": [str(n) for n in range(1, 100)], "stop": None}


def test_what_is_given_of_a_choice_is_not_trained_on(model):
    frame = Frame("{text}", choices="those", choose="conditional")
    row = {"text": "It is", "those": {" a big dog": " a big"}}
    [(tokens, first)] = example_rows(model, frame, [(row, " a big dog")], ends=False)
    assert model.tokenizer.decode(tokens[first:]) == " dog"


@pytest.mark.parametrize(
    "name, size, steps, wanted, task_changes",
    [("tiny", 16, 40, "vowels", {}), ("lora", 400, 3, "even", {**CHOICES, "choose": "per-character"})],
    ids=["evolution", "policy gradient"],
)
def test_metric_training_raises_the_metric(model, tmp_path, name, size, steps, wanted, task_changes):
    task = load_task(write_task(tmp_path / "task", metric=f"python:test_parametric.{wanted}", **task_changes))
    scores = {}
    for objective in ("loss", "metric"):
        program = find(name, model, task, size=size, objective=objective, steps=steps)
        assert len(program.payload) <= size
        scores[objective] = task.score("train", program.run(model, task.splits["train"])).value
    assert scores["metric"] > scores["loss"]


def test_samples_train_a_policy_within_the_size(model, task):
    assert len(find("lora", model, task, size=400, objective="metric", steps=6).payload) <= 400


def test_steer_refuses_blocks_that_end_in_a_bias(task, model_folder, tmp_path):
    config = transformers.GPT2Config(vocab_size=600, n_embd=24, n_layer=2, n_head=2, n_positions=256)
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(model_folder).save_pretrained(tmp_path)
    other = load_model(str(tmp_path))
    with pytest.raises(UserError, match="without bias"):
        find("steer", other, task)


@pytest.mark.parametrize("name", ["lora", "tiny", "lora-xs", "lora-fp16", "blora"])
def test_matrices_kept_transposed(taskbits, task, model_folder, tmp_path, name):
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=24, n_layer=2, n_head=2, n_positions=256, bos_token_id=0, eos_token_id=0
    )
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    other = load_model(str(tmp_path / "gpt2"))
    program = find(name, other, task, size=200, steps=30)
    (tmp_path / "a.tbp").write_bytes(program.to_bytes())
    result = taskbits("export", tmp_path / "a.tbp", "--peft", tmp_path / "peft", "--model", tmp_path / "gpt2")
    assert result.returncode == 0, result.stderr
    ours = program.run(other, ROWS[:20])
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "gpt2")
    other.lm = peft.PeftModel.from_pretrained(base, tmp_path / "peft").double().eval()
    assert predict(other, program.frame, ROWS[:20]) == ours


def test_seeds_are_samples_of_a_standard_normal_distribution(model, task):
    program = find("seeded", model, task, size=40)
    seeds = numpy.frombuffer(program.payload, "u2")
    assert len(seeds) == 20 and len(set(seeds.tolist())) > 10


@pytest.mark.skipif(memory.peak() is None, reason="the system does not tell")
def test_peak_memory_is_recorded(model_folder, task_folder, tmp_path):
    study = measure(model_folder, task_folder, str(tmp_path / "study"), methods=["tiny"], budget=0.01)
    assert all(m.peak_memory > 10_000_000 for m in study.measurements())
