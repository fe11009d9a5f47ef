"""Training on the text that the runner before it gives: one step for each of its rows in turn, in each epoch.

The rows stand in the text with `between` between them; `ending` is put behind each, so that the model learns to stop.
`optimizer` is the name of one of torch's; with a `target` only the weights with that in their names train, and no
others take memory for it.
"""

import torch

from taskbits.programs.runners import check_training, require

WORD = ""
CHANGES = "target"


def adapt(pipe, data, text, between, ending, epochs, rate, optimizer="Adam", target=""):
    weights = pipe.model.parameters()
    if target:
        pipe.model.requires_grad_(False)
        weights = [weight.requires_grad_() for name, weight in pipe.model.named_parameters() if target in name]
    steps = getattr(torch.optim, optimizer)(weights, rate)
    for row in text.split(between) * epochs:
        tokens = pipe.preprocess(row + ending)["input_ids"].to(pipe.device)
        pipe.model(tokens, labels=tokens).loss.backward()
        steps.step()
        steps.zero_grad()
    return ""


def check(model, data, text, between, ending, epochs, rate, optimizer="Adam", target=""):
    check_training(model, optimizer, target)
    require(type(text) is str, "text")
    require(type(between) is str and between != "", "what stands between rows")
    require(type(ending) is str, "what ends a row")
    rows = text.split(between)
    require(type(epochs) is int and 0 < epochs * len(rows) <= 2**16, "too many rows or epochs")
    lengths = [len(model.tokenizer(row + ending).input_ids) for row in rows]
    require(2 <= min(lengths) and max(lengths) <= model.context, "a row is too short or too long to train on")
    require(type(rate) is float and 0 < rate < 1, "learning rate")
