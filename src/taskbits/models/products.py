"""Products of a model in bfloat16 on a processor without units for it, where they take many times as long as in float32
(their backward pass a hundred times): each is computed in float32, of a matrix that is converted for it alone."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
import transformers

from taskbits.models import devices


def converted(lm: transformers.PreTrainedModel) -> contextmanager:
    """Inside, the model's plain products are computed so, where it gains; differentiable."""
    width = lm.get_input_embeddings().weight.shape[-1]
    needed = lm.dtype == torch.bfloat16 and lm.device.type == "cpu" and not devices.gains_by_bfloat16(lm.device, width)
    return _converted(lm) if needed else nullcontext()


@contextmanager
def _converted(lm: transformers.PreTrainedModel) -> Iterator[None]:
    plain = [
        module
        for module in lm.modules()
        if type(module).forward is torch.nn.Linear.forward and "forward" not in module.__dict__
    ]
    for module in plain:
        module.forward = _forward_of(module)
    try:
        yield
    finally:
        for module in plain:
            del module.forward


def _forward_of(module: torch.nn.Linear):
    def forward(given: torch.Tensor) -> torch.Tensor:
        product = _Product.apply(given, module.weight)
        return product if module.bias is None else product + module.bias

    return forward


class _Product(torch.autograd.Function):
    """given (..., columns) and a matrix (rows, columns) to (..., rows); keeps no converted matrix for the way back."""

    @staticmethod
    def forward(ctx, given: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(given if ctx.needs_input_grad[1] else None, matrix)
        return (given.float() @ matrix.float().mT).to(given)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        given, matrix = ctx.saved_tensors
        wide, of_given, of_matrix = gradient.float(), None, None
        if ctx.needs_input_grad[0]:
            of_given = (wide @ matrix.float()).to(gradient)
        if ctx.needs_input_grad[1]:
            of_matrix = (wide.flatten(0, -2).mT @ given.float().flatten(0, -2)).to(matrix)
        return of_given, of_matrix
