"""Low-rank changes to weights (Hu et al. 2021): W += step * left @ right for each parameter with `target` in its name.

The factors are whole numbers, coded with a Laplace distribution of scale `spread` between -bound and bound.
Encoding: `taskbits.coding.encode_integers`.
"""

import math

import constriction
import numpy
import torch

from taskbits.runners import require


def adapt(model, tokenizer, data, target, rank, step, spread, bound):
    decoder = constriction.stream.queue.RangeDecoder(numpy.frombuffer(data, "u4"))
    laplace = constriction.stream.model.QuantizedLaplace(-bound, bound, 0, spread)
    for name, weight in model.named_parameters():
        if target in name:
            rows, columns = weight.shape
            left = decoder.decode(laplace, rows * rank).reshape(rows, rank)
            right = decoder.decode(laplace, rank * columns).reshape(rank, columns)
            weight.data += torch.tensor(step * left @ right).to(weight)
    return ""


def check(model, data, target, rank, step, spread, bound):
    check_target(model, target, rank)
    require(type(bound) is int and 0 < bound < 2**20, "bound")
    require(all(math.isfinite(x) and x > 0 for x in (step, spread)), "step or spread")
    require(len(data) % 4 == 0, "the payload is not a whole number of words")


def check_target(model, target, rank):
    """Refuse a rank or a target that fits no matrix, or a target that is in another parameter's name, too."""
    require(type(rank) is int and 0 < rank <= 4096 and type(target) is str, "rank or target")
    found = [weight.ndim for name, weight in model.lm.named_parameters() if target in name]
    require(found != [] and set(found) == {2}, f"{target!r} does not stand for matrices in this model")
