"""A change to the vectors of a model, such as the scales of its norms, by those whose name holds `target`.

The entries are `step` times whole numbers, coded as those of the runner `low_rank`, one group a vector.
"""

import constriction

from taskbits.programs.runners import check_numbers, require

WORD = "u4"
CHANGES = "target"


def adapt(pipe, data, target, step, spread, bound):
    decoder = constriction.stream.queue.RangeDecoder(data)
    for name, weight in pipe.model.named_parameters():
        if target in name:
            scale = spread / 2 ** decoder.decode(constriction.stream.model.Uniform(8))
            laplace = constriction.stream.model.QuantizedLaplace(-bound, bound, 0, scale)
            weight.data += weight.new_tensor(step * decoder.decode(laplace, len(weight)))
    return ""


def check(model, data, target, step, spread, bound):
    check_numbers(step, spread, bound)
    require(type(target) is str, "target")
    found = [weight.ndim for name, weight in model.lm.named_parameters() if target in name]
    require(found != [] and set(found) == {1}, f"{target[:40]!r} does not stand for vectors in this model")
