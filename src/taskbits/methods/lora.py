"""A low-rank change to the weights, stored as float16 (bits 16) or quantised and entropy-coded.

Trained with peft (Hu et al. 2021). The factors are rotated to their singular directions and balanced, so that one
Laplace distribution fits them all; `bits` is then about the number of bits that a value takes.
"""

import math
import re

import numpy as np
import peft
import torch

from taskbits.coding import Coded, encode_integers
from taskbits.errors import UserError
from taskbits.methods import fitted
from taskbits.training import batches, train

FAMILY = "parametric"
_BATCH = 16
_RATE = 5e-3
_trained: dict[tuple, list] = {}


def sweep(model, task):
    shapes = [
        (rank, target, steps)
        for rank, target, steps in ((1, "attn", 100), (1, "blocks", 200), (4, "blocks", 200), (8, "blocks", 400))
        if target == "blocks" or _matrices(model, target)
    ]
    return [
        {"rank": rank, "target": target, "steps": steps, "bits": bits}
        for rank, target, steps in shapes
        for bits in (3, 2, 1, 16)
    ]


def fit(model, task, settings, seed, progress):
    target = _blocks(model) if settings["target"] == "blocks" else settings["target"]
    factors = _factors(model, task, target, settings["rank"], settings["steps"], seed, progress)
    values = np.concatenate([np.concatenate([left.ravel(), right.ravel()]) for _, left, right in factors])
    shared = {"target": target, "rank": settings["rank"], "count": len(values)}
    content = {"tensors": {name: [left.shape[0], right.shape[1]] for name, left, right in factors}, **shared}
    if settings["bits"] == 16:
        coded = Coded(
            values.astype("<f2").tobytes(),
            {**shared, "step": 1.0, "spread": 1.0, "bound": 0},
            16.0 * len(values),
            content,
        )
    else:
        # A Laplace variable of scale s, in steps, has about log2(2 e s) bits.
        step = float(f"{np.abs(values).mean() * 2 * math.e / 2 ** settings['bits']:.2g}")
        payload, distribution, entropy = encode_integers(np.rint(values / step))
        coded = Coded(payload, {**shared, "step": step, **distribution}, entropy, content)
    return fitted("lora", model, task, "lora", coded)


def _blocks(model) -> str:
    """The part of a parameter's name that all of the transformer's blocks share, such as 'layers.'."""
    numbered = [re.match(r"(?:.*?\.)?(\w+\.)\d+\.", name) for name, _ in model.lm.named_parameters()]
    found = [match.group(1) for match in numbered if match]
    if not found:
        raise UserError("method lora finds no numbered blocks in this model")
    return max(sorted(set(found)), key=found.count)


def _matrices(model, target: str) -> list[str]:
    return [name for name, weight in model.lm.named_parameters() if weight.ndim == 2 and target in name]


def _factors(model, task, target, rank, steps, seed, progress) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Trained (name, left, right) for each matrix. The last one is kept: a sweep over bits trains once."""
    key = (id(model), id(task), target, rank, steps, seed)
    if key not in _trained:
        _trained.clear()
        _trained[key] = _train(model, task, target, rank, steps, seed, progress)
    return _trained[key]


def _train(model, task, target, rank, steps, seed, progress) -> list[tuple[str, np.ndarray, np.ndarray]]:
    names = _matrices(model, target)
    if not names:
        raise UserError(f"method lora finds no matrix with {target!r} in its name in this model")
    torch.manual_seed(seed)
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=[n.removesuffix(".weight") for n in names])
    shapes = {name: weight.shape for name, weight in model.lm.named_parameters()}
    with model.single_precision():
        adapted = peft.get_peft_model(model.lm, config)
        try:
            trainable = [p for p in adapted.parameters() if p.requires_grad]
            train(model, trainable, batches(model, task, _BATCH, steps, seed), steps, _RATE, progress)
            state = peft.get_peft_model_state_dict(adapted)
        finally:
            adapted.unload()
            model.lm.requires_grad_(True)
    factors = []
    for name in names:
        stem = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        left, right = state[f"{stem}B.weight"].double(), state[f"{stem}A.weight"].double()
        if (left.shape[0], right.shape[1]) != tuple(shapes[name]):  # some architectures keep W transposed
            left, right = right.T, left.T
        factors.append((name, *_balanced(left @ right, rank)))
    return factors


def _balanced(change: torch.Tensor, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Factors of a low-rank matrix along its singular directions, with entries of equal mean square."""
    u, s, v = torch.linalg.svd(change, full_matrices=False)
    ratio = (change.shape[0] / change.shape[1]) ** 0.25
    root = s[:rank].sqrt()
    return (u[:, :rank] * root * ratio).numpy(), (root[:, None] * v[:rank] / ratio).numpy()
