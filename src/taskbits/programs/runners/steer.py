"""A vector added to what some modules put out, as their bias; as many entries as the module's matrix has rows.

They are `step` times whole numbers, coded as those of the runner `low_rank`.
"""

import constriction
import torch

from taskbits.programs.runners import check_numbers, require

WORD = "u4"
CHANGES = "nothing"


def adapt(pipe, data, target, step, spread, bound):
    decoder = constriction.stream.queue.RangeDecoder(data)
    for name, module in pipe.model.named_modules():
        if target in name:
            scale = spread / 2 ** decoder.decode(constriction.stream.model.Uniform(8))
            laplace = constriction.stream.model.QuantizedLaplace(-bound, bound, 0, scale)
            vector = module.weight.new_tensor(step * decoder.decode(laplace, len(module.weight)))
            module.bias = torch.nn.Parameter(vector)
    return ""


def check(model, data, target, step, spread, bound):
    check_numbers(step, spread, bound)
    require(type(target) is str, "target")
    found = [module for name, module in model.lm.named_modules() if target in name]
    fit = all(isinstance(module, torch.nn.Linear) and module.bias is None for module in found)
    require(found != [] and fit, f"{target[:40]!r} does not stand for matrices without bias in this model")
