"""Bad input: one clear line on stderr, exit code 2, no traceback."""

import gzip
import json
from dataclasses import replace

import pytest
from conftest import write_task

from taskbits.fitting.fitted import fitted
from taskbits.programs.program import Part, Program
from taskbits.programs.texts import encode_text
from taskbits.tasks.load import load_task

LOOP = {
    "stem": "Q:",
    "cut": "A:",
    "pattern": "Q.+",
    "seed": 0,
    "rounds": 1,
    "number": 1,
    "count": 9,
    "pace": 1e-4,
}


@pytest.fixture
def refused(taskbits):
    """Run the command line; returns the one line that it printed on refusing."""

    def run(*arguments):
        result = taskbits(*arguments)
        assert result.returncode == 2, result
        lines = [line for line in result.stderr.splitlines() if line.startswith("taskbits: ")]
        assert len(lines) == 1 and "Traceback" not in result.stderr
        return lines[0]

    return run


@pytest.fixture
def measured_arguments(model_folder, task_folder, tmp_path):
    return {"--model": model_folder, "--task": task_folder, "--out": tmp_path / "out", "--budget": "1s"}


def flat(options):
    return [part for pair in options.items() for part in pair]


@pytest.mark.parametrize(
    "option, value, expected",
    [
        ("--model", "no-such-model", "unknown model no-such-model"),
        ("--model", "lab:nothing", "unknown model lab:nothing: lab has locked, posttrained, pretrained, random"),
        ("--model", "missing.gguf", "unknown model missing.gguf"),
        ("--task", "no-such-task", "unknown task no-such-task"),
        ("--task", "lab:nothing", "lab has instruction, math, translation"),
        ("--methods", "zero-shot,choice-bias", "method choice-bias has nothing to try on counting"),
        ("--methods", "zero-shot,magic", "unknown method 'magic'"),
        ("--budget", "soon", "the budget 'soon' is not a time"),
        ("--state", "old", "unknown state 'old'"),
        ("--out", "/dev/null/study", "cannot write to /dev/null/study"),
        ("--storage", "nonsense://x", "cannot open the study's storage"),
    ],
)
def test_measure_refuses(refused, measured_arguments, option, value, expected):
    assert expected in refused("measure", *flat({**measured_arguments, option: value}))


BROKEN = {
    "missing key": ({"prompt": None}, None, "the key 'prompt' is missing"),
    "missing split": ({"test": None}, None, "the key 'test' is missing"),
    "unknown key": ({"promt": "x"}, None, "unknown key 'promt'"),
    "bad name": ({"name": 5}, None, "'name' must be a text"),
    "pattern of a number": ({"metric": "regex", "pattern": 5}, None, "'pattern' must be a text"),
    "yes for a number": ({"max_new_tokens": True}, None, "'max_new_tokens' must be"),
    "half a character": ({"description": "\ud83d"}, None, "holds a lone surrogate"),
    "no such file": ({"test": "a\0b"}, None, "can't be read"),
    "missing field": ({"prompt": "{nothing}"}, None, "train.jsonl, line 1: the field 'nothing' is missing"),
    "bad template": ({"prompt": "{question.__class__}"}, None, "bad template"),
    "bad metric": ({"metric": "vibes"}, None, "unknown metric 'vibes'"),
    "bad module": ({"metric": "python:no.such"}, None, "can't be imported"),
    "bad pattern": ({"metric": "regex", "pattern": "("}, None, "bad pattern"),
    "no group": ({"metric": "regex", "pattern": "x"}, None, "needs a pattern with one group"),
    "bad limit": ({"max_new_tokens": 0}, None, "'max_new_tokens' must be"),
    "target not a choice": ({"choices": ["1", "2"]}, None, "not among the choices"),
    "unknown choice": ({"choose": "best"}, None, "'choose' must be likelihood, per-character or conditional"),
    "nothing given": ({"choices": ["1"], "choose": "conditional"}, None, "'choices' must be the name of a field"),
    "no start": ({"choices": "question", "choose": "conditional"}, None, "'question' must map texts to choose from to"),
    "bad JSON": ({}, '{"question": "a", "answer": "b"}\n{"question": oops}\n', "validation.jsonl, line 2: bad JSON"),
    "no object": ({}, "[1]\n", "validation.jsonl, line 1: a row must be a JSON object"),
    "deep JSON": ({}, "[" * 100_000, "validation.jsonl, line 1: bad JSON"),
    "key twice": ({}, '{"question": "a", "answer": "1", "answer": "2"}', "line 1: bad JSON: 'answer' stands twice"),
    "null label": ({}, '{"question": "a", "answer": null}', "line 1: the field 'answer' is null"),
    "null input": ({}, '{"question": null, "answer": "1"}', "line 1: the field 'question' is null"),
    "no number": ({}, '{"question": "a", "answer": NaN}', "line 1: the field 'answer' is nan"),
    "endless number": ({}, '{"question": 1e999, "answer": 1}', "line 1: the field 'question' is inf"),
    "surrogate": ({}, r'{"question": "a\ud83d", "answer": "1"}', "line 1: the field 'question' holds a lone surrogate"),
    "inner surrogate": ({}, r'{"question": "a", "answer": "1", "x": [{"y": "\ude00"}]}', "the field 'x' holds a lone"),
    "no answer": ({}, '{"question": "a", "answer": ""}', "validation, row 1: the target ' ' holds no answer"),
    "empty split": ({}, "\n", "the validation split is empty"),
    "duplicate": ({}, '{"question": "after 3 comes", "answer": "4"}\n', "stands in both train and validation"),
}


@pytest.mark.parametrize("changes, validation, expected", BROKEN.values(), ids=BROKEN.keys())
def test_broken_tasks(refused, measured_arguments, tmp_path, changes, validation, expected):
    folder = write_task(tmp_path / "task", **changes)
    if validation is not None:
        (tmp_path / "task" / "validation.jsonl").write_text(validation)
    assert expected in refused("measure", *flat({**measured_arguments, "--task": folder}))


def test_yaml_that_is_none(refused, measured_arguments, tmp_path):
    (tmp_path / "task.yaml").write_text("prompt: [")
    assert "not YAML" in refused("measure", *flat({**measured_arguments, "--task": tmp_path}))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "aliases (*name) are not allowed"),
        ("[" * 10_000, "not YAML"),
        ("name: 2024-99-99\n", "not YAML"),
        ("name: !!int ''\n", "not YAML"),
        ("name: !!python/object/apply:os.getcwd []\n", "not YAML"),
        ("? [a]\n: b\n", "not YAML"),
        ("prompt: a\ntarget: b\nmetric: exact\npromt: a\n5: a\n", "unknown key '5'"),
        ("choices: {2024-01-01: x}\nprompt: a\ntarget: b\nmetric: exact\n", "is missing"),
    ],
    ids=range(8),
)
def test_yaml_of_strangers(refused, measured_arguments, tmp_path, text, expected):
    (tmp_path / "task.yaml").write_text(text)
    assert expected in refused("measure", *flat({**measured_arguments, "--task": tmp_path}))


def test_files_in_other_encodings(refused, measured_arguments, tmp_path):
    folder = write_task(tmp_path / "task")
    measure = ["measure", *flat({**measured_arguments, "--task": folder})]
    for name in ("test.jsonl", "task.yaml"):
        path = tmp_path / "task" / name
        content = path.read_text()
        path.write_text(content, encoding="utf-16")
        assert f"{name} can't be read" in (line := refused(*measure)) and "save it as UTF-8" in line
        path.write_text(content)
    (tmp_path / "task" / "test.jsonl").write_bytes(gzip.compress(b'{"question": 1}\n' * 1000)[:-20])
    assert "test.jsonl can't be read" in refused(*measure)
    assert "unknown task" in refused("measure", *flat({**measured_arguments, "--task": "x" * 5000}))


def test_an_input_longer_than_the_context(refused, measured_arguments, tmp_path):
    folder = write_task(tmp_path / "task")
    row = {"question": "word " * 700 + "unusual end", "answer": "1"}
    (tmp_path / "task" / "validation.jsonl").write_text(json.dumps(row) + "\n")
    line = refused("measure", *flat({**measured_arguments, "--task": folder, "--methods": "zero-shot"}))
    assert "the model's context has 512" in line and "unusual end" in line


@pytest.fixture
def program(model, task_folder, tmp_path):
    """A prompt that is coded under the model."""
    way = next(way for way in encode_text(model, "after 1 comes 2, " * 20) if way.runner == "coded")
    path = tmp_path / "program.tbp"
    path.write_bytes(fitted("few-shot", model, load_task(task_folder), way).program.to_bytes())
    return path


def test_a_program_for_another_model(refused, program, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"question": "?"}\n')
    arguments = [program, "--model", "lab:random", "--input", tmp_path / "in.jsonl"]
    assert "is for another model" in refused("run", *arguments)
    assert "is for another model" in refused(
        "export", program, "--standalone", tmp_path / "x.py", "--model", "lab:random"
    )


def test_truncated_or_altered_programs(refused, program, model_folder):
    content = program.read_bytes()
    broken = [
        content[:-1],
        content[:10],
        b"",
        *(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :] for i in range(0, len(content), 9)),
    ]
    for bad in broken:
        program.write_bytes(bad)
        for command in (
            ["verify", program],
            ["run", program, "--model", model_folder, "--input", "-"],
            ["export", program, "--standalone", "x.py", "--model", model_folder],
        ):
            line = refused(*command)
            assert "program" in line


@pytest.mark.parametrize(
    "settings", [{"count": 10**9}, {"count": -1}, {"count": "5"}, {"start": 10**6}, {"extra": 1}, {"heat": 0}]
)
def test_hostile_settings_with_a_good_checksum(refused, program, model_folder, settings, tmp_path):
    loaded = Program.from_bytes(program.read_bytes())
    [part] = loaded.parts
    part = replace(part, settings={**part.settings, **settings})
    program.write_bytes(replace(loaded, parts=(part,)).to_bytes())
    (tmp_path / "in.jsonl").write_text('{"question": "?"}\n')
    assert "program" in refused("run", program, "--model", model_folder, "--input", tmp_path / "in.jsonl")


@pytest.mark.parametrize(
    "runner, settings",
    [
        ("literal", {"text": 5}),
        ("literal+train", {"text": "a b c", "between": "", "ending": "", "epochs": 1, "rate": 0.1}),
        ("literal+train", {"text": "a b c", "between": "~", "ending": "", "epochs": 10**9, "rate": 0.1}),
        ("literal+train", {"text": "word " * 600, "between": "~", "ending": "", "epochs": 1, "rate": 0.1}),
        ("literal+train", {"text": "a b c"}),
        ("sampled", {"stem": "", "seed": -1, "count": 5}),
        ("sampled", {"stem": "", "seed": 1, "count": 10**6}),
        ("literal+literal+literal+literal", {"text": "a"}),
        ("literal+unknown", {"text": "a"}),
        ("train", {"text": "", "between": "~", "ending": "", "epochs": 1, "rate": 0.1}),
        ("self_train", {**LOOP, "pattern": "(a+)+b"}),
        ("self_train", {**LOOP, "pattern": ".*" * 20 + "b"}),
        ("self_train", {**LOOP, "pattern": "("}),
        ("self_train", {**LOOP, "rounds": 10**6}),
    ],
)
def test_hostile_runners_with_a_good_checksum(refused, program, model_folder, runner, settings, tmp_path):
    loaded = Program.from_bytes(program.read_bytes())
    changed = replace(loaded, parts=(Part(runner, settings),))
    program.write_bytes(changed.to_bytes())
    (tmp_path / "in.jsonl").write_text('{"question": "?"}\n')
    assert "program" in refused("run", program, "--model", model_folder, "--input", tmp_path / "in.jsonl")


@pytest.mark.parametrize("payload", [b"\xff" * 400, b"\xff" * 40, b"abc"])
def test_hostile_payloads_with_a_good_checksum(refused, program, model_folder, payload, tmp_path):
    loaded = Program.from_bytes(program.read_bytes())
    program.write_bytes(replace(loaded, parts=(replace(loaded.parts[0], payload=payload),)).to_bytes())
    (tmp_path / "in.jsonl").write_text('{"question": "?"}\n')
    assert "decode" in refused("run", program, "--model", model_folder, "--input", tmp_path / "in.jsonl")


def test_bad_rows_given_to_run(refused, program, model_folder, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"question": "?"}\n{"quest": 1}\n')
    arguments = [program, "--model", model_folder, "--input", tmp_path / "in.jsonl"]
    assert "in.jsonl, line 2: the field 'question' is missing" in refused("run", *arguments)
    (tmp_path / "in.jsonl").write_text('{"question": null}\n')
    assert "in.jsonl, line 1: the field 'question' is null" in refused("run", *arguments)


def test_rows_given_to_run_may_begin_with_a_byte_order_mark(taskbits, program, model_folder, tmp_path):
    text = '\ufeff{"question": "?"}\r\n\n{"question": "é"}\n \n'
    (tmp_path / "in.jsonl").write_bytes(text.encode())
    results = [
        taskbits("run", program, "--model", model_folder, "--input", source, input=text)
        for source in (tmp_path / "in.jsonl", "-")
    ]
    assert [result.returncode for result in results] == [0, 0], results
    assert results[0].stdout == results[1].stdout and len(results[0].stdout.splitlines()) == 2


@pytest.mark.parametrize("command", [["frontier"], ["complexity", "--at", "0.5"], ["report"], ["compare"], ["records"]])
def test_no_study(refused, command, tmp_path):
    assert "no study in" in refused(command[0], tmp_path / "nothing", *command[1:])


def test_missing_program(refused, tmp_path):
    assert "can't be read" in refused("verify", tmp_path / "none.tbp")


def test_export_needs_one_target(refused, program):
    assert "either --standalone FILE or --peft DIR" in refused("export", program)


def test_only_adapters_become_peft_folders(refused, program, model_folder, tmp_path):
    line = refused("export", program, "--peft", tmp_path / "peft", "--model", model_folder)
    assert "only a change to the weights" in line
