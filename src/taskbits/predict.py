"""From prompts to outputs: greedy generation, or the likeliest of some choices.

Text in, text out; knows nothing of tasks or programs. Tokens that all prompts share at their start are computed
once; prompts of like length share a batch. In float64 none of this changes what comes out.
"""

import copy
from collections.abc import Callable

import torch
import transformers

from taskbits.errors import UserError
from taskbits.model import Model
from taskbits.task import Frame

_BATCH_TOKENS = 16_384
_LOGITS = 2**26
_SHARED = 16  # a shorter shared start is not worth a cache

Advance = Callable[[int], None]


def predict(
    model: Model, frame: Frame, prompts: list[str], advance: Advance = lambda n: None, sample: bool = False
) -> list[str]:
    """The model's output for each prompt, in order. `advance(n)` is called when n more are done.

    sample: draw the tokens from the model's distribution instead of taking the likeliest.

    Raises UserError if a prompt and what is generated don't fit in the model's context.
    """
    if not prompts:
        return []
    if frame.choices:
        return _choose(model, prompts, frame.choices, advance)
    return _generate(model, prompts, frame, advance, sample)


@torch.inference_mode()
def _generate(model: Model, prompts: list[str], frame: Frame, advance: Advance, sample: bool) -> list[str]:
    ids = [model.tokenizer(prompt).input_ids for prompt in prompts]
    _check_context(model, prompts, [len(row) + frame.max_new_tokens for row in ids])
    shared, cache = _share(model, ids)
    outputs: list[str] = [""] * len(prompts)
    pad = model.tokenizer.pad_token_id or 0
    for batch in _batches(ids, shared, frame.max_new_tokens):
        width = max(len(ids[i]) for i in batch)
        tokens = torch.tensor([ids[i][:shared] + [pad] * (width - len(ids[i])) + ids[i][shared:] for i in batch])
        mask = torch.tensor([[1] * shared + [0] * (width - len(ids[i])) + [1] * (len(ids[i]) - shared) for i in batch])
        written = model.lm.generate(
            input_ids=tokens.to(model.lm.device),
            attention_mask=mask.to(model.lm.device),
            past_key_values=_copies(cache, len(batch)),
            max_new_tokens=frame.max_new_tokens,
            **({"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sample else {"do_sample": False}),
            pad_token_id=pad,
            stopping_criteria=[_Stop(model.tokenizer, frame.stop, width)] if frame.stop else None,
        )
        for i, row in zip(batch, written.tolist(), strict=True):
            outputs[i] = _text(model, row[width:], frame.stop)
        advance(len(batch))
    return outputs


def _text(model: Model, written: list[int], stop: tuple[str, ...]) -> str:
    text = model.tokenizer.decode(written, skip_special_tokens=True)
    for end in stop:
        text = text.split(end)[0]
    return text


class _Stop(transformers.StoppingCriteria):
    """A row is finished once a stop string stands in what it wrote."""

    def __init__(self, tokenizer, stop: tuple[str, ...], start: int):
        self.tokenizer, self.stop, self.start = tokenizer, stop, start
        self.finished: torch.Tensor | None = None

    def __call__(self, input_ids, scores, **kwargs):
        if self.finished is None:
            self.finished = torch.zeros(len(input_ids), dtype=torch.bool)
        # No stop string is longer in tokens than in bytes; a few more tokens cover one that starts inside a token.
        tail = max(len(end.encode()) for end in self.stop) + 2
        for row in (~self.finished).nonzero().flatten().tolist():
            text = self.tokenizer.decode(input_ids[row, max(self.start, input_ids.shape[1] - tail) :])
            self.finished[row] = any(end in text for end in self.stop)
        return self.finished.to(input_ids.device)


@torch.inference_mode()
def _choose(model: Model, prompts: list[str], choices: tuple[str, ...], advance: Advance) -> list[str]:
    """For each prompt the choice c with the largest p(prompt + c): the prompt's own share is the same for all."""
    ids = [[model.tokenizer(prompt + choice).input_ids for choice in choices] for prompt in prompts]
    _check_context(model, prompts, [max(map(len, row)) for row in ids])
    common = [max(1, _common_length(row)) for row in ids]
    # The last token's logits are not needed, and one forward pass serves every choice that starts another.
    passes = [(i, tokens) for i, row in enumerate(ids) for tokens in _maximal([choice[:-1] for choice in row])]
    shared, cache = _share(model, [tokens[: common[i] - 1] for i, tokens in passes])
    scores: list[dict[tuple, float]] = [{} for _ in prompts]
    limit = max(1, _LOGITS // model.lm.config.get_text_config().vocab_size)
    for batch in _batches([tokens for _, tokens in passes], shared, 0, limit):
        rows = [passes[p][1][shared:] for p in batch]
        width = max(map(len, rows))
        tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows]).to(model.lm.device)
        surprisal = -model.lm(tokens, past_key_values=_copies(cache, len(batch))).logits.log_softmax(-1)
        for row, (i, sequence) in zip(surprisal, (passes[p] for p in batch), strict=True):
            for choice in ids[i]:
                if sequence[: len(choice) - 1] == choice[:-1]:
                    terms = [row[t - 1 - shared, choice[t]] for t in range(common[i], len(choice))]
                    scores[i][tuple(choice)] = sum(terms, torch.zeros((), dtype=row.dtype)).item()
        advance(len({passes[p][0] for p in batch}))
    return [
        min(zip(choices, row, strict=True), key=lambda pair: found[tuple(pair[1])])[0]
        for row, found in zip(ids, scores, strict=True)
    ]


def _check_context(model: Model, prompts: list[str], lengths: list[int]) -> None:
    for prompt, length in zip(prompts, lengths, strict=True):
        if length > model.context:
            raise UserError(
                f"an input needs {length} tokens and the model's context has {model.context}: "
                f"{prompt[-60:]!r}; shorten it or lower max_new_tokens"
            )


def _common_length(rows: list[list[int]]) -> int:
    """How many tokens all rows share at their start."""
    first, last = min(rows), max(rows)
    return next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def _maximal(rows: list[list[int]]) -> list[list[int]]:
    """The rows without those that start another row."""
    ordered = sorted(rows)
    return [a for a, b in zip(ordered, [*ordered[1:], []], strict=True) if b[: len(a)] != a or not b]


def _share(model: Model, rows: list[list[int]]) -> tuple[int, transformers.DynamicCache | None]:
    """Length and cache of the tokens that all rows share; at least one token of each row is left over."""
    length = min(_common_length(rows), min(map(len, rows)) - 1)
    if len(rows) < 2 or length < _SHARED:
        return 0, None
    tokens = torch.tensor([rows[0][:length]]).to(model.lm.device)
    return length, model.lm(tokens, use_cache=True, logits_to_keep=1).past_key_values


def _copies(cache: transformers.DynamicCache | None, count: int) -> transformers.DynamicCache | None:
    if cache is not None:
        cache = copy.deepcopy(cache)
        cache.batch_repeat_interleave(count)
    return cache


def _batches(rows: list[list[int]], shared: int, extra: int, limit: int = _BATCH_TOKENS) -> list[list[int]]:
    """Indices of rows in batches of like length, longest first; a batch has at most `limit` tokens past `shared`."""
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    batches: list[list[int]] = []
    while order:
        width = len(rows[order[0]]) - shared + extra
        count = min(128, max(1, limit // max(1, width)))
        batches.append(order[:count])
        order = order[count:]
    return batches
