"""Whether a model is still what was loaded, after something failed while it was changed.

`Model.preserved` undoes what is done to weights. What fails half-way can leave more: layers that are wrapped, hooks,
another arithmetic or way to attend, parameters that were taken away.
"""

import gc
import hashlib

import torch

from taskbits.models.model import Model, load_model

_AT_ONCE = 2**22  # words that are widened at a time
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes


def mark(model: Model) -> str:
    """A digest of how the model is built and of all that decides what it computes; weights count by their bits' sum."""
    lm, digest = model.lm, hashlib.sha256()
    for name, module in lm.named_modules():
        hooks = [len(kept) for kept in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)]
        digest.update(f"{name} {type(module)} {module.training} {hooks}\n".encode())
    for name, tensor in (*lm.named_parameters(), *lm.named_buffers()):
        words = tensor.detach().contiguous().flatten().view(_WORDS[tensor.element_size()])
        bits = sum(part.sum(dtype=torch.int64).item() for part in words.split(_AT_ONCE)) % 2**64
        digest.update(f"{name} {tensor.dtype} {tensor.device} {tensor.requires_grad} {bits}\n".encode())
    digest.update(str(lm.config.get_text_config()._attn_implementation).encode())
    return digest.hexdigest()


def mended(model: Model, marked: str) -> Model:
    """The model if it is as it was when it was marked, else the same loaded again.

    Raises UserError if it can't be loaded again.
    """
    try:
        if mark(model) == marked:
            return model
    except (RuntimeError, AttributeError, TypeError, ValueError):
        pass  # what can't even be looked at is not what it was
    named = (model.spec, model.state, model.seed, model.revision, model.said_dtype, model.device_map)
    donor = model.donor
    vars(model).clear()  # its memory is needed
    gc.collect()
    vars(model).update(vars(load_model(*named)))  # for all who hold it
    model.donor = donor
    return model
