"""Two numbers for a frontier: the bytes that take M half of the way, and nearly all of it, from bare to the best known.

Pure functions; knows nothing of models, tasks or files.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from taskbits.studies.frontier import envelope
from taskbits.studies.measurement import Measurement

SHARES = (0.5, 0.95)
_LEAST = 4  # programs that a curve can be fitted to
_STEEP = np.geomspace(0.3, 100, 120)  # slopes in the natural logarithm of bytes, from slow to at once


@dataclass(frozen=True)
class Gap:
    """worst, best: scores on test of the shortest program and of the best one.

    bytes: for each of SHARES of what lies between, how many bytes reach it: median, and the ends of 95%.
    """

    worst: float
    best: float
    bytes: dict[float, tuple[int, int, int]]

    def __str__(self) -> str:
        half, most = (f"{n:,} bytes ({low:,} to {high:,})" for n, low, high in self.bytes.values())
        return (
            f"From {self.worst:.3f} to {self.best:.3f} on test: half of the way takes {half}, 95% of it {most}, by a "
            "logistic curve in log bytes through these programs; in brackets its 95% interval."
        )


def gap(measurements: Iterable[Measurement]) -> Gap | None:
    """A logistic curve in log bytes through the frontier's scores on test (Donoway et al. 2025), between its ends.

    What the slope and the middle may be is weighed by how likely the scores then are, normal with the width of their
    intervals, or wider as the curve misses them; the ends are taken as they are. None for fewer than four programs that
    were scored on test, or where no longer one is better.
    """
    tested = [m for m in envelope(measurements) if m.test and m.test.low is not None]
    if len(tested) < _LEAST or (best := max(m.test.value for m in tested)) <= (worst := tested[0].test.value):
        return None
    at = np.log([m.bytes for m in tested])
    reached = np.array([(m.test.value - worst) / (best - worst) for m in tested])
    errors = np.array([(m.test.high - m.test.low) / (2 * 1.96 * (best - worst)) for m in tested])
    middles = np.linspace(at[0], at[-1], 400)
    curve = _logistic(_STEEP[:, None] * (at - middles[:, None, None]))  # (middles, slopes, programs)
    misses = (((curve - reached) / np.maximum(errors, 1e-3)) ** 2).sum(-1)
    misses /= max(1.0, misses.min() / (len(tested) - 2))
    weights = np.exp((misses.min() - misses) / 2)
    bytes_ = {}
    for share in SHARES:
        logs = (middles[:, None] + math.log(share / (1 - share)) / _STEEP).ravel()
        order = logs.argsort()
        total = weights.ravel()[order].cumsum()
        ends = (math.exp(logs[order][np.searchsorted(total, part * total[-1])]) for part in (0.5, 0.025, 0.975))
        bytes_[share] = tuple(round(end) for end in ends)
    return Gap(worst, best, bytes_)


def _logistic(x: np.ndarray) -> np.ndarray:
    return (1 + np.tanh(x / 2)) / 2
