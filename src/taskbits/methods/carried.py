"""The weights of another model (`--donor`), of a wanted size: what matters least to the task is kept least exactly.

Where the donor is near, the difference to it is carried, else its weights in place of the model's. steps: 0, or
trained on the task so long under the price of their bits, which takes longer and is shorter.
"""

import math

from taskbits.errors import UserError
from taskbits.fitting import carrying
from taskbits.fitting.fitted import fitted
from taskbits.fitting.kept import kept
from taskbits.models.donors import weights_of
from taskbits.programs.coding import Coded

FAMILY = "parametric"
_OF = 1000
_JUDGED, _TRAINING_JUDGED = 0.5, 0.15  # about the share of the time that goes before the quantising, or the training
_RATE = 0.03  # of a weight, over the weights' root mean square
# Bits of a weight, and steps of a training.
_PLAN = [(4.0, 0), (2.0, 0), (2.0, 300), (1.0, 300), (8.0, 0), (3.0, 0), (1.0, 0), (0.5, 300), (16.0, 0), (3.0, 300)]


def sweep(model, task):
    if not model.donor:
        return []
    return [{"donor": model.donor, "bits": bits, "steps": steps} for bits, steps in _PLAN]


def fit(model, task, settings, seed, progress):
    if not settings.get("donor"):
        raise UserError("method carried needs a model or an adapter to carry: name one with --donor")
    judging = _TRAINING_JUDGED if settings["steps"] else _JUDGED

    def then(done, of):
        progress(round(judging * _OF + (1 - judging) * _OF * done / of), _OF)

    changes, matters, keep = _judged(
        model, task, settings["donor"], seed, lambda done, of: progress(round(judging * _OF * done / of), _OF)
    )
    count = sum(change.numel() for change in changes.values())
    size = max(1, round(settings["bits"] * count / 8))
    if settings["steps"]:
        with model.preserved():
            if not keep:
                for weight in model.lm.parameters():
                    weight.data.zero_()
            scale = math.sqrt(sum(float(change.square().sum()) for change in changes.values()) / count)
            plan = size, settings["steps"], _RATE * scale
            payload, distribution, bits = carrying.trained(model, task, changes, matters, plan, seed, then)
    else:
        payload, distribution, bits = carrying.quantised(changes, matters, size, then)
    shapes = {name: list(change.shape) for name, change in changes.items()}
    content = {"donor": settings["donor"], "tensors": shapes}
    return fitted("carried", model, task, Coded("carried", {"keep": keep, **distribution}, payload, bits, content))


def _judged(model, task, donor: str, seed: int, progress):
    """What is carried, what it matters, and whether it is added to the model's weights; once a donor."""
    found = kept(task, "donors")
    if (key := (donor, seed)) not in found:
        found.clear()  # one is large
        theirs = weights_of(donor, model)
        ours = {name: weight.detach().float().cpu() for name, weight in model.lm.named_parameters()}
        with model.preserved(), model.single_precision():
            for name, weight in model.lm.named_parameters():
                weight.data.copy_(theirs[name])
            matters = carrying.matter(model, task, seed, lambda done, of: progress(of + done, 2 * of))

        def weighed(some: dict) -> float:
            return sum(
                float((part.reshape(-1, part.shape[-1]).square().mean(1) * matters.rows[name]).sum())
                for name, part in some.items()
            )

        nearer = {name: theirs[name] - ours[name] for name in theirs}
        keep = int(weighed(nearer) < weighed(theirs))
        found[key] = (nearer if keep else theirs), matters, keep
    return found[key]
