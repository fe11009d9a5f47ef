"""A few coefficients, shared by all matrices (`taskbits.methods.tiny`): W += left right, a column by a row.

Each entry of both is a coefficient or its negative, drawn by numpy's legacy generator, whose stream is frozen; normal
numbers are added to the row. The coefficients are `step` times whole numbers, coded with a Laplace distribution of
scale `spread` between -bound and bound.
"""

import constriction
import numpy

from taskbits.programs.runners import check_matrices, check_numbers, require

WORD = "u4"
CHANGES = "target"


def adapt(pipe, data, target, count, step, spread, bound):
    values = step * constriction.stream.queue.RangeDecoder(data).decode(
        constriction.stream.model.QuantizedLaplace(-bound, bound, 0, spread), count
    )
    signed = [*values, *-values]
    random = numpy.random.RandomState(0)
    for name, weight in pipe.model.named_parameters():
        if target in name:
            rows, columns = weight.shape
            weight.data += weight.new_tensor(
                numpy.outer(random.choice(signed, rows), random.choice(signed, columns) + random.randn(columns) / 8)
            )
    return ""


def check(model, data, target, count, step, spread, bound):
    check_matrices(model, target)
    check_numbers(step, spread, bound)
    require(type(count) is int and 0 < count <= 2**20, "number of coefficients")
