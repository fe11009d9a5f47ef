"""A number for each choice, added to what it costs: undoes the model's liking for some answers, whatever is asked.

As contextual calibration does (Zhao et al. 2021), but fitted to the references of train rows, all at once: one scoring
pass over these, then the offsets (and a scale, which no choice hangs on) of a multinomial logistic regression.
"""

import math
from dataclasses import replace

import numpy as np
import torch

from taskbits.fitting.fitted import fitted
from taskbits.models.predict import choice_costs
from taskbits.programs.coding import Coded

FAMILY = "inference control"
_ROWS = 400
_STEPS = 300
_RIDGE = 1e-2  # on the offsets, as if there were a few rows more of each choice


def sweep(model, task):
    choices = task.frame.choices
    return [{"step": step} for step in (0.5, 1.0, 0.1)] if len(choices) > 1 and not isinstance(choices, str) else []


def fit(model, task, settings, seed, progress):
    choices, rows, targets = task.frame.choices, task.splits["train"], task.targets("train")
    right = [task.frame.right(row, target) for row, target in zip(rows, targets, strict=True)]
    order = np.random.RandomState(seed).permutation(len(rows))
    order = [i for i in order.tolist() if any(right[i])][:_ROWS]
    with model.quick():
        costs = torch.tensor(choice_costs(model, task.frame, [rows[i] for i in order]))
    found = learned(costs, torch.tensor([right[i] for i in order])).tolist()
    before = task.frame.offsets or [0] * len(choices)  # are in the costs already
    offsets = tuple(_rounded([a + b for a, b in zip(found, before, strict=True)], settings["step"]))
    content = {"offsets": dict(zip(choices, offsets, strict=True))}
    return fitted(
        "choice-bias", model, task, Coded("plain", content=content), frame=replace(task.frame, offsets=offsets)
    )


def learned(costs: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Offsets (choices,), in nats, under which the cheapest choice is most often a right one.

    costs: (rows, choices), in nats. right: (rows, choices), which are.
    """
    costs = costs.double()
    scale, offsets = (torch.full((size,), 0.0, dtype=torch.double, requires_grad=True) for size in (1, costs.shape[1]))
    optimizer = torch.optim.LBFGS([scale, offsets], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = -(costs * scale.exp() + offsets)
        surprisal = logits.logsumexp(1) - logits.masked_fill(~right, -math.inf).logsumexp(1)
        total = surprisal.mean() + _RIDGE * offsets.square().mean()
        total.backward()
        return total

    optimizer.step(loss)
    return (offsets / scale.exp()).detach()


def _rounded(offsets: list[float], step: float) -> list[float]:
    """Multiples of the step, nearly, moved together so that they take the fewest characters."""
    moved = [[_number(round((offset - least) / step) * step) for offset in offsets] for least in offsets]
    return min(moved, key=lambda numbers: len(str(numbers)))


def _number(value: float) -> int | float:
    value = round(value, 6)
    return int(value) if value == int(value) else value
