"""Low-rank changes to weights (Hu et al. 2021): W += left @ right for every matrix whose name contains `target`.

The factors are small whole numbers times `step`, coded with a Laplace distribution of scale `spread` (in steps)
between -bound and bound; with bound 0 they are plain float16. Encoding: `taskbits.coding.encode_integers`.
"""

import math

import constriction
import numpy as np
import torch

from taskbits.runners import require


def adapt(model, tokenizer, data, target, rank, count, step, spread, bound):
    if bound:
        values = step * constriction.stream.queue.RangeDecoder(np.frombuffer(data, "u4")).decode(
            constriction.stream.model.QuantizedLaplace(-bound, bound, 0.0, spread), count
        )
    else:
        values = np.frombuffer(data, "f2").astype("f4")
    for name, weight in model.named_parameters():
        if weight.ndim == 2 and target in name:
            rows, columns = weight.shape
            left, right, values = np.split(values, [rows * rank, (rows + columns) * rank])
            weight.data += torch.tensor(left.reshape(rows, rank) @ right.reshape(rank, columns)).to(weight)
    return ""


def check(model, data, target, rank, count, step, spread, bound):
    require(type(rank) is int and 0 < rank <= 4096 and type(target) is str, "rank or target")
    shapes = [weight.shape for name, weight in model.lm.named_parameters() if weight.ndim == 2 and target in name]
    require(bool(shapes), f"the model has no matrix with {target!r} in its name")
    require(type(count) is int and count == rank * sum(map(sum, shapes)), "the number of values does not fit the model")
    require(type(bound) is int and 0 <= bound < 2**20, "bound")
    require(all(math.isfinite(x) and x > 0 for x in (step, spread)), "step or spread")
    require(len(data) % 4 == 0 if bound else len(data) == 2 * count, "the payload has a wrong size")
