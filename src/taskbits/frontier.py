"""The frontier: what a set of measurements proves about how short a program can be.

Guarantees: programs are chosen by their validation scores alone, and a level counts as reached only when the
test score of the chosen program confirms it. Pure functions; knows nothing of models, tasks or files.
"""

import math
from collections.abc import Iterable, Mapping

from taskbits.study import Measurement


def envelope(measurements: Iterable[Measurement]) -> list[Measurement]:
    """The programs that no shorter or equally long one matches on validation, shortest first.

    What could not be confirmed is none of them.
    """
    found: list[Measurement] = []
    for m in sorted(
        (m for m in measurements if m.unconfirmed is None), key=lambda m: (m.bytes, -m.validation.value, m.program)
    ):
        if not found or m.validation.value > found[-1].validation.value:
            found.append(m)
    return found


def rows(measurements: Iterable[Measurement]) -> list[dict]:
    """The envelope, ready for JSON. `interval` is 95%, of test, or of validation if test is None; so is `also`."""
    return [
        {
            "bytes": m.bytes,
            "payload_bytes": m.payload_bytes,
            "bits": 8 * m.bytes,
            "ideal_bits": m.ideal_bits,
            "method": m.method,
            "settings": m.settings,
            "validation": m.validation.value,
            "test": m.test.value if m.test else None,
            "also": (m.test or m.validation).also,
            "interval": [(m.test or m.validation).low, (m.test or m.validation).high],
            "program": f"{m.program}.tbp" if m.program else None,
        }
        for m in envelope(measurements)
    ]


def complexity(measurements: Iterable[Measurement], level: float) -> Measurement | None:
    """The shortest program known to score at least `level`, which bounds C(T_level | M); None if none."""
    return next((m for m in envelope(measurements) if _confirmed(m) >= level), None)


def ratios(frontiers: Mapping[str, Iterable[Measurement]], levels: Iterable[float] | None = None) -> list[dict]:
    """How much longer the program for each named study is than the shortest one, level by level.

    A row is {"level", "note", "bytes": {name: bytes}, "ratios": {name: bytes / the shortest}}, with None
    where a study doesn't reach the level. Without `levels`: about five round ones that at least two studies
    reach, and for each study the low end of the interval of its best program (or its score, where no interval is
    known), as the note then says.
    """
    envelopes = {name: envelope(measurements) for name, measurements in frontiers.items()}
    notes = _levels(envelopes) if levels is None else {level: "" for level in levels}
    table = []
    for level, note in notes.items():
        shortest = {name: complexity(programs, level) for name, programs in envelopes.items()}
        lengths = {name: m.bytes if m else None for name, m in shortest.items()}
        least = min((n for n in lengths.values() if n is not None), default=None)
        table.append(
            {
                "level": level,
                "note": note,
                "bytes": lengths,
                "ratios": {name: None if n is None else n / least for name, n in lengths.items()},
            }
        )
    return table


def spread(frontiers: Iterable[Iterable[Measurement]]) -> list[float]:
    """A few round levels, from what the shortest program of every study reaches to the best that one of any does."""
    reached = [[_confirmed(m) for m in envelope(measurements) if m.test] for measurements in frontiers]
    reached = [levels for levels in reached if levels]
    return round_numbers(min(levels[0] for levels in reached), max(map(max, reached))) if reached else []


def round_numbers(low: float, high: float) -> list[float]:
    """The multiples of 1, 2 or 5 x 10^k that are above `low` and at most `high`: three to seven of them."""
    if high <= low:
        return []
    power = 10.0 ** math.floor(math.log10((high - low) / 5))
    step = power * next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * power) <= 6.5)
    first, last = math.floor(low / step + 1e-9) + 1, math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _confirmed(m: Measurement) -> float:
    """The highest level that both scores of a program reach."""
    return min(m.validation.value, m.test.value) if m.test else -math.inf


def _levels(envelopes: Mapping[str, list[Measurement]]) -> dict[float, str]:
    tested = {name: [m for m in programs if m.test] for name, programs in envelopes.items()}
    tested = {name: programs for name, programs in tested.items() if programs}
    if not tested:
        return {}
    # Below `low`, the shortest program of every study will do: nothing to compare.
    low = min(_confirmed(programs[0]) for programs in tested.values())
    reached = sorted(max(map(_confirmed, programs)) for programs in tested.values())
    levels = {level: "" for level in round_numbers(low, reached[-2:][0])}
    for name, programs in tested.items():
        best = programs[-1].test
        end, what = (best.value, "the best") if best.low is None else (best.low, "low end of the interval of the best")
        level = math.floor(1000 * end) / 1000
        if low < level <= reached[-1]:
            levels.setdefault(level, f"{what} for {name}")
    return dict(sorted(levels.items()))
