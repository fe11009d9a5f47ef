"""Low-rank changes to weights, as of the runner `low_rank`, but with the factors as plain float16."""

import numpy

from taskbits.programs.runners import check_matrices, require

WORD = "f2"
CHANGES = "target"


def adapt(pipe, data, target, rank):
    for name, weight in [*pipe.model.named_parameters()] * rank:
        if target in name:
            rows, columns = weight.shape
            left, right, data = numpy.split(data, [rows, rows + columns])
            weight.data += weight.new_tensor(left).outer(weight.new_tensor(right))
    return ""


def check(model, data, target, rank):
    check_matrices(model, target)
    require(type(rank) is int and 0 < rank <= 4096, "rank")
    count = rank * sum(sum(weight.shape) for name, weight in model.lm.named_parameters() if target in name)
    require(len(data) == count, "the payload has a wrong size")
