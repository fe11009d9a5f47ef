"""The published accounting, and our files against it at equal test score. For the benchmarks.

Vergara-Browne et al. 2026 add the size of a script to 16 bits a trained parameter (LoRA), to learned bit-widths
(Bayesian LoRA) or to a cross-entropy (texts); nothing of it was ever decoded.
"""

import statistics

from rich.table import Table

from taskbits.search.confirm import open_parts
from taskbits.search.scoring import score
from taskbits.studies.frontier import envelope
from taskbits.studies.measurement import Measurement
from taskbits.studies.study import Study

# Sizes in bytes of the published inference scripts.
SCRIPTS = {"zero-shot": 369, "few-shot": 463, "instructed": 463, "subset": 713, "lora-fp16": 354, "blora": 1047}

Kinds = dict[str, list[Measurement]]


def published_bytes(m: Measurement) -> float:
    """What the published accounting gives to this program."""
    return SCRIPTS[m.method] + m.ideal_bits / 8


def confirmed(m: Measurement) -> float:
    """The highest level that both scores of a program reach."""
    return min(m.validation.value, m.test.value)


def tested(study: Study, kinds: Kinds) -> Kinds:
    """The same programs, those of the study that are the best of their kind with a test score now."""
    missing = {m.program: m for found in kinds.values() for m in envelope(found) if not m.test}
    if missing:
        model, task = open_parts(study)
        for program in missing:
            scored = score(study.path(program).read_bytes(), model, task, ["test"])
            study.record_test(program, scored.scores["test"], scored.outputs["test"])
    known = {m.program: m for m in study.measurements()}
    return {kind: [known.get(m.program, m) for m in found] for kind, found in kinds.items()}


def rivals(published: Kinds, ours: list[Measurement], above_nothing: bool = False) -> list[dict]:
    """At each level that a published kind and ours both reach: the shortest of either.

    above_nothing: leave out the levels that our shortest program, the empty one, reaches.
    """
    known = [m for m in envelope(ours) if m.test]
    rows = []
    for kind, found in published.items():
        theirs = [m for m in envelope(found) if m.test]
        floor = confirmed(known[0]) if above_nothing else 0
        marks = {round(confirmed(m), 4) for m in theirs} | {k / 20 for k in range(1, 21)}
        for level in sorted(mark for mark in marks if mark > floor):
            a = min((m for m in theirs if confirmed(m) >= level), key=published_bytes, default=None)
            b = min((m for m in known if confirmed(m) >= level), key=lambda m: m.bytes, default=None)
            if a and b:
                rows.append({"level": level, "kind": kind, "theirs": published_bytes(a), "ours": b})
    return rows


def add_levels(table: Table, ratios: dict[str, list[float]], name: str, rows: list[dict], digits: int) -> None:
    """Add a study's rivals to a table of levels, and published over ours to the ratios of each kind."""
    for row in rows:
        ratio = row["theirs"] / row["ours"].bytes
        ratios.setdefault(row["kind"], []).append(ratio)
        table.add_row(
            name,
            f"{row['level']:.3f}",
            row["kind"],
            f"{row['theirs']:,.0f}",
            f"{row['ours'].bytes:,}",
            f"{ratio:.{digits}f}",
            row["ours"].method,
        )


def summary(ratios: dict[str, list[float]], digits: int) -> dict:
    """How many levels there are, at how many ours is shorter, and by how much."""
    everything = sum(ratios.values(), [])
    return {
        "levels": len(everything),
        "shorter": sum(ratio > 1 for ratio in everything),
        "median_ratio": round(statistics.median(everything), digits) if everything else None,
        "least_ratio": round(min(everything), 2) if everything else None,
        "median_by_kind": {kind: round(statistics.median(values), digits) for kind, values in ratios.items()},
    }
