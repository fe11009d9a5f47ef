"""Frontier programs, decoded from their files in a fresh process and scored on test, once.

`python -m taskbits.confirm DIR` is that process; `taskbits verify` repeats what it did for one program.
"""

import subprocess
import sys

from taskbits.display import progress
from taskbits.errors import UserError
from taskbits.frontier import envelope
from taskbits.model import Model, load_model
from taskbits.scoring import Scored, score
from taskbits.study import Measurement, Study
from taskbits.task import Task, load_task


def confirm_in_fresh_process(study: Study) -> None:
    """Decode and score the frontier's programs on test in a new process. Raises UserError if that fails."""
    result = subprocess.run([sys.executable, "-m", "taskbits.confirm", str(study.folder)])
    if result.returncode:
        raise UserError(f"a frontier program of {study.folder} did not decode to what was measured (see above)")


def confirm(folder: str) -> None:
    """Score on test what stands on the frontier and was not scored yet, each from its file alone."""
    study = Study.open(folder)
    waiting = [m for m in envelope(study.measurements()) if m.test is None]
    if not waiting:
        return
    model, task = open_parts(study)
    with progress() as display:
        bar = display.add_task("", total=len(waiting) * len(task.splits["test"]))
        for measurement in waiting:
            display.update(bar, description=f"fresh process: test score of {measurement.method} {measurement.program}")
            scored = check(study, measurement, model, task, ["test"], lambda n: display.advance(bar, n))
            study.record_test(measurement.program, scored.scores["test"], scored.outputs["test"])


def check(study: Study, measurement: Measurement, model: Model, task: Task, splits: list[str], advance) -> Scored:
    """Decode a measured program from its file and score it. Raises UserError if it is not what was recorded."""
    try:
        content = study.path(measurement.program).read_bytes()
    except OSError as error:
        raise UserError(f"{study.path(measurement.program)} can't be read: {error.strerror}") from error
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
        confirm(sys.argv[1])
    except UserError as error:
        sys.exit(f"taskbits: {error}")
