"""Times as people write them."""

import math
import re

from taskbits.errors import UserError


def seconds(time: str | float, what: str = "budget") -> float:
    """Seconds as they are, or in '90s', '3m', '2h' or '1h30m'.

    Raises UserError on anything else, with `what` it should have been.
    """
    if not isinstance(time, str):
        if not 0 < time < math.inf:
            raise UserError(f"the {what} {time!r} is not a time in seconds")
        return float(time)
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", time)
    found = sum(float(n or 0) * unit for n, unit in zip(parts.groups(), (3600, 60, 1), strict=True)) if parts else 0
    if not 0 < found < math.inf:
        raise UserError(f"the {what} {time[:40]!r} is not a time: write 90s, 3m, 2h or 1h30m")
    return found
