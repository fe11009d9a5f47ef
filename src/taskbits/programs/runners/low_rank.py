"""Low-rank changes to weights (Hu et al. 2021): W += left @ right for each parameter with `target` in its name.

One rank at a time, the matrices in their order; a column of `left` and a row of `right` are `step` times whole numbers
between -bound and bound, coded with a Laplace distribution of scale spread / 2^k; k comes first. Encoding:
`taskbits.programs.coding.encode_integers`.
"""

import constriction
import numpy

from taskbits.programs.runners import check_matrices, check_numbers, require

WORD = "u4"
CHANGES = "target"


def adapt(pipe, data, target, rank, step, spread, bound):
    decoder = constriction.stream.queue.RangeDecoder(data)
    for name, weight in [*pipe.model.named_parameters()] * rank:
        if target in name:
            scale = spread / 2 ** decoder.decode(constriction.stream.model.Uniform(8))
            laplace = constriction.stream.model.QuantizedLaplace(-bound, bound, 0, scale)
            factors = step * decoder.decode(laplace, sum(weight.shape))
            weight.data += weight.new_tensor(numpy.outer(*numpy.split(factors, weight.shape[:1])))
    return ""


def check(model, data, target, rank, step, spread, bound):
    check_matrices(model, target)
    check_numbers(step, spread, bound)
    require(type(rank) is int and 0 < rank <= 4096, "rank")
