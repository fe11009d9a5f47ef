"""Encoders of numbers: from whole numbers and tensors to the payloads that the runners decode.

All use constriction's range coder (words of 32 bits). Texts: `taskbits.programs.texts`.
"""

import math
from dataclasses import dataclass, field

import constriction
import numpy as np

_queue, _models = constriction.stream.queue, constriction.stream.model


@dataclass(frozen=True)
class Coded:
    """What a runner needs to decode something, and facts about it.

    runner, settings, payload: as in a program. decoded: what it decodes to, where that takes the model's numbers, as
    the runners give it. ideal_bits: cross-entropy under the model. content: what it is, for people.
    """

    runner: str
    settings: dict = field(default_factory=dict)
    payload: bytes = b""
    ideal_bits: float | None = 0.0
    content: dict = field(default_factory=dict)
    decoded: list | None = None


@dataclass(frozen=True)
class CodedIntegers:
    """A payload, the settings of the distributions that decode it, and the cross-entropy under these in bits."""

    payload: bytes
    settings: dict
    ideal_bits: float


def encode_integers(values: np.ndarray, groups: list[int] | None = None) -> CodedIntegers:
    """Code whole numbers with the Laplace distribution that suits them best: {"spread", "bound"}.

    groups: sizes of parts that have a distribution each, of scale spread / 2^k; k (0 to 7) is coded before the part.
    Where the numbers are sparse and some matrices have more of them than others, this is a quarter shorter.
    """
    values = values.astype(np.int32)
    bound = max(1, int(np.abs(values).max()))
    parts = np.split(values, np.cumsum(groups)[:-1]) if groups else [values]
    spread = max(_spread(part, bound) for part in parts)
    encoder, bits = _queue.RangeEncoder(), 0.0
    for part in parts:
        scale = spread
        if groups:
            k = min(range(8), key=lambda k: laplace_bits(part, spread / 2**k))
            encoder.encode(k, _models.Uniform(8))
            scale, bits = spread / 2**k, bits + 3
        bits += laplace_bits(part, scale)
        encoder.encode(part, _models.QuantizedLaplace(-bound, bound, 0.0, scale))
    return CodedIntegers(payload(encoder), {"spread": spread, "bound": bound}, bits)


def encode_tensors(changes: list[np.ndarray], spread: float) -> tuple[bytes, dict, float]:
    """Code float arrays for the runner `full`, each in steps of a power of two that gives it about this spread.

    Returns the payload, {"spread", "bound"}, and its cross-entropy in bits.
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
    bits = 5.0 * len(changes) + laplace_bits(everything, fitted)
    for exponent, values in zip(exponents, numbers, strict=True):
        encoder.encode(exponent, _models.Uniform(32))
        encoder.encode(values, model)
    return payload(encoder), {"spread": fitted, "bound": bound}, bits


def laplace_bits(values: np.ndarray, scale: float) -> float:
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
    return min(grid, key=lambda scale: laplace_bits(values, scale))


def payload(encoder) -> bytes:
    """What the coder has written, as bytes."""
    return encoder.get_compressed().astype("<u4").tobytes()
