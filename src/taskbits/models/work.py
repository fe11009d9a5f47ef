"""What a model has to do, in floating-point operations as they are usually counted (Kaplan et al. 2020).

Two for each parameter and token that is read or written, six where the token is trained on. Padding and what is
computed twice to be sure are not counted: they belong to a machine, not to a program.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import transformers


def per_token(lm: transformers.PreTrainedModel) -> int:
    """Operations for one token. A table that tokens are only looked up in takes none."""
    table, head = lm.get_input_embeddings(), lm.get_output_embeddings()
    looked_up = table.weight.numel() if head is None or head.weight is not table.weight else 0
    return 2 * (lm.num_parameters() - looked_up)


@contextmanager
def counted(lm: transformers.PreTrainedModel) -> Iterator[list[int]]:
    """The operations of each pass through the model inside, as they come; backward passes are counted with their
    forward ones, wherever gradients are kept."""
    each, passes = per_token(lm), []

    def count(module, arguments, named) -> None:
        tokens = named.get("input_ids", arguments[0] if arguments else None)
        tokens = named.get("inputs_embeds") if tokens is None else tokens
        if tokens is not None:
            passes.append(tokens.shape[:2].numel() * each * (3 if torch.is_grad_enabled() else 1))

    hook = lm.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield passes
    finally:
        hook.remove()
