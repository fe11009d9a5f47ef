"""The search: methods' sweeps under a budget of time, each program scored on validation as it comes.

At the end the frontier's programs go to a fresh process, which decodes each from its file and scores it on test,
once (`confirm`).
"""

import os
import platform
import re
import time
from collections.abc import Iterator
from importlib.metadata import version

import torch

from taskbits.confirm import confirm_in_fresh_process
from taskbits.display import progress
from taskbits.errors import UserError
from taskbits.frontier import envelope
from taskbits.methods import NAMES, method
from taskbits.model import load_model
from taskbits.scoring import score
from taskbits.study import Study, key
from taskbits.task import Task, load_task

_PACKAGES = ("taskbits", "torch", "transformers", "peft", "constriction", "zopfli", "python-minifier")


def parse_budget(text: str) -> float:
    """Seconds in '90s', '3m', '2h' or '1h30m'. Raises UserError on anything else."""
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text)
    seconds = sum(float(n or 0) * unit for n, unit in zip(parts.groups(), (3600, 60, 1), strict=True)) if parts else 0
    if seconds <= 0:
        raise UserError(f"the budget {text!r} is not a time: write 90s, 3m, 2h or 1h30m")
    return seconds


def measure(
    model: str,
    task: str,
    out: str,
    *,
    methods: list[str] | None = None,
    budget: float | None = None,
    seed: int = 0,
    state: str = "given",
    revision: str | None = None,
    rows: int | None = None,
    storage: str | None = None,
) -> Study:
    """Run the methods' sweeps for `budget` seconds (or to their end) and confirm the frontier on test.

    What is done already in the study at `out` is not done again. Raises UserError on bad input.
    """
    started = time.monotonic()
    modules = {name: method(name) for name in methods or NAMES}
    loaded_task = load_task(task, rows)
    info = {
        "model": _absolute(model),
        "state": state,
        "seed": seed,
        "revision": revision,
        "task": _absolute(task),
        "rows": rows,
        "metric": loaded_task.metric,
        "task_fingerprint": loaded_task.fingerprint,
        "storage": storage,
        "name": f"{model} {state} {seed} {loaded_task.name} {loaded_task.fingerprint}",
    }
    loaded = load_model(model, state, seed, revision)
    study = Study.create(out, {**info, "state": loaded.state, "fingerprint": loaded.fingerprint.hex()})
    with progress() as display:
        refusal = _search(study, loaded, loaded_task, modules, seed, started, budget, display)
    if refusal and not study.measurements():
        raise UserError(f"no program could be measured: {refusal}")
    del loaded  # the fresh process needs the memory
    confirm_in_fresh_process(study)
    return study


def versions() -> dict[str, str]:
    """Versions of what the results depend on."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "threads": str(torch.get_num_threads()),
    }


def _search(study, model, task, modules, seed, started, budget, display) -> UserError | None:
    """Run what is left of the sweeps; returns why settings were left out, if any were."""
    plan = list(_interleaved({name: module.sweep(model, task) for name, module in modules.items()}))
    done = study.done()
    todo = [(name, settings) for name, settings in plan if (name, key(settings)) not in done]
    bar = display.add_task("", total=len(plan), completed=len(plan) - len(todo), best=_best(study), left="")
    took: dict[str, float] = {}
    refusal = None
    for name, settings in todo:
        if budget:
            left = budget - (time.monotonic() - started) - _confirming(study, task)
            display.update(bar, left=f"{max(0, left):.0f} s of the budget left")
            # Sweeps grow about twofold from one setting to the next.
            if took and left < 2 * took.get(name, 0):
                display.advance(bar)
                continue
        begun = time.monotonic()
        refusal = _run_trial(study, model, task, modules[name], name, settings, seed, display, bar) or refusal
        took[name] = time.monotonic() - begun
        display.update(bar, advance=1, best=_best(study))
    return refusal


def _best(study: Study) -> str:
    found = envelope(study.measurements())
    return f"best so far {found[-1].validation.value:.3f} in {found[-1].bytes:,} B" if found else ""


def _absolute(spec: str) -> str:
    """Paths in full, so that the study can be opened from another folder."""
    return os.path.abspath(spec) if os.path.exists(spec) else spec


def _run_trial(study, model, task, module, name, settings, seed, display, bar) -> UserError | None:
    begun = time.monotonic()
    label = f"{name} {' '.join(f'{k}={v}' for k, v in settings.items())}"
    inputs = len(task.splits["validation"])
    seen = 0

    def fitting(at: int, of: int) -> None:
        display.update(bar, description=f"{label}: fitting, step {at + 1} of {of}")

    def scoring(count: int) -> None:
        nonlocal seen
        seen += count
        display.update(bar, description=f"{label}: scoring, {seen} of {inputs}")

    display.update(bar, description=f"{label}: fitting")
    with study.trial(name, settings) as trial:
        try:
            with model.preserved():
                fitted = module.fit(model, task, settings, seed, fitting)
            content = fitted.program.to_bytes()
            fit_done = time.monotonic()
            scored = score(content, model, task, ["validation"], scoring)
        except UserError as error:
            trial.give_up(str(error))
            display.console.print(f"{label}: left out: {error}", style="yellow", markup=False)
            return error
        trial.finish(
            content,
            method=name,
            family=module.FAMILY,
            settings=settings,
            bytes=scored.bytes,
            payload_bytes=scored.payload_bytes,
            ideal_bits=fitted.ideal_bits,
            validation=scored.scores["validation"],
            adapted=scored.adapted,
            content=fitted.content,
            seconds=round(time.monotonic() - begun, 2),
            scoring_seconds=round(time.monotonic() - fit_done, 2),
            seed=seed,
            versions=versions(),
        )
        return None


def _interleaved(sweeps: dict[str, list[dict]]) -> Iterator[tuple[str, dict]]:
    """Each method's cheapest settings first, so that a short budget still sees every method."""
    for round_ in range(max(map(len, sweeps.values()))):
        for name, settings in sweeps.items():
            if round_ < len(settings):
                yield name, settings[round_]


def _confirming(study: Study, task: Task) -> float:
    """About how long the fresh process will take for the frontier's test scores, in seconds."""
    waiting = [m for m in envelope(study.measurements()) if m.test is None]
    ratio = len(task.splits["test"]) / len(task.splits["validation"])
    return 10 + ratio * sum(m.scoring_seconds for m in waiting)
