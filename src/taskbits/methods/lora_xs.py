"""A small trained core between the first singular directions of each matrix, which M itself provides.

LoRA-XS (Bałazy et al. 2024): the change of W = U S V is U S core V, cut to r directions on either side. Only the
core is stored.
"""

import math

import torch

from taskbits.fitting.coefficients import Change, find
from taskbits.fitting.fitted import fitted_numbers
from taskbits.fitting.kept import kept
from taskbits.methods import targets
from taskbits.models.places import attention
from taskbits.models.update import Update
from taskbits.programs.runners.lora_xs import directions

FAMILY = "parametric"
_RATE = 3e-2
_BITS = 2.0  # a coefficient
_ROUNDS = 3  # of the power iteration, for models that are not in float64: those are large


def sweep(model, task):
    return targets([256, 64, 1024, 128, 512, 2048])


def fit(model, task, settings, seed, progress):
    names, target = attention(model)
    smallest = min(min(weight.shape) for name, weight in model.lm.named_parameters() if name in names)
    rank = min(smallest, max(1, round(math.sqrt(8 * settings["bytes"] / (_BITS * len(names))))))
    rounds = {} if model.dtype == "float64" else {"rounds": _ROUNDS}
    frames = kept(task, "directions")  # once a model
    for name in names:
        if (key := (model.fingerprint, name, rank)) not in frames:
            weight = model.lm.get_parameter(name).detach()
            frames[key] = [part.float() for part in directions(weight, rank, rounds.get("rounds", 0))]
    change = _change(names, rank, {name: frames[model.fingerprint, name, rank] for name in names})
    found = find(model, task, change, settings, _RATE, seed, progress)
    content = {"tensors": {name: [rank, rank] for name in names}}
    settings = {"target": target, "rank": rank, **rounds}
    return fitted_numbers("lora-xs", model, task, "lora_xs", found, settings, content)


def _change(names: list[str], rank: int, frames: dict[str, list[torch.Tensor]]) -> Change:

    def update(coefficients):
        cores = coefficients.view(len(names), rank, rank)
        pairs = zip(cores, frames.items(), strict=True)
        return Update({name: (left @ core, right) for core, (name, (left, right)) in pairs})

    return Change(("lora-xs", *names, rank), torch.zeros(len(names) * rank**2), update, [rank**2] * len(names))
