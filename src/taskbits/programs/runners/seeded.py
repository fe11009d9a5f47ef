"""Coefficients shared by all matrices, as of the runner `tiny`, each eight of them the sample that a number stands for.

The payload is 16-bit numbers: seeds of numpy's legacy generator, whose stream is frozen, for eight normal coefficients
of standard deviation `scale`.
"""

import math

import numpy

from taskbits.programs.runners import check_matrices, require

WORD = "u2"
CHANGES = "target"


def adapt(pipe, data, target, blocks, scale):
    values = scale * numpy.hstack([numpy.random.RandomState(seed).randn(8) for seed in data[:blocks]])
    signed = [*values, *-values]
    random = numpy.random.RandomState(0)
    for name, weight in pipe.model.named_parameters():
        if target in name:
            rows, columns = weight.shape
            weight.data += weight.new_tensor(
                numpy.outer(random.choice(signed, rows), random.choice(signed, columns) + random.randn(columns) / 8)
            )
    return ""


def check(model, data, target, blocks, scale):
    check_matrices(model, target)
    require(0 < len(data) == blocks <= 2**16, "number of seeds")
    require(type(scale) is float and math.isfinite(scale), "scale")
