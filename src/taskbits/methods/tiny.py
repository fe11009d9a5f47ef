"""A few coefficients that all matrices share: each entry of rank-one factors is plus or minus one of them.

Which one is drawn from a fixed seed, as in Uni-LoRA (Li et al. 2025); to the right factor random numbers are added,
so that training can start from zero. From a handful of coefficients up, as TinyLoRA's (arXiv 2602.04118).
"""

import numpy as np
import torch

from taskbits.fitting.coefficients import Change, find
from taskbits.fitting.fitted import fitted_numbers
from taskbits.methods import targets
from taskbits.models.places import attention
from taskbits.models.update import Update

FAMILY = "parametric"
_RATE = 2e-2
_BITS = 3  # a coefficient


def sweep(model, task):
    return targets([32, 8, 128, 16, 64, 256, 4, 512], by_metric=[8, 4])


def fit(model, task, settings, seed, progress):
    (names, target), count = attention(model), max(1, 8 * settings["bytes"] // _BITS)
    change = shared_change(model, names, count)
    found = find(model, task, change, settings, _RATE, seed, progress)
    content = {"coefficients": found.values.tolist(), "matrices": len(names)}
    return fitted_numbers("tiny", model, task, "tiny", found, {"target": target, "count": count}, content)


def shared_change(model, names: list[str], count: int) -> Change:
    """Coefficients (count,) shared as the runner `tiny` does: the same draws in the same order."""
    random, draws = np.random.RandomState(0), {}
    for name in names:
        rows, columns = model.lm.get_parameter(name).shape
        left, right, added = (
            random.choice(2 * count, rows),
            random.choice(2 * count, columns),
            random.randn(columns) / 8,
        )
        draws[name] = [torch.as_tensor(part, device=model.lm.device) for part in (left, right, added.astype("f4"))]

    def update(coefficients):
        signed = torch.cat([coefficients, -coefficients])
        return Update(
            {
                name: (signed[left][:, None], (signed[right] + added)[None])
                for name, (left, right, added) in draws.items()
            }
        )

    return Change(("tiny", *names, count), torch.zeros(count), update, None)
