"""Weights that another model has, quantised and entropy-coded: weight = keep * weight + steps * whole numbers.

Each row of a tensor (its last dimension) has a step, `step` / 2^(fine / 2), and its numbers a normal distribution of
deviation 2^(wide / 2 - 8) steps, both about (an odd half is a factor of 1.5). Before the tensor fine and wide are
coded: a middle, a scale of 1, 2, 4 or 8, and how each row differs, with a Laplace distribution of that scale.
Encoding: `taskbits.fitting.carrying`.
"""

import constriction
import numpy

from taskbits.programs.runners import check_numbers, require

WORD = "u4"


def adapt(pipe, data, keep, step, bound):
    decoder = constriction.stream.queue.RangeDecoder(data)
    for weight in pipe.model.parameters():
        rows = weight.data.view(-1, weight.shape[-1])
        fine, wide = [
            decoder.decode(constriction.stream.model.Uniform(64))
            + decoder.decode(
                constriction.stream.model.QuantizedLaplace(
                    -64, 64, 0, 2.0 ** decoder.decode(constriction.stream.model.Uniform(4))
                ),
                len(rows),
            )
            for _ in "ab"
        ]
        numbers = decoder.decode(
            constriction.stream.model.QuantizedGaussian(-bound, bound),
            numpy.zeros(rows.numel()),
            numpy.ldexp(1 + wide % 2 / 2, wide // 2 - 8).repeat(rows.shape[1]),
        )
        steps = numpy.ldexp(step * (1 + fine % 2 / 2), -fine // 2)
        rows.mul_(keep).add_(rows.new_tensor(steps[:, None] * numbers.reshape(rows.shape)))
    return ""


def check(model, data, keep, step, bound):
    check_numbers(step, 1.0, bound)
    require(keep in (0, 1), "keep")
