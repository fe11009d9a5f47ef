"""Frontier programs, decoded from their files in a fresh process and scored on test, once.

`confirm` is what that process does; `taskbits verify` repeats it for one program. A program that can't be confirmed is
recorded with the reason, and leaves the frontier to the others.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import torch

from taskbits.display import progress, tell
from taskbits.errors import StoreError, UserError, in_short
from taskbits.models import intact
from taskbits.models.model import Model, load_model
from taskbits.search.scoring import Scored, score, score_elsewhere
from taskbits.studies.frontier import candidates
from taskbits.studies.info import OTHER_TASK
from taskbits.studies.measurement import Measurement, hash_of
from taskbits.studies.reservations import Taken
from taskbits.studies.study import Study
from taskbits.tasks.load import load_task
from taskbits.tasks.task import Task

_WAIT = 2  # seconds between two looks at what other processes score
# The libraries are found as ever, but not in the current folder; this package is the same that runs here.
_FRESH = """
import signal
import sys
sys.path.insert(0, sys.argv[2])
from taskbits.errors import UserError
sys.path.append(sys.path.pop(0))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
try:
    from taskbits.search.confirm import confirm
    from taskbits.display import quiet
    with quiet():
        confirm(sys.argv[1])
except KeyboardInterrupt:
    sys.exit(130)
except Exception as error:
    print(error if isinstance(error, UserError) else f"{type(error).__name__}: {error}")
    sys.exit(2)
"""


def confirm_in_fresh_process(study: Study) -> None:
    """Decode and score the frontier's programs on test in a new process.

    Where scoring a program kills it, another goes on with the others. Raises UserError if the process fails as a whole:
    all is kept, and the same can be done later.
    """
    command = [sys.executable, "-P", "-c", _FRESH, str(study.folder), str(Path(__file__).parents[2])]
    while waiting(study) or waiting_elsewhere(study):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as process:
            try:
                said, _ = process.communicate()
            except BaseException:
                process.terminate()  # it frees what it has reserved
                raise
        if process.returncode == 0:
            return
        reason = (said.strip() or f"it ended with exit code {process.returncode}").splitlines()[-1]
        if process.returncode < 0:
            with suppress(ValueError):
                reason = f"it was ended by {signal.Signals(-process.returncode).name}"
            if study.free_the_dead():
                tell(f"the process that confirms was lost: {reason}; another goes on")
                continue
        raise UserError(
            f"the programs of {study.folder} could not be confirmed in a fresh process: {reason}; "
            "what was measured is kept, and the same command confirms it"
        )


def waiting(study: Study) -> list[Measurement]:
    """The frontier's candidates that were not scored on test yet."""
    return [m for m in candidates(study.measurements()) if m.test is None]


def waiting_elsewhere(study: Study) -> list[tuple[str, str]]:
    """The frontier's candidates, each with another task on which it is to be scored and was not yet."""
    if not study.asked().get("also"):
        return []
    return study.lacks([m.program for m in candidates(study.measurements()) if m.test])


def confirm(folder: str) -> None:
    """Score on test what stands on the frontier and was not scored yet, each from its file alone; then on the test
    splits of other tasks, if that was asked for.

    What another process scores just now is waited for. What can't be scored is recorded as not confirmed, and what
    then stands on the frontier is scored, too.
    """
    study = Study.open(folder, trust=True)
    if not waiting(study) and not waiting_elsewhere(study):
        return
    model, task = open_parts(study)
    marked = intact.mark(model)
    rows = len(task.splits["test"])
    with progress() as display:
        bar = display.add_task("", total=len(waiting(study)) * rows)
        while some := waiting(study):
            display.update(bar, total=display.tasks[bar].completed + len(some) * rows)
            for m in some:
                display.update(bar, description=f"fresh process: test score of {m.method} {m.program}")
                begun = time.monotonic()
                with suppress(Taken), study.testing(m.program):
                    try:
                        scored = check(study, m, model, task, ["test"], lambda n: display.advance(bar, n))
                        study.record_test(m.program, scored.scores["test"], scored.outputs["test"])
                    except StoreError:
                        raise
                    except Exception as error:  # whatever it is: the others must not wait for it
                        why = in_short(error)
                        study.record_refusal(m.program, why)
                        tell(f"{m.method} {m.program}: not confirmed: {why}")
                        del error
                        model = intact.mended(model, marked)
                        continue
                    found = scored.scores["test"]
                    took = time.monotonic() - begun
                    tell(f"{m.method} {m.program}: {found.value:.3f} on test in {m.bytes:,} bytes, {took:.1f} s")
            if waiting(study):
                time.sleep(_WAIT)
        tasks: dict[str, Task] = {}
        for program, name in waiting_elsewhere(study):
            if not study.begin_elsewhere(program, name):
                continue
            try:
                other = tasks[name] = tasks.get(name) or load_task(name, study.info["rows"])
                display.update(bar, description=f"score of {program} on {other.name}", total=None)
                found = score_elsewhere(_content(study, program), model, other)
                tell(f"{program}: {found.value:.3f} on {other.name}")
            except StoreError:
                raise
            except Exception as error:  # the others are scored all the same
                found = in_short(error)
                tell(f"{program}: no score on {name}: {found}")
                del error
                model = intact.mended(model, marked)
            study.record_elsewhere(program, name, found)


def check(
    study: Study, measurement: Measurement, model: Model, task: Task, splits: list[str], advance, limit=None
) -> Scored:
    """Decode a measured program from its file and score it. Raises UserError if it is not what was recorded.

    limit: seconds that decoding may take.
    """
    content = _content(study, measurement.program)
    with _as_many_threads(measurement):
        scored = score(content, model, task, splits, advance, limit=limit, former=len(measurement.adapted) == 16)
    if scored.bytes != measurement.bytes and (old := measurement.versions.get("taskbits")) != version("taskbits"):
        raise UserError(
            f"{measurement.program}: its length is {scored.bytes}, recorded is {measurement.bytes}: it was measured "
            f"with taskbits {old}, whose files have another length; measure again in another folder"
        )
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


def _content(study: Study, program: str) -> bytes:
    """The file of a measured program. Raises UserError if it can't be read, or is not what it was."""
    try:
        content = study.path(program).read_bytes()
    except OSError as error:
        raise UserError(f"{error.filename} can't be read: {error.strerror}") from error
    if hash_of(content) != program:
        raise UserError(f"the file of program {program} is not what it was: it is damaged or altered")
    return content


@contextmanager
def _as_many_threads(measurement: Measurement) -> Iterator[None]:
    """Compute with as many threads as made the record, if there are: sums in another order round to other bits."""
    ours, theirs = torch.get_num_threads(), str(measurement.versions.get("threads", ""))
    theirs = int(theirs) if theirs.isdecimal() else 0
    if 0 < theirs <= (os.cpu_count() or 1):
        torch.set_num_threads(theirs)
    try:
        yield
    finally:
        torch.set_num_threads(ours)


def open_parts(study: Study, code: bool = True) -> tuple[Model, Task]:
    """The study's model and task, loaded. code: whether a task's own code may run.

    Raises UserError if either has changed since, or if the task needs code that may not run.
    """
    info = study.require_programs().info
    task = load_task(info["task"], info["rows"], info.get("data"), info.get("chat"), code)
    _require_same("task", [task.fingerprint], study)
    return open_model(study), task


def open_model(study: Study) -> Model:
    """The study's model, loaded. Raises UserError if it has changed since."""
    info = study.require_programs().info
    placed = study.asked().get("device_map")
    model = load_model(info["model"], info["state"], info["seed"], info["revision"], info.get("dtype"), placed)
    _require_same("model", [known.hex() for known in model.fingerprints], study)
    return model


def _require_same(what: str, known: list[str], study: Study) -> None:
    if study.info["task_fingerprint" if what == "task" else "fingerprint"] not in known:
        why = f": {OTHER_TASK}" if what == "task" else ""
        raise UserError(f"the {what} {study.info[what]} is not the one that was measured in {study.folder}{why}")
