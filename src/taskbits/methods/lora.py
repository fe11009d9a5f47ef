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
_BATCH = 8
_trained: dict[tuple, list] = {}


def sweep(model, task):
    # Few numbers take large steps; a larger model may need the smaller rate.
    shapes = [
        (1, "attn", 100, 2e-2),
        (1, "attn", 200, 2e-2),
        (4, "blocks", 300, 5e-3),
        (1, "blocks", 200, 1e-2),
        (8, "blocks", 400, 5e-3),
        (2, "blocks", 300, 1e-2),
        (1, "attn", 200, 5e-3),
    ]
    return [
        {"rank": rank, "target": target, "steps": steps, "rate": rate, "bits": bits}
        for rank, target, steps, rate in shapes
        if _matrices(model, target)
        for bits in (2, 1, 16, 3)  # they share one training
    ]


def fit(model, task, settings, seed, progress):
    rank, names = settings["rank"], _matrices(model, settings["target"])
    factors = _factors(model, task, tuple(names), rank, settings["steps"], settings["rate"], seed, progress)
    values = np.concatenate(
        [part for k in range(rank) for _, left, right in factors for part in (left[:, k], right[k])]
    )
    shared = {"target": _selector(model, names), "rank": rank}
    content = {"tensors": {name: [left.shape[0], right.shape[1]] for name, left, right in factors}, "rank": rank}
    if settings["bits"] == 16:
        coded = Coded(values.astype("<f2").tobytes(), shared, 16.0 * len(values), content)
        return fitted("lora", model, task, "lora_fp16", coded)
    # A Laplace variable of scale s, in steps, has about log2(2 e s) bits.
    step = np.abs(values).mean() * 2 * math.e / 2 ** settings["bits"]
    payload, distribution, entropy = encode_integers(np.rint(values / step))
    coded = Coded(payload, {**shared, "step": float(f"{step:.2g}"), **distribution}, entropy, content)
    return fitted("lora", model, task, "lora", coded)


def _matrices(model, target: str) -> list[str]:
    """Names of the matrices in the transformer's blocks; all of them ("blocks") or those with `target` in the name."""
    numbered = [re.match(r"(.*?)\.\d+\.", name) for name, _ in model.lm.named_parameters()]
    stems = [match.group(1) for match in numbered if match]
    blocks = max(sorted(set(stems)), key=stems.count, default="")
    return [
        name
        for name, weight in model.lm.named_parameters()
        if blocks and name.startswith(blocks) and weight.ndim == 2 and (target == "blocks" or target in name)
    ]


def _selector(model, names: list[str]) -> str:
    """The shortest text that stands in these parameters' names and in no others."""
    others = [name for name, _ in model.lm.named_parameters() if name not in names]
    first = names[0]
    parts = sorted(
        {first[i:j] for i in range(len(first)) for j in range(i + 1, len(first) + 1)}, key=lambda p: (len(p), p)
    )
    for part in parts:
        if all(part in name for name in names) and not any(part in name for name in others):
            return part
    raise UserError("method lora finds nothing that tells this model's matrices from its other parameters by name")


def _factors(model, task, names, rank, steps, rate, seed, progress) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Trained (name, left, right) for each matrix. The last one is kept: a sweep over bits trains once."""
    key = (model.fingerprint, task.fingerprint, names, rank, steps, rate, seed)
    if key not in _trained:
        _trained.clear()
        _trained[key] = _train(model, task, names, rank, steps, rate, seed, progress)
    return _trained[key]


def _train(model, task, names, rank, steps, rate, seed, progress) -> list[tuple[str, np.ndarray, np.ndarray]]:
    torch.manual_seed(seed)
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=[n.removesuffix(".weight") for n in names])
    shapes = {name: weight.shape for name, weight in model.lm.named_parameters()}
    with model.single_precision():
        adapted = peft.get_peft_model(model.lm, config)
        try:
            trainable = [p for p in adapted.parameters() if p.requires_grad]
            train(model, trainable, batches(model, task, _BATCH, steps, seed), steps, rate, progress)
            state = peft.get_peft_model_state_dict(adapted)
        finally:
            adapted.unload()
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
