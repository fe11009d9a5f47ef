"""A low-rank change to the weights of a wanted size: rank, sparsity and step chosen for it, quantised, entropy-coded.

The factors (Hu et al. 2021) are trained, rotated to their singular directions and balanced, so that one distribution
fits all their values, and trained on as whole numbers under a price on their bits (`taskbits.fitting.coefficients`).
"""

import math

import torch

from taskbits.fitting.coefficients import Change, find
from taskbits.fitting.fitted import fitted_numbers
from taskbits.methods import targets
from taskbits.models.places import attention, blocks
from taskbits.models.update import Update

FAMILY = "parametric"
_RATE = 2e-2
_BITS = 2.0  # a value, at most, before the rank goes up


def sweep(model, task):
    sizes = [1024, 256, 4096, 512, 2048, 724, 362, 128, 1448]
    return targets(sizes, by_metric=[512], large=[16384, 65536, 4096, 8192, 262144, 2048, 32768, 131072])


def fit(model, task, settings, seed, progress):
    names, target, rank = _places(model, settings["bytes"])
    change = low_rank(model, names, rank, seed)
    found = find(model, task, change, settings, _RATE / math.sqrt(rank), seed, progress)
    shapes = {name: list(weight.shape) for name, weight in model.lm.named_parameters()}
    content = {"tensors": {name: shapes[name] for name in names}, "rank": rank}
    return fitted_numbers("lora", model, task, "low_rank", found, {"target": target, "rank": rank}, content)


def _places(model, size: int) -> tuple[list[str], str, int]:
    """The matrices to change, the text that selects them, and the rank that suit so many bytes."""
    sizes = {name: sum(weight.shape) for name, weight in model.lm.named_parameters()}
    names, target = attention(model)
    if 8 * size > _BITS * sum(sizes[name] for name in names):
        names, target = blocks(model)
    return names, target, max(1, math.ceil(8 * size / (_BITS * sum(sizes[name] for name in names))))


def low_rank(model, names: list[str], rank: int, seed: int) -> Change:
    """Factors of this rank for each matrix, in coefficients: a column of the left and a row of the right for each of
    them, one rank after another."""
    shapes = [model.lm.get_parameter(name).shape for name in names]
    sizes = [part for shape in shapes for part in shape] * rank

    def factors(coefficients):
        parts = coefficients.split(sizes)
        for i, name in enumerate(names):
            places = range(2 * i, len(parts), 2 * len(names))
            yield name, torch.stack([parts[k] for k in places], 1), torch.stack([parts[k + 1] for k in places])

    def update(coefficients):
        return Update({name: (left, right) for name, left, right in factors(coefficients)})

    def tidy(coefficients):
        pairs = [balanced(left, right) for _, left, right in factors(coefficients)]
        return torch.cat([part for k in range(rank) for left, right in pairs for part in (left[:, k], right[k])])

    groups = [sum(shape) for shape in shapes] * rank
    generator = torch.Generator().manual_seed(seed)
    start = [
        torch.randn(size, generator=generator) / math.sqrt(size) if k % 2 else torch.zeros(size)
        for k, size in enumerate(sizes)
    ]
    return Change(("lora", *names, rank), torch.cat(start), update, groups, tidy)


def balanced(left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same product's factors along its singular directions, with entries of equal mean square."""
    (outer, inner), (outer_right, inner_right) = map(torch.linalg.qr, (left.double(), right.double().mT))
    u, s, v = torch.linalg.svd(inner @ inner_right.mT, full_matrices=False)
    ratio, root = (left.shape[0] / right.shape[1]) ** 0.25, s.sqrt()
    return (outer @ u * root * ratio).float(), (root[:, None] * (v @ outer_right.mT) / ratio).float()
