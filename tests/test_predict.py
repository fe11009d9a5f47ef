"""Fast scoring gives what one plain call per input gives."""

import pytest
import torch

from taskbits.errors import UserError
from taskbits.predict import predict
from taskbits.task import Frame

SHARED = "A long beginning that all prompts share, so that it is computed once. " * 3


@pytest.mark.parametrize("shared", ["", SHARED])
def test_generation_equals_one_call_per_input(model, shared):
    prompts = [f"{shared}{'word ' * n}and" for n in (1, 7, 3, 12, 2)]
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
    prompts = [f"{shared}{'word ' * n}is" for n in (1, 7, 3, 12, 2)]
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


def test_an_input_longer_than_the_context_is_named(model):
    with pytest.raises(UserError, match=r"context has 512.*unusual end"):
        predict(model, Frame("{text}"), [{"text": "short"}, {"text": "word " * 600 + "unusual end"}])
