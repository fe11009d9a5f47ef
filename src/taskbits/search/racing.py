"""When to stop scoring a program: a sequential test of whether it can still end above another one.

Both are scored on the same rows, in random order. If the program ended above the other on the whole split, the scores
still to come would have to make up for those seen, so their mean, drawn without replacement, would be known from
below; a gambler who bets that they come out lower can then multiply his capital by 1 / error with a chance of at most
`error`, at whatever time he stops (Ville's inequality; Waudby-Smith and Ramdas 2024, "Estimating means of bounded
random variables by betting", section 5).
"""

import numpy as np

ERROR = 0.01  # chance that a program that would end above the other one is dropped
FIRST = 64  # rows until the first look, since few rows cost nearly as much as many; each later part is twice as long
_BETS = np.linspace(0.05, 0.95, 19)  # of what may be bet; the capital is spread over them


def is_dominated(differences: np.ndarray, total: int) -> bool:
    """Whether the program's score on all `total` rows is not above the other's, but for an error of 1%.

    differences: score minus the other's score of the rows seen so far, in the order they were drawn. False where one
    is not in [-1, 1], which the bets count on (NaN, scores below 0).
    """
    if not (np.abs(differences) <= 1).all():
        return False
    capital, seen = np.ones_like(_BETS), 0.0
    for number, difference in enumerate(differences):
        needed = -seen / (total - number)  # the mean of what is left, if the program is to end level
        if needed >= 1:
            return True
        capital *= 1 + _BETS / (1 - needed) * (needed - difference)
        if capital.mean() >= 1 / ERROR:
            return True
        seen += difference
    return False
