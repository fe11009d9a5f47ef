"""Training examples, coded prequentially, and the training that they are for.

Each batch is decoded under the weights that the batches before it have made (all its rows side by side), then
trained on; `epochs` counts the passes over the examples, the first of which decodes. Rows are `length` tokens,
filled up with the end token, which also comes before each row. `heat`, the words of the payload and the arithmetic
are those of the runner `coded`. But training makes small differences larger: another machine decodes the same
examples only as long as its weights are still nearly the same. `optimizer` and `target` are those of the runner
`train`. Encoding: `taskbits.programs.texts`.
"""

import constriction
import torch

from taskbits.programs.runners import check_training, require
from taskbits.programs.runners.double import Double

WORD = ">u4"
CHANGES = "target"


def adapt(pipe, data, end, rows, length, batches, epochs, rate, heat, optimizer="Adam", target=""):
    decoder = constriction.stream.queue.RangeDecoder(~data)
    model = pipe.model
    weights = model.parameters()
    if target:
        model.requires_grad_(False)
        weights = [weight.requires_grad_() for name, weight in model.named_parameters() if target in name]
    steps = getattr(torch.optim, optimizer)(weights, rate)
    seen = []
    with Double():
        for number in range(batches * epochs):
            if number < batches:
                columns = [[end] * rows]
                cache = None
                for _ in range(length):
                    with torch.no_grad():
                        step = model(torch.tensor(columns[-1:]).T.to(model.device), past_key_values=cache)
                    cache = step.past_key_values
                    chances = (step.logits[:, -1] * heat).softmax(1).cpu().numpy()
                    columns.append(
                        [
                            end
                            if columns[1:] and last == end
                            else decoder.decode(constriction.stream.model.Categorical(row, perfect=False))
                            for last, row in zip(columns[-1], chances)
                        ]
                    )
                seen.append(torch.tensor(columns).T.to(model.device))
            batch = seen[number % batches]
            model(batch, labels=batch).loss.backward()
            steps.step()
            steps.zero_grad()
    return "", [batch.tolist() for batch in seen]


def adapt_inexact(pipe, data, end, rows, length, batches, epochs, rate, heat, optimizer="Adam", target=""):
    decoder = constriction.stream.queue.RangeDecoder(~data)
    model = pipe.model
    weights = model.parameters()
    if target:
        model.requires_grad_(False)
        weights = [weight.requires_grad_() for name, weight in model.named_parameters() if target in name]
    steps = getattr(torch.optim, optimizer)(weights, rate)
    seen = []
    for number in range(batches * epochs):
        if number < batches:
            columns = [[end] * rows]
            cache = None
            for _ in range(length):
                with torch.no_grad():
                    step = model(torch.tensor(columns[-1:]).T.to(model.device), past_key_values=cache)
                cache = step.past_key_values
                chances = (step.logits[:, -1].double() * heat).softmax(1).cpu().numpy()
                columns.append(
                    [
                        end
                        if columns[1:] and last == end
                        else decoder.decode(constriction.stream.model.Categorical(row, perfect=False))
                        for last, row in zip(columns[-1], chances)
                    ]
                )
            seen.append(torch.tensor(columns).T.to(model.device))
        batch = seen[number % batches]
        model(batch, labels=batch).loss.backward()
        steps.step()
        steps.zero_grad()
    return "", [batch.tolist() for batch in seen]


def check(model, data, end, rows, length, batches, epochs, rate, heat, optimizer="Adam", target=""):
    check_training(model, optimizer, target)
    require(type(end) is int and 0 <= end < model.lm.config.get_text_config().vocab_size, "end token")
    require(type(length) is int and 0 < length < model.context, "a row is longer than the model's context")
    require(all(type(n) is int and n > 0 for n in (rows, batches, epochs)), "a count is not positive")
    require(rows <= 256 and rows * length <= 2**16, "a batch is too large")
    require(rows * batches <= 2**16 and batches * epochs <= 2**16, "too many rows or epochs")
    require(type(rate) is float and 0 < rate < 1, "learning rate")
    require(type(heat) in (int, float) and 0 < heat < 100, "heat")
