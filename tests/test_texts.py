"""Texts come back, from as few bytes as the model's own probabilities allow, wherever the numbers nearly agree."""

import constriction
import numpy
import pytest
import torch
from conftest import nothing, write_task
from hypothesis import given, settings
from hypothesis import strategies as st

from taskbits import runners, texts
from taskbits.errors import UserError
from taskbits.export import standalone
from taskbits.fitted import fitted
from taskbits.methods import method
from taskbits.model import load_model
from taskbits.program import Program
from taskbits.runners import coded as coded_runner
from taskbits.task import load_task

LONG = "after 7 comes 8, and after 8 comes 9. " * 12


def coded(model, text):
    """The ways that are coded under the model."""
    return [way for way in texts.encode_text(model, text) if way.runner == "coded"]


def decode(model, way):
    words = numpy.frombuffer(way.payload + bytes(-len(way.payload) % 4), coded_runner.WORD)
    with model.preserved():
        return coded_runner.adapt(model.pipe, words, **way.settings)


@settings(max_examples=15, deadline=None)
@given(text=st.text(max_size=30))
def test_any_text_comes_back(model, task_folder, text):
    found = fitted("few-shot", model, load_task(task_folder), *texts.encode_text(model, text))
    with model.preserved():
        assert runners.adapt(model, Program.from_bytes(found.program.to_bytes())) == text
    if way := next(iter(coded(model, text)), None):
        assert texts.decodes(model, way) == (decode(model, way) == text)


def test_no_text_costs_nothing(model, task_folder):
    task = load_task(task_folder)
    empty = fitted("few-shot", model, task, *texts.encode_text(model, "")).program
    bare = method("zero-shot").fit(model, task, {}, 0, nothing).program
    assert empty.payload == b"" and standalone(empty, model.dtype) == standalone(bare, model.dtype)


def test_a_text_longer_than_the_context_is_carried_as_it_is(model):
    assert [way.runner for way in texts.encode_text(model, "word " * 2000)] == ["literal"]


@pytest.mark.parametrize("text", ["a", "after 7 comes 8", LONG])
def test_size_is_the_cross_entropy_and_at_most_two_bytes(model, text):
    [way] = [way for way in coded(model, text) if way.settings["heat"] == 1]
    assert len(way.payload) <= 1.003 * way.ideal_bits / 8 + 2


def test_the_shorter_way_is_taken(model, task_folder):
    task = load_task(task_folder)
    for text in ("A:", LONG, "\ud7ff" * 40):
        ways = texts.encode_text(model, text)
        sizes = [len(standalone(fitted("few-shot", model, task, way).program, model.dtype)) for way in ways]
        assert len(standalone(fitted("few-shot", model, task, *ways).program, model.dtype)) == min(sizes)


def test_text_decodes_with_another_attention_and_in_one_pass_or_in_steps(model_folder):
    """The encoder takes one pass; the decoder takes steps, here with eager attention, too."""
    model = load_model(model_folder)
    ways = coded(model, LONG)
    assert len(ways) >= 6
    model.lm.set_attn_implementation("eager")
    assert all(decode(model, way) == LONG for way in ways)


def test_numbers_a_little_different_decode_the_same(model):
    """Every boundary is kept clear of rounding: noise far above the drift that was measured changes no token."""
    [way] = [way for way in coded(model, LONG) if way.settings["heat"] == 1]
    generator = torch.Generator().manual_seed(0)

    def noise(module, inputs, output):
        output.logits *= 1 + 1e-12 * torch.randn(output.logits.shape, generator=generator, dtype=float)

    handle = model.lm.register_forward_hook(noise)
    try:
        assert decode(model, way) == LONG
    finally:
        handle.remove()


def test_other_numbers_are_noticed(model, task_folder):
    """Numbers that really differ decode to another text; the checksum says so."""
    ways = coded(model, LONG)
    program = fitted("few-shot", model, load_task(task_folder), *ways).program

    def noise(module, inputs, output):
        output.logits += torch.linspace(0, 1e-2, output.logits.shape[-1])

    handle = model.lm.register_forward_hook(noise)
    try:
        with model.preserved(), pytest.raises(UserError, match="numbers differ"):
            runners.adapt(model, program)
    finally:
        handle.remove()
    with model.preserved():
        assert runners.adapt(model, program) == LONG


def test_the_arithmetic_is_as_before_afterwards(model):
    decode(model, coded(model, "after 7")[0])
    assert torch.float32 is torch.ones(1).dtype and torch.ones(1, dtype=torch.float16).float().dtype is torch.float32


counts = st.lists(st.integers(1, 10**6), min_size=2, max_size=50)


@settings(max_examples=200, deadline=None)
@given(counts=counts, data=st.data())
def test_trimmed_payload_decodes_whatever_follows(counts, data):
    chances = numpy.array(counts, float) / sum(counts)
    symbols = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=60))
    behind = data.draw(st.binary(min_size=8, max_size=8))
    family = constriction.stream.model.Categorical(chances, perfect=False)
    encoder = constriction.stream.queue.RangeEncoder()
    for symbol in symbols:
        encoder.encode(symbol, family)
    payload = texts.trimmed(encoder)
    content = payload + behind
    words = ~numpy.frombuffer(content[: len(content) // 4 * 4], ">u4")
    decoder = constriction.stream.queue.RangeDecoder(words)
    assert [decoder.decode(family) for _ in symbols] == symbols
    assert len(payload) * 8 <= -numpy.log2(chances[symbols]).sum() + 0.01 * len(symbols) + 16


@settings(max_examples=100, deadline=None)
@given(counts=counts, data=st.data())
def test_safe_tokens_survive_any_drift_within_the_band(counts, data):
    """If the encoder calls a token safe, its interval is the same under probabilities that are a little off."""
    chances = numpy.array([*counts, counts[0] + 1], float) / (sum(counts) + counts[0] + 1)
    token = data.draw(st.integers(0, len(counts) - 1))
    drift = numpy.array(data.draw(st.lists(st.floats(-1e-13, 1e-13), min_size=len(chances), max_size=len(chances))))
    if texts._is_safe(chances[None], [token]):
        found = []
        for row in (chances, numpy.abs(chances + drift)):
            encoder = constriction.stream.queue.RangeEncoder()
            encoder.encode(token, constriction.stream.model.Categorical(row, perfect=False))
            found.append(encoder.pos())
        assert found[0] == found[1]


def test_examples_come_back_as_the_model_learns_them(model, task_folder, tmp_path):
    task = load_task(task_folder)
    examples = task.examples("train")[:8]
    with model.preserved():
        ways = texts.encode_examples(model, examples, 4, 2, 1e-3, nothing)
    for way in ways[:2]:
        program = fitted("subset", model, task, way).program
        with model.preserved():
            [(prefix, batches)] = runners.results(model, program)
        rows = [[t for t in row if t != model.end] for batch in batches for row in batch]
        assert prefix == "" and sorted(map(model.tokenizer.decode, rows)) == sorted(examples)
        assert len(way.payload) <= 1.003 * way.ideal_bits / 8 + 2 or way.settings["heat"] != 1


def test_examples_with_the_end_token_are_refused(model):
    with pytest.raises(UserError, match="end token"):
        texts.encode_examples(model, [model.tokenizer.decode([model.end])] * 4, 4, 1, 1e-3, nothing)


def test_text_without_a_model_s_numbers_has_no_checksum(model, task_folder):
    found = fitted("few-shot", model, load_task(task_folder), texts.encode_text(model, "A:")[0])
    assert found.program.checksum is None


def test_choices_take_coded_texts_too(model_folder, tmp_path):
    model, task = (
        load_model(model_folder),
        load_task(write_task(tmp_path / "task", choices=["1", "2"] + [str(n) for n in range(3, 100)], stop=None)),
    )
    program = fitted("few-shot", model, task, *coded(model, LONG)).program
    with model.preserved():
        assert runners.adapt(model, program) == LONG
