"""What all pictures of a frontier share: the axis of program lengths, and the names of things."""

import math
from collections.abc import Iterable
from pathlib import Path

from taskbits.studies.measurement import FAMILIES as FAMILIES
from taskbits.studies.measurement import Measurement

ESTIMATE = "published estimate"


def label(info: dict) -> str:
    """The model of a study, in a few words."""
    revision = f"@{info['revision']}" if info.get("revision") else ""
    seed = f" (random, seed {info['seed']})" if info.get("state") == "random" else ""
    estimate = f" ({ESTIMATE})" if info.get("published") else ""
    return f"{last_part(info['model'])}{revision}{seed}{estimate}"


def task(info: dict) -> str:
    """The task of a study, in a few words."""
    return last_part(info["task"])


def others(measured: Iterable[Measurement]) -> dict[str, str]:
    """Other tasks that some of the programs were scored on, with their names for people."""
    return {task: last_part(task) for m in measured for task in m.elsewhere}


def metric(info: dict) -> str:
    """The metric of a study after its score, " (chrf)"; of a user's own, the function's name without its module."""
    return f" ({info['metric'].rpartition('.')[2]})" if info.get("metric") else ""


def size(count: float) -> str:
    """A round number of bytes for an axis: 500 B, 2 KB, 10 MB (in thousands)."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:g} {unit}"
        count /= 1000


def bounds(sizes: list[int]) -> tuple[float, float]:
    """The ends of a logarithmic axis that holds all sizes with some room."""
    low, high = (min(sizes), max(sizes)) if sizes else (1000, 1_000_000)
    low = max(low, 1)
    room = max(1.25, math.sqrt(8 * low / max(high, 1)))
    return low / room, high * room


def ticks(low: float, high: float, most: int = 6) -> list[int]:
    """Where to label a logarithmic axis: 1, 2 and 5 of each decade, or if that is too many, decades, or every third."""
    decades = range(max(0, math.floor(math.log10(low))), math.ceil(math.log10(high)) + 1)
    for digits, every in (((1, 2, 5), 1), ((1,), 1), ((1,), 3)):
        found = [d * 10**k for k in decades for d in digits if k % every == 0 and low <= d * 10**k <= high]
        if len(found) <= most:
            break
    return found


def score_limit(measurements) -> float:
    """The top of the axis of scores, which starts at 0."""
    scores = [s for m in measurements for s in (m.validation, m.test) if s]
    ends = [m.test.high for m in measurements if m.test and m.test.high is not None]
    highest = max([s.value for s in scores] + ends, default=1.0)
    return min(1.0, max(0.1, 1.08 * highest))


def last_part(spec: str) -> str:
    """What a path ends in, as far as it tells anything; a hub id or lab:NAME as it is."""
    path = Path(spec)
    if path.name == "task.yaml":
        path = path.parent
    return path.name.removesuffix(".gguf").removesuffix(".yaml") if path.is_absolute() else spec
