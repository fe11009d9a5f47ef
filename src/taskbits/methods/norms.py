"""A sparse change to the scales of the model's norms (LN tuning, Qi et al. 2022), quantised and entropy-coded."""

import torch

from taskbits.fitting.coefficients import Change, find
from taskbits.fitting.fitted import fitted_numbers
from taskbits.methods import targets
from taskbits.models.places import norms
from taskbits.models.update import Update

FAMILY = "parametric"
_RATE = 2e-2


def sweep(model, task):
    return targets([64, 16, 256, 32, 128, 512])


def fit(model, task, settings, seed, progress):
    names, target = norms(model)
    sizes = [len(model.lm.get_parameter(name)) for name in names]

    def update(coefficients):
        return Update(vectors=dict(zip(names, coefficients.split(sizes), strict=True)))

    change = Change(("norms", *names), torch.zeros(sum(sizes)), update, sizes)
    found = find(model, task, change, settings, _RATE, seed, progress)
    content = {"tensors": {name: [size] for name, size in zip(names, sizes, strict=True)}}
    return fitted_numbers("norms", model, task, "norms", found, {"target": target}, content)
