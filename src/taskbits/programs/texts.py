"""Encoders of texts: how a text or training examples become the payload and the settings of a runner.

A text is carried as it is (runner `literal`), or coded under the model (`coded`); examples that the decoder trains on
can be coded under the model as it learns them (`prequential`). A coded text decodes wherever the model's numbers
agree to 1e-11 of the probability axis. With float64 throughout they agree a hundred times better or more between
threads, batches, caches, attention implementations and instruction sets (benchmarks/coder.py measures it); and the
encoder keeps each boundary that decides which token is decoded, which constriction rounds to 2^-24, at least that far
from where it would be rounded the other way. Where that fails at one temperature another is taken.

A model in float32 or bfloat16 gives other numbers in a batch or in one pass than token by token. What is coded under it
is therefore coded under the very numbers that its decoder will see, computed in its own loop; the sums are in float64
all the same. It decodes where these numbers are the same to the bit: on such a machine, with such versions; elsewhere
the checksum tells.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import constriction
import numpy as np
import torch

from taskbits.errors import UserError
from taskbits.models import engine
from taskbits.models.devices import repeatable
from taskbits.models.model import Model
from taskbits.programs.coding import Coded
from taskbits.programs.runners import adapter
from taskbits.programs.runners import coded as coded_runner
from taskbits.programs.runners.double import Double

_Encoder, _Categorical = constriction.stream.queue.RangeEncoder, constriction.stream.model.Categorical
_PRECISION = 2**24  # of constriction's categorical distributions
_BAND = 1e-11  # how far from a rounding boundary a cumulative probability must stay
_HEATS = (1, 0.9, 0.8, 0.7, 1.1, 1.2, 0.95, 1.05, 0.99, 1.01, 0.98, 1.02)
_FEW_HEATS = 4  # as many are tried where texts are long
_CHUNK = 2**24  # probabilities held at a time


def encode_text(model: Model, text: str) -> list[Coded]:
    """The ways to carry a text: as it is and, if the tokenizer and the model can, coded under the model.

    With no text there is nothing to carry: the plain runner.
    """
    if not text:
        return [Coded("plain")]
    tokens, begun = text_tokens(model, text), _begun(model)
    literal = Coded("literal", {"text": text}, ideal_bits=None, content={"text": text})
    if tokens is None or len(begun) + len(tokens) > model.context:
        return [literal]
    with _doubled(model):
        logits = _logits(model, begun, tokens) if model.dtype == "float64" else _logits_as_decoded(model, tokens)
        if logits is None:
            return [literal]
        costs = -_logs(logits, tokens)
        payloads = {heat: _encode_under(logits, tokens, heat) for heat in _HEATS}
    shown = [[model.tokenizer.decode([token]), round(cost, 2)] for token, cost in zip(tokens, costs, strict=True)]
    content, bits = {"text": text, "tokens": shown}, float(costs.sum())
    found = [Coded("literal", {"text": text}, ideal_bits=bits, content=content)]
    for heat, payload in payloads.items():
        if payload is not None:
            settings = {"start": model.start, "count": len(tokens), "heat": heat}
            found.append(Coded("coded", settings, payload, bits, content, [model.start + text]))
    return found


def decodes(model: Model, coded: Coded) -> bool:
    """Whether a text coded under the model comes back. Some can't: the model ends them, or its pipeline tidies them."""
    if coded.runner != "coded":
        return True
    short = -len(coded.payload) % 4
    words = np.frombuffer(coded.payload + bytes(short), coded_runner.WORD)
    with repeatable():
        return adapter(coded_runner, model.dtype)(model.pipe, words, **coded.settings) == coded.decoded[0]


def text_tokens(model: Model, text: str) -> list[int] | None:
    """The text's tokens, or None if the model's tokenizer cannot give the text back."""
    tokens = model.tokenizer(text, add_special_tokens=False).input_ids
    return tokens if tokens and model.tokenizer.decode(tokens) == text else None


def ideal_bits(model: Model, text: str) -> float:
    """Cross-entropy of the text under the model, in bits; infinite if it can't be coded so."""
    tokens, begun = text_tokens(model, text), _begun(model)
    if tokens is None or len(begun) + len(tokens) > model.context:
        return math.inf
    return float(-_logs(_logits(model, begun, tokens), tokens).sum())


def encode_examples(
    model: Model,
    texts: list[str],
    rows: int,
    epochs: int,
    rate: float,
    progress: Callable[[int, int], None],
    optimizer: str = "Adam",
    target: str = "",
) -> list[Coded]:
    """Code training texts for the runner `prequential`, training the model in place as the decoder will.

    rows: texts in a batch; their number must be a multiple of it. optimizer, target: as the runner has them.
    progress(done, of) is called at each step.
    Returns one for each temperature that can be decoded safely. Raises UserError if there is none, if a text holds the
    end token or is too long, or if the tokenizer can't give it back.
    """
    end = model.end
    tokenised = [text_tokens(model, text) for text in texts]
    for text, tokens in zip(texts, tokenised, strict=True):
        if tokens is None:
            raise UserError(f"the model's tokenizer can't write the text that begins {text[:40]!r} without loss")
        if end in tokens:
            raise UserError("a training text holds the model's end token")
    tokenised.sort(key=len)
    length = len(tokenised[-1]) + 1
    if length >= model.context:
        raise UserError(f"a training text of {length} tokens is longer than the model's context of {model.context}")
    full = [tokens + [end] * (length - len(tokens)) for tokens in tokenised]
    batches = [full[i : i + rows] for i in range(0, len(full), rows)]
    encoders, exact = {heat: _Encoder() for heat in _HEATS[:_FEW_HEATS]}, model.dtype == "float64"
    costs: list[np.ndarray] = []
    with repeatable(), _doubled(model):
        model.lm.requires_grad_(not target)
        weights = [weight.requires_grad_() for name, weight in model.lm.named_parameters() if target in name]
        steps = getattr(torch.optim, optimizer)(weights, rate)
        seen = []
        for number in range(len(batches) * epochs):
            progress(number, len(batches) * epochs)
            if number < len(batches):
                seen.append(torch.tensor([[end, *row] for row in batches[number]]).to(model.lm.device))
            batch = seen[number % len(batches)]
            step = model.lm(batch, labels=batch)
            if number < len(batches):
                logits = step.logits.detach() if exact else _columns_as_decoded(model, batch)
                costs.append(_encode_batch(encoders, logits, batches[number], end))
            step.loss.backward()
            steps.step()
            steps.zero_grad()
    if not encoders:
        raise UserError("these examples can't be coded so that every machine decodes them: take fewer or others")
    settings = {"end": end, "rows": rows, "length": length, "batches": len(batches), "epochs": epochs, "rate": rate}
    settings |= {"optimizer": optimizer} if optimizer != "Adam" else {}
    settings |= {"target": target} if target else {}
    bits = sum(float(cost.sum()) for cost in costs)
    shown = [
        [[model.tokenizer.decode([t]), round(float(c), 2)] for t, c in zip(row, cost, strict=True) if t != end]
        for batch, batch_costs in zip(batches, costs, strict=True)
        for row, cost in zip(batch, batch_costs, strict=True)
    ]
    decoded = [["", [batch.tolist() for batch in seen]]]
    return [
        Coded("prequential", {**settings, "heat": heat}, trimmed(encoder), bits, {"examples": shown}, decoded)
        for heat, encoder in encoders.items()
    ]


def example_bits(model: Model, texts: list[str]) -> float:
    """About what one of the texts costs under the model as it is, in bits, between end tokens as `encode_examples` has
    it. What is longer than the context is cut."""
    end, total = model.end, 0.0
    with engine.computing_in(model.lm, torch.float32):
        for text in texts:
            tokens = [*model.tokenizer(text, add_special_tokens=False).input_ids, end][: model.context]
            total -= _logs(_logits(model, [end], tokens), tokens).sum()
    return total / len(texts)


def _doubled(model: Model) -> AbstractContextManager:
    """As the runners have it: in float64 throughout, under a model in float64."""
    return Double() if model.dtype == "float64" else nullcontext()


def _begun(model: Model) -> list[int]:
    """The tokens that a coded text is written after."""
    return model.tokenizer(model.start).input_ids or [model.lm.generation_config.bos_token_id]


@torch.inference_mode()
def _logits(model: Model, begun: list[int], tokens: list[int]) -> torch.Tensor:
    """Logits (tokens, vocabulary) that each token of a text is drawn from, in one pass over it."""
    return model.lm(torch.tensor([begun + tokens[:-1]]).to(model.lm.device)).logits[0, len(begun) - 1 :]


def _logits_as_decoded(model: Model, tokens: list[int]) -> torch.Tensor | None:
    """The same as the runner `coded` sees them, to the bit; None if the model would end the text before its end."""
    seen: list[torch.Tensor] = []

    def follow(before, scores):
        seen.append(scores[0].clone())
        return scores.scatter(1, before[:, :1] * 0 + tokens[len(seen) - 1], 9e9)

    with repeatable():
        model.pipe(model.start, max_new_tokens=len(tokens), do_sample=0, logits_processor=[follow])
    return torch.stack(seen) if len(seen) == len(tokens) else None


@torch.no_grad()
def _columns_as_decoded(model: Model, batch: torch.Tensor) -> torch.Tensor:
    """Logits (rows, length, vocabulary) behind all but the last column, as the runner `prequential` sees them."""
    cache, seen = None, []
    for column in batch.T[:-1].cpu():
        step = model.lm(column[:, None].to(model.lm.device), past_key_values=cache)
        cache = step.past_key_values
        seen.append(step.logits[:, -1])
    return torch.stack(seen, 1)


def _encode_batch(encoders: dict, logits: torch.Tensor, batch: list[list[int]], end: int) -> np.ndarray:
    """Code a batch column by column; drops an encoder that comes too close to a boundary. Costs in bits (rows, length).

    A row's tokens behind its first end token (but one that is its very first) need no code: the decoder knows them.
    """
    costs = np.zeros((len(batch), len(batch[0])))
    for at, column in enumerate(zip(*batch, strict=True)):
        open_rows = [r for r, row in enumerate(batch) if not at or row[at - 1] != end]
        if not open_rows:
            break
        tokens = [column[r] for r in open_rows]
        costs[open_rows, at] = -_logs(logits[open_rows, at], tokens)
        for heat in list(encoders):
            if not _encode(encoders[heat], logits[open_rows, at], tokens, heat):
                del encoders[heat]
    return costs


def _encode_under(logits: torch.Tensor, tokens: list[int], heat: float) -> bytes | None:
    encoder = _Encoder()
    return trimmed(encoder) if _encode(encoder, logits, tokens, heat) else None


def _encode(encoder, logits: torch.Tensor, tokens: list[int], heat: float) -> bool:
    """Code tokens under the rows of logits; False as soon as one can't be decoded safely."""
    for part, some in _chunks(logits, tokens):
        chances = (part.double() * heat).softmax(1).cpu().numpy()
        if not _is_safe(chances, some):
            return False
        for token, row in zip(some, chances, strict=True):
            encoder.encode(token, _Categorical(row, perfect=False))
    return True


def _is_safe(chances: np.ndarray, tokens: list[int]) -> bool:
    """Whether both ends of each token's interval stay what they are if cumulative probabilities move by _BAND.

    The ends are rounded down from `cumulative * scale`, as constriction does it. The ends of the other tokens'
    intervals don't matter: the decoder looks for the one that holds its number, and they are in order.
    """
    count = chances.shape[1]
    cumulative = np.cumsum(chances, axis=1)
    scale = (_PRECISION - count) / cumulative[:, -1]
    rows, tokens = np.arange(len(tokens)), np.array(tokens)
    below = np.where(tokens > 0, cumulative[rows, tokens - 1], 0.0) * scale
    above = np.where(tokens < count - 1, cumulative[rows, tokens] * scale, 0.0)  # the last one's end is fixed
    ends = np.concatenate([below, above])
    safe = (np.rint(ends) < 1) | (np.abs(ends - np.rint(ends)) > _BAND * _PRECISION)
    # Chances that are all equal come from logits of exactly zero (a token without an embedding): nothing moves them.
    equal = np.ptp(chances, axis=1) == 0
    return bool((safe | np.tile(equal, 2)).all())


def _logs(logits: torch.Tensor, tokens: list[int]) -> np.ndarray:
    """Base-2 logarithms of the tokens' probabilities under the rows of logits."""
    found = [
        part.double().log_softmax(1)[torch.arange(len(some)), some].cpu().numpy()
        for part, some in _chunks(logits, tokens)
    ]
    return np.concatenate(found) / math.log(2)


def _chunks(logits: torch.Tensor, tokens: list[int]) -> Iterator[tuple[torch.Tensor, list[int]]]:
    size = max(1, _CHUNK // logits.shape[1])
    for at in range(0, len(tokens), size):
        yield logits[at : at + size], tokens[at : at + size]


def trimmed(encoder) -> bytes:
    """The fewest bytes that name a point in the encoder's interval whatever bytes follow, for `>u4` words inverted."""
    words = encoder.get_compressed()
    if not len(words):
        return b""
    position, (lower, width) = encoder.pos()
    size = 4 * (position + 2)
    point = int.from_bytes(words.astype(">u4").tobytes().ljust(size, b"\0"))
    low = point - (point - lower) % 2**64
    for count in range(4 * position, size + 1):
        unit = 256 ** (size - count)
        prefix = -(-low // unit)
        if (prefix + 1) * unit <= low + width:
            return bytes(byte ^ 255 for byte in prefix.to_bytes(count))
    raise AssertionError("an interval of a range coder holds a point")
