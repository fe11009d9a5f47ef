"""A study from beginning to end: model and task, the trials of a search, the confirmation. Says what failed.

At the end the frontier's programs go to a fresh process, which decodes each from its file and scores it on test, once
(`confirm`).
"""

import os
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from taskbits.display import status, warn
from taskbits.errors import UserError
from taskbits.methods import DONATED, method, names
from taskbits.models.model import Model, load_model
from taskbits.search.combined import with_bases
from taskbits.search.confirm import confirm_in_fresh_process
from taskbits.search.trials import Search
from taskbits.studies.storage import full
from taskbits.studies.study import Study
from taskbits.tasks.load import load_task, write_task
from taskbits.tasks.task import Task
from taskbits.times import seconds


def measure(
    model: str | Path | tuple | Model,
    task: str | Path | dict | Task,
    out: str,
    *,
    methods: Iterable[str] | None = None,
    budget: float | str | None = None,
    seed: int = 0,
    state: str = "given",
    revision: str | None = None,
    dtype: str = "auto",
    device_map: str | None = None,
    donor: str | Path | None = None,
    also: Iterable[str | Path] = (),
    rows: int | None = None,
    data: str | None = None,
    chat: bool | None = None,
    race: bool = True,
    storage: str | None = None,
    target: float | None = None,
    files: str | None = None,
    retry: bool = False,
) -> Study:
    """Search with the methods for `budget` seconds and confirm the frontier on test. Without a budget: their sweeps.

    model, task: as `load_model` and `load_task` take them, or what they give; state, revision, dtype, device_map, rows,
    data and chat are for those that are not loaded. What is in memory alone is written to `out`, for the process that
    confirms.
    donor: another checkpoint of the model, or a PEFT adapter for it, whose weights programs may carry.
    also: other tasks, by name, on whose test rows the frontier's candidates are scored, too.
    race: give up on a program, for good, once its scores so far say that it won't be on the frontier (`racing`).
    target: look only for the shortest program that scores as much. storage: a database URL, SQLite in `out` by default;
    workers can join the study there (`worker`). files: an fsspec URL for programs, `out` by default. What is done
    already in the study is not done again; retry: but what failed is.
    Raises UserError on bad input.
    """
    started = time.monotonic()
    budget = None if budget is None else seconds(budget)
    wanted = with_bases(methods or names())
    needy = [part for name in wanted for part in name.split("+") if part in DONATED]
    if methods and needy and not donor:
        raise UserError(f"method {needy[0]} needs a model or an adapter that it begins with: name one with --donor")
    loaded_task = task if isinstance(task, Task) else load_task(task, rows, data, chat)
    if not loaded_task.origin["task"]:  # it was given as a dict
        loaded_task = write_task(loaded_task, Path(out, "task"))
    named = model if isinstance(model, str | Path) else "the model"
    with status(f"loading {named}"):
        loaded = model if isinstance(model, Model) else load_model(model, state, seed, revision, dtype, device_map)
        loaded = _on_disk(loaded, Path(out)) if loaded.given else loaded
        loaded.donor = donor and _absolute(str(donor))
        seed = loaded.seed if loaded.state == "random" else seed  # a study has one
        loaded.framed(loaded_task.frame)  # says at once if there is no chat template
        others = [_absolute(str(other)) for other in also]
        for other in others:
            loaded.framed(load_task(other, rows).frame)
        for name in dict.fromkeys("+".join(wanted).split("+")) if methods else ():
            if not method(name).sweep(loaded, loaded_task):
                raise UserError(f"method {name} has nothing to try on {loaded_task.name}: name others with --methods")
        now, former = (known.hex() for known in loaded.fingerprints)
        asked = loaded.state if isinstance(model, Model) else state
        info = _info(loaded, asked, loaded_task, seed, storage, files)
        # A study of a version that did not record the arithmetic; were it another, so would be the fingerprint.
        unsaid = {"dtype": None, "name": info["name"].removesuffix(f" {info['dtype']}")}
        study = Study.create(out, {**info, "fingerprint": now}, {"fingerprint": former, **unsaid})
    combines = methods is None
    asked_for = {"methods": wanted, "combines": combines, "race": race, "target": target, "budget": budget}
    study.ask_workers({**asked_for, "device_map": loaded.device_map, "donor": loaded.donor, "also": others})
    if retry:
        study.retry()
    search = Search(study, loaded, loaded_task, seed, started, budget, race, target, opening=time.monotonic() - started)
    del loaded  # the fresh process needs the memory
    search.run(wanted, combines)
    if not study.measurements() and (reason := search.obstacle()):
        raise UserError(f"no program could be measured: {reason}")
    del search
    confirm_in_fresh_process(study)
    _tell_what_failed(study)
    return study


def _info(model: Model, state: str, task: Task, seed: int, storage: str | None, files: str | None) -> dict:
    """What study.json says is measured."""
    checkpoint = f"{model.spec}@{model.revision}" if model.revision else model.spec
    origin = task.origin
    return {
        "model": _absolute(model.spec),
        "state": model.state,
        "seed": seed,
        "revision": model.revision,
        "task": _absolute(origin["task"]),
        "rows": origin["rows"],
        "data": origin["data"] and _absolute(origin["data"]),
        "chat": origin["chat"],
        "metric": task.metric,
        "task_fingerprint": task.fingerprint,
        "storage": storage and full(storage),
        "files": files and (files if "://" in files else os.path.abspath(files)),
        "dtype": model.said_dtype,
        "name": " ".join(
            [checkpoint, state, str(seed), task.name, task.fingerprint, *filter(None, [model.said_dtype])]
        ),
    }


def _on_disk(model: Model, out: Path) -> Model:
    """The same model as a user's in memory, loaded from where every process finds it: from where it came, if it is
    still that, or from a folder in `out` that it is written to.

    Raises UserError if it can't be written so that it is read as the same.
    """
    folder = out / (Path(model.spec).name or "model")
    if not (folder / "config.json").exists():
        with suppress(UserError):
            if (found := load_model(model.spec, dtype=model.dtype)).fingerprint == model.fingerprint:
                return found
        model.save(folder)
    found = load_model(str(folder), dtype=model.dtype)
    if found.fingerprint != model.fingerprint:
        raise UserError(f"{folder} holds another model, or this one can't be written without loss: name another --out")
    return found


def _tell_what_failed(study: Study) -> None:
    """A line for each method and reason why its trials failed, and for each program that could not be confirmed.

    Settings that can't work are told of only if none of the method's can. Raises UserError if no program was confirmed.
    """
    history = study.history()
    good = {attempt.method for attempt in history if attempt.bytes is not None}
    ended = [a for a in history if a.error and (a.failed or a.method not in good)]
    failed = Counter((a.method, "failed" if a.failed else "left out", a.error) for a in ended)
    for (name, how, error), count in failed.items():
        warn(f"{name}: {count} trial{'s' * (count != 1)} {how}: {error}")
    measured = study.measurements()
    unconfirmed = [m for m in measured if m.unconfirmed is not None]
    for m in unconfirmed:
        warn(f"{m.method} {m.program}: not confirmed: {m.unconfirmed}")
    if failed or unconfirmed:
        warn("--retry tries again what failed and what was not confirmed; the records hold the tracebacks")
    if unconfirmed and not any(m.test for m in measured):
        [(why, _)] = Counter(m.unconfirmed for m in unconfirmed).most_common(1)
        raise UserError(f"no program could be confirmed: {why}")


def _absolute(spec: str) -> str:
    """Paths in full, so that the study can be opened from another folder."""
    return os.path.abspath(spec) if os.path.exists(spec) else spec
