"""The arithmetic of a model: asked for, recorded, the same in every process."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import write_task

import taskbits
from taskbits.errors import UserError
from taskbits.fitting.fitted import fitted
from taskbits.models import fingerprints
from taskbits.models.model import load_model
from taskbits.programs import decode
from taskbits.programs.program import Part, Program
from taskbits.programs.texts import decodes, encode_examples, encode_text
from taskbits.tasks.frame import Frame
from taskbits.tasks.load import load_task

TEXTS = ["1 2 3 4", "the house is red", "a", "Say in Velan: this fox draws\n tidu das", "x" * 40, "two\nlines"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_study_in_it_confirms_and_verifies(model_folder, tmp_path, dtype):
    task = write_task(tmp_path / "task")
    methods = ["zero-shot", "lora", "subset", "seeded"]
    where = Path(model_folder), Path(task), tmp_path / "s"
    study = taskbits.measure(*where, methods=methods, budget=20, dtype=dtype)
    with pytest.raises(UserError, match=f"another dtype \\('{dtype}', not the usual\\)"):
        taskbits.measure(*where, methods=methods)
    assert study.info["dtype"] == dtype and all(m.unconfirmed is None for m in study.measurements())
    for m in study.frontier():
        content = study.path(m).read_bytes()
        program = Program.from_bytes(content)
        assert program.dtype == dtype and program.to_bytes() == content
        size, scores = taskbits.verify(study.path(m))
        assert size == m.bytes and all(found == recorded for found, recorded in scores.values())
        command = ["score", study.path(m), "--model", model_folder, "--task", task, "--json"]
        command = [sys.executable, "-m", "taskbits", *map(str, command)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert json.loads(result.stdout)["score"]["value"] == m.test.value


def test_what_is_said_of_it(model_folder, tmp_path):
    usual, half = load_model(model_folder), load_model(model_folder, dtype="bfloat16")
    assert (usual.dtype, usual.said_dtype) == ("float64", None)
    assert (half.dtype, half.said_dtype) == ("bfloat16", "bfloat16")
    assert half.fingerprint != usual.fingerprint
    program = fitted("zero-shot", half, load_task(write_task(tmp_path / "task")), *encode_text(half, "")).program
    with pytest.raises(UserError, match="in bfloat16.*loaded in float64"):
        decode.require_model(usual, program)
    with pytest.raises(UserError, match="unknown dtype 'half'"):
        load_model(model_folder, dtype="half")
    assert b"bfloat16" in program.to_bytes()
    assert b'"dtype"' not in Program("zero-shot", b"123456", Frame("x"), (Part("plain"),)).to_bytes()


def test_auto_takes_the_checkpoints_own_where_float64_is_slow_or_large(model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("taskbits.models.model._FLOAT64_LIMIT", 1000)
    assert load_model(model_folder).dtype == "float32"  # as its checkpoint
    load_model(model_folder, dtype="bfloat16").save(tmp_path / "half")
    half = load_model(str(tmp_path / "half"))
    assert (half.dtype, half.said_dtype) == ("bfloat16", "bfloat16")
    assert load_model(str(tmp_path / "half"), dtype=None).dtype == "float32"  # as versions before 0.4


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_texts_are_coded_under_it(pretrained_in, dtype):
    model = pretrained_in(dtype)
    for text in TEXTS:
        coded = [way for way in encode_text(model, text) if way.runner == "coded"]
        assert coded and any(decodes(model, way) for way in coded)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_drawn_examples_decode_in_a_fresh_process(model_folder, tmp_path, dtype):
    model, task = load_model(model_folder, dtype=dtype), load_task(write_task(tmp_path / "task"))
    with model.preserved():
        ways = encode_examples(model, sorted(set(task.examples("train")))[:8], 4, 3, 1e-3, lambda done, of: None)
    found = fitted("subset", model, task, *ways)
    (tmp_path / "p.tbp").write_bytes(found.program.to_bytes())
    code = "import sys, taskbits; m = taskbits.load_model(sys.argv[1], dtype=sys.argv[2]); "
    code += "p = taskbits.load_program(sys.argv[3]); print(p.run(m, [{'question': 'after 3 comes'}])[0])"
    command = [sys.executable, "-c", code, model_folder, dtype, str(tmp_path / "p.tbp")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def pretrained_in():
    return lambda dtype: load_model("lab:pretrained", dtype=dtype)


@pytest.mark.parametrize("optimizer, target", [("SGD", ""), ("Adafactor", "attn"), ("Adam", "mlp")])
def test_a_decoder_trains_with_what_it_says_and_only_that(model, task_folder, optimizer, target):
    text = "\n\n".join(load_task(str(task_folder)).examples("train")[:3])
    lesson = {"between": "\n\n", "ending": "", "epochs": 2, "rate": 1e-2, "optimizer": optimizer, "target": target}
    part = Part("literal+train", {"text": text, **lesson})
    program = Program("subset", model.fingerprint, Frame("{question}"), (part,))
    before = {name: weight.detach().clone() for name, weight in model.lm.named_parameters()}
    with decode.adapted(model, program):
        changed = {n for n, weight in model.lm.named_parameters() if not torch.equal(weight, before[n])}
        assert changed == {name for name in before if target in name}
    assert all(torch.equal(weight, before[name]) for name, weight in model.lm.named_parameters())
    for wrong in ({"optimizer": "LBFGS"}, {"target": "nowhere"}):
        with (
            pytest.raises(UserError, match="not valid"),
            decode.adapted(model, replace(program, parts=(replace(part, settings={**part.settings, **wrong}),))),
        ):
            pass


def test_a_prompt_changes_nothing_and_keeps_no_copy(model, monkeypatch):
    program = Program("few-shot", model.fingerprint, Frame("{question}"), (Part("literal", {"text": "Look: "}),))
    with decode.adapted(model, program) as prefix:
        assert prefix == "Look: " and model._copies == [{}]
        shown = decode.digest(model, program, prefix)
        assert len(shown) == 20 and len(decode.digest(model, program, prefix, former=True)) == 16


def test_the_fingerprint_of_large_files_is_computed_once(model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, "_LARGE", 0)
    load_model(model_folder).save(tmp_path / "m")
    spec = str(tmp_path / "m")
    model = load_model(spec)
    first, kept = model.fingerprint, tmp_path / "m" / ".taskbits-fingerprints.json"
    assert first == load_model(model_folder).fingerprint and kept.exists()
    again = load_model(spec)
    monkeypatch.setattr(type(again), "_computed_fingerprints", lambda self: pytest.fail("computed again"))
    assert again.fingerprint == first
    monkeypatch.undo()
    monkeypatch.setattr(fingerprints, "_LARGE", 0)
    kept.write_text("{ damaged")
    assert load_model(spec).fingerprint == first  # damaged: computed again
    with torch.no_grad():
        changed = load_model(spec)
        next(changed.lm.parameters()).add_(1)
    changed.lm.save_pretrained(spec)
    assert load_model(spec).fingerprint != first
