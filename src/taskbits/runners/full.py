"""A change to every weight, quantised and entropy-coded: weight += step * whole numbers.

Each tensor's step is 2^-k with its own k, coded uniformly before it; its numbers are coded with a Laplace
distribution of scale `spread` (in steps) between -bound and bound. Encoding: `taskbits.coding.encode_tensors`.
"""

import math

import constriction
import numpy
import torch

from taskbits.runners import require


def adapt(model, tokenizer, data, spread, bound):
    decoder = constriction.stream.queue.RangeDecoder(numpy.frombuffer(data, "u4"))
    for weight in model.parameters():
        step = 2.0 ** -decoder.decode(constriction.stream.model.Uniform(32))
        change = decoder.decode(constriction.stream.model.QuantizedLaplace(-bound, bound, 0.0, spread), weight.numel())
        weight.data += torch.tensor(step * change).to(weight).view_as(weight)
    return ""


def check(model, data, spread, bound):
    require(len(data) % 4 == 0, "the payload is not a whole number of words")
    require(type(bound) is int and 0 < bound < 2**20, "bound")
    require(math.isfinite(spread) and spread > 0, "spread")
