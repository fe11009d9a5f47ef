"""Frontier programs, decoded from their files in a fresh process and scored on test, once.

`python -m taskbits.confirm DIR` is that process; `taskbits verify` repeats what it did for one program.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from taskbits.display import progress, quiet
from taskbits.errors import UserError
from taskbits.frontier import envelope
from taskbits.model import Model, load_model
from taskbits.scoring import Scored, score
from taskbits.study import Measurement, Study, Taken
from taskbits.task import Task, load_task

_WAIT = 2  # seconds between two looks at what other processes score


def confirm_in_fresh_process(study: Study) -> None:
    """Decode and score the frontier's programs on test in a new process. Raises UserError if that fails."""
    result = subprocess.run([sys.executable, "-m", "taskbits.confirm", str(study.folder)])
    if result.returncode:
        raise UserError(f"a frontier program of {study.folder} did not decode to what was measured (see above)")


def confirm(folder: str) -> None:
    """Score on test what stands on the frontier and was not scored yet, each from its file alone.

    What another process scores just now is waited for.
    """
    study = Study.open(folder)

    def waiting() -> list[Measurement]:
        return [m for m in envelope(study.measurements()) if m.test is None]

    if not waiting():
        return
    model, task = open_parts(study)
    rows = len(task.splits["test"])
    with progress() as display:
        bar = display.add_task("", total=len(waiting()) * rows)
        while some := waiting():
            display.update(bar, total=display.tasks[bar].completed + len(some) * rows)
            for measurement in some:
                label = f"fresh process: test score of {measurement.method} {measurement.program}"
                display.update(bar, description=label)
                with suppress(Taken), study.testing(measurement.program):
                    scored = check(study, measurement, model, task, ["test"], lambda n: display.advance(bar, n))
                    study.record_test(measurement.program, scored.scores["test"], scored.outputs["test"])
            if waiting():
                time.sleep(_WAIT)


def check(study: Study, measurement: Measurement, model: Model, task: Task, splits: list[str], advance) -> Scored:
    """Decode a measured program from its file and score it. Raises UserError if it is not what was recorded."""
    try:
        content = study.path(measurement.program).read_bytes()
    except OSError as error:
        raise UserError(f"{error.filename} can't be read: {error.strerror}") from error
    with _as_many_threads(measurement):
        scored = score(content, model, task, splits, advance)
    for what, found, wanted in (
        ("length", scored.bytes, measurement.bytes),
        ("digest of the adapted model", scored.adapted, measurement.adapted),
    ):
        if found != wanted:
            raise UserError(
                f"{measurement.program}: its {what} is {found}, recorded is {wanted}; "
                f"recorded with {measurement.versions}"
            )
    return scored


@contextmanager
def _as_many_threads(measurement: Measurement) -> Iterator[None]:
    """Compute with as many threads as made the record, if there are: sums in another order round to other bits."""
    ours, theirs = torch.get_num_threads(), int(measurement.versions.get("threads", 0))
    if 0 < theirs <= (os.cpu_count() or 1):
        torch.set_num_threads(theirs)
    try:
        yield
    finally:
        torch.set_num_threads(ours)


def open_parts(study: Study) -> tuple[Model, Task]:
    """The study's model and task, loaded. Raises UserError if either has changed since."""
    info = study.require_programs().info
    task = load_task(info["task"], info["rows"], info.get("data"), info.get("chat"))
    model = load_model(info["model"], info["state"], info["seed"], info["revision"])
    for what, found, wanted in (
        ("task", task.fingerprint, info["task_fingerprint"]),
        ("model", model.fingerprint.hex(), info["fingerprint"]),
    ):
        if found != wanted:
            raise UserError(f"the {what} {info[what]} is not the one that was measured in {study.folder}")
    return model, task


if __name__ == "__main__":
    try:
        with quiet():
            confirm(sys.argv[1])
    except UserError as error:
        sys.exit(f"taskbits: {error}")
