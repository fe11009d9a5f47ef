"""Trials per minute of one worker and of two on the same study.

    python benchmarks/scaling.py [--quick]

The same trials on lab:math given lab:pretrained, SQLite, one thread a worker. `measure` starts each study with its
first trial; workers run the rest. Time counts from the start of their first trial to the end of their last: loading the
libraries is left out, waiting for the slowest trial is not. Prints a table and ends with one JSON line, which has the
machine's load, too: whatever else runs shows in the figures. --quick has three trials, and shows only that it runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import optuna
from optuna.trial import TrialState
from rich.console import Console
from rich.table import Table

from taskbits.search.measure import measure

METHODS = ["zero-shot", "instructed", "lora-fp16"]
COUNTS = (1, 2)


def trials_per_minute(workers: int, methods: list[str], rows: int, folder: Path) -> tuple[int, float]:
    """How many trials so many workers ran on a new study, and how many a minute."""
    url = f"sqlite:///{folder}/{workers}.db"
    measure(
        "lab:pretrained",
        "lab:math",
        str(folder / f"study-{workers}"),
        methods=methods,
        budget=0.001,
        rows=rows,
        race=False,
        storage=url,
    )
    (name,) = optuna.get_all_study_names(url)
    study = optuna.load_study(study_name=name, storage=url)
    before = {trial.number for trial in study.get_trials()}
    command = [sys.executable, "-m", "taskbits", "worker", "--storage", url]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) for _ in range(workers)]
    if any(process.wait() for process in running):
        sys.exit("a worker failed (see above)")
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    ran = [trial for trial in study.get_trials(states=states) if trial.number not in before]
    span = max(trial.datetime_complete for trial in ran) - min(trial.datetime_start for trial in ran)
    return len(ran), 60 * len(ran) / span.total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    methods, rows = (METHODS[:2], 8) if options.quick else (METHODS, 40)
    with tempfile.TemporaryDirectory() as folder:
        found = {count: trials_per_minute(count, methods, rows, Path(folder)) for count in COUNTS}
    table = Table("workers", "trials", "trials a minute", "times", box=None)
    for count, (trials, rate) in found.items():
        table.add_row(str(count), str(trials), f"{rate:.1f}", f"{rate / found[1][1]:.2f}")
    Console(width=120).print(table)
    headline = {
        "benchmark": "scaling",
        "quick": options.quick,
        "trials_per_minute": {count: round(rate, 2) for count, (_, rate) in found.items()},
        "times": round(found[2][1] / found[1][1], 2),
        "load": round(os.getloadavg()[0], 2),
    }
    print(json.dumps(headline))


if __name__ == "__main__":
    main()
