"""How often what is claimed is wrong, in simulated studies, by the rule and by the one that took any score on test.

    python benchmarks/claims.py [--quick] [--out FILE]

A study has 60 programs, whose true scores rise with their length, each with luck of its own; scores of rows are 0/1 or
graded. What the package does with them is done by its functions: intervals, frontier, claims, the search for a target.
A claim is wrong if the program's true score is below the level. The old rule takes the shortest program of the frontier
whose scores on validation and test both reach the level. `aimed` is the search for a target as it is, `plain` one that
looks for a validation score of the target itself; both are claimed by the rule. Writes FILE, benchmarks/claims.md by
default, and ends with one JSON line.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean, median

import numpy as np

from taskbits.search.aim import aim
from taskbits.search.bandit import propose
from taskbits.studies.frontier import claims, complexity, envelope
from taskbits.studies.measurement import Attempt, Measurement, key
from taskbits.tasks.metrics import Score, mean_score

ROWS = {"300 / 500": (300, 500), "40 / 40": (40, 40)}
PROGRAMS = 60
LEVELS = (0.5, 0.6, 0.65, 0.68, 0.7)
TARGET = 0.6
BEST = 0.7
SMALLEST, LARGEST = 300, 1_000_000
LUCK = 0.015  # spread of what programs of one length score in truth
SPREAD = 4  # of graded scores, which are drawn from a beta distribution: the sum of its parameters
SWEEPS = {
    name: [{"bytes": 4**k, "way": name} for k in range(1, 10)]
    for name in ("first", "second", "third", "fourth", "fifth", "sixth")
}


def true_score(size: int, random: np.random.Generator) -> float:
    """What a program of so many bytes scores on all rows: half of BEST at 800 bytes, and hardly more from 20 KB on."""
    share = math.log(size / SMALLEST) / math.log(LARGEST / SMALLEST)
    return float(np.clip(BEST * (1 - math.exp(-6 * share)) + random.normal(0, LUCK), 0.01, 0.99))


def values(truth: float, rows: int, graded: bool, random: np.random.Generator) -> np.ndarray:
    """The scores of so many rows."""
    if graded:
        return random.beta(SPREAD * truth, SPREAD * (1 - truth), rows)
    return (random.random(rows) < truth).astype(float)


def measured(size: int, truth: float, rows: tuple[int, int], graded: bool, random: np.random.Generator) -> Measurement:
    """A program with its validation score, not yet tested."""
    return Measurement(
        method="simulated",
        family="parametric",
        settings={"truth": truth},
        bytes=size,
        payload_bytes=size,
        ideal_bits=None,
        validation=Score(float(values(truth, rows[0], graded, random).mean()), None, None, rows[0]),
        program=f"{random.integers(2**60):x}",
        adapted="",
        content={},
        seconds=1.0,
        scoring_seconds=1.0,
        seed=0,
        versions={},
    )


def confirmed(found: list[Measurement], rows: tuple[int, int], graded: bool, random) -> list[Measurement]:
    """The programs of the frontier, scored on test."""

    def tested(m: Measurement) -> Measurement:
        return replace(m, test=mean_score(values(m.settings["truth"], rows[1], graded, random), {}))

    return [tested(m) for m in envelope(found)]


def swept(rows: tuple[int, int], graded: bool, random: np.random.Generator) -> list[Measurement]:
    """A study of programs at all lengths."""
    sizes = np.exp(random.uniform(math.log(SMALLEST), math.log(LARGEST), PROGRAMS)).astype(int)
    found = [measured(int(size), true_score(size, random), rows, graded, random) for size in sizes]
    return confirmed(found, rows, graded, random)


def searched(goal: float, rows: tuple[int, int], graded: bool, random: np.random.Generator) -> list[Measurement]:
    """A study that looked for the shortest program with this validation score, in at most 60 trials."""
    found: list[Measurement] = []
    history: list[Attempt] = []
    taken: set[tuple[str, str]] = set()
    while len(history) < PROGRAMS and (chosen := propose(SWEEPS, history, taken, 1e7, 0, goal)):
        name, settings = chosen
        size = SMALLEST + settings["bytes"]
        m = measured(size, true_score(size, random), rows, graded, random)
        enough = any(other.bytes <= size and other.validation.value >= goal for other in found)
        history.append(Attempt(name, settings, 1.0, size, None if enough else m.validation.value, enough))
        taken.add((name, key(settings)))
        found += [] if enough else [m]
    return confirmed(found, rows, graded, random)


def by_both_scores(found: list[Measurement], level: float) -> Measurement | None:
    """The old rule."""
    return next((m for m in found if min(m.validation.value, m.test.value) >= level), None)


def outcome(studies: list[list[Measurement]], rule: Callable, levels: tuple[float, ...]) -> dict:
    """What a rule claims at these levels: shares of claims that are wrong, of levels with a claim, and the bytes."""
    taken = [(level, rule(found, level)) for found in studies for level in levels]
    known = [(level, m) for level, m in taken if m]
    wrong = [m.settings["truth"] < level for level, m in known]
    return {
        "wrong": round(sum(wrong) / len(taken), 4),
        "claimed": round(len(known) / len(taken), 4),
        "bytes": median(m.bytes for _, m in known) if known else None,
    }


def highest_wrong(studies: list[list[Measurement]]) -> float:
    """How often the claim of a study at the highest level, which is chosen on test, is wrong."""
    tops = [(claims(found)[-1][0], found) for found in studies]
    return round(mean(complexity(found, level).settings["truth"] < level for level, found in tops), 4)


def longer(studies: list[list[Measurement]]) -> float | None:
    """How many times longer the claims are than those of the old rule, where both claim: the median."""
    pairs = [(complexity(found, level), by_both_scores(found, level)) for found in studies for level in LEVELS]
    ratios = [new.bytes / old.bytes for new, old in pairs if new and old]
    return round(median(ratios), 2) if ratios else None


def simulate(rows: tuple[int, int], graded: bool, studies: int, seed: int = 0) -> dict:
    """The figures for studies of one kind."""
    random = np.random.default_rng(seed)
    some = [swept(rows, graded, random) for _ in range(studies)]
    plain = [searched(TARGET, rows, graded, random) for _ in range(studies)]
    aimed = [searched(aim(TARGET, *rows), rows, graded, random) for _ in range(studies)]
    return {
        "levels, old rule": outcome(some, by_both_scores, LEVELS),
        "levels": outcome(some, complexity, LEVELS),
        "target plain, old rule": outcome(plain, by_both_scores, (TARGET,)),
        "target plain": outcome(plain, complexity, (TARGET,)),
        "target aimed": outcome(aimed, complexity, (TARGET,)),
        "highest_wrong": highest_wrong(some),
        "times_longer": longer(some),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    options = parser.parse_args()
    studies, out = options.studies, options.out
    if options.quick:
        studies, out = 20, Path(tempfile.mkdtemp()) / "claims.md"
    headline = {"benchmark": "claims", "quick": options.quick, "studies": studies}
    text = [
        "# Claims",
        "",
        f"`python benchmarks/claims.py`: {studies} simulated studies of each kind, {PROGRAMS} programs each. The",
        f"levels are {', '.join(map(str, LEVELS))}; most of the longer programs score about {BEST} in truth; the",
        f"target is {TARGET}.",
        "Wrong: of all levels, the share at which a program is named that scores less in truth. Claimed: the share at",
        "which one is named. `plain` looks for a validation score of the target, `aimed` for one that lets it be",
        "claimed. Rows are those of validation and test.",
        "",
        "| scores | rows | claims | wrong | claimed | bytes, median |",
        "|---|---|---|---|---|---|",
    ]
    notes = []
    for graded in (False, True):
        for name, rows in ROWS.items():
            found = simulate(rows, graded, studies)
            scores = "graded" if graded else "0/1"
            for what, figures in found.items():
                if isinstance(figures, dict):
                    count = "" if figures["bytes"] is None else f"{figures['bytes']:,.0f}"
                    shares = f"{figures['wrong']:.1%} | {figures['claimed']:.1%}"
                    text.append(f"| {scores} | {name} | {what} | {shares} | {count} |")
            notes.append(
                f"* {scores}, {name}: where both rules claim, the programs are {found['times_longer']} times as long "
                f"in the median; the highest claim of a study, whose level is chosen on test, is wrong in "
                f"{found['highest_wrong']:.1%}."
            )
            print("\n".join(text[-5:]), flush=True)
            headline[f"{scores} {name}"] = found
    out.write_text("\n".join([*text, "", *notes]) + "\n")
    print(json.dumps(headline))


if __name__ == "__main__":
    main()
