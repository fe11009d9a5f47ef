"""The frontier: what a set of measurements proves about how short a program can be.

Guarantees: programs are chosen by their validation scores alone. What is claimed of the task holds with 95% confidence
for each level by itself (`complexity`); what was seen on the test rows is a fact, of these rows only (`on_test`). Pure
functions; knows nothing of models, tasks or files.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate

from taskbits.errors import UserError
from taskbits.studies.measurement import Measurement

_HAIR = 1e-9  # by which a sum may be rounded up
_STEP = math.sqrt(2)


def envelope(
    measurements: Iterable[Measurement], cost: Callable[[Measurement], float] = lambda m: m.bytes
) -> list[Measurement]:
    """The programs that no shorter or equally long one matches on validation, shortest first.

    cost: what counts instead of bytes. What could not be confirmed is none of them.
    """
    found: list[Measurement] = []
    for m in sorted(
        (m for m in measurements if m.unconfirmed is None),
        key=lambda m: (cost(m), -m.validation.value, m.bytes, m.program),
    ):
        if not found or m.validation.value > found[-1].validation.value:
            found.append(m)
    return found


def bare(measurements: Iterable[Measurement]) -> float | None:
    """The operations that an input takes the model as it is (zero-shot); None if that was not counted."""
    return next((m.flops_per_input for m in measurements if m.method == "zero-shot" and m.flops_per_input), None)


def times(m: Measurement, least: float | None) -> float | None:
    """What an input takes a program, over what it takes the model as it is; None if either was not counted."""
    return m.flops_per_input / least if least and m.flops_per_input else None


def within(measurements: Iterable[Measurement], per_input: float) -> list[Measurement]:
    """Those whose inputs take at most `per_input` times what they take the model as it is.

    Raises UserError if that was not counted.
    """
    measurements = list(measurements)
    if (least := bare(measurements)) is None:
        raise UserError("what an input takes the bare model was not counted here: measure with the method zero-shot")
    limit = per_input * least * (1 + _HAIR)
    return [m for m in measurements if m.flops_per_input is not None and m.flops_per_input <= limit]


def as_cheap(measurements: Iterable[Measurement], flops_per_input: float) -> list[Measurement]:
    """Those that a program must beat whose inputs take so much: what is within the same multiple of the model as it is
    (`candidates`). All, if that was not counted."""
    least = bare(measurements := list(measurements))
    return within(measurements, _STEP ** _power(flops_per_input / least)) if least else measurements


def candidates(measurements: Iterable[Measurement]) -> list[Measurement]:
    """What is to be scored on test: the envelope, and that of the programs whose inputs take at most 1.4, 2, 2.8, ...
    times what they take the model as it is."""
    found = envelope(measurements := list(measurements))
    if least := bare(measurements):
        dearest = max((m.flops_per_input or 0 for m in found), default=0)
        for power in range(1, _power(dearest / least)):
            found += envelope(within(measurements, _STEP**power))
    return sorted({m.program: m for m in found}.values(), key=lambda m: m.bytes)


def rows(measurements: Iterable[Measurement]) -> list[dict]:
    """The envelope, ready for JSON. `interval` is 95%, of test, or of validation if test is None; so is `also`.

    bound: what the program scores at least on the task, with 95% confidence (`Score.at_least`). per_input: what an
    input takes, over what it takes the model as it is. elsewhere: scores on other tasks.
    """
    least = bare(measurements := list(measurements))
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
            "bound": m.test.at_least if m.test else None,
            "flops_once": m.flops_once,
            "flops_per_input": m.flops_per_input,
            "per_input": times(m, least),
            "elsewhere": {task: found.value for task, found in m.elsewhere.items()},
            "program": f"{m.program}.tbp" if m.program else None,
        }
        for m in envelope(measurements)
    ]


def claims(measurements: Iterable[Measurement]) -> list[tuple[float, Measurement]]:
    """The tested programs of the envelope, shortest first, with the highest level that each can be claimed to reach.

    That is the least bound of it and of all longer ones, so the levels rise.
    """
    tested = [m for m in envelope(measurements) if m.test]
    levels = list(accumulate((m.test.at_least for m in reversed(tested)), min))
    return list(zip(reversed(levels), tested, strict=True))


def complexity(measurements: Iterable[Measurement], level: float) -> Measurement | None:
    """The shortest program that scores at least `level` with 95% confidence; None if there is none.

    It bounds C(T_level | M). Fixed-sequence testing (Learn then Test, Angelopoulos et al. 2021): from the program that
    is the best on validation, so the likeliest to pass, to ever shorter ones, until one's bound on test is below the
    level. The order is known before test is seen, so the claim is wrong in at most 5% of studies: at this level, chosen
    beforehand, not at all levels at once.
    """
    return next((m for reached, m in claims(measurements) if reached >= level), None)


def on_test(measurements: Iterable[Measurement], level: float) -> Measurement | None:
    """The shortest program that scores `level` on the test rows: a fact, which says less of other rows."""
    reaching = [m for m in measurements if m.test and m.test.value >= level]
    return min(reaching, key=lambda m: (m.bytes, m.program), default=None)


def ratios(frontiers: Mapping[str, Iterable[Measurement]], levels: Iterable[float] | None = None) -> list[dict]:
    """How much longer the program for each named study is than the shortest one, level by level.

    A row is {"level", "note", "bytes": {name: bytes}, "ratios": {name: bytes / the shortest}}, with None
    where a study doesn't reach the level (`complexity`). Without `levels`: about five round ones that at least two
    studies reach, and for each study the highest that it does, as the note then says.
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
    reached = [[level for level, _ in claims(measurements)] for measurements in frontiers]
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


def _power(times: float) -> int:
    """The least power of `_STEP`, and not 1, that is as much."""
    return max(1, math.ceil(math.log(max(1, times), _STEP) - _HAIR))


def _levels(frontiers: Mapping[str, Iterable[Measurement]]) -> dict[float, str]:
    known = {name: claims(measurements) for name, measurements in frontiers.items()}
    reached = {name: [level for level, _ in found] for name, found in known.items() if found}
    if not reached:
        return {}
    # Below `low`, the shortest program of every study will do: nothing to compare.
    low = min(levels[0] for levels in reached.values())
    highest = sorted(levels[-1] for levels in reached.values())
    levels = {level: "" for level in round_numbers(low, highest[-2:][0])}
    for name, found in reached.items():
        level = math.floor(1000 * found[-1]) / 1000
        if low < level <= highest[-1]:
            levels.setdefault(level, f"the highest for {name}")
    return dict(sorted(levels.items()))
