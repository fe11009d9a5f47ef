"""Low-rank changes to matrices with a bit-width for each factor and a rank for each matrix (Meo et al. 2024).

For each matrix its rank, then for either factor: 0 to 3 for a width of 2, 4, 8 or 16 bits; the bits of its step as a
float16; its entries as whole numbers of that width, all coded uniformly.
"""

import constriction
import numpy

from taskbits.programs.runners import check_matrices, require

WORD = "u4"
CHANGES = "target"


def adapt(pipe, data, target, rank):
    decoder = constriction.stream.queue.RangeDecoder(data)
    uniform = constriction.stream.model.Uniform
    for name, weight in pipe.model.named_parameters():
        if target in name:
            kept = decoder.decode(uniform(rank + 1))
            factors = []
            for size in weight.shape:
                levels = 2 ** (2 << decoder.decode(uniform(4)))
                step = numpy.uint16(decoder.decode(uniform(65536))).view("f2")
                numbers = decoder.decode(uniform(levels), size * kept) - levels // 2
                factors.append(weight.new_tensor(float(step) * numbers).view(size, kept))
            weight.data += factors[0] @ factors[1].T
    return ""


def check(model, data, target, rank):
    check_matrices(model, target)
    require(type(rank) is int and 0 < rank <= 256, "rank")
