"""A core between each matrix's own first singular directions (Bałazy et al. 2024): W += U S core V, cut to `rank`.

The entries of the cores are `step` times whole numbers, coded as those of the runner `low_rank`. A singular direction's
sign is the one for which its entries sum to more than 0.

A whole decomposition of large matrices takes hours. With `rounds` the directions are what so many rounds of a power
iteration make of random ones (Halko et al. 2011): about the first singular ones, in float32.
"""

import constriction
import numpy
import torch

from taskbits.programs.runners import check_matrices, check_numbers, require

WORD = "u4"
CHANGES = "target"


def adapt(pipe, data, target, rank, step, spread, bound, rounds=0):
    decoder = constriction.stream.queue.RangeDecoder(data)
    for name, weight in pipe.model.named_parameters():
        if target in name:
            if rounds:
                plain = weight.data.float()
                right = plain.new_tensor(numpy.random.RandomState(0).randn(rank, plain.shape[1]))
                for _ in range(rounds):
                    right = torch.linalg.qr(plain.T @ (plain @ right.T))[0].T
                left, values, right = (plain @ right.T).to(weight), 1 + weight[0, :rank] * 0, right.to(weight)
            else:
                left, values, right = torch.linalg.svd(weight.data, full_matrices=False)
            sign = left.sum(0)[:rank].sign()
            scale = spread / 2 ** decoder.decode(constriction.stream.model.Uniform(8))
            laplace = constriction.stream.model.QuantizedLaplace(-bound, bound, 0, scale)
            core = weight.new_tensor(step * decoder.decode(laplace, rank**2)).view(rank, rank)
            weight.data += left[:, :rank] * (values[:rank] * sign) @ core * sign @ right[:rank]
    return ""


def check(model, data, target, rank, step, spread, bound, rounds=0):
    require(type(rounds) is int and 0 <= rounds <= 16, "rounds")
    check_matrices(model, target)
    check_numbers(step, spread, bound)
    smallest = min(min(weight.shape) for name, weight in model.lm.named_parameters() if target in name)
    require(type(rank) is int and 0 < rank <= smallest, "rank")


def directions(weight: torch.Tensor, rank: int, rounds: int) -> tuple[torch.Tensor, torch.Tensor]:
    """U S (rows, rank) and V (rank, columns) as `adapt` computes them: a change is their product around the core."""
    if rounds:
        plain = weight.float()
        right = plain.new_tensor(numpy.random.RandomState(0).randn(rank, plain.shape[1]))
        for _ in range(rounds):
            right = torch.linalg.qr(plain.T @ (plain @ right.T))[0].T
        return plain @ right.T, right
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    sign = left.sum(0)[:rank].sign()
    return left[:, :rank] * (values[:rank] * sign), sign[:, None] * right[:rank]
