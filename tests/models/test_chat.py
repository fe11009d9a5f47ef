"""Chats: one text and one row of tokens for scoring, training and the standalone file, on any day."""

import json
import runpy
import sys
import zlib
from dataclasses import replace

import pytest
import tokenizers
import torch
import transformers
from conftest import nothing, shorten_lessons, write_task
from test_models import CHAT, lab_tokenizer, llama, spaced_tokenizer

from taskbits.errors import UserError
from taskbits.fitting.judge import ending, taught
from taskbits.fitting.training import example_rows
from taskbits.methods import method, self_train
from taskbits.models.model import Model, load_model
from taskbits.models.predict import asked, predict
from taskbits.programs.export import standalone
from taskbits.programs.program import Part, Program
from taskbits.tasks import template
from taskbits.tasks.frame import Frame
from taskbits.tasks.load import load_task

BARE = CHAT.removeprefix("{{ bos_token }}")
RICH = (
    "{{ bos_token }}{% set today = strftime_now('%d %b %Y') %}{{ today[:2] }}. {{ today }}, {{ strftime_now('%A') }}\n"
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "<assistant>{% if enable_thinking is false %}<think></think>{% endif %}"
)
SETTINGS = {"system": "Be terse: 100% {short}.", "arguments": {"enable_thinking": False}, "date": "2026-01-31"}
RENDERED = (
    "<|end|>31. 31 Jan 2026, Saturday\n<system>Be terse: 100% {short}.\n"
    "<user>Q: after 3 comes\nA:\n<assistant><think></think>"
)
ROWS = [{"question": f"after {n} comes"} for n in (3, 41)]


def make(folder, chat_template, begins=False, **generation):
    """A model folder; begins: its tokenizer puts a token before any text."""
    tokenizer = lab_tokenizer()
    tokenizer.chat_template = chat_template
    if begins:
        tokenizer.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
            single="<|end|> $A", pair="<|end|> $A $B", special_tokens=[("<|end|>", 0)]
        )
    torch.manual_seed(3)
    lm = llama(tokenizer)
    lm.generation_config.update(**generation)
    lm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_model(str(folder))


def run_alone(program, model, tmp_path, monkeypatch, capsys):
    """What the standalone file writes for ROWS, and the rows of tokens that its model was given first."""
    (tmp_path / "alone.py").write_bytes(standalone(program, model.dtype))
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    monkeypatch.setattr(
        sys, "argv", [str(tmp_path / "alone.py"), "--model", model.spec, "--input", str(tmp_path / "in.jsonl")]
    )
    seen, plain = [], transformers.LlamaForCausalLM.forward

    def forward(lm, input_ids=None, **options):
        seen.append(input_ids[0].tolist())
        return plain(lm, input_ids=input_ids, **options)

    with monkeypatch.context() as patched:
        patched.setattr(
            transformers.LlamaForCausalLM,
            "forward",
            lambda lm, ids=None, **o: forward(lm, o.pop("input_ids", ids), **o),
        )
        runpy.run_path(str(tmp_path / "alone.py"))
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()], seen


@pytest.mark.parametrize("settings", [{}, SETTINGS], ids=["plain", "with settings"])
@pytest.mark.parametrize("choices", [(), (" 4", " 42", " five")], ids=["generated", "chosen"])
@pytest.mark.parametrize("begins", [False, True], ids=["tokenizer adds none", "tokenizer adds one"])
@pytest.mark.parametrize("chat_template", [BARE, CHAT], ids=["template has none", "template has one"])
def test_the_file_reads_the_tokens_that_scoring_read(
    tmp_path, monkeypatch, capsys, chat_template, begins, choices, settings
):
    model = make(tmp_path / "m", chat_template, begins)
    task = load_task(write_task(tmp_path / "task", chat=settings or True, max_new_tokens=3, choices=None))
    frame = model.framed(Frame(task.frame.prompt, (), 3, choices, "likelihood", True, task.frame.system))
    program = Program("zero-shot", model.fingerprint, frame, (Part("literal", {"text": "Look: "}),))
    assert Program.from_bytes(program.to_bytes()) == program
    written, seen = run_alone(program, model, tmp_path, monkeypatch, capsys)
    assert written == predict(model, frame, ROWS, "Look: ") == program.run(model, ROWS)
    texts = [text + choice for text in asked(model, frame, ROWS, "Look: ") for choice in choices or [""]]
    given = [model.tokens(text, chat=True) for text in texts]
    assert [row for row in seen if row in given] == given
    assert all(row.count(0) == (chat_template is CHAT) for row in given)  # never two, never one too few
    [(tokens, first)] = example_rows(model, frame, [(ROWS[0], " 4")], ends=False)
    assert tokens == model.tokens(asked(model, frame, ROWS)[0] + " 4", chat=True)
    assert model.tokenizer.decode(tokens[first:]) == " 4"


@pytest.mark.parametrize("choices", [(), (" 4", " 42", " five")], ids=["generated", "chosen"])
@pytest.mark.parametrize(
    "chat, place, prompt",
    [
        (False, "behind", "Look: Q: after 3 comes 100% {x}\nA:"),
        (False, "answer", "Look: Q: after 3 comes\nA: 100% {x}"),
        (True, "behind", RENDERED.replace("Q: after 3 comes\nA:", "Look: Q: after 3 comes\nA: 100% {x}")),
        (True, "answer", RENDERED.replace("Q:", "Look: Q:") + " 100% {x}"),
    ],
)
def test_a_text_stands_where_it_is_placed(tmp_path, monkeypatch, capsys, choices, chat, place, prompt):
    model = make(tmp_path / "m", RICH)
    changes = {"chat": SETTINGS} if chat else {}
    task = load_task(write_task(tmp_path / "task", **changes, max_new_tokens=3), chat=chat)
    frame = model.placed(replace(task.frame, choices=choices, stop=()), " 100% {x}", place)
    frame = model.framed(replace(frame, offsets=(0, -30.5, 2)[: len(choices)]))
    assert asked(model, frame, ROWS, "Look: ")[0] == prompt
    program = Program("zero-shot", model.fingerprint, frame, (Part("literal", {"text": "Look: "}),))
    assert Program.from_bytes(program.to_bytes()) == program
    written, _ = run_alone(program, model, tmp_path, monkeypatch, capsys)
    assert written == program.run(model, ROWS) and (not choices or set(written) == {" 42"})


def test_without_a_chat_the_tokens_are_the_tokenizers(tmp_path):
    model = make(tmp_path / "m", CHAT, begins=True)
    [(row, _)] = example_rows(model, Frame("Q: {question}"), [(ROWS[0], " 4")], ends=False)
    assert row == model.tokenizer("Q: after 3 comes 4").input_ids and row[0] == 0


def test_a_task_sets_date_system_prompt_and_arguments(tmp_path, monkeypatch, capsys):
    model = make(tmp_path / "m", RICH)
    task = load_task(write_task(tmp_path / "task", chat=SETTINGS, max_new_tokens=3), chat=True)
    assert asked(model, task.frame, ROWS)[0] == RENDERED
    found = method("zero-shot").fit(model, task, {}, 0, nothing).program
    assert found.frame.around[0].startswith("<|end|>31. 31 Jan 2026")
    written, seen = run_alone(Program.from_bytes(found.to_bytes()), model, tmp_path, monkeypatch, capsys)
    assert written == predict(model, task.frame, ROWS) and seen[0] == model.tokens(RENDERED, chat=True)
    # What the template makes of it by itself, but for the date.
    turns = [{"role": "system", "content": SETTINGS["system"]}, {"role": "user", "content": "Q: after 3 comes\nA:"}]
    theirs = model.tokenizer.apply_chat_template(turns, tokenize=False, enable_thinking=False)
    assert theirs.partition("\n")[2] == RENDERED.partition("\n")[2]


def test_a_date_is_pinned_where_the_task_says_none(tmp_path):
    model = make(tmp_path / "m", RICH)
    frame = Frame("{question}", chat=True)
    assert asked(model, frame, ROWS)[0].startswith("<|end|>26. 26 Jul 2024, Friday\n<user>after 3")
    assert model.framed(frame).around and not make(tmp_path / "n", CHAT).framed(frame).around


def test_a_chat_ends_with_the_models_turn(tmp_path):
    """A task's stop strings are for prompts without a chat: gsm8k's would cut a right answer in three paragraphs."""
    rows = [{"question": f"{n} and 1?", "answer": f"Think.\n\nAdd.\n\n#### {n + 1}"} for n in range(40)]
    (tmp_path / "gsm8k").mkdir()
    for split in ("train", "test"):
        part = rows[:30] if split == "train" else rows[30:]
        (tmp_path / "gsm8k" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    assert load_task("gsm8k", data=str(tmp_path)).frame.stop == ("\n\n", "Question:")
    task, model = load_task("gsm8k", data=str(tmp_path), chat=True), make(tmp_path / "m", CHAT)
    answers = [row["answer"] for row in task.splits["test"]]
    assert [cut(model, answer, task.frame) for answer in answers] == answers
    assert task.score("test", answers).value == 1
    assert ending(model, task) == "<|end|>"
    folder = write_task(tmp_path / "task", chat={"stop": ["!"]})
    assert load_task(folder).frame.stop == ("!",) and load_task(folder, chat=False).frame.stop == ("\n",)


def cut(model, answer, frame):
    """What is an output where the model writes this answer and its end token."""
    written = model.tokenizer(answer).input_ids + [model.turn_end]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("taskbits.models.engine.generate", lambda lm, rows, *_: [written] * len(rows))
        return predict(model, frame, [{"question": "?"}])[0]


def test_outputs_begin_as_in_the_pipeline():
    """Where a tokenizer marks words by spaces, some versions of transformers drop the first one."""
    tokenizer = spaced_tokenizer()
    model = Model(llama(tokenizer).eval(), tokenizer, "m", "given", 0, None)
    written = tokenizer(" 2 4").input_ids
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("taskbits.models.engine.generate", lambda lm, rows, *_: [written])
        patched.setattr(model.lm, "generate", lambda input_ids, **_: torch.cat([input_ids, torch.tensor([written])], 1))
        alone = model.pipe("Q: after", max_new_tokens=2)[0]["generated_text"].removeprefix("Q: after")
        assert predict(model, Frame("{text}"), [{"text": "Q: after"}]) == [alone]


def test_training_ends_rows_where_generation_ends(tmp_path):
    """The tokenizer's end token is 0, generation ends at others; the template writes one of them behind a turn."""
    turns = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{{ ends }}{% endfor %}<assistant>"
    word = lab_tokenizer().decode([70])
    model = make(tmp_path / "m", turns.replace("{{ ends }}", "{{ '" + word + "' }}"), eos_token_id=[60, 70])
    assert model.tokenizer.eos_token_id == 0 and model.end == 60 and model.turn_end == 70
    for chat, end in ((False, 60), (True, 70)):
        frame = Frame("{question}", chat=chat)
        [(tokens, _)] = example_rows(model, frame, [(ROWS[0], " 4")], ends=True)
        assert tokens[-1] == end
    task = load_task(write_task(tmp_path / "task", stop=None))
    assert ending(model, task) == model.tokenizer.decode([60])
    usual = make(tmp_path / "n", CHAT, eos_token_id=[60, 0])
    assert usual.end == usual.turn_end == 0
    with torch.no_grad():
        usual.lm.lm_head.weight.zero_()  # so that token 0 is the likeliest
    assert predict(usual, Frame("{question}", (), 5), ROWS) == ["", ""]


@pytest.mark.parametrize("begins", [False, True])
def test_a_brace_in_the_chat_template_is_no_field(tmp_path, monkeypatch, begins):
    shorten_lessons(monkeypatch)
    monkeypatch.setattr(self_train, "_CHOSEN_FROM", 2)
    model = make(tmp_path / "m", "{{ bos_token }}{role: user} " + BARE, begins)
    task = load_task(write_task(tmp_path / "task", chat=True))
    form = self_train.form(model, task)
    assert template.fields(form) == ["question"]
    row = task.splits["train"][0]
    assert template.fill(form, row) == model.unbegun(asked(model, task.frame, [row])[0])
    assert taught(model, task, task.examples("train")[:1]) == [template.fill(form, row) + " 1"]
    if not begins:
        program = self_train.fit(model, task, {"n": 1, "rounds": 1, "number": 2}, 0, nothing).program
        assert program.parts[0].settings["stem"] == "<|end|>{role: user} <user>Q:"


@pytest.mark.parametrize(
    "chat_template, settings, message",
    [
        (None, {}, "no chat template: measure the task without --chat"),
        ({"tool_use": CHAT, "rag": CHAT}, {}, "can't be used so: .*tool_use"),
        (
            "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}",
            SETTINGS,
            "no system",
        ),
        ("{{ messages[-1]['content'] | upper }}", SETTINGS, "changes the user's text"),
        (CHAT, {"arguments": {"tokenize": True}}, "argument 'tokenize'"),
    ],
)
def test_a_chat_that_cannot_be_is_refused_in_a_line(tmp_path, chat_template, settings, message):
    model = make(tmp_path / "m", chat_template)
    task = load_task(write_task(tmp_path / "task", chat=settings or True))
    with pytest.raises(UserError, match=message) as error:
        model.framed(task.frame)
    assert "\n" not in str(error.value)


def test_one_of_several_chat_templates_is_the_default(tmp_path):
    model = make(tmp_path / "m", {"default": CHAT, "rag": BARE})
    assert model.chat("x") == "<|end|><user>x\n<assistant>"


@pytest.mark.parametrize(
    "chat, message",
    [
        ("yes please", "true, false, or a mapping of arguments, date, stop, system"),
        ({"sistem": "x"}, "a mapping of"),
        ({"system": 3}, "must be a text"),
        ({"arguments": {"a b": 1}}, "must map names"),
        ({"arguments": {"a": [1]}}, "must map names"),
        ({"date": "31.1.2026"}, "must be a day"),
        ({"stop": [3]}, "list of texts"),
    ],
)
def test_bad_settings_of_a_chat_are_named(tmp_path, chat, message):
    with pytest.raises(UserError, match=message):
        load_task(write_task(tmp_path / "task", chat=chat))


@pytest.mark.parametrize("around", ['["a"]', '["a","b","c"]', '[1,"b"]', '"ab"'])
def test_hostile_texts_around_are_refused(around):
    frame = Frame("{x}", chat=True, around=("<u>", "<a>"))
    good = Program("zero-shot", b"abcdef", frame, (Part("plain"),)).to_bytes()
    assert Program.from_bytes(good).frame == frame
    head = f'{{"prompt":"{{x}}","chat":true,"around":{around},"runner":"plain"}}'.encode()
    content = b"tbp\x01\x00abcdef\x01" + bytes([len(head)]) + head
    with pytest.raises(UserError):
        Program.from_bytes(content + zlib.crc32(content).to_bytes(4, "little"))
