"""Training on the text that the runner before it gives: one step for each of its rows in turn, in each epoch.

The rows stand in the text with `between` between them; `ending` is put behind each, so that the model learns to stop.
"""

import torch

from taskbits.programs.runners import require

WORD = ""


def adapt(pipe, data, text, between, ending, epochs, rate):
    optimizer = torch.optim.Adam(pipe.model.parameters(), rate)
    for row in text.split(between) * epochs:
        tokens = pipe.preprocess(row + ending)["input_ids"].to(pipe.device)
        pipe.model(tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return ""


def check(model, data, text, between, ending, epochs, rate):
    require(type(text) is str, "text")
    require(type(between) is str and between != "", "what stands between rows")
    require(type(ending) is str, "what ends a row")
    rows = text.split(between)
    require(type(epochs) is int and 0 < epochs * len(rows) <= 2**16, "too many rows or epochs")
    lengths = [len(model.tokenizer(row + ending).input_ids) for row in rows]
    require(2 <= min(lengths) and max(lengths) <= model.context, "a row is too short or too long to train on")
    require(type(rate) is float and 0 < rate < 1, "learning rate")
