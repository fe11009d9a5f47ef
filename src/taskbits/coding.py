"""Encoders: from texts, examples and numbers to the payloads that the runners decode.

All use constriction's range coder (words of 32 bits). Texts and examples are coded under the model itself, with
the same steps in the same order as the decoder takes them, so that the probabilities agree to the last bit.
"""

import math
from dataclasses import dataclass

import constriction
import numpy as np
import torch

from taskbits.errors import UserError
from taskbits.model import Model

_queue, _models = constriction.stream.queue, constriction.stream.model


@dataclass(frozen=True)
class Coded:
    """A payload, the runner's settings that decode it, its cross-entropy in bits, and facts for people."""

    payload: bytes
    settings: dict
    ideal_bits: float
    content: dict


def text_tokens(model: Model, text: str) -> list[int]:
    """The text's tokens. Raises UserError if the model's tokenizer cannot give the text back."""
    tokens = model.tokenizer(text, add_special_tokens=False).input_ids
    if model.tokenizer.decode(tokens) != text:
        raise UserError(f"the model's tokenizer can't write the text that begins {text[:40]!r} without loss")
    return tokens


def encode_text(model: Model, text: str) -> Coded:
    """Code a text under the model, for the runner `prompt`. Raises UserError if it can't be coded so."""
    tokens = text_tokens(model, text)
    if not 0 < len(tokens) < model.context:
        raise UserError(f"a text of {len(tokens)} tokens can't be coded: the model's context has {model.context}")
    encoder, costs, start = _queue.RangeEncoder(), [], model.start

    def steer(written: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        token = tokens[len(costs)]
        chances = scores[0].softmax(0, float).cpu().numpy()
        encoder.encode(token, _models.Categorical(chances, perfect=False))
        costs.append(-math.log2(max(chances[token], 1e-300)))
        return scores.scatter(1, written * 0 + token, 9e9)

    written = model.pipe(start, max_new_tokens=len(tokens), do_sample=False, logits_processor=[steer])
    whole = start + text
    if written[0]["generated_text"] != whole:
        raise UserError(f"the model can't be made to write the text that begins {text[:40]!r}")
    pieces = [[model.tokenizer.decode([token]), round(cost, 2)] for token, cost in zip(tokens, costs, strict=True)]
    settings = {"start": start, "count": len(tokens)}
    return Coded(payload(encoder), settings, sum(costs), {"text": whole, "tokens": pieces})


def encode_examples(model: Model, texts: list[str], rows: int, epochs: int, rate: float, progress) -> Coded:
    """Code training texts for the runner `data`, training the model in place as the decoder will.

    rows: texts in a batch; their number must be a multiple of it. progress(done, of) is called at each step.
    Raises UserError if a text holds the end token.
    """
    end = model.end
    tokenised = [text_tokens(model, text) for text in texts]
    if any(end in tokens for tokens in tokenised):
        raise UserError("a training text holds the model's end token")
    tokenised.sort(key=len)
    length = len(tokenised[-1]) + 1
    if length >= model.context:
        raise UserError(f"a training text of {length} tokens is longer than the model's context of {model.context}")
    full = [tokens + [end] * (length - len(tokens)) for tokens in tokenised]
    batches = [full[i : i + rows] for i in range(0, len(full), rows)]
    encoder, bits = _queue.RangeEncoder(), 0.0
    optimizer = torch.optim.Adam(model.lm.parameters(), rate)
    seen = []
    for number in range(len(batches) * epochs):
        progress(number, len(batches) * epochs)
        if number < len(batches):
            bits += _encode_batch(model, encoder, batches[number], end)
            seen.append(torch.tensor([[end, *row] for row in batches[number]]).to(model.lm.device))
        batch = seen[number % len(batches)]
        model.lm(batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    settings = {"end": end, "rows": rows, "length": length, "batches": len(batches), "epochs": epochs, "rate": rate}
    return Coded(payload(encoder), settings, bits, {"examples": [model.tokenizer.decode(t) for t in tokenised]})


@torch.no_grad()
def _encode_batch(model: Model, encoder, batch: list[list[int]], end: int) -> float:
    columns, cache, bits = [[end] * len(batch), *map(list, zip(*batch, strict=True))], None, 0.0
    for at, (last, column) in enumerate(zip(columns, columns[1:], strict=False)):
        step = model.lm(torch.tensor([last]).T.to(model.lm.device), past_key_values=cache)
        cache = step.past_key_values
        chances = step.logits[:, -1].softmax(1, float).cpu().numpy()
        for before, token, row in zip(last, column, chances, strict=True):
            if not at or before != end:
                encoder.encode(token, _models.Categorical(row, perfect=False))
                bits -= math.log2(max(row[token], 1e-300))
    return bits


@dataclass(frozen=True)
class CodedIntegers:
    """A payload, the settings of the distribution that decode it, and the numbers' empirical entropy in bits."""

    payload: bytes
    settings: dict
    entropy: float


def encode_integers(values: np.ndarray, groups: list[int] | None = None) -> CodedIntegers:
    """Code whole numbers with the Laplace distribution that suits them best: {"spread", "bound"}.

    groups: sizes of parts that have a distribution each, of scale spread / 2^k; k (0 to 7) is coded before the part.
    Where the numbers are sparse and some matrices have more of them than others, this is a quarter shorter.
    """
    values = values.astype(np.int32)
    bound = max(1, int(np.abs(values).max()))
    parts = np.split(values, np.cumsum(groups)[:-1]) if groups else [values]
    spread = max(_spread(part, bound) for part in parts)
    encoder = _queue.RangeEncoder()
    for part in parts:
        scale = spread
        if groups:
            k = min(range(8), key=lambda k: _laplace_bits(part, spread / 2**k))
            encoder.encode(k, _models.Uniform(8))
            scale = spread / 2**k
        encoder.encode(part, _models.QuantizedLaplace(-bound, bound, 0.0, scale))
    return CodedIntegers(payload(encoder), {"spread": spread, "bound": bound}, _entropy(values))


def encode_tensors(changes: list[np.ndarray], spread: float) -> tuple[bytes, dict, float]:
    """Code float arrays for the runner `full`, each in steps of a power of two that gives it about this spread.

    Returns the payload, {"spread", "bound"}, and the empirical entropy of the numbers in bits.
    """
    exponents, numbers = [], []
    for change in changes:
        scale = max(np.abs(change).mean(), 2.0**-31)
        exponents.append(int(np.clip(round(math.log2(spread / scale)), 0, 31)))
        numbers.append(np.rint(change * 2.0 ** exponents[-1]).astype(np.int32).ravel())
    everything = np.concatenate(numbers)
    bound = max(1, int(np.abs(everything).max()))
    fitted = _spread(everything, bound)
    encoder, model = _queue.RangeEncoder(), _models.QuantizedLaplace(-bound, bound, 0.0, fitted)
    entropy = 5.0 * len(changes)
    for exponent, values in zip(exponents, numbers, strict=True):
        encoder.encode(exponent, _models.Uniform(32))
        encoder.encode(values, model)
        entropy += _entropy(values)
    return payload(encoder), {"spread": fitted, "bound": bound}, entropy


def _entropy(values: np.ndarray) -> float:
    _, counts = np.unique(values, return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def _laplace_bits(values: np.ndarray, scale: float) -> float:
    """What whole numbers take under a Laplace distribution of this scale, in bits."""
    sizes, counts = np.unique(np.abs(values), return_counts=True)
    inside = np.where(
        sizes == 0,
        1 - np.exp(-0.5 / scale),
        0.5 * np.exp(-np.maximum(sizes - 0.5, 0) / scale) * (1 - np.exp(-1 / scale)),
    )
    return float(-(counts * np.log2(np.maximum(inside, 1e-30))).sum())


def _spread(values: np.ndarray, bound: int) -> float:
    """The Laplace scale, to two significant digits, under which the whole numbers take the fewest bits."""
    grid = [float(f"{2 ** (k / 8):.2g}") for k in range(-32, 8 * math.ceil(math.log2(bound + 1)) + 8)]
    return min(grid, key=lambda scale: _laplace_bits(values, scale))


def payload(encoder) -> bytes:
    """What the coder has written, as bytes."""
    return encoder.get_compressed().astype("<u4").tobytes()
