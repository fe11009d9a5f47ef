"""The search against an even split of the same time: hypervolume of what each finds, on test.

    python benchmarks/search.py [--quick] [--budget 100s] [--seeds 5] [--task math ...] [--out DIR]

Three ways to spend the budget on lab:pretrained: the search over all methods (`taskbits measure --budget`); an even
split over the published methods, each going through its grid; an even split over the sweeps of all methods. The
hypervolume is the area under the frontier's test scores over the natural logarithm of bytes, up to the size of M in 16
bits a parameter. Studies that are there already are not measured again. Ends with one JSON line.
"""

import argparse
import json
import tempfile
from pathlib import Path
from statistics import mean, stdev
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

from taskbits.models.model import load_model
from taskbits.search.bandit import hypervolume, in_turn
from taskbits.search.measure import measure
from taskbits.studies.frontier import envelope
from taskbits.studies.study import Study
from taskbits.times import seconds as parse_budget

ROOT = Path(__file__).parent.parent
PUBLISHED = ["zero-shot", "few-shot", "instructed", "subset", "lora-fp16", "blora", "full"]
WAYS = {"search": None, "published grid": PUBLISHED, "all sweeps": None}


def evenly(sweeps, history, taken, *_):
    """In place of `propose`: the method that has had the least time goes through its sweep."""
    return in_turn(sweeps, history, taken)


def run(way: str, task: str, seed: int, budget: float, rows: int | None, out: Path) -> Study:
    """The study that this way of spending the budget makes."""
    if (out / "study.json").exists():
        return Study.open(out)
    arguments = {"methods": WAYS[way], "budget": budget, "seed": seed, "rows": rows}
    if way == "search":
        return measure("lab:pretrained", f"lab:{task}", str(out), **arguments)
    with patch("taskbits.search.trials.propose", evenly):
        return measure("lab:pretrained", f"lab:{task}", str(out), **arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--budget", default="100s")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--task", nargs="*", default=["math", "translation", "instruction"])
    parser.add_argument("--ways", nargs="*", default=list(WAYS))
    parser.add_argument("--out", type=Path, default=ROOT / "build/search")
    options = parser.parse_args()
    budget, seeds, rows, out = parse_budget(options.budget), options.seeds, options.rows, options.out
    if options.quick:
        budget, seeds, rows, out = 20.0, 2, 20, Path(tempfile.mkdtemp())
    limit = 2 * sum(parameter.numel() for parameter in load_model("lab:pretrained").lm.parameters())
    table = Table("task", "way", "mean", "spread", "least", "most", "trials", "best score", box=None)
    headline = {"benchmark": "search", "quick": options.quick, "budget": budget, "seeds": seeds}
    for task in options.task:
        found = {way: [] for way in options.ways}
        for seed in range(seeds):
            for way in options.ways:
                found[way].append(run(way, task, seed, budget, rows, out / task / way.replace(" ", "-") / str(seed)))
        volumes = {way: [volume(study, limit) for study in studies] for way, studies in found.items()}
        for way, studies in found.items():
            some = volumes[way]
            numbers = (mean(some), stdev(some) if seeds > 1 else 0.0, min(some), max(some))
            trials = mean(len(study.history()) for study in studies)
            best = mean(envelope(study.measurements())[-1].test.value for study in studies)
            table.add_row(task, way, *(f"{n:.2f}" for n in numbers), f"{trials:.0f}", f"{best:.3f}")
        headline[task] = {way: [round(value, 3) for value in some] for way, some in volumes.items()}
    Console(width=120).print(table)
    print(json.dumps(headline))


def volume(study: Study, limit: float) -> float:
    """Hypervolume of the frontier's test scores."""
    return hypervolume([(m.bytes, m.test.value) for m in envelope(study.measurements()) if m.test], limit)


if __name__ == "__main__":
    main()
