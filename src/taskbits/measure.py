"""The search: methods' sweeps under a budget of time, each program scored on validation as it comes.

At the end the frontier's programs go to a fresh process, which decodes each from its file and scores it on test,
once (`confirm`).
"""

import os
import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from types import ModuleType

import numpy as np
import torch
from rich.progress import TextColumn

from taskbits import memory
from taskbits.confirm import confirm_in_fresh_process
from taskbits.display import console, progress
from taskbits.errors import UserError
from taskbits.export import standalone
from taskbits.frontier import envelope
from taskbits.methods import NAMES, method
from taskbits.model import Model, load_model
from taskbits.program import Program
from taskbits.scoring import Dominated, Scored, score
from taskbits.storage import full
from taskbits.study import Measurement, Study, Taken, hash_of, key
from taskbits.task import Task, load_task

_PROBE = 2  # seconds of fitting before its whole time is guessed from them
_STARTING = 10  # seconds until the fresh process has loaded its libraries
_WAIT = 2  # seconds between two looks at what other workers do
_PACKAGES = ("taskbits", "torch", "transformers", "peft", "cmaes", "constriction", "zopfli", "python-minifier")


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
    data: str | None = None,
    chat: bool | None = None,
    race: bool = True,
    storage: str | None = None,
    files: str | None = None,
) -> Study:
    """Run the methods' sweeps for `budget` seconds (or to their end) and confirm the frontier on test.

    rows, data, chat: see `load_task`. race: give up on a program, for good, once its scores so far say that it won't
    be on the frontier (`racing`). storage: a database URL, SQLite in `out` by default; workers can join the study there
    (`worker`). files: an fsspec URL where the programs go, `out` by default. What is done already in the study is not
    done again.
    Raises UserError on bad input.
    """
    started = time.monotonic()
    modules = {name: method(name) for name in methods or NAMES}
    loaded_task = load_task(task, rows, data, chat)
    info = {
        "model": _absolute(model),
        "state": state,
        "seed": seed,
        "revision": revision,
        "task": _absolute(task),
        "rows": rows,
        "data": data and _absolute(data),
        "chat": chat,
        "metric": loaded_task.metric,
        "task_fingerprint": loaded_task.fingerprint,
        "storage": storage and full(storage),
        "files": files and (files if "://" in files else os.path.abspath(files)),
        "name": f"{model} {state} {seed} {loaded_task.name} {loaded_task.fingerprint}",
    }
    with console.status(f"loading {model}"):
        loaded = load_model(model, state, seed, revision)
    study = Study.create(out, {**info, "state": loaded.state, "fingerprint": loaded.fingerprint.hex()})
    study.ask_workers({"methods": list(modules), "race": race})
    if loaded_task.frame.chat:
        loaded.chat("")  # says at once if there is no chat template
    refusal = _Search(study, loaded, loaded_task, seed, started, budget, race).run(modules)
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


def _absolute(spec: str) -> str:
    """Paths in full, so that the study can be opened from another folder."""
    return os.path.abspath(spec) if os.path.exists(spec) else spec


class _TooLong(Exception):
    """A trial would not end within the budget."""


@dataclass
class _Search:
    """The sweeps of some methods for one study. `took` holds the seconds of the trials that this process ran.

    confirms: whether the budget must also do for the confirmation. finished: is told of each program.
    """

    study: Study
    model: Model
    task: Task
    seed: int
    started: float
    budget: float | None
    race: bool
    confirms: bool = True
    finished: Callable[[Measurement], None] = lambda measurement: None
    took: list[tuple[str, float]] = field(default_factory=list)

    def run(self, modules: dict[str, ModuleType]) -> UserError | None:
        """Run what is left of the sweeps; returns why settings were left out, if any were.

        The method that has had the least time goes next, so that costly methods don't keep the cheap ones waiting.
        """
        sweeps = {name: module.sweep(self.model, self.task) for name, module in modules.items()}
        todo = {name: list(settings) for name, settings in sweeps.items()}
        spent = dict.fromkeys(modules, 0.0)
        for m in self.study.measurements():
            spent[m.method] = spent.get(m.method, 0.0) + m.seconds
        refusal, total = None, sum(map(len, sweeps.values()))
        with progress(TextColumn("{task.fields[best]}"), TextColumn("{task.fields[left]}")) as display:
            bar = display.add_task("", total=total, best=self.best(), left="")
            while True:
                running, done = self.study.running(), self.study.done()  # in this order: what ends meanwhile is done
                todo = {name: [s for s in some if (name, key(s)) not in done] for name, some in todo.items()}
                free = {name: [s for s in some if (name, key(s)) not in running] for name, some in todo.items()}
                if not (waiting := sum(map(len, todo.values()))):
                    break
                display.update(bar, completed=total - waiting, best=self.best())
                end = self.expected_end(waiting)
                if not any(free.values()):  # other workers run the rest; if one dies, its trial is still to be done
                    if self.budget and time.monotonic() > end:
                        break
                    display.update(bar, description="waiting for other workers", left="")
                    time.sleep(_WAIT)
                    continue
                name = min((name for name in free if free[name]), key=spent.__getitem__)
                if not self.can_afford(name, end):
                    todo[name] = []
                    continue
                settings, begun = free[name][0], time.monotonic()
                label = " ".join([name, *(f"{option}={value}" for option, value in settings.items())])

                def say(text: str, label: str = label, end: float | None = end) -> None:
                    left = f"{max(0.0, end - time.monotonic()):.0f} s left" if end else ""
                    display.update(bar, description=f"{label}: {text}", left=left)

                try:
                    if error := self.trial(modules[name], name, settings, say, end):
                        display.console.print(f"{label}: left out: {error}", style="yellow", markup=False)
                        refusal = error
                except Taken:
                    continue
                except _TooLong:
                    display.console.print(f"{label}: does not fit in the budget", style="yellow", markup=False)
                    todo[name] = []
                seconds = time.monotonic() - begun
                self.took.append((name, seconds))
                spent[name] += seconds
            display.update(bar, completed=total, best=self.best())
        return refusal

    def trial(
        self, module: ModuleType, name: str, settings: dict, say: Callable[[str], None], end: float | None
    ) -> UserError | None:
        """Fit, write, decode and score one program. Returns the reason if these settings can't work here.

        Raises _TooLong as soon as the fitting is seen to last beyond `end`, unless nothing else was tried yet.
        """
        begun, scored_inputs = time.monotonic(), 0

        def fitting(at: int, of: int) -> None:
            say(f"fitting, step {at + 1} of {of}")
            spent = time.monotonic() - begun
            if self.budget and self.took and at and spent > _PROBE and begun + spent * of / at > end:
                raise _TooLong

        def scoring(count: int) -> None:
            nonlocal scored_inputs
            scored_inputs += count
            say(f"scoring, {scored_inputs} of {len(self.task.splits['validation'])}")

        say("fitting")
        with self.study.trial(name, settings) as trial:
            try:
                memory.forget()
                with self.model.preserved():
                    fitted = module.fit(self.model, self.task, settings, self.seed, fitting)
                content = fitted.program.to_bytes()
                fit_done, peak = time.monotonic(), memory.peak()
                scored = self.known(content) or score(
                    content, self.model, self.task, ["validation"], scoring, self.rival(fitted.program)
                )
            except Dominated as error:
                trial.give_up(str(error))
                return None
            except UserError as error:
                trial.give_up(str(error))
                return error
            measurement = trial.finish(
                content,
                scored.outputs["validation"],
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
                seed=self.seed,
                peak_memory=peak,
                versions=versions(),
            )
        self.finished(measurement)
        return None

    def known(self, content: bytes) -> Scored | None:
        """What was found for the same program before, with other settings or by another worker."""
        name = hash_of(content)
        outputs = self.study.outputs(name, "validation")
        found = [m for m in self.study.measurements() if m.program == name] if outputs else []
        if not found:
            return None
        m = found[0]
        return Scored(m.bytes, m.payload_bytes, m.adapted, {"validation": m.validation}, {"validation": outputs})

    def rival(self, program: Program) -> np.ndarray | None:
        """The scores, on each validation row, of the best program so far that is no longer than this one."""
        if not self.race or not self.task.is_mean:
            return None
        size = len(standalone(program, self.model.dtype))
        shorter = [m for m in envelope(self.study.measurements()) if m.bytes <= size]
        outputs = self.study.outputs(shorter[-1].program, "validation") if shorter else None
        return outputs and self.task.rewards("validation", list(range(len(outputs))), outputs)

    def best(self) -> str:
        """The best program so far, for people."""
        found = envelope(self.study.measurements())
        return f"best {found[-1].validation.value:.3f} in {found[-1].bytes:,} B" if found else ""

    def expected_end(self, remaining: int) -> float | None:
        """When the search must end (with a budget) or is likely to; None if nothing is known yet."""
        if self.budget is None:
            mean = sum(seconds for _, seconds in self.took) / max(1, len(self.took))
            return time.monotonic() + remaining * mean if self.took else None
        if not self.confirms:
            return self.started + self.budget
        waiting = [m for m in envelope(self.study.measurements()) if m.test is None]
        ratio = len(self.task.splits["test"]) / len(self.task.splits["validation"])
        confirming = _STARTING + ratio * sum(m.scoring_seconds for m in waiting)
        return self.started + self.budget - confirming

    def can_afford(self, name: str, end: float | None) -> bool:
        """Whether one more trial of the method fits in the budget. The first of all always does."""
        if self.budget is None or not self.took:
            return True
        longest = max((seconds for method, seconds in self.took if method == name), default=0.0)
        return end - time.monotonic() > longest
