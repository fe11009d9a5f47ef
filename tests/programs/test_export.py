"""The standalone file: a payload, and behind it a zip application that Python finds whatever the payload is."""

import ast
import json
import zipimport

import pytest
from conftest import alone
from hypothesis import given, settings
from hypothesis import strategies as st

from taskbits.programs.export import standalone
from taskbits.programs.program import Part, Program
from taskbits.tasks.frame import Frame

headers = st.sampled_from([b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6"])
payloads = st.lists(headers | st.binary(max_size=50), max_size=6).map(b"".join)


@settings(max_examples=30, deadline=None)
@given(payload=payloads)
def test_python_finds_the_code_behind_any_payload(tmp_path_factory, payload):
    part = Part("coded", {"start": "", "count": 5, "heat": 1}, payload)
    program = Program("few-shot", b"abcdef", Frame("{x}\n"), (part,))
    content = standalone(program, "float64")
    file = tmp_path_factory.mktemp("alone") / "alone.py"
    file.write_bytes(content)
    assert content.startswith(payload) and len(content) < len(payload) + 600
    source = zipimport.zipimporter(str(file)).get_source("__main__")
    assert "decode" in source
    compile(source, "alone", "exec")


@pytest.mark.parametrize("offsets", [(), (1, -0.5)])
@pytest.mark.parametrize("answers", [(), ("", "one")])
def test_what_is_decided_beforehand_is_not_in_the_file(offsets, answers, tmp_path):
    frame = Frame("{x}\n", choices=(" yes", " no"), offsets=offsets, answers=answers)
    file = tmp_path / "alone.py"
    file.write_bytes(standalone(Program("zero-shot", b"abcdef", frame, (Part("plain"),)), "float64"))
    source = ast.parse(zipimport.zipimporter(str(file)).get_source("__main__"))
    assert not any(isinstance(node, ast.If | ast.IfExp) for node in ast.walk(source))


INPUTS = ["caf\u00e9", "x"]


@pytest.mark.parametrize("choices", [(), (" one", " two")])
def test_blank_lines_change_nothing(choices, model, model_folder, tmp_path):
    program = Program("zero-shot", model.fingerprint, Frame("Q: {question}\nA:", ("\n",), 4, choices), (Part("plain"),))
    (tmp_path / "alone.py").write_bytes(standalone(program, model.dtype))
    plain, odd = tmp_path / "plain.jsonl", tmp_path / "odd.jsonl"
    plain.write_text("".join(json.dumps({"question": text}) + "\n" for text in INPUTS), encoding="utf-8")
    lines = [json.dumps({"question": text}, ensure_ascii=False) for text in INPUTS]
    odd.write_text("\n\n \t\n".join(lines) + "\n \n\n", encoding="utf-8")
    wanted, found = (alone(tmp_path / "alone.py", "--model", model_folder, "--input", path) for path in (plain, odd))
    assert wanted.returncode == found.returncode == 0, found.stderr
    assert found.stdout == wanted.stdout and found.stdout.count("\n") == len(INPUTS)


hostile = st.sampled_from(
    [
        "'",
        '"',
        "'''",
        '\\"',
        "\\",
        "\n",
        "\0",
        "%",
        "%s",
        "%(x)s",
        "{{",
        "}}",
        "');import os;os._exit(1)#",
        "\u2028",
        "\ufeff",
    ]
)
texts = st.lists(hostile | st.text(st.characters(exclude_categories=["Cs"]), max_size=9), min_size=1, max_size=4).map(
    "".join
)


LESSON = {"ending": "~", "epochs": 3, "rate": 0.25}


def source(tmp_path, frame, text):
    file = tmp_path / "alone.py"
    program = Program("few-shot", b"abcdef", frame, (Part("literal+train", {**LESSON, "text": text, "between": text}),))
    file.write_bytes(standalone(program, "float64"))
    zipimport._zip_directory_cache.clear()
    return ast.parse(zipimport.zipimporter(str(file)).get_source("__main__"))


def shape(tree):
    """The code without the values of its texts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(tree)


@settings(max_examples=12, deadline=None)
@given(prompt=texts, stop=texts, choice=texts, text=texts)
def test_texts_stand_in_the_code_as_literals_alone(tmp_path_factory, prompt, stop, choice, text):
    folder = tmp_path_factory.mktemp("code")
    prompt = prompt.replace("{", "{{").replace("}", "}}") + "{question}"
    for frame, harmless in (
        (Frame(prompt, (stop,), 7), Frame("a{question}", ("b",), 7)),
        (Frame(prompt, (), 7, (choice, "no")), Frame("a{question}", (), 7, ("b", "no"))),
    ):
        assert shape(source(folder, frame, text)) == shape(source(folder, harmless, "c"))
