"""Fast scoring gives what one plain call per input gives."""

import pytest
import torch

from taskbits import engine
from taskbits.errors import UserError
from taskbits.model import load_model
from taskbits.predict import predict
from taskbits.task import Frame

LENGTHS = [1, 7, 3, 12, 2, *range(13, 28)]  # as many rows as begin in float32
SHARED = "A long beginning that all prompts share, so that it is computed once. " * 3


@pytest.mark.parametrize("shared", ["", SHARED])
def test_generation_equals_one_call_per_input(model, shared):
    prompts = [f"{shared}{'word ' * n}and" for n in LENGTHS]
    plain = []
    for prompt in prompts:
        tokens = model.tokenizer(prompt, return_tensors="pt")
        with torch.no_grad():
            written = model.lm.generate(**tokens, max_new_tokens=9, do_sample=False)
        plain.append(model.tokenizer.decode(written[0, tokens.input_ids.shape[1] :], skip_special_tokens=True))
    rows = [{"text": prompt} for prompt in prompts]
    assert predict(model, Frame("{text}", (), 9), rows) == plain
    stop = next(text[2:4] for text in plain if len(text) > 4)
    assert predict(model, Frame("{text}", (stop,), 9), rows) == [text.split(stop)[0] for text in plain]


@pytest.mark.parametrize("shared", ["", SHARED])
def test_choice_equals_the_likelihood_of_the_whole_text(model, shared):
    prompts = [f"{shared}{'word ' * n}is" for n in LENGTHS]
    choices = (" red", " red wine", " green and blue", " green", " 12345", " 12")
    plain = []
    for prompt in prompts:
        rows = [model.tokenizer(prompt + choice, return_tensors="pt").input_ids for choice in choices]
        with torch.no_grad():
            costs = [model.lm(row, labels=row).loss.item() * (row.numel() - 1) for row in rows]
        plain.append(choices[costs.index(min(costs))])
    rows = [{"text": prompt, "those": list(choices)} for prompt in prompts]
    assert predict(model, Frame("{text}", choices=choices), rows) == plain
    assert predict(model, Frame("{text}", choices="those"), rows) == plain


def test_choice_by_character_and_behind_what_is_given(model):
    prompts = [f"{'word ' * n}is" for n in LENGTHS]
    given = {" a red wine": " a red", " a dog": " a", " some green and blue": " some green and", " 12345": " 123"}
    rows = [{"text": prompt, "those": [*given], "starts": given} for prompt in prompts]

    def surprisal(text):
        tokens = model.tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            return model.lm(tokens, labels=tokens).loss.item() * (tokens.numel() - 1)

    def cheapest(cost):
        return [min(given, key=lambda choice, prompt=prompt: cost(prompt, choice)) for prompt in prompts]

    for choose, field, plain in (
        ("likelihood", "those", cheapest(lambda p, c: surprisal(p + c))),
        ("per-character", "those", cheapest(lambda p, c: (surprisal(p + c) - surprisal(p)) / (len(c) - 1))),
        ("conditional", "starts", cheapest(lambda p, c: surprisal(p + c) - surprisal(p + given[c]))),
    ):
        assert predict(model, Frame("{text}", choices=field, choose=choose), rows) == plain, choose


def test_an_input_longer_than_the_context_is_named(model):
    with pytest.raises(UserError, match=r"context has 512.*unusual end"):
        predict(model, Frame("{text}"), [{"text": "short"}, {"text": "word " * 600 + "unusual end"}])


@pytest.mark.parametrize("choices", [(), (" one", " two", " three")])
def test_what_float32_cannot_tell_float64_decides(model_folder, monkeypatch, choices):
    """Whether nothing is clear in float32 or everything: the outputs and the weights stay the same."""
    model = load_model(model_folder)
    rows = [{"text": "word " * n + "and"} for n in LENGTHS]
    frame = Frame("{text}", (), 9, choices)
    monkeypatch.setattr(engine, "pays", lambda lm, rows: False)
    exact = predict(model, frame, rows)
    monkeypatch.undo()
    before = {name: weight.clone() for name, weight in model.lm.state_dict().items()}
    for factor in (0.0, 1e9):  # everything is clear, nothing is
        monkeypatch.setattr(engine, "drift", lambda a, b, factor=factor: factor)
        assert predict(model, frame, rows) == exact or factor == 0.0
    assert all(torch.equal(weight, before[name]) for name, weight in model.lm.state_dict().items())
    assert model.dtype == "float64"
