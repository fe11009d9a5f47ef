"""A low-rank change to the weights (Hu et al. 2021), its factors stored as float16."""

import math

import numpy as np
import torch

from taskbits.fitting.fitted import fitted
from taskbits.fitting.training import batches, gradients, train
from taskbits.models.places import attention, blocks
from taskbits.models.update import Update
from taskbits.programs.coding import Coded

FAMILY = "parametric"
_BATCH = 8


def sweep(model, task):
    # Few numbers take large steps; a larger model may need the smaller rate.
    return [
        {"rank": rank, "target": target, "steps": steps, "rate": rate}
        for rank, target, steps, rate in (
            (1, "blocks", 100, 1e-2),
            (8, "blocks", 100, 5e-3),
            (1, "attention", 200, 2e-2),
            (1, "blocks", 200, 1e-2),
            (8, "blocks", 400, 5e-3),
            (1, "attention", 200, 5e-3),
        )
    ]


def fit(model, task, settings, seed, progress):
    rank = settings["rank"]
    names, target = attention(model) if settings["target"] == "attention" else blocks(model)
    shapes = {name: tuple(model.lm.get_parameter(name).shape) for name in names}
    generator = torch.Generator().manual_seed(seed)
    factors = []
    for rows, columns in shapes.values():
        right = (2 * torch.rand(rank, columns, generator=generator) - 1) / math.sqrt(columns)
        factors += [torch.zeros(rows, rank), right]
    factors = [part.to(model.lm.device).requires_grad_(True) for part in factors]
    pairs = list(zip(factors[::2], factors[1::2], strict=True))
    update = Update(dict(zip(names, pairs, strict=True)))
    with model.quick():
        data = batches(model, task, _BATCH, settings["steps"], seed)
        train(factors, gradients(model, data, lambda: update), settings["steps"], settings["rate"], progress)
    numbers = [(left.detach().cpu(), right.detach().cpu()) for left, right in pairs]
    values = np.concatenate([part for k in range(rank) for left, right in numbers for part in (left[:, k], right[k])])
    content = {"tensors": {name: list(shape) for name, shape in shapes.items()}, "rank": rank}
    coded = Coded(
        "lora_fp16", {"target": target, "rank": rank}, values.astype("<f2").tobytes(), 16.0 * len(values), content
    )
    return fitted("lora-fp16", model, task, coded)
