"""A change that somebody has made (`--donor`: an adapter, or a model that was trained on from this one), made short:
trained on as whole numbers under a price on their bits.

Its factors are what `lora` begins the second of its trainings with; the first one was its owner's. Sizes go from the
adapter's own downwards, with a rank that falls with them.
"""

import math

import torch

from taskbits.errors import UserError
from taskbits.fitting.coefficients import find
from taskbits.fitting.fitted import fitted_numbers
from taskbits.fitting.kept import kept
from taskbits.methods import lora
from taskbits.models import donors
from taskbits.models.places import covering

FAMILY = "parametric"
_RATE = 1e-2
_BITS = 2.0  # a value, at most, before the rank goes up
_BYTES = 2  # of a value, where the sweep begins: those of the adapter in float16
_SMALLEST = 64


def sweep(model, task):
    if not model.donor:
        return []
    values = donors.values(model.donor, model)
    sizes = [_BYTES * values >> halvings for halvings in range(2, 40)]
    sizes = [size for size in sizes if size >= _SMALLEST]
    # The middle of the range first: how far it goes without a loss is what is asked.
    order = sorted(sizes, key=lambda size: abs(math.log(size / math.sqrt(sizes[0] * sizes[-1])))) if sizes else []
    return [
        {"donor": model.donor, "bytes": size, "objective": "loss", "steps": steps}
        for steps in (100, 400)
        for size in order
    ]


def fit(model, task, settings, seed, progress):
    if not settings.get("donor"):
        raise UserError("method shrunk needs an adapter or a model to shrink: name it with --donor")
    found = kept(task, "adapters")
    if settings["donor"] not in found:
        found.clear()
        found[settings["donor"]] = donors.factors(settings["donor"], model)
    factors = found[settings["donor"]]
    names, target = covering(model, factors)
    shapes = {name: model.lm.get_parameter(name).shape for name in names}
    most = max(left.shape[1] for left, _ in factors.values())
    rank = min(most, max(1, math.ceil(8 * settings["bytes"] / (_BITS * sum(map(sum, shapes.values()))))))
    change = lora.low_rank(model, names, rank, seed)
    start = _flat(factors, shapes, rank)
    numbers = find(model, task, change, settings, _RATE / math.sqrt(rank), seed, progress, learned=start)
    content = {
        "donor": settings["donor"],
        "tensors": {name: list(shape) for name, shape in shapes.items()},
        "rank": rank,
    }
    return fitted_numbers("shrunk", model, task, "low_rank", numbers, {"target": target, "rank": rank}, content)


def _flat(factors: dict, shapes: dict, rank: int) -> torch.Tensor:
    """The factors as the coefficients of `lora`: along their singular directions, the largest first, as many as the
    rank is; zeros for matrices that the adapter leaves alone."""
    balanced = {}
    for name, (rows, columns) in shapes.items():
        left, right = factors.get(name, (torch.zeros(rows, 1), torch.zeros(1, columns)))
        left, right = lora.balanced(left, right)
        missing = max(0, rank - left.shape[1])
        balanced[name] = (
            torch.nn.functional.pad(left, (0, missing)),
            torch.nn.functional.pad(right, (0, 0, 0, missing)),
        )
    return torch.cat(
        [part for k in range(rank) for left, right in balanced.values() for part in (left[:, k], right[k])]
    )
