"""Coefficients as the index of a sample: each eight of them are the draw of a 16-bit seed that suits them best.

Relative-entropy coding in the way of MIRACLE (Havasi et al. 2019), with the likeliest sample instead of a random one:
blocks are fixed one group after another, and what is not yet fixed is trained on. The coefficients are those of `tiny`.
"""

import functools

import numpy as np
import torch

from taskbits.fitting.coefficients import learn
from taskbits.fitting.fitted import fitted
from taskbits.fitting.training import batches, gradients, train
from taskbits.methods import targets
from taskbits.methods.tiny import shared_change
from taskbits.models.places import attention
from taskbits.programs.coding import Coded

FAMILY = "parametric"
_RATE = 2e-2
_BATCH = 8
_BLOCK = 8  # coefficients in a block, as in the runner
_ROUNDS = 8


def sweep(model, task):
    return targets([32, 8, 16, 4, 64, 2, 128])


def fit(model, task, settings, seed, progress):
    (names, target), blocks, steps = attention(model), max(1, settings["bytes"] // 2), settings["steps"]
    change = shared_change(model, names, _BLOCK * blocks)
    learned = learn(model, task, change, steps, _RATE, seed, lambda done, of: progress(done, 2 * steps))
    scale = float(f"{max(learned.square().mean().sqrt().item(), 1e-6):.2g}")
    free, seeds = learned.clone(), []
    fixed = torch.zeros(len(free), dtype=torch.bool, device=free.device)
    groups = [group for group in np.array_split(np.arange(blocks), _ROUNDS) if len(group)]
    for number, group in enumerate(groups):
        for block in group:
            place = slice(_BLOCK * block, _BLOCK * (block + 1))
            index = int(((scale * _codebook() - free[place].cpu().numpy()) ** 2).sum(1).argmin())
            seeds.append(index)
            free[place] = torch.from_numpy(scale * _codebook()[index]).to(free)
            fixed[place] = True
        if not fixed.all():
            free = _train_rest(
                model, task, change, free, fixed, max(1, steps // len(groups)), number, seed,
                lambda done, number=number: progress(steps + number * steps // len(groups) + done, 2 * steps),
            )  # fmt: skip
    settings = {"target": target, "blocks": blocks, "scale": scale}
    coded = Coded("seeded", settings, np.array(seeds, "<u2").tobytes(), 16.0 * blocks, {"seeds": seeds})
    return fitted("seeded", model, task, coded)


@functools.cache
def _codebook() -> np.ndarray:
    """Each seed's draw, (65536, 8)."""
    random = np.random.RandomState()

    def draw(seed: int) -> np.ndarray:
        random.seed(seed)  # from here as a new generator, which would take fifty times as long
        return random.randn(_BLOCK)

    return np.array([draw(seed) for seed in range(2**16)])


def _train_rest(model, task, change, values, fixed, steps, number, seed, progress) -> torch.Tensor:
    free = values.clone().requires_grad_(True)
    data = batches(model, task, _BATCH, steps, seed + 1 + number)
    with model.quick():
        steered = gradients(model, data, lambda: change.update(torch.where(fixed, values, free)))
        train([free], steered, steps, _RATE / 4, lambda done, of: progress(done))
    return torch.where(fixed, values, free.detach())
