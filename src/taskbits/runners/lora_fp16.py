"""Low-rank changes to weights, W += left @ right for each parameter with `target` in its name, as plain float16."""

import numpy
import torch

from taskbits.runners import require
from taskbits.runners.lora import check_target


def adapt(model, tokenizer, data, target, rank):
    values = numpy.frombuffer(data, "f2").astype("f4")
    for name, weight in model.named_parameters():
        if target in name:
            rows, columns = weight.shape
            left, right, values = numpy.split(values, [rows * rank, (rows + columns) * rank])
            weight.data += torch.tensor(left.reshape(rows, rank) @ right.reshape(rank, columns)).to(weight)
    return ""


def check(model, data, target, rank):
    check_target(model, target, rank)
    count = rank * sum(sum(weight.shape) for name, weight in model.lm.named_parameters() if target in name)
    require(len(data) == 2 * count, "the payload has a wrong size")
