"""A low-rank change to the weights, trained with peft (Hu et al. 2021), its factors stored as float16."""

import numpy as np
import peft
import torch

from taskbits.fitting.fitted import fitted
from taskbits.fitting.training import batches, cross_entropies, train
from taskbits.models.places import attention, blocks, is_transposed
from taskbits.programs.coding import Coded

FAMILY = "parametric"
_BATCH = 8


def sweep(model, task):
    # Few numbers take large steps; a larger model may need the smaller rate.
    return [
        {"rank": rank, "target": target, "steps": steps, "rate": rate}
        for rank, target, steps, rate in (
            (1, "blocks", 100, 1e-2),
            (8, "blocks", 100, 5e-3),
            (1, "attention", 200, 2e-2),
            (1, "blocks", 200, 1e-2),
            (8, "blocks", 400, 5e-3),
            (1, "attention", 200, 5e-3),
        )
    ]


def fit(model, task, settings, seed, progress):
    rank = settings["rank"]
    names, target = attention(model) if settings["target"] == "attention" else blocks(model)
    torch.manual_seed(seed)
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=[n.removesuffix(".weight") for n in names])
    shapes = {name: tuple(weight.shape) for name, weight in model.lm.named_parameters()}
    with model.single_precision():
        adapted = peft.get_peft_model(model.lm, config)
        try:
            trainable = [p for p in adapted.parameters() if p.requires_grad]
            losses = cross_entropies(model, batches(model, task, _BATCH, settings["steps"], seed))
            train(trainable, losses, settings["steps"], settings["rate"], progress)
            state = {key: value.cpu().double() for key, value in peft.get_peft_model_state_dict(adapted).items()}
        finally:
            adapted.unload()
    factors = []
    for name in names:
        stem = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        left, right = state[f"{stem}B.weight"], state[f"{stem}A.weight"]
        if is_transposed(model, name):
            left, right = right.T, left.T
        factors.append((left, right))
    values = np.concatenate([part for k in range(rank) for left, right in factors for part in (left[:, k], right[k])])
    content = {"tensors": {name: list(shapes[name]) for name in names}, "rank": rank}
    coded = Coded(
        "lora_fp16", {"target": target, "rank": rank}, values.astype("<f2").tobytes(), 16.0 * len(values), content
    )
    return fitted("lora-fp16", model, task, coded)
