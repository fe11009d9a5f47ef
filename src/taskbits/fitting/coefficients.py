"""Coefficients of a change to a model's weights: trained to a task, then made whole numbers of a wanted size.

A coefficient is a step times a whole number. Which coefficients are worth their bits is learned: the training's
loss is cross-entropy + price * bits, with the numbers' length under a Laplace distribution as the bits, rounding
passed straight through (Bengio et al. 2013) and the step trained with them. The price is steered so that the length
falls to the wanted one half-way through. Knows nothing of how a change is decoded.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from taskbits.fitting.kept import kept
from taskbits.fitting.objectives import evolve, expected_gradients
from taskbits.fitting.training import Progress, batches, gradients, require_finite, train
from taskbits.models.model import Model
from taskbits.models.update import Update
from taskbits.programs.coding import CodedIntegers, encode_integers
from taskbits.tasks.task import Task

_BATCH = 8
_EVOLVED = 300  # more coefficients than this are trained by policy gradient
_TRIES = 4  # programs tried by evolution for each training step of the others
_HOLD = 0.5  # the part of the steps after which the wanted size is kept
_PRICE = (1e-8, 1.0)
_AHEAD = 12  # steps that the numbers take to follow the price
_FINER = 12  # times that the first step is made finer if the numbers would be short of the wanted size


@dataclass(frozen=True)
class Change:
    """A family of changes to a model's weights, in n coefficients.

    name: tells it from other families. start: (n,) float32, where training begins.
    update: from coefficients (n,) to what is added to the weights; differentiable.
    tidy: from trained coefficients to others of the same effect that are better to code.
    groups: sizes of what lies together, such as a matrix's coefficients, and has a distribution of its own.
    """

    name: tuple
    start: torch.Tensor
    update: Callable[[torch.Tensor], Update]
    groups: list[int] | None
    tidy: Callable[[torch.Tensor], torch.Tensor] = lambda coefficients: coefficients


@dataclass(frozen=True)
class Numbers:
    """What was found: coefficients = step * values, (n,) int64; and the values coded."""

    values: np.ndarray
    step: float
    coded: CodedIntegers


def rounded(values: torch.Tensor) -> torch.Tensor:
    """Whole numbers whose gradient is that of the values (straight through)."""
    return values + (values.round() - values).detach()


def learn(
    model: Model, task: Task, change: Change, steps: int, rate: float, seed: int, progress: Progress
) -> torch.Tensor:
    """Real-valued coefficients (n,), trained on the cross-entropy. The last ones are kept: sizes share them."""
    key = (model.fingerprint, change.name, steps, rate, seed)
    if key not in (learned := kept(task, "coefficients")):
        learned.clear()
        coefficients = change.start.clone().to(model.lm.device).requires_grad_(True)
        data = batches(model, task, _BATCH, steps, seed)
        with model.quick():
            steered = gradients(model, data, lambda: change.update(coefficients))
            train([coefficients], steered, steps, rate, progress)
        learned[key] = change.tidy(coefficients.detach())
    return learned[key].clone()


def find(
    model: Model,
    task: Task,
    change: Change,
    settings: dict,
    rate: float,
    seed: int,
    progress: Progress,
    learned: torch.Tensor | None = None,
) -> Numbers:
    """Whole numbers that take at most settings["bytes"] when coded, if anything does.

    settings: bytes, steps of each of the two trainings, and the objective: "loss", or "metric" to go on from there
    with the task's own metric. rate: of the first training; the second takes half of it. learned: coefficients that
    were trained before, in place of the first training.
    """
    size, steps, by_metric = settings["bytes"], settings["steps"], settings["objective"] == "metric"
    first = 0 if learned is not None else steps
    total = first + steps * (1 if not by_metric else 2 if len(change.start) > _EVOLVED else 1 + _TRIES)
    if learned is None:
        learned = learn(model, task, change, steps, rate, seed, lambda done, of: progress(done, total))
    data = batches(model, task, _BATCH, steps, seed + 1)
    latent, step = compress(
        model,
        change,
        learned.to(model.lm.device),
        lambda update: gradients(model, data, update),
        (size, steps, rate / 2),
        lambda done: progress(first + done, total),
    )
    if by_metric and len(latent) > _EVOLVED:
        latent = _refine(
            model,
            change,
            latent,
            step,
            lambda update: expected_gradients(model, task, update, steps, seed),
            (steps, rate / 8),
            lambda done, of: progress(first + steps + done, total),
            writes=not task.frame.choices,
        )
    values = _within(latent.cpu().numpy(), size, change.groups)
    if by_metric and len(values) <= _EVOLVED:
        values = evolve(
            model,
            task,
            lambda whole: change.update(torch.tensor(whole * step, dtype=torch.float32, device=model.lm.device)),
            values,
            lambda whole: len(encode_integers(whole, change.groups).payload) <= size,
            seed,
            _TRIES * steps,
            lambda done: progress(first + steps + done, total),
        )
    return Numbers(values, step, encode_integers(values, change.groups))


def compress(
    model: Model,
    change: Change,
    start: torch.Tensor,
    gradients_of: Callable[[Callable[[], Update]], Iterator[float]],
    plan: tuple[int, int, float],
    progress: Callable[[int], None],
) -> tuple[torch.Tensor, float]:
    """Coefficients in steps (n,), not yet rounded, that take about the wanted bytes once they are; and the step."""
    size, steps, rate = plan
    groups = torch.tensor(change.groups or [len(start)], device=start.device)
    wanted = 8.0 * max(size - 2, 1)

    def bits(latent: torch.Tensor) -> float:
        return max(_price_in_bits(latent.detach().round(), groups).item(), 1.0)

    step = max(2 * start.abs().mean().item(), 1e-6)
    for _ in range(_FINER):
        if bits(start / step) < wanted:
            step /= 1.25
    latent = (start / step).requires_grad_(True)
    log_step = torch.tensor(math.log(step), requires_grad=True, device=start.device)
    optimizer = torch.optim.Adam([{"params": [latent]}, {"params": [log_step]}], betas=(0.9, 0.95))
    at_first = last = math.log(bits(latent))
    price, pace_of_bits = 1e-6, 0.0

    def update() -> Update:
        return change.update(rounded(latent) * log_step.exp())

    with model.quick():
        for k, _ in enumerate(gradients_of(update)):
            progress(k)
            (price * _price_in_bits(latent, groups)).backward()
            torch.nn.utils.clip_grad_norm_([latent], 1.0)
            pace = min((k + 1) / 5, max(0.05, (steps - k) / (steps * (1 - _HOLD))), 1.0)
            optimizer.param_groups[0]["lr"] = rate / step * pace
            optimizer.param_groups[1]["lr"] = 0.02 * pace
            optimizer.step()
            optimizer.zero_grad()
            # The numbers answer to the price some steps late, so it is set by where they are going.
            now = math.log(bits(latent))
            pace_of_bits, last = 0.7 * pace_of_bits + 0.3 * (now - last), now
            ahead = min(k + _AHEAD, steps)
            goal = math.log(wanted) + max(0.0, at_first - math.log(wanted)) * max(0.0, 1 - ahead / (_HOLD * steps))
            excess = now + _AHEAD * pace_of_bits - goal
            price = float(np.clip(price * math.exp(np.clip(0.8 * excess, -1.0, 0.3)), *_PRICE))
    require_finite(latent, log_step)
    return latent.detach(), float(f"{log_step.exp().item():.2g}")


def _refine(
    model: Model,
    change: Change,
    latent: torch.Tensor,
    step: float,
    gradients_of: Callable[[Callable[[], Update]], Iterator[float]],
    plan: tuple[int, float],
    progress: Progress,
    writes: bool,
) -> torch.Tensor:
    """Other coefficients in steps (n,), where they are not zero: where the loss says nothing, nothing must move.

    So there is no price here: Adam would follow even the smallest.
    """
    steps, rate = plan
    kept, latent = latent.round() != 0, latent.clone().requires_grad_(True)

    def update() -> Update:
        return change.update(torch.where(kept, rounded(latent) * step, 0.0))

    with model.quick(writes):
        train([latent], gradients_of(update), steps, rate / step, progress)
    return torch.where(kept, latent.detach(), 0.0)


def _price_in_bits(latent: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """About what the coefficients take once they are rounded, smooth in them: what pulls them to fewer bits.

    -log2 of the mass that a Laplace distribution has within half a step; a group's spread is that of its numbers.
    """
    distance = latent.abs()
    means = torch.segment_reduce(distance.detach().round(), "mean", lengths=groups).clamp(min=0.01)
    spread = torch.maximum(0.5 / (1 + 1 / means).log(), means)  # of sparse numbers, and of others
    spread = spread.repeat_interleave(groups)
    inside = 1 - 0.5 * ((distance - 0.5).clamp(max=0) / spread).exp() - 0.5 * (-(distance + 0.5) / spread).exp()
    outside = 0.5 * (-(distance - 0.5).clamp(min=0) / spread).exp() * (1 - (-1 / spread).exp())
    return -torch.where(distance < 0.5, inside, outside).clamp(min=1e-20).log2().sum()


def _within(latent: np.ndarray, size: int, groups: list[int] | None) -> np.ndarray:
    """The rounded numbers, those nearest to the next smaller one moved there until all take at most `size` bytes."""
    values = np.rint(latent).astype(np.int64)
    # How far beyond the point where it was rounded away from zero; least first.
    order = np.argsort(np.where(values == 0, np.inf, np.abs(latent) - (np.abs(values) - 0.5)), kind="stable")
    order = order[: np.count_nonzero(values)]

    def moved(count: int) -> np.ndarray:
        result = values.copy()
        result[order[:count]] -= np.sign(result[order[:count]])
        return result

    while len(encode_integers(values, groups).payload) > size and len(order):
        low, high = 0, len(order)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if len(encode_integers(moved(middle), groups).payload) <= size else (middle, high)
        values = moved(high)
        order = order[values[order] != 0]
    return values
