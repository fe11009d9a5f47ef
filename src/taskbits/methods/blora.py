"""A low-rank change whose bit-widths and ranks are learned by gates: Bayesian LoRA (Meo et al. 2024), for comparison.

Each factor is quantised by Bayesian Bits (van Baalen et al. 2020): 2 bits, and residuals that bring it to 4, 8 and 16,
each behind a hard-concrete gate (Louizos et al. 2018) whose opening costs. So are ranks above the first.
"""

import math

import constriction
import numpy as np
import torch

from taskbits.fitting.coefficients import rounded
from taskbits.fitting.fitted import fitted
from taskbits.fitting.training import batches, gradients, train
from taskbits.models.places import blocks
from taskbits.models.update import Update
from taskbits.programs.coding import Coded, payload

FAMILY = "parametric"
_BATCH = 8
_GATE_PACE = 10.0  # gates and ranges move so many times as fast as the factors
_HEAT, _LOW, _HIGH = 2 / 3, -0.1, 1.1  # of the hard-concrete distribution


def sweep(model, task):
    return [
        {"rank": rank, "price": price, "steps": steps, "rate": 1e-2}
        for rank, price, steps in ((1, 0.1, 100), (1, 0.1, 200), (2, 0.1, 200), (8, 0.1, 400))
    ]


def fit(model, task, settings, seed, progress):
    (names, target), rank, steps = blocks(model), settings["rank"], settings["steps"]
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    factors, ranges = [], []
    for name in names:
        shape = model.lm.get_parameter(name).shape
        for size, spread in zip(shape, (0.0, 1 / math.sqrt(shape[1])), strict=True):
            values = spread * torch.randn(size, rank, generator=generator)
            factors.append(values.to(model.lm.device).requires_grad_(True))
            ranges.append((3 * spread or 0.3) / _GATE_PACE)
    # Adam moves all parameters alike: what is to move faster is kept small.
    reach = torch.tensor(ranges, device=model.lm.device, requires_grad=True)
    width_gates = torch.full((len(factors), 3), 2.0 / _GATE_PACE, device=model.lm.device, requires_grad=True)
    rank_gates = torch.full((len(names), rank - 1), 2.0 / _GATE_PACE, device=model.lm.device, requires_grad=True)
    share = torch.tensor([values.numel() for values in factors], device=model.lm.device).float()
    share /= share.sum()

    def update():
        widths, ranks = _sampled(_GATE_PACE * width_gates), _sampled(_GATE_PACE * rank_gates)
        quantised = [
            _quantised(values, _GATE_PACE * limit, gates)
            for values, limit, gates in zip(factors, reach, widths, strict=True)
        ]
        kept = torch.cat([torch.ones(len(names), 1, device=model.lm.device), ranks], 1)
        return Update({name: (quantised[2 * k] * kept[k], quantised[2 * k + 1].T) for k, name in enumerate(names)})

    def priced():
        for loss in gradients(model, batches(model, task, _BATCH, steps, seed), update):
            opened = _opened(_GATE_PACE * width_gates).cumprod(1)
            bits = 2 + opened @ torch.tensor([2.0, 4.0, 8.0], device=opened.device)
            cost = (share * bits).sum() + _opened(_GATE_PACE * rank_gates).mean(1).sum()
            (settings["price"] * cost).backward()
            yield loss

    with model.quick():
        train([*factors, reach, width_gates, rank_gates], priced(), steps, settings["rate"], progress)
    coded = _coded(names, target, factors, reach, width_gates, rank_gates)
    return fitted("blora", model, task, coded)


def _sampled(gates: torch.Tensor) -> torch.Tensor:
    """Gates in [0, 1] drawn from the hard-concrete distribution with these logits."""
    noise = torch.rand_like(gates).clamp(1e-6, 1 - 1e-6)
    soft = ((noise.log() - (1 - noise).log() + gates) / _HEAT).sigmoid()
    return (soft * (_HIGH - _LOW) + _LOW).clamp(0, 1)


def _opened(gates: torch.Tensor) -> torch.Tensor:
    """The probability that a gate with this logit is not shut."""
    return (gates - _HEAT * math.log(-_LOW / _HIGH)).sigmoid()


def _quantised(values: torch.Tensor, limit: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
    """The values at 2 bits, and residuals at 4, 8 and 16 as far as the gates let them in; straight through."""
    limit = limit.abs() + 1e-6
    values, step = values.clamp(-limit, limit), 2 * limit / 3
    result, opening = step * rounded(values / step), 1.0
    for gate, finer in zip(gates, (5, 17, 257), strict=True):
        step, opening = step / finer, opening * gate
        result = result + opening * step * rounded((values - result) / step)
    return result


def _coded(names, target, factors, reach, width_gates, rank_gates) -> Coded:
    encoder, uniform = constriction.stream.queue.RangeEncoder(), constriction.stream.model.Uniform
    widths = _opened(_GATE_PACE * width_gates.detach()).gt(0.5).long().cumprod(1).sum(1).tolist()
    columns = [[0, *(1 + gates.nonzero().flatten()).tolist()] for gates in _opened(_GATE_PACE * rank_gates) > 0.5]
    bits = 0.0
    rank = factors[0].shape[1]
    for k, kept in enumerate(columns):
        encoder.encode(len(kept), uniform(rank + 1))
        for i in (2 * k, 2 * k + 1):
            levels = 2 ** (2 << widths[i])
            limit = _GATE_PACE * reach[i].abs().item() + 1e-6
            step = np.float16(2 * limit / (levels - 1))
            most = levels // 2 - 1
            numbers = np.rint(factors[i].detach()[:, kept].cpu().numpy() / float(step)).clip(-most, most)
            encoder.encode(widths[i], uniform(4))
            encoder.encode(int(step.view("u2")), uniform(65536))
            encoder.encode((numbers + levels // 2).astype(np.int32).ravel(), uniform(levels))
            bits += numbers.size * (2 << widths[i])
    ranks = {name: len(kept) for name, kept in zip(names, columns, strict=True)}
    content = {"bits": [2 << width for width in widths], "ranks": ranks}
    return Coded("blora", {"target": target, "rank": rank}, payload(encoder), bits, content)
