"""A vector added to the residual stream behind each block, sparse and quantised: the bias of its last matrix."""

import torch

from taskbits.errors import UserError
from taskbits.fitting.coefficients import Change, find
from taskbits.fitting.fitted import fitted_numbers
from taskbits.methods import targets
from taskbits.models.places import last_in_blocks, selector
from taskbits.models.update import Update

FAMILY = "parametric"
_RATE = 3e-2


def sweep(model, task):
    return targets([64, 256, 16, 128, 32, 512])


def fit(model, task, settings, seed, progress):
    modules = {name.removesuffix(".weight"): None for name in last_in_blocks(model)}
    for name in modules:
        module = model.lm.get_submodule(name)
        if getattr(module, "bias", None) is not None:
            raise UserError("method steer is for models whose blocks end in a matrix without bias")
        modules[name] = len(module.weight)

    target = selector(modules, dict(model.lm.named_modules()))
    if target is None:
        raise UserError("nothing tells the last matrices of this model's blocks from its other modules by name")

    def update(coefficients):
        parts = coefficients.split(list(modules.values()))
        return Update(vectors={f"{name}.bias": part for name, part in zip(modules, parts, strict=True)})

    change = Change(("steer", *modules), torch.zeros(sum(modules.values())), update, list(modules.values()))
    found = find(model, task, change, settings, _RATE, seed, progress)
    content = {"tensors": {name: [width] for name, width in modules.items()}}
    return fitted_numbers("steer", model, task, "steer", found, {"target": target}, content)
