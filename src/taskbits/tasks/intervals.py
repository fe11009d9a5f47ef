"""What a sample of rows tells of a score on all rows of its kind: 95% intervals, and one-sided 95% lower bounds.

Guarantees: the bound of a mean is above the true mean in at most 5% of samples, and each end of its interval is passed
by it in at most 2.5%, whatever the distribution of the values (0/1 scores have Wilson's interval, which comes close).
What is resampled (`of_statistic`) is approximate. No interval is a point; memory grows with the number of rows only.

Graded values: betting against each hypothetical mean (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random
variables by betting"), where each bet is such that the capital would just reach 1 / error at the last row (Voráček and
Orabona 2025, "STaR-Bets"). Pure functions.
"""

import math
from collections.abc import Callable

import numpy as np

from taskbits.errors import UserError

ERROR = 0.05
_MEANS = np.arange(1, 1000) / 1000  # hypothetical ones; a bound is one of them, or 0
_MOST = 0.99  # of the capital that is ever at stake
_SLACK = 1e-9  # of the logarithm of the capital, for rounding
_OFTEN = 64  # rows after which the means that are refuted are left alone

Interval = tuple[float, float, float]  # low, high, lower bound


def of_mean(values: np.ndarray) -> Interval:
    """Of the mean of rows' scores in [0, 1], or in [-1, 1] where one is negative.

    Raises UserError if there are none, or one is not in that range.
    """
    values = np.asarray(values, float)
    if not len(values) or not (np.abs(values) <= 1).all():
        raise UserError("a mean needs scores of rows in [-1, 1]")
    if (values < 0).any():
        low, high, bound = (2 * end - 1 for end in of_mean((values + 1) / 2))
    elif np.isin(values, (0, 1)).all():
        low, high = _wilson(values.mean(), len(values))
        bound = exact_bound(values.sum(), len(values))
    else:
        low, bound = _refuted(values, ERROR / 2), _refuted(values, ERROR)
        high = 1 - _refuted(1 - values, ERROR / 2)
    mean = values.mean()
    return float(min(low, mean)), float(max(high, mean)), float(bound)


def of_statistic(value: float, count: int, statistic: Callable[[np.ndarray], float], resamples: int = 1000) -> Interval:
    """Of a score that is no mean over rows, by the percentiles of what it is for resampled rows.

    statistic: the score of the rows with these numbers, NaN where it has none. What no resample can show is allowed
    for: rows of a kind that had a chance of 2.5% (5% for the bound) not to be among `count`, and count in full.
    """
    random = np.random.default_rng(0)
    found = [statistic(random.integers(count, size=count)) for _ in range(resamples)]
    found = [one for one in found if not math.isnan(one)] or [value]
    least = min(0.0, *found, value)

    def below(error: float) -> float:
        return max(least, min(np.quantile(found, error), value - 1 + error ** (1 / count)))

    high = max(np.quantile(found, 1 - ERROR / 2), value + 1 - (ERROR / 2) ** (1 / count))
    return float(below(ERROR / 2)), float(min(1.0, high)), float(below(ERROR))


def bound_from(value: float, count: int) -> float:
    """The lower bound of the mean of scores in [0, 1] that is known by its value alone (Bentkus 2004)."""
    return exact_bound(math.floor(count * value + 1e-6), count, ERROR / math.e)


def exact_bound(successes: float, count: int, error: float = ERROR) -> float:
    """Clopper and Pearson's one-sided lower bound of a probability."""
    from scipy import special  # costly, and who reads what was computed needs none of it

    return float(special.betaincinv(successes, count - successes + 1, error)) if successes > 0 else 0.0


def _wilson(share: float, count: int) -> tuple[float, float]:
    from scipy import special

    z = special.ndtri(1 - ERROR / 2)
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def _refuted(values: np.ndarray, error: float) -> float:
    """The largest hypothetical mean below the values' own that is refuted along with all lower ones; 0 if none is.

    If the true mean is at most m, bets that the values come out higher than m reach 1 / error with a chance of at most
    `error`. What is bet on a row follows from the rows before it, in random order.
    """
    drawn = np.random.default_rng(0).permutation(values)
    numbers = np.arange(1, len(drawn) + 1)
    # As if there had been one row more, of 1/2 and a variance of 1/4, before the first.
    means = (0.5 + np.cumsum(drawn)) / (numbers + 1)
    variances = (0.25 + np.concatenate([[0], np.cumsum((drawn - means) ** 2)[:-1]])) / numbers
    supposed = _MEANS[_MEANS < values.mean()]
    standing, missing = np.arange(len(supposed)), np.full(len(supposed), math.log(1 / error))  # of the log of capital
    for number, (value, variance) in enumerate(zip(drawn.tolist(), variances.tolist(), strict=True)):
        if number % _OFTEN == 0:
            standing, missing = standing[missing > 0], missing[missing > 0]
            means = supposed[standing]
        bets = means * np.sqrt(np.maximum(missing, 0) * (2 / ((len(drawn) - number) * variance)))
        missing = missing - np.log1p(np.minimum(bets, _MOST) * (value / means - 1))
    standing = standing[missing > _SLACK]
    refuted = supposed[: standing[0]] if len(standing) else supposed
    return float(refuted[-1]) if len(refuted) else 0.0
