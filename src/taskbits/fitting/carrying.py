"""Weights of a wanted size in bytes: quantised where it matters least, for the runner `carried`.

The step of a row is inverse to the root of what its weights matter (the mean square of their gradients on the task's
train split, the diagonal of the Fisher information), which at high rates is optimal for the loss; one factor for all
steps sets the size. Rounding errors of a matrix are passed on to the columns behind them, weighed by what they do to
its outputs on those rows (GPTQ, Frantar et al. 2023).
"""

import functools
import math
from dataclasses import dataclass

import constriction
import numpy as np
import torch

from taskbits.fitting.coefficients import Change, compress
from taskbits.fitting.training import Progress, batches, gradients
from taskbits.models.model import Model
from taskbits.models.update import Update
from taskbits.programs.coding import laplace_bits, payload
from taskbits.tasks.task import Task

_ROWS, _BATCHES = 4, 48  # of the train split, that weights are judged by
_TRAINED = 8  # rows of a batch that they are trained on
# Of what rows of a tensor matter on average, that each does: few rows of the train split say little of one.
_LEAST = 0.1
_DAMPING = 0.01  # of the mean of the inputs' second moments, added to each
_DEAD = 0.06  # by which numbers are rounded towards zero more often than away from it: they take fewer bits
_WIDE = 64  # values of `wide` and of `fine`, as in the runner
_LOWEST = 8
_BLOCK = 128  # columns whose errors are passed on at once
_TRIES = 4
_OVER = 1.02  # of the wanted size, which is near enough
_MOST = 2**19  # the largest number
_GRID = np.linspace(-6, 4, 101)  # logarithms of deviations whose entropy is tabled


@dataclass(frozen=True)
class Matter:
    """What weights matter. rows: for each tensor the mean square gradient of a row's weights, (rows,). inputs: for each
    matrix that is a plain product the second moments of its inputs, (columns, columns)."""

    rows: dict[str, torch.Tensor]
    inputs: dict[str, torch.Tensor]


def matter(model: Model, task: Task, seed: int, progress: Progress) -> Matter:
    """Measured on the train split, with the model's weights as they are."""
    squares: dict[str, torch.Tensor] = {}
    moments: dict[str, torch.Tensor] = {}
    names = {id(weight): name for name, weight in model.lm.named_parameters()}
    owners = {module: names[id(module.weight)] for module in model.lm.modules() if isinstance(module, torch.nn.Linear)}

    def see(module, given, output) -> None:
        flat = given[0].detach().flatten(0, -2).float()
        name = owners[module]
        moments[name] = moments.get(name, 0) + flat.mT @ flat

    hooks = [module.register_forward_hook(see) for module in owners]
    try:
        data = batches(model, task, _ROWS, _BATCHES, seed)
        for number, _ in enumerate(gradients(model, data)):
            progress(number, _BATCHES)
            for name, weight in model.lm.named_parameters():
                if weight.grad is not None:
                    rows = weight.grad.float().view(-1, weight.shape[-1]).square().mean(1)
                    squares[name] = squares.get(name, 0) + rows
                    weight.grad = None
    finally:
        for hook in hooks:
            hook.remove()
    rows = {
        name: squares[name].cpu() if name in squares else torch.zeros(weight.numel() // weight.shape[-1])
        for name, weight in model.lm.named_parameters()
    }
    return Matter(rows, {name: moment.cpu() for name, moment in moments.items()})


def quantised(
    changes: dict[str, torch.Tensor], matters: Matter, size: int, progress: Progress
) -> tuple[bytes, dict, float]:
    """The changes (float32, by the names of the parameters, in their order) in at most about `size` bytes.

    Returns the payload, {"step", "bound"}, and the numbers' entropy under their distributions in bits.
    """
    fine = {name: _fine(rows) for name, rows in matters.rows.items()}
    step = _step(changes, fine, 8.0 * size)
    for number in range(_TRIES):
        numbers = {}
        for at, (name, change) in enumerate(changes.items()):
            progress(number * len(changes) + at, _TRIES * len(changes))
            steps = torch.from_numpy(_steps(fine[name], step)).float()[:, None]
            flat = change.reshape(-1, change.shape[-1])
            numbers[name] = _rounded(flat, steps, matters.inputs.get(name)).numpy().astype(np.int32)
        found, settings, bits = _encoded(numbers, fine, step)
        if len(found) <= _OVER * size or number == _TRIES - 1:
            break
        # A bit for each number less by steps of twice the size, where numbers take more than one.
        count = sum(some.size for some in numbers.values())
        step = float(f"{step * 2 ** max(0.01, 1.3 * 8 * (len(found) - size) / count):.4g}")
    return found, settings, bits


def trained(
    model: Model,
    task: Task,
    changes: dict[str, torch.Tensor],
    matters: Matter,
    plan: tuple[int, int, float],
    seed: int,
    progress: Progress,
) -> tuple[bytes, dict, float]:
    """As `quantised`, but trained on the task under the price of their bits (`coefficients.compress`).

    The model's weights are those that the changes are added to. plan: bytes, steps, learning rate of a weight.
    """
    size, steps, rate = plan
    fine = {name: _fine(rows) for name, rows in matters.rows.items()}
    shapes = [(name, change.shape, change.numel()) for name, change in changes.items()]
    # Coefficients are weights where the step is that of a middling row.
    middle = float(np.median(np.concatenate(list(fine.values()))))
    each = {name: torch.from_numpy(_steps(some, 2.0 ** (middle / 2))).float()[:, None] for name, some in fine.items()}
    start = [(changes[name].reshape(len(each[name]), -1) / each[name]).flatten() for name, _, _ in shapes]
    device = model.lm.device
    placed = {name: some.to(device) for name, some in each.items()}

    def update(coefficients: torch.Tensor) -> Update:
        parts = coefficients.split([count for _, _, count in shapes])
        return Update(
            vectors={
                name: (part.view(len(placed[name]), -1) * placed[name]).view(shape)
                for (name, shape, _), part in zip(shapes, parts, strict=True)
            }
        )

    groups = [shape[-1] for name, shape, _ in shapes for _ in range(len(each[name]))]
    data = batches(model, task, _TRAINED, steps, seed + 1)
    latent, step = compress(
        model,
        Change(("carried",), torch.cat(start), update, groups),
        torch.cat(start).to(device),
        lambda update: gradients(model, data, update),
        (size, steps, rate),
        lambda done: progress(done, steps),
    )
    parts = latent.round().cpu().split([count for _, _, count in shapes])
    numbers = {
        name: part.view(len(each[name]), -1).numpy().astype(np.int32)
        for (name, _, _), part in zip(shapes, parts, strict=True)
    }
    return _encoded(numbers, fine, step * 2.0 ** (middle / 2))


def _fine(rows: torch.Tensor) -> np.ndarray:
    """How much finer the step of each row is, in half octaves, over that of a row that matters 1."""
    mean = rows.mean().item()
    matter = rows.clamp(min=max(_LEAST * mean, 1e-30))
    return np.rint(matter.log2().numpy()).astype(np.int64)


def _steps(fine: np.ndarray, step: float) -> np.ndarray:
    return np.ldexp(step * (1 + fine % 2 / 2), -fine // 2)


def _step(changes: dict[str, torch.Tensor], fine: dict[str, np.ndarray], bits: float) -> float:
    """The step that makes the changes take about so many bits: by the entropy of a normal distribution, rounded."""
    scales = [
        (change.reshape(-1, change.shape[-1]).square().mean(1).sqrt().double().numpy() / _steps(fine[name], 1.0))
        for name, change in changes.items()
    ]
    columns = np.repeat([change.shape[-1] for change in changes.values()], [len(some) for some in scales])
    scales = np.maximum(np.concatenate(scales), 1e-30)
    low, high = -60.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        needed = (columns * _entropy(scales / 2.0**middle)).sum()
        low, high = (middle, high) if needed > bits else (low, middle)
    return float(f"{2.0**high:.4g}")


def _entropy(deviations: np.ndarray) -> np.ndarray:
    """Of a normal distribution in steps, rounded: from a table."""
    logs = np.log2(np.maximum(deviations, 1e-30))
    return np.where(logs > _GRID[-1], logs + 0.5 * math.log2(2 * math.pi * math.e), np.interp(logs, _GRID, _table()))


@functools.cache
def _table() -> np.ndarray:
    whole = torch.arange(-200, 201, dtype=torch.float64)
    deviations = torch.from_numpy(2.0**_GRID)[:, None]
    chances = torch.special.ndtr((whole + 0.5) / deviations) - torch.special.ndtr((whole - 0.5) / deviations)
    return (-torch.xlogy(chances, chances).sum(1) / math.log(2)).numpy()


def _rounded(change: torch.Tensor, steps: torch.Tensor, moments: torch.Tensor | None) -> torch.Tensor:
    """Whole numbers (rows, columns), whose products with the steps (rows, 1) are near the change."""
    if moments is None:
        return _whole(change / steps)
    damped = moments + _DAMPING * moments.diagonal().mean() * torch.eye(len(moments))
    order = moments.diagonal().argsort(descending=True)
    damped = damped[order][:, order]
    inverse = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    left, found = change[:, order].clone(), torch.zeros_like(change)
    for begin in range(0, left.shape[1], _BLOCK):
        end = min(begin + _BLOCK, left.shape[1])
        errors = torch.zeros(len(left), end - begin)
        for at in range(begin, end):
            number = _whole(left[:, at] / steps[:, 0])
            found[:, order[at]] = number
            errors[:, at - begin] = (left[:, at] - number * steps[:, 0]) / inverse[at, at]
            left[:, at:end] -= errors[:, at - begin, None] * inverse[at, at:end]
        left[:, end:] -= errors @ inverse[begin:end, end:]
    return found


def _whole(values: torch.Tensor) -> torch.Tensor:
    return (values.sign() * (values.abs() + 0.5 - _DEAD).floor()).clamp(-_MOST, _MOST)


def _encoded(numbers: dict[str, np.ndarray], fine: dict[str, np.ndarray], step: float) -> tuple[bytes, dict, float]:
    bound = max(1, *(int(np.abs(some).max()) for some in numbers.values()))
    encoder = constriction.stream.queue.RangeEncoder()
    gaussian = constriction.stream.model.QuantizedGaussian(-bound, bound)
    # The factor of all steps takes up what is common to them: octaves, for half of one would make steps others.
    lowest = min(int(np.median(some)) for some in fine.values()) // 2 * 2
    step, total = float(np.ldexp(step, -lowest // 2)), 0.0
    for name, some in numbers.items():
        wide, bits = _wide(torch.from_numpy(some))
        total += bits
        for values in (fine[name] - lowest, wide):
            middle = int(np.clip(np.median(values), 0, _WIDE - 1))
            rest = (values - middle).astype(np.int32)
            costs = [laplace_bits(rest, 2.0**k) for k in range(4)]
            k = int(np.argmin(costs))
            total += math.log2(4 * _WIDE) + costs[k]
            encoder.encode(middle, constriction.stream.model.Uniform(_WIDE))
            encoder.encode(k, constriction.stream.model.Uniform(4))
            encoder.encode(rest, constriction.stream.model.QuantizedLaplace(-64, 64, 0, 2.0**k))
        deviations = np.ldexp(1 + wide % 2 / 2, wide // 2 - _LOWEST).repeat(some.shape[1])
        encoder.encode(some.ravel(), gaussian, np.zeros(some.size), deviations)
    return payload(encoder), {"step": step, "bound": bound}, total


def _wide(numbers: torch.Tensor) -> tuple[np.ndarray, float]:
    """For each row the deviation under which it takes the fewest bits, in half octaves from 2^-8; and these bits."""
    best = torch.full((len(numbers),), torch.inf, dtype=torch.float64)
    chosen = torch.zeros(len(numbers), dtype=torch.int64)
    guess = (2 * (numbers.double().square().mean(1).sqrt().clamp(min=2.0**-4).log2() + _LOWEST)).round().long()
    for offset in range(-3, 3):
        wide = (guess + offset).clamp(0, _WIDE - 1)
        deviation = torch.ldexp(1 + wide % 2 / 2, wide // 2 - _LOWEST).double()[:, None]
        bits = _bits(numbers, deviation)
        better = bits < best
        best, chosen = torch.where(better, bits, best), torch.where(better, wide, chosen)
    return chosen.numpy(), float(best.sum())


def _bits(numbers: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    far = numbers.double().abs()
    chance = torch.special.ndtr((0.5 - far) / deviation) - torch.special.ndtr((-0.5 - far) / deviation)
    return -chance.clamp(min=2.0**-24).log2().sum(1)
