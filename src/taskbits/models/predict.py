"""From rows to outputs: greedy generation, or the likeliest of some choices.

Text in, text out; knows nothing of programs.
"""

import math

import torch

from taskbits.errors import UserError
from taskbits.models import engine
from taskbits.models.engine import Advance
from taskbits.models.model import Model
from taskbits.tasks.frame import Frame
from taskbits.tasks.rows import Row

_LOGITS = 2**26  # that are computed at a time


def predict(
    model: Model,
    frame: Frame,
    rows: list[Row],
    prefix: str = "",
    advance: Advance = lambda n: None,
    sample: bool = False,
    spend: Advance = lambda n: None,
) -> list[str]:
    """The model's output for each row in the frame, in order. `advance(n)` is called when n more are done.

    prefix: goes before each prompt, within the user's turn in a chat. sample: draw the tokens from the model's
    distribution instead of taking the likeliest. `spend(n)` is called for n tokens that one row by itself takes to be
    read and written.
    Raises UserError if a prompt and what is generated don't fit in the model's context.
    """
    if not rows:
        return []
    prompts = asked(model, frame, rows, prefix)
    if frame.choices:
        return _choose(model, frame, prompts, rows, advance, spend)
    return _generate(model, prompts, frame, advance, sample, spend)


def asked(model: Model, frame: Frame, rows: list[Row], prefix: str = "") -> list[str]:
    """The texts that the model is given for these rows, its chat template included."""
    prompts, frame = [prefix + model.lead + frame.fill(row) for row in rows], model.framed(frame)
    if frame.around:
        before, behind = frame.around
        return [before + prompt + behind for prompt in prompts]
    return [model.chat(prompt) for prompt in prompts] if frame.chat else prompts


@torch.no_grad()
def _generate(
    model: Model, prompts: list[str], frame: Frame, advance: Advance, sample: bool, spend: Advance
) -> list[str]:
    if model.pipe.prefix or model.pipe._preprocess_params.get("prefix"):
        raise UserError(f"transformers puts a text of its own before each prompt of a {type(model.lm).__name__}")
    ids = [model.tokens(prompt, frame.chat) for prompt in prompts]
    _check_context(model, prompts, [len(row) + frame.max_new_tokens for row in ids])
    # No stop string is longer in tokens than in bytes; a few more tokens cover one that starts inside a token.
    tail = max((len(end.encode()) for end in frame.stop), default=0) + 2

    def ended(written: list[int]) -> bool:
        text = model.tokenizer.decode(written[-tail:]) if frame.stop else ""
        return any(end in text for end in frame.stop)

    written = engine.generate(model.lm, ids, frame.max_new_tokens, ended, sample, advance)
    for before, row in zip(ids, written, strict=True):
        spend(len(before) + len(row))
    return [_text(model, before, row, frame.stop) for before, row in zip(ids, written, strict=True)]


def _text(model: Model, before: list[int], written: list[int], stop: tuple[str, ...]) -> str:
    # As the pipeline has it, whose versions differ on a space where a text begins.
    outputs = {"generated_sequence": torch.tensor([[before + written]]), "input_ids": torch.tensor([before])}
    text = model.pipe.postprocess({**outputs, "prompt_text": ""})[0]["generated_text"]
    for end in stop:
        text = text.split(end)[0]
    return text


def likelihoods(model: Model, frame: Frame, rows: list[Row], targets: list[str], prefix: str = "") -> list[float]:
    """How near the model is to giving each row's reference output, from 0 to 1, by one forward pass for each.

    The mean of two figures: the chance of the reference (the geometric mean over its tokens; with choices, its share
    among them), which is smooth, and whether greedy generation gives just it (with choices, picks it).
    Raises UserError if a prompt and its reference don't fit in the model's context.
    """
    prompts = asked(model, frame, rows, prefix)
    if frame.choices:
        worths = []
        for row, some, target in zip(rows, _costs(model, frame, prompts, rows), targets, strict=True):
            costs = torch.tensor(some, dtype=float)
            right = torch.tensor(frame.right(row, target))
            worths.append((float((-costs).softmax(0)[right].sum()) + float(right[costs.argmin()])) / 2)
        return worths
    stops = [model.tokenizer(stop, add_special_tokens=False).input_ids[0] for stop in frame.stop]
    end = model.turn_end if frame.chat else model.end
    found = _surprisals(model, frame.chat, prompts, [(target,) for target in targets], ends=[end, *stops])
    return [(math.exp(-cost / max(1, count)) + greedy) / 2 for ((cost, count, greedy),) in found]


def _choose(
    model: Model, frame: Frame, prompts: list[str], rows: list[Row], advance: Advance, spend: Advance
) -> list[str]:
    """For each row the choice of the least cost."""
    costs: list[list[float]] = []
    again = list(range(len(rows)))
    if engine.pays(model.lm, len(rows)):
        with engine.computing_in(model.lm, torch.float32):
            costs = _costs(model, frame, prompts, rows, spend=spend)
        few = _costs(model, frame, prompts[: engine.PROBE], rows[: engine.PROBE])
        band = max(engine.drift(*map(torch.tensor, pair)) for pair in zip(few, costs, strict=False))
        nearest = [sorted(row)[:2] for row in costs]
        again = [i for i, two in enumerate(nearest) if len(two) == 2 and two[1] - two[0] < band]
        advance(len(rows) - len(again))
    once = (lambda n: None) if costs else spend
    exact = _costs(model, frame, [prompts[i] for i in again], [rows[i] for i in again], advance, once)
    decided = dict(enumerate(costs)) | dict(zip(again, exact, strict=True))
    return [frame.written(row)[decided[i].index(min(decided[i]))] for i, row in enumerate(rows)]


@torch.no_grad()
def choice_costs(model: Model, frame: Frame, rows: list[Row]) -> list[list[float]]:
    """What each row's choices cost, in nats; the likeliest costs the least. Raises UserError as `predict` does."""
    return _costs(model, frame, asked(model, frame, rows), rows)


@torch.no_grad()
def following(model: Model, frame: Frame, rows: list[Row], numbers: list[int]) -> torch.Tensor:
    """What each of these tokens costs right behind each row's prompt, (rows, numbers), in nats, on the CPU.

    Raises UserError if a prompt and a token don't fit in the model's context.
    """
    prompts = asked(model, frame, rows)
    ids = [model.tokens(prompt, frame.chat) for prompt in prompts]
    _check_context(model, prompts, [len(row) + 1 for row in ids])
    with engine.halving([], lambda: [0]):
        start = engine.Start(model.lm, ids)
    found = torch.empty(len(rows), len(numbers))
    left = engine.batches(model.lm, start, ids)
    while left:
        batch = left.pop(0)
        with engine.halving(left, lambda batch=batch: batch):
            logits = _read(model, start, [ids[i][start.length :] for i in batch], [1] * len(batch))
            engine.require_numbers(logits)
            found[batch] = -logits.float().log_softmax(-1)[:, numbers].cpu()
    return found


def _costs(
    model: Model,
    frame: Frame,
    prompts: list[str],
    rows: list[Row],
    advance: Advance = lambda n: None,
    spend: Advance = lambda n: None,
) -> list[list[float]]:
    """What each of a row's choices costs, in nats: the surprisal of prompt and choice (the prompt's own share is the
    same for all), or behind what is given, and by character, as the frame has it.

    Raises UserError if this kind of model has no such loss.
    """
    if not rows:
        return []
    if not engine.loss_is_surprisal(model.lm):
        raise UserError(
            "choices are told apart by the model's loss, which for this kind of model is not the surprisal of its next "
            "tokens: measure the task without choices"
        )
    options = [frame.options(row) for row in rows]
    given = [frame.given(row) + some for row, some in zip(rows, options, strict=True)]
    found = _surprisals(model, frame.chat, prompts, given, advance, spend=spend)
    costs = []
    for some, row in zip(options, found, strict=True):
        given, own = [cost for cost, _, _ in row[: -len(some)]], [cost for cost, _, _ in row[-len(some) :]]
        own = [a - b for a, b in zip(own, given, strict=True)] if given else own
        own = [cost / frame.scale(option) for cost, option in zip(own, some, strict=True)]
        offsets = frame.offsets or [0.0] * len(own)
        costs.append([cost + offset for cost, offset in zip(own, offsets, strict=True)])
    return costs


@torch.no_grad()
def _surprisals(
    model: Model,
    chat: bool,
    prompts: list[str],
    options: list[tuple[str, ...]],
    advance: Advance = lambda n: None,
    ends: list[int] | None = None,
    spend: Advance = lambda n: None,
) -> list[list[tuple[float, int, bool]]]:
    """For each option behind its prompt: surprisal in nats, number of tokens, whether each of them is the likeliest.

    Tokens that all options of a prompt share are left out. ends: one of these tokens must come next.
    """
    # A model that runs one row at a time may look ahead: it reads each option whole, alone, from its first token.
    alone = engine.way(model.lm) == engine.SINGLY
    ids = [[model.tokens(prompt + o, chat) for o in some] for prompt, some in zip(prompts, options, strict=True)]
    _check_context(model, prompts, [max(map(len, row)) for row in ids])
    common = [
        max(1, engine.common_length(row if len(row) > 1 else [*row, model.tokens(prompt, chat)]))
        for prompt, row in zip(prompts, ids, strict=True)
    ]
    common = [1] * len(ids) if alone and not ends else common
    # If nothing must follow the last token, its logits are not needed; one pass serves options that start another.
    seen = [[option if ends or alone else option[:-1] for option in row] for row in ids]
    passes = [(i, tokens) for i, row in enumerate(seen) for tokens in (row if alone else _maximal(row))]
    for _, tokens in passes:
        spend(len(tokens))
    with engine.halving([], lambda: [0]):
        start = engine.Start(model.lm, [tokens[: max(1, common[i] - 1)] for i, tokens in passes])
    found: list[dict[tuple, tuple[float, int, bool]]] = [{} for _ in prompts]
    # Only what comes behind the prompts is asked for: the logits are a large part of the work.
    asked_for = [max(1, len(tokens) - common[i] + 1) for i, tokens in passes]
    limit = max(1, _LOGITS // engine.vocabulary(model.lm))
    left = [
        part
        for batch in engine.batches(model.lm, start, [tokens for _, tokens in passes])
        for part in _parted(batch, asked_for, limit)
    ]
    while left:
        batch = left.pop(0)
        with engine.halving(left, lambda batch=batch: batch):
            rows = [passes[p][1][start.length :] for p in batch]
            counts = [asked_for[p] for p in batch]
            logits = _read(model, start, rows, counts)
            engine.require_numbers(logits)
            likeliest = logits.argmax(-1).split(counts)
            surprisal = (-logits.log_softmax(-1)).split(counts)
            for row, best, (i, sequence) in zip(surprisal, likeliest, (passes[p] for p in batch), strict=True):
                best = best.tolist()
                for option, read in zip(ids[i], seen[i], strict=True):
                    if read == (sequence if alone else sequence[: len(read)]):
                        places = [(t - common[i], [option[t]]) for t in range(common[i], len(option))]
                        places += [(len(option) - common[i], ends)] if ends else []
                        terms = [-(-row[at, tokens]).logsumexp(0) for at, tokens in places]
                        cost = sum(terms, torch.zeros((), dtype=row.dtype, device=row.device)).item()
                        found[i][tuple(option)] = cost, len(places), all(best[at] in tokens for at, tokens in places)
            advance(len({passes[p][0] for p in batch}))
    return [[some[tuple(option)] for option in row] for row, some in zip(ids, found, strict=True)]


def _parted(batch: list[int], sizes: list[int], limit: int) -> list[list[int]]:
    """A batch in parts whose sizes add up to at most `limit`, where one alone does not exceed it."""
    parts, total = [[batch[0]]], sizes[batch[0]]
    for item in batch[1:]:
        total += sizes[item]
        if total > limit:
            parts.append([])
            total = sizes[item]
        parts[-1].append(item)
    return parts


def _read(model: Model, start: engine.Start, rows: list[list[int]], counts: list[int]) -> torch.Tensor:
    """Logits (k, vocabulary) of the last `counts` tokens of each row, row after row, behind the start."""
    tokens, real = engine.padded(model.lm, rows)
    behind = real.flip(1).cumsum(1).flip(1)  # how many tokens a row has from each one on
    at = real & (behind <= torch.tensor(counts, device=real.device)[:, None])
    return engine.Reading(model.lm, start, len(rows)).read(tokens, real, at)


def _check_context(model: Model, prompts: list[str], lengths: list[int]) -> None:
    for prompt, length in zip(prompts, lengths, strict=True):
        if length > model.context:
            raise UserError(
                f"an input needs {length} tokens and the model's context has {model.context}: "
                f"{prompt[-60:]!r}; shorten it or lower max_new_tokens"
            )


def _maximal(rows: list[list[int]]) -> list[list[int]]:
    """The rows without those that start another row."""
    ordered = sorted(rows)
    return [a for a, b in zip(ordered, [*ordered[1:], []], strict=True) if b[: len(a)] != a or not b]
