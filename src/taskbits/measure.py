"""A study: the search's trials under a budget of time, each program fitted, decoded and scored on validation.

What to try next is for `search` to say. At the end the frontier's programs go to a fresh process, which decodes each
from its file and scores it on test, once (`confirm`).
"""

import os
import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
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
from taskbits.methods import ORDER, method
from taskbits.model import Model, load_model
from taskbits.scoring import Dominated, Scored, score
from taskbits.search import in_turn, propose
from taskbits.storage import full
from taskbits.study import Measurement, Study, Taken, hash_of, key
from taskbits.task import Task, load_task

_PROBE = 2  # seconds of fitting before its whole time is guessed from them
_STARTING = 10  # seconds until the fresh process has loaded its libraries
_SHARE = 0.6  # of the time left that the first trial of a method may take
_CHANCES = 2  # of a method's trials may be too long until it is left alone; one, if none has ended yet
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
    target: float | None = None,
    files: str | None = None,
) -> Study:
    """Search with the methods for `budget` seconds and confirm the frontier on test. Without a budget: their sweeps.

    rows, data, chat: see `load_task`. race: give up on a program, for good, once its scores so far say that it won't
    be on the frontier (`racing`). target: look only for the shortest program that scores as much. storage: a database
    URL, SQLite in `out` by default; workers can join the study there (`worker`). files: an fsspec URL for programs,
    `out` by default. What is done already in the study is not done again.
    Raises UserError on bad input.
    """
    started = time.monotonic()
    modules = {name: method(name) for name in methods or ORDER}
    loaded_task = load_task(task, rows, data, chat)
    checkpoint = f"{model}@{revision}" if revision else model
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
        "name": f"{checkpoint} {state} {seed} {loaded_task.name} {loaded_task.fingerprint}",
    }
    with console.status(f"loading {model}"):
        loaded = load_model(model, state, seed, revision)
    loaded.framed(loaded_task.frame)  # says at once if there is no chat template
    now, former = (known.hex() for known in loaded.fingerprints)
    study = Study.create(out, {**info, "state": loaded.state, "fingerprint": now}, {"fingerprint": former})
    study.ask_workers({"methods": list(modules), "race": race, "target": target, "budget": budget})
    refusal = Search(study, loaded, loaded_task, seed, started, budget, race, target).run(modules)
    if refusal and not study.measurements():
        raise UserError(f"no program could be measured: {refusal}")
    del loaded  # the fresh process needs the memory
    confirm_in_fresh_process(study)
    return study


def versions() -> dict[str, str]:
    """Versions of what the results depend on, and the machine."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "threads": str(torch.get_num_threads()),
        "processor": _processor(),
        "device": ", ".join(gpus) or "cpu",
    }


def _processor() -> str:
    """The processor's name, or its architecture where the system doesn't tell."""
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        named = None
    return named[1] if named else platform.processor() or platform.machine()


def _absolute(spec: str) -> str:
    """Paths in full, so that the study can be opened from another folder."""
    return os.path.abspath(spec) if os.path.exists(spec) else spec


class _TooLong(Exception):
    """A trial would not end within the budget."""


@dataclass
class Search:
    """The trials that this process runs for one study.

    confirms: whether the budget must also do for the confirmation. finished: is told of each program.
    took: seconds of its trials, with their methods. skipped: (method, settings as `key` has them) that were too long.
    """

    study: Study
    model: Model
    task: Task
    seed: int
    started: float
    budget: float | None
    race: bool
    target: float | None
    confirms: bool = True
    finished: Callable[[Measurement], None] = lambda measurement: None
    took: list[tuple[str, float]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def run(self, modules: dict[str, ModuleType]) -> UserError | None:
        """Run trials until the budget is spent or nothing is left to try; returns why settings were left out, if so."""
        sweeps = {name: module.sweep(self.model, self.task) for name, module in modules.items()}
        refusal = None
        with progress(TextColumn("{task.fields[best]}"), TextColumn("{task.fields[left]}")) as display:
            bar = display.add_task("", total=self.budget or sum(map(len, sweeps.values())), best=self.best(), left="")

            def waiting() -> None:
                display.update(bar, description="waiting for other workers", left="")

            while chosen := self.next(sweeps, waiting):
                name, settings = chosen
                begun, end = time.monotonic(), self.expected_end(sweeps)
                label = " ".join([name, *(f"{option}={value}" for option, value in settings.items())])

                def say(text: str, label: str = label, end: float | None = end) -> None:
                    left = f"{max(0.0, end - time.monotonic()):.0f} s left" if end else ""
                    display.update(bar, description=f"{label}: {text}", left=left)
                    if self.budget:
                        display.update(bar, completed=time.monotonic() - self.started)

                try:
                    if error := self.trial(modules[name], name, settings, say, end):
                        display.console.print(f"{label}: left out: {error}", style="yellow", markup=False)
                        refusal = error
                except Taken:
                    continue
                except _TooLong:
                    display.console.print(f"{label}: too long for this budget", style="yellow", markup=False)
                    self.skipped.append((name, key(settings)))
                self.took.append((name, time.monotonic() - begun))
                display.update(bar, best=self.best(), advance=0 if self.budget else 1)
            display.update(bar, completed=display.tasks[0].total)
        return refusal

    def next(self, sweeps: dict[str, list[dict]], waiting: Callable[[], None]) -> tuple[str, dict] | None:
        """The method and the settings to try now, None if there are none.

        If all that is left runs elsewhere, this waits for its end: what dies there is to be tried here.
        """
        while True:
            running = self.study.running()  # before `done`: what ends in between is in both
            done = self.study.done() | set(self.skipped)
            if (chosen := self.choose(sweeps, done | running)) or not self.choose(sweeps, done):
                return chosen
            waiting()
            time.sleep(_WAIT)

    def choose(self, sweeps: dict[str, list[dict]], taken: set[tuple[str, str]]) -> tuple[str, dict] | None:
        """The method and the settings to try, other than those that are taken."""
        history = self.study.history()
        if self.budget is None and self.target is None:
            return in_turn(sweeps, history, taken)
        known, end = {attempt.method for attempt in history}, self.expected_end(sweeps)
        affordable = {name: sweep for name, sweep in sweeps.items() if self.can_afford(name, name in known, end)}
        limit = 2 * sum(parameter.numel() for parameter in self.model.lm.parameters())
        return propose(affordable, history, taken, limit, self.seed, self.target)

    def trial(
        self, module: ModuleType, name: str, settings: dict, say: Callable[[str], None], end: float | None
    ) -> UserError | None:
        """Fit, write, decode and score one program. Returns the reason if these settings can't work here.

        Raises _TooLong as soon as the fitting is seen to take too much of the time until `end`, unless nothing else was
        tried yet.
        """
        begun, scored_inputs = time.monotonic(), 0
        share = 1.0 if any(attempt.method == name for attempt in self.study.history()) else _SHARE

        def fitting(at: int, of: int) -> None:
            say(f"fitting, step {at + 1} of {of}")
            spent = time.monotonic() - begun
            if self.budget and self.took and at and spent > _PROBE and spent * of / at > share * (end - begun):
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
                size = len(standalone(fitted.program, self.model.dtype))
                if enough := self.enough(size):
                    trial.give_up(f"{size:,} bytes, and {enough:,} reach the target")
                    return None
                scored = self.known(content) or score(
                    content, self.model, self.task, ["validation"], scoring, self.rival(size)
                )
            except Dominated as error:
                trial.give_up(str(error), (size, error.seen))
                return None
            except (UserError, torch.OutOfMemoryError) as error:
                trial.give_up(str(error))
                return UserError(str(error).splitlines()[0])
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

    def enough(self, size: int) -> int | None:
        """The bytes of a program that reaches the target, if one of so many bytes is therefore of no use."""
        reaching = [m.bytes for m in self.study.measurements() if self.reaches(m)]
        return min((count for count in reaching if count <= size), default=None)

    def reaches(self, m: Measurement) -> bool:
        return self.target is not None and m.validation.value >= self.target

    def rival(self, size: int) -> np.ndarray | None:
        """What a program of `size` bytes must beat, on each validation row: the target, or the best one as short."""
        if not self.race or not self.task.is_mean:
            return None
        if self.target is not None:
            return np.full(len(self.task.splits["validation"]), self.target)
        shorter = [m for m in envelope(self.study.measurements()) if m.bytes <= size]
        outputs = self.study.outputs(shorter[-1].program, "validation") if shorter else None
        return outputs and self.task.rewards("validation", list(range(len(outputs))), outputs)

    def best(self) -> str:
        """The best program so far, for people; with a target, the shortest that reaches it if there is one."""
        found = envelope(self.study.measurements())
        if not found:
            return ""
        best = next((m for m in found if self.reaches(m)), found[-1])
        return f"best {best.validation.value:.3f} in {best.bytes:,} B"

    def expected_end(self, sweeps: dict[str, list[dict]]) -> float | None:
        """When the search must end (with a budget) or is likely to; None if nothing is known."""
        if self.budget is None:
            if not self.took or self.target is not None:
                return None
            done = self.study.done()
            left = sum((name, key(settings)) not in done for name, sweep in sweeps.items() for settings in sweep)
            return time.monotonic() + left * sum(seconds for _, seconds in self.took) / len(self.took)
        if not self.confirms:
            return self.started + self.budget
        waiting = [m for m in envelope(self.study.measurements()) if m.test is None]
        ratio = len(self.task.splits["test"]) / len(self.task.splits["validation"])
        confirming = _STARTING + ratio * sum(m.scoring_seconds for m in waiting)
        return self.started + self.budget - confirming

    def can_afford(self, name: str, known: bool, end: float | None) -> bool:
        """Whether one more trial of the method fits in the time until `end`. The first of all always does.

        known: whether one of its trials has ended.
        """
        if self.budget is None or not self.took:
            return True
        if [method for method, _ in self.skipped].count(name) >= (_CHANCES if known else 1):
            return False
        longest = max((seconds for method, seconds in self.took if method == name), default=0.0)
        return end - time.monotonic() > longest
