"""What to look for on validation, so that a level can be claimed from test."""

import numpy as np
from scipy import stats

from taskbits.tasks import intervals

_HOPE = 0.9  # chance that a program which reaches the aim of a search can then be claimed


def aim(level: float, validation: int, test: int) -> float:
    """What to look for on so many validation rows, so that `level` can then be claimed from so many test rows.

    A program that scores more can be with a chance of 90%, as 0/1 scores go, which vary the most. It lies between two
    means of 0/1 scores. Where too few test rows can prove the level at all, only all validation rows will do.
    """
    if level <= 0:
        return level
    proving = [k for k in range(1, test + 1) if intervals.exact_bound(k, test) >= level]
    seen = np.arange(1, validation + 1)
    chance = stats.betabinom.sf(min(proving, default=test + 1) - 1, test, seen + 0.5, validation - seen + 0.5)
    enough = seen[chance >= _HOPE]
    return (int(min(enough, default=validation)) - 0.5) / validation
