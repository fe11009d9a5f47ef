"""Logits only where they are asked for: the last product, with the vocabulary, can be the largest part of the work.

A causal LM is taken as a body, which gives a hidden state for each token, and a head, which makes logits of each state
by itself. Whether a model is one is seen once, from what both ways give (`splits`); of another all logits are computed.
Knows nothing of texts.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import transformers
from transformers.modeling_outputs import MoeModelOutputWithPast

_SAME = 1e-3  # most by which logits may differ, over the largest
_TRIAL = 7  # tokens


def states(
    lm: transformers.PreTrainedModel,
    tokens: torch.Tensor,
    at: torch.Tensor | tuple[torch.Tensor, torch.Tensor],
    **inputs,
) -> torch.Tensor:
    """What `of_states` makes logits of, for these places: hidden states (n, width) or, of some models, the logits.

    at: a mask of the shape of `tokens`, or the places' rows and columns, each (n,).
    """
    rows, places = at if isinstance(at, tuple) else at.nonzero(as_tuple=True)
    if body := _body(lm):
        found = body(tokens, **inputs)[0]
    else:
        first = int(places.min()) if len(places) else 0
        found = lm(tokens, logits_to_keep=tokens.shape[1] - first, **inputs).logits
        places = places - tokens.shape[1] + found.shape[1]
    return found[rows.to(found.device), places.to(found.device)]


def of_states(lm: transformers.PreTrainedModel, hidden: torch.Tensor) -> torch.Tensor:
    """Logits (n, vocabulary) of what `states` gave."""
    if not (body := _body(lm)):
        return hidden
    with _gives(body, hidden[None]):
        return lm(hidden.new_zeros(1, 1, dtype=torch.long), use_cache=False).logits[0]


def splits(lm: transformers.PreTrainedModel) -> bool:
    """Whether the model is a body and a head that sees each token by itself."""
    return _body(lm) is not None


@torch.no_grad()
def read_some(lm: transformers.PreTrainedModel) -> tuple[torch.Tensor, torch.Tensor]:
    """A few tokens (1, n), and the model's logits for them (1, n, vocabulary)."""
    device = lm.get_input_embeddings().weight.device
    tokens = torch.arange(1, _TRIAL)[None].to(lm.device if device.type == "meta" else device)
    return tokens, lm(tokens, use_cache=False).logits


def _body(lm: transformers.PreTrainedModel) -> torch.nn.Module | None:
    """The part of the model that gives the hidden states of its head, None if there is none."""
    if "_taskbits_body" not in lm.__dict__:
        candidates = [lm.base_model, *([lm.get_decoder()] if hasattr(lm, "get_decoder") else [])]
        found = next((body for body in candidates if body is not lm and _is_body(lm, body)), None)
        lm.__dict__["_taskbits_body"] = found
    return lm.__dict__["_taskbits_body"]


@torch.no_grad()
def _is_body(lm: transformers.PreTrainedModel, body: torch.nn.Module) -> bool:
    """Whether what it gives, and the model makes logits of, are the model's logits."""
    tokens, whole = read_some(lm)
    try:
        with _gives(body, body(tokens, use_cache=False)[0][:, 2:]):
            parts = lm(tokens[:, :1], use_cache=False).logits
    except Exception:  # each class has its own ways
        return False
    whole = whole[:, 2:]
    if parts is None or parts.shape != whole.shape:
        return False
    return bool((whole - parts).abs().max() <= _SAME * whole.abs().max())


class _Given(MoeModelOutputWithPast):
    """What a body gives: hidden states, and nothing else that it may be asked for."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)


@contextmanager
def _gives(body: torch.nn.Module, hidden: torch.Tensor) -> Iterator[None]:
    """Inside, the body gives these hidden states (rows, n, width), whatever it is asked."""
    body.forward = lambda *_, **__: _Given(last_hidden_state=hidden)
    try:
        yield
    finally:
        del body.forward
