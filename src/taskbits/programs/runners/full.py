"""A change to every weight, quantised and entropy-coded: weight += step * whole numbers.

Each tensor's step is 2^-k with its own k, coded uniformly before it; its numbers are coded with a Laplace
distribution of scale `spread` (in steps) between -bound and bound. Encoding: `taskbits.programs.coding.encode_tensors`.
"""

import constriction

from taskbits.programs.runners import check_numbers

WORD = "u4"


def adapt(pipe, data, spread, bound):
    decoder = constriction.stream.queue.RangeDecoder(data)
    for weight in pipe.model.parameters():
        step = 2.0 ** -decoder.decode(constriction.stream.model.Uniform(32))
        change = decoder.decode(constriction.stream.model.QuantizedLaplace(-bound, bound, 0, spread), weight.numel())
        weight.data += weight.new_tensor(step * change).view_as(weight)
    return ""


def check(model, data, spread, bound):
    check_numbers(1.0, spread, bound)
