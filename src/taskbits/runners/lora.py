"""Low-rank changes to weights (Hu et al. 2021): W += left @ right for each parameter with `target` in its name.

One rank at a time, the matrices in their order; a column of `left` and a row of `right` are `step` times whole numbers
that are coded with a Laplace distribution of scale `spread` between -bound and bound. Encoding:
`taskbits.coding.encode_integers`.
"""

import math

import constriction
import numpy

from taskbits.runners import require

WORD = "u4"


def adapt(pipe, data, target, rank, step, spread, bound):
    decoder = constriction.stream.queue.RangeDecoder(data)
    for name, weight in [*pipe.model.named_parameters()] * rank:
        if target in name:
            weight.data += weight.new_tensor(
                numpy.outer(
                    *[
                        step
                        * decoder.decode(constriction.stream.model.QuantizedLaplace(-bound, bound, 0, spread), size)
                        for size in weight.shape
                    ]
                )
            )
    return ""


def check(model, data, target, rank, step, spread, bound):
    check_target(model, target, rank)
    require(type(bound) is int and 0 < bound < 2**20, "bound")
    require(all(math.isfinite(x) and x > 0 for x in (step, spread)), "step or spread")


def check_target(model, target, rank):
    """Refuse a rank or a target that fits no matrix, or a target that is in another parameter's name, too."""
    require(type(rank) is int and 0 < rank <= 4096 and type(target) is str, "rank or target")
    found = [weight.ndim for name, weight in model.lm.named_parameters() if target in name]
    require(found != [] and set(found) == {2}, f"{target!r} does not stand for matrices in this model")
