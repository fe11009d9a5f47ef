"""A change to every weight, quantised and entropy-coded: weight += step * whole numbers.

Each tensor's step is 2^-k with its own k, coded uniformly before it; its numbers are coded with a Laplace
distribution of scale `spread` (in steps) between -bound and bound. Encoding: `taskbits.coding.encode_tensors`.
"""

import math

import constriction

from taskbits.runners import require

WORD = "u4"


def adapt(pipe, data, spread, bound):
    decoder = constriction.stream.queue.RangeDecoder(data)
    for weight in pipe.model.parameters():
        step = 2.0 ** -decoder.decode(constriction.stream.model.Uniform(32))
        change = decoder.decode(constriction.stream.model.QuantizedLaplace(-bound, bound, 0, spread), weight.numel())
        weight.data += weight.new_tensor(step * change).view_as(weight)
    return ""


def check(model, data, spread, bound):
    require(type(bound) is int and 0 < bound < 2**20, "bound")
    require(math.isfinite(spread) and spread > 0, "spread")
