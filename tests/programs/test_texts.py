"""Texts come back, from as few bytes as the model's own probabilities allow, wherever the numbers nearly agree."""

import dataclasses

import constriction
import numpy
import pytest
import torch
import transformers
from conftest import nothing, write_task
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from taskbits.errors import UserError
from taskbits.fitting.fitted import fitted
from taskbits.methods import method
from taskbits.models.model import load_model
from taskbits.programs import decode, texts
from taskbits.programs.export import standalone
from taskbits.programs.program import Program
from taskbits.programs.runners import coded as coded_runner
from taskbits.programs.runners.double import Double
from taskbits.tasks.load import load_task

LONG = "after 7 comes 8, and after 8 comes 9. " * 12


def coded(model, text):
    """The ways that are coded under the model."""
    return [way for way in texts.encode_text(model, text) if way.runner == "coded"]


def decode_alone(model, way):
    words = numpy.frombuffer(way.payload + bytes(-len(way.payload) % 4), coded_runner.WORD)
    with model.preserved():
        return coded_runner.adapt(model.pipe, words, **way.settings)


@settings(max_examples=15, deadline=None)
@given(text=st.text(max_size=30))
def test_any_text_comes_back(model, task_folder, text):
    found = fitted("few-shot", model, load_task(task_folder), *texts.encode_text(model, text))
    with model.preserved():
        assert decode.adapt(model, Program.from_bytes(found.program.to_bytes())) == text
    if way := next(iter(coded(model, text)), None):
        assert texts.decodes(model, way) == (decode_alone(model, way) == text)


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
    usual = model.lm.config._attn_implementation
    model.lm.set_attn_implementation("eager")
    try:
        assert all(decode_alone(model, way) == LONG for way in ways)
    finally:
        model.lm.set_attn_implementation(usual)


def test_numbers_a_little_different_decode_the_same(model):
    """Every boundary is kept clear of rounding: noise far above the drift that was measured changes no token."""
    [way] = [way for way in coded(model, LONG) if way.settings["heat"] == 1]
    generator = torch.Generator().manual_seed(0)

    def noise(module, inputs, output):
        drawn = torch.randn(output.logits.shape, generator=generator, dtype=float)
        output.logits *= 1 + 1e-12 * drawn.to(output.logits.device)

    handle = model.lm.register_forward_hook(noise)
    try:
        assert decode_alone(model, way) == LONG
    finally:
        handle.remove()


def test_other_numbers_are_noticed(model, task_folder):
    """Numbers that really differ decode to another text; the checksum says so."""
    ways = coded(model, LONG)
    program = fitted("few-shot", model, load_task(task_folder), *ways).program

    def noise(module, inputs, output):
        output.logits += torch.linspace(0, 1e-2, output.logits.shape[-1], device=output.logits.device)

    handle = model.lm.register_forward_hook(noise)
    try:
        with model.preserved(), pytest.raises(UserError, match="numbers differ"):
            decode.adapt(model, program)
    finally:
        handle.remove()
    with model.preserved():
        assert decode.adapt(model, program) == LONG


def as_ever():
    """Whether torch's names for float32 stand for it, and it is made where asked for."""
    some = torch.ones(1), torch.ones(1, dtype=torch.float), torch.ones(1, dtype=torch.float16).float()
    return torch.float32 is torch.float and all(each.dtype is torch.float32 for each in some)


def test_the_arithmetic_is_as_before_afterwards(model, task_folder):
    way = coded(model, "after 7")[0]
    decode_alone(model, way)
    assert as_ever()
    program = fitted("few-shot", model, load_task(task_folder), way).program
    [part] = program.parts
    broken = dataclasses.replace(program, parts=(dataclasses.replace(part, checksum=part.checksum ^ 1),))
    with model.preserved(), pytest.raises(UserError):
        decode.adapt(model, broken)
    assert as_ever()

    def fail(module, inputs, output):
        assert torch.ones(1).float().dtype is torch.float64
        raise ValueError("in the middle")

    handle = model.lm.register_forward_hook(fail)
    try:
        with model.preserved(), pytest.raises(UserError, match="in the middle"):
            decode.adapt(model, program)
    finally:
        handle.remove()
    assert as_ever()


# Ways to ask for float32 that don't change a number's value, as libraries spell them. `some` is in float64.
SPELLED = [
    lambda some: some.float(),
    lambda some: torch.Tensor.float(some),
    lambda some: some.to(torch.float),
    lambda some: some.to(dtype=torch.float),
    lambda some: some.to("cpu", FLOAT32),
    lambda some: some.to(device="cpu", dtype=FLOAT32, copy=True),
    lambda some: some.type(torch.get_default_dtype()),
    lambda some: some.new_tensor(some.tolist(), dtype=FLOAT32),
    lambda some: torch.tensor(some.tolist(), dtype=FLOAT32),
    lambda some: torch.asarray(some.numpy(), dtype=FLOAT32),
    lambda some: torch.zeros(3, dtype=FLOAT32).add_(some),
    lambda some: torch.zeros_like(some, dtype=FLOAT32).copy_(some),
    lambda some: torch.full((3,), 1.0, dtype=FLOAT32).mul_(some),
    lambda some: some.softmax(0, dtype=FLOAT32).log() + some.logsumexp(0),
    lambda some: torch.nn.functional.log_softmax(some, 0, dtype=FLOAT32) + some.logsumexp(0),
    lambda some: some.cumsum(0, dtype=FLOAT32).diff(prepend=torch.zeros(1, dtype=FLOAT32)),
    lambda some: torch.stack([each.sum(dtype=FLOAT32) for each in some]),
    lambda some: torch.nn.Identity().double().float()(some.float()),
]
FLOAT32 = torch.float32  # under a name of its own


@pytest.mark.parametrize("gradients", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_float64_however_float32_is_asked_for(gradients):
    some = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    with gradients():
        for spelled in SPELLED:
            with Double():
                found = spelled(some)
            assert found.dtype is torch.float64 and torch.allclose(found, some, rtol=0, atol=1e-15)
            assert not torch.allclose(spelled(some).double(), some, rtol=0, atol=1e-15)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_nothing_is_computed_in_float32(model_folder, attention):
    """Each operation of a pass, of generation and of a backward pass; buffers in float32, as in the standalone file."""
    found = set()

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), named=None):
            result = function(*arguments, **named or {})
            found.update((str(function), each.dtype) for each in tree_leaves(result) if hasattr(each, "dtype"))
            return result

    lm = transformers.AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float64)
    assert {buffer.dtype for buffer in lm.buffers()} == {torch.float32}
    lm.set_attn_implementation(attention)
    tokens = torch.tensor([[1, 2, 3]])
    with Seen(), Double():
        lm(tokens, labels=tokens).loss.backward()
        lm.generate(tokens, max_new_tokens=2, do_sample=False)
    views = {"aten.slice.Tensor", "aten.unsqueeze.default", "aten.expand.default", "aten.detach.default"}
    single = {name for name, dtype in found if dtype in (torch.float32, torch.float16, torch.bfloat16)}
    assert single <= views and any(dtype is torch.float64 for _, dtype in found)


# Programs for lab:pretrained that were made when the decoder still renamed torch's types: a text, and examples.
BEFORE = {
    "coded": (
        "74627001011bb5d1bb702d029e011d7b2270726f6d7074223a22557365723a207b7175657374696f6e7d5c6e417373697374616e743a"
        "222c2273746f70223a5b225c6e225d2c226d61785f6e65775f746f6b656e73223a34302c2272756e6e6572223a22636f646564222c22"
        "73657474696e6773223a7b227374617274223a22222c22636f756e74223a34392c2268656174223a317d2c22636865636b73756d223a"
        "333138393637353039347d9164443f55cfdef0f21f628fafd288a316086a88f76d90f793b62ce8d67cf229ed"
    ),
    "prequential": (
        "74627001031bb5d1bb702d02cf011d7b2270726f6d7074223a22557365723a207b7175657374696f6e7d5c6e417373697374616e743a"
        "222c2273746f70223a5b225c6e225d2c226d61785f6e65775f746f6b656e73223a37322c2272756e6e6572223a227072657175656e74"
        "69616c222c2273657474696e6773223a7b22656e64223a302c22726f7773223a312c226c656e677468223a31392c2262617463686573"
        "223a322c2265706f636873223a312c2272617465223a302e3030312c2268656174223a317d2c22636865636b73756d223a3238353436"
        "35343136307d9164443f54314973f4a6bbdfe2b2519e2ca633ccec1fea6100f21faf422d7b3617"
    ),
}


@pytest.mark.parametrize("kind", BEFORE)
def test_programs_made_before_decode_as_ever(kind):
    """To the same text and the same examples: the checksum tells."""
    model, program = load_model("lab:pretrained"), Program.from_bytes(bytes.fromhex(BEFORE[kind]))
    [part] = program.parts
    decoded = decode.results(model, part)
    assert decode.checksum(decoded) == part.checksum
    text = "User: Ann has 96 pears, drops 3. How many pears does Ann have now?\nAssistant: 96 - 3 = 93. #### 93\n"
    assert decoded[0] == text or kind == "prequential"


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
            [(prefix, batches)] = decode.results(model, program.parts[0])
        rows = [[t for t in row if t != model.end] for batch in batches for row in batch]
        assert prefix == "" and sorted(map(model.tokenizer.decode, rows)) == sorted(examples)
        assert len(way.payload) <= 1.003 * way.ideal_bits / 8 + 2 or way.settings["heat"] != 1


def test_examples_with_the_end_token_are_refused(model):
    with pytest.raises(UserError, match="end token"):
        texts.encode_examples(model, [model.tokenizer.decode([model.end])] * 4, 4, 1, 1e-3, nothing)


def test_text_without_a_model_s_numbers_has_no_checksum(model, task_folder):
    found = fitted("few-shot", model, load_task(task_folder), texts.encode_text(model, "A:")[0])
    assert found.program.parts[0].checksum is None


def test_choices_take_coded_texts_too(model_folder, tmp_path):
    model, task = (
        load_model(model_folder),
        load_task(write_task(tmp_path / "task", choices=["1", "2"] + [str(n) for n in range(3, 100)], stop=None)),
    )
    program = fitted("few-shot", model, task, *coded(model, LONG)).program
    with model.preserved():
        assert decode.adapt(model, program) == LONG
