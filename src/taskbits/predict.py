"""From prompts to outputs: greedy generation, or the likeliest of some choices.

Text in, text out; knows nothing of tasks or programs. Tokens that all prompts share at their start are computed
once; prompts of like length share a batch. In float64 none of this changes what comes out.
"""

import copy
import math
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


def likelihoods(model: Model, frame: Frame, prompts: list[str], targets: list[str]) -> list[float]:
    """How near the model is to giving each reference output, from 0 to 1, by one forward pass for each.

    The mean of two figures: the chance of the reference (the geometric mean over its tokens; with choices, its share
    among them), which is smooth, and whether greedy generation gives just it (with choices, picks it).
    Raises UserError if a prompt and its reference don't fit in the model's context.
    """
    if frame.choices:
        found = _surprisals(model, prompts, [frame.choices] * len(prompts))
        worths = []
        for row, target in zip(found, targets, strict=True):
            costs = torch.tensor([cost for cost, _, _ in row], dtype=float)
            right = frame.choices.index(target)
            worths.append((float((-costs).softmax(0)[right]) + float(costs.argmin() == right)) / 2)
        return worths
    stops = [model.tokenizer(stop, add_special_tokens=False).input_ids[0] for stop in frame.stop]
    found = _surprisals(model, prompts, [(target,) for target in targets], ends=[model.end, *stops])
    return [(math.exp(-cost / max(1, count)) + greedy) / 2 for ((cost, count, greedy),) in found]


def _choose(model: Model, prompts: list[str], choices: tuple[str, ...], advance: Advance) -> list[str]:
    """For each prompt the choice c with the largest p(prompt + c): the prompt's own share is the same for all."""
    found = _surprisals(model, prompts, [choices] * len(prompts), advance)
    return [min(zip(choices, row, strict=True), key=lambda pair: pair[1][0])[0] for row in found]


@torch.inference_mode()
def _surprisals(
    model: Model,
    prompts: list[str],
    options: list[tuple[str, ...]],
    advance: Advance = lambda n: None,
    ends: list[int] | None = None,
) -> list[list[tuple[float, int, bool]]]:
    """For each option behind its prompt: surprisal in nats, number of tokens, whether each of them is the likeliest.

    Tokens that all options of a prompt share are left out. ends: one of these tokens must come next.
    """
    ids = [[model.tokenizer(prompt + o).input_ids for o in some] for prompt, some in zip(prompts, options, strict=True)]
    _check_context(model, prompts, [max(map(len, row)) for row in ids])
    common = [
        max(1, _common_length(row if len(row) > 1 else [*row, model.tokenizer(prompt).input_ids]))
        for prompt, row in zip(prompts, ids, strict=True)
    ]
    # If nothing must follow the last token, its logits are not needed; one pass serves options that start another.
    seen = [[option if ends else option[:-1] for option in row] for row in ids]
    passes = [(i, tokens) for i, row in enumerate(seen) for tokens in _maximal(row)]
    shared, cache = _share(model, [tokens[: common[i] - 1] for i, tokens in passes])
    found: list[dict[tuple, tuple[float, int, bool]]] = [{} for _ in prompts]
    limit = max(1, _LOGITS // model.lm.config.get_text_config().vocab_size)
    for batch in _batches([tokens for _, tokens in passes], shared, 0, limit):
        rows = [passes[p][1][shared:] for p in batch]
        width = max(map(len, rows))
        tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows]).to(model.lm.device)
        # Only what comes behind the prompts is asked for: the logits are a large part of the work.
        first = min(common[passes[p][0]] for p in batch) - 1 - shared
        step = model.lm(tokens, past_key_values=_copies(cache, len(batch)), logits_to_keep=width - first)
        logits = step.logits
        surprisal, likeliest = -logits.log_softmax(-1), logits.argmax(-1).tolist()
        for row, best, (i, sequence) in zip(surprisal, likeliest, (passes[p] for p in batch), strict=True):
            for option, start in zip(ids[i], seen[i], strict=True):
                if sequence[: len(start)] == start:
                    begin = 1 + shared + first
                    places = [(t - begin, [option[t]]) for t in range(common[i], len(option))]
                    places += [(len(option) - begin, ends)] if ends else []
                    terms = [-(-row[at, tokens]).logsumexp(0) for at, tokens in places]
                    cost = sum(terms, torch.zeros((), dtype=row.dtype)).item()
                    found[i][tuple(option)] = cost, len(places), all(best[at] in tokens for at, tokens in places)
        advance(len({passes[p][0] for p in batch}))
    return [[some[tuple(option)] for option in row] for row, some in zip(ids, found, strict=True)]


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
