"""The forward pass of training: what a row's last tokens cost, differentiable, as fast as this machine can have it.

A row is its tokens and the number of the first that counts. Logits are computed for what counts only, in parts if they
are many; attention is computed in the way that is the faster here for rows of this length; layers are computed twice
where there is no memory for what they leave. Deals in token ids and knows nothing of texts, tasks or programs.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import transformers
from torch.utils.checkpoint import checkpoint

from taskbits.models import engine, heads, memory
from taskbits.models.devices import ratio

Row = tuple[list[int], int]

_NOTHING = -1  # where there is no token
_LOGITS = 2**25  # that are held at a time
_GAIN = 0.7  # of the time of the fused attention that another must take at most
_LEFT = 40  # numbers that a layer leaves for the backward pass, for each of a token's in its hidden state
_ENOUGH = 3 * 2**29  # bytes that a part leaves, from where on a CPU does not gain by larger ones
_SCORES = 2**27  # attention scores of a layer that may be held; where there would be more, the fused attention is taken


class Inputs(NamedTuple):
    """Rows as a model takes them. tokens, real: (rows, longest), padded on the right, and which are no padding; rows,
    places: (n,) where what counts is read from; wanted: (n,) what counts, and `_NOTHING` where nothing does."""

    tokens: torch.Tensor
    real: torch.Tensor
    rows: torch.Tensor
    places: torch.Tensor
    wanted: torch.Tensor


def inputs(lm: transformers.PreTrainedModel, rows: list[Row], length: int = 0, count: int = 0) -> Inputs:
    """The rows; length, count: with at least as many places for tokens and for what counts."""
    tokens, real = engine.padded(lm, [tokens for tokens, _ in rows], length)
    counted = [(row, at - 1) for row, (some, first) in enumerate(rows) for at in range(max(1, first), len(some))]
    at = torch.tensor(counted + [(0, 0)] * (count - len(counted)), dtype=torch.long).reshape(-1, 2).to(tokens.device)
    wanted = tokens[at[:, 0], at[:, 1] + 1]
    wanted[len(counted) :] = _NOTHING
    return Inputs(tokens, real, at[:, 0], at[:, 1], wanted)


def surprisals(lm: transformers.PreTrainedModel, rows: list[Row]) -> torch.Tensor:
    """What each token that counts costs, in nats, float32 (n,): row after row. A row's first token never counts."""
    return costs(lm, inputs(lm, rows))


def costs(lm: transformers.PreTrainedModel, given: Inputs) -> torch.Tensor:
    """`surprisals` of inputs, and 0 where nothing counts."""
    # What stands behind a causal model's tokens changes nothing, and the fastest ways of attention know no mask.
    masked = {} if engine.is_causal(lm) or bool(given.real.all()) else {"attention_mask": given.real.long()}
    hidden = heads.states(lm, given.tokens, (given.rows, given.places), use_cache=False, **masked)
    wanted = given.wanted.to(hidden.device)
    size = max(1, _LOGITS // engine.vocabulary(lm))
    if len(wanted) <= size:
        return _costs(lm, hidden, wanted)
    return torch.cat(
        [
            checkpoint(_costs, lm, *part, use_reentrant=False, preserve_rng_state=False)
            for part in zip(hidden.split(size), wanted.split(size), strict=True)
        ]
    )


def _costs(lm: transformers.PreTrainedModel, hidden: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    logits = heads.of_states(lm, hidden).float()
    wanted = wanted.to(logits.device)
    return torch.nn.functional.cross_entropy(logits, wanted, reduction="none", ignore_index=_NOTHING)


def parts(lm: transformers.PreTrainedModel, rows: list[Row]) -> list[list[Row]]:
    """The rows, longest first, in parts of which each fits in half of the free memory with all that it leaves for the
    backward pass, on a CPU in `_ENOUGH` of it; a single row may not."""
    ordered = sorted(rows, key=lambda row: -len(row[0]))
    found: list[list[Row]] = []
    device = engine.input_device(lm)
    budget = memory.available(device) / 2
    if device.type == "cpu":
        budget = min(budget, _ENOUGH)
    while ordered:
        one = _left_by(lm, ordered[0])
        count = max(1, int(budget / one))
        found.append(ordered[:count])
        ordered = ordered[count:]
    return found


@contextmanager
def fast(lm: transformers.PreTrainedModel, rows: list[Row]) -> Iterator[None]:
    """Inside, `surprisals` of these rows and its backward pass take the attention and the memory that suit them."""
    before = lm.config.get_text_config()._attn_implementation
    length = max(len(tokens) for tokens, _ in rows)
    tight = share(lm, [max(rows, key=lambda row: len(row[0]))]) > 0.5
    eager = before == "sdpa" and not tight and _eager_is_faster(lm, len(rows), length)
    layers = [module for module in lm.modules() if hasattr(module, "gradient_checkpointing")] if tight else []
    if eager:
        lm.set_attn_implementation("eager")
    if layers:
        lm.gradient_checkpointing_enable({"use_reentrant": False})
    for layer in layers:
        layer.training = True  # what it asks before it computes twice; the modules in it stay as they are
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
        if layers:
            lm.gradient_checkpointing_disable()
        if eager:
            lm.set_attn_implementation(before)


def share(lm: transformers.PreTrainedModel, rows: list[Row]) -> float:
    """About how much of the free memory these rows take with all that they leave for the backward pass."""
    return sum(_left_by(lm, row) for row in rows) / max(1, memory.available(engine.input_device(lm)))


def _left_by(lm: transformers.PreTrainedModel, row: Row) -> float:
    """About how many bytes a row of this length leaves for the backward pass."""
    tokens, first = row
    layers, heads_, width = _shape(lm)
    size = next(lm.parameters()).element_size()
    each = layers * size * (_LEFT * width + heads_ * len(tokens))
    return len(tokens) * each + 12 * min(_LOGITS, (len(tokens) - first) * engine.vocabulary(lm))


def _shape(lm: transformers.PreTrainedModel) -> tuple[int, int, int]:
    """Layers, heads and width of the hidden state, about, for a config that doesn't say."""
    config = lm.config.get_text_config()
    width = lm.get_input_embeddings().weight.shape[-1]
    layers = getattr(config, "num_hidden_layers", None) or len(list(lm.parameters())) // 8
    return layers, getattr(config, "num_attention_heads", None) or max(1, width // 64), width


def _eager_is_faster(lm: transformers.PreTrainedModel, rows: int, length: int) -> bool:
    _, count, width = _shape(lm)
    size = getattr(lm.config.get_text_config(), "head_dim", None) or width // count
    if rows * count * length**2 > _SCORES:
        return False
    rounded = [1 << (number - 1).bit_length() for number in (rows, length)]
    return _compare(lm.dtype, engine.input_device(lm), count, size, *rounded)


@functools.cache
def _compare(dtype: torch.dtype, device: torch.device, count: int, size: int, rows: int, length: int) -> bool:
    """Whether plain products take much less time than torch's fused attention, forward and backward: measured here,
    once. Where they take as long, the choice must not hang on what else the machine does: it rounds otherwise."""
    given = [torch.randn(rows, count, length, size, device=device, dtype=dtype, requires_grad=True) for _ in range(3)]

    def fused(query, key, value):
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)

    def plain(query, key, value):
        hidden = torch.full((length, length), torch.finfo(dtype).min, device=device, dtype=dtype).triu(1)
        scores = query @ key.mT * size**-0.5 + hidden
        return scores.softmax(-1, dtype=torch.float32).to(dtype) @ value

    return ratio(lambda: plain(*given).sum().backward(), lambda: fused(*given).sum().backward()) < _GAIN
