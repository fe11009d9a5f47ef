"""The trials that one process runs for a study: each program fitted, decoded and scored on validation, within a budget.

What to try next is for `bandit` to say.
"""

import functools
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType

import numpy as np
import psutil
from rich.progress import TextColumn

from taskbits.display import progress, tell, warn
from taskbits.errors import StoreError, UserError
from taskbits.models import intact, memory
from taskbits.models.model import Model
from taskbits.programs.export import standalone
from taskbits.search import combined
from taskbits.search.aim import aim
from taskbits.search.bandit import in_turn, propose
from taskbits.search.pace import Pace, covers
from taskbits.search.scoring import Dominated, Rival, Scored, score
from taskbits.search.versions import versions
from taskbits.studies.frontier import as_cheap, candidates, envelope
from taskbits.studies.measurement import Attempt, Measurement, hash_of, key
from taskbits.studies.reservations import Taken
from taskbits.studies.study import Study
from taskbits.tasks.task import Task

_PROBE = 2  # seconds of fitting before its whole time is guessed from them
# Seconds in which a process has loaded the libraries: as this one has, unless it did other things before.
_STARTING = min(60.0, max(1.0, time.time() - psutil.Process().create_time()))
_MARGIN = 1.25  # by which the confirmation may take longer than the same things have taken here
_SHARES = 0.4, 0.6  # of the time left that the first trial of a method may take, and a later one
_FAILURES = 2  # of a method's trials, and none that ended well, until it is left alone
_CHANCES = 2  # of a method's trials may be too long until it is left alone; one, if none has ended yet
_WAIT = 2  # seconds between two looks at what other workers do


class _TooLong(Exception):
    """A trial would not end within the budget."""


@dataclass
class Search:
    """The trials that this process runs for one study.

    confirms: whether the budget must also do for the confirmation. opening: seconds to load the model and the task.
    took: seconds of its trials, with their methods. scorings: those of its programs' scorings. pace: of its fittings.
    skipped: (method, settings as `key` has them) that were too long.
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
    opening: float = 0.0
    took: list[tuple[str, float]] = field(default_factory=list)
    scorings: list[float] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    pace: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        self.task = replace(self.task)  # what methods keep for it (`fitting.kept`) is freed with this search
        if self.target is not None:  # from here on what a program must score on validation, for the claim to hold
            self.target = aim(self.target, len(self.task.splits["validation"]), len(self.task.splits["test"]))

    def run(self, methods: list[str], combines: bool) -> None:
        """Run trials until the budget is spent or nothing is left to try. A trial that fails doesn't end it.

        methods: names, as `combined.with_bases` gives them. combines: also in turn what the frontier has.
        """
        sweeps: dict[str, list[dict]] = {}

        def plan() -> None:  # anew with each trial: methods in turn build on what was found
            sweeps.clear()
            sweeps.update(combined.sweeps(self.study, self.model, self.task, methods, combines))
            if self.budget is not None:
                history, end = self.study.history(), self.expected_end(sweeps)
                sweeps.update({name: self.scaled(name, sweep, history, end) for name, sweep in sweeps.items()})

        plan()
        marked = intact.mark(self.model)
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
                    self.trial(combined.fits(self.study, name), name, settings, label, say, end)
                except Taken:
                    continue
                except _TooLong:
                    if self.pace.within(name, settings, self.room(name, self.study.history(), end)) != settings:
                        tell(f"{label}: too long for this budget, tried with less")
                    else:
                        warn(f"{label}: too long for this budget")
                        self.skipped.append((name, key(settings)))
                # A method that changes weights undoes it; none is trusted to.
                self.model = intact.mended(self.model, marked)
                self.took.append((name, time.monotonic() - begun))
                plan()
                display.update(bar, best=self.best(), advance=0 if self.budget else 1)
            display.update(bar, completed=display.tasks[0].total)

    def obstacle(self) -> str | None:
        """Why most trials have no program, if some have none."""
        reasons = Counter(attempt.error for attempt in self.study.history() if attempt.error)
        if reasons:
            return reasons.most_common(1)[0][0]
        return "all trials were too long for this budget" if self.skipped else None

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
        """The method and the settings to try, other than those that are taken. A method that always fails is left.

        It does if none of its trials ended well, and several failed, or could not work for the same reason.
        """
        history = self.study.history()
        good = {attempt.method for attempt in history if attempt.bytes is not None}
        errors = Counter((a.method, "" if a.failed else a.error) for a in history if a.error)
        hopeless = {name for (name, _), count in errors.items() if count >= _FAILURES} - good
        sweeps = {name: sweep for name, sweep in sweeps.items() if name not in hopeless}
        if self.budget is None and self.target is None:
            return in_turn(sweeps, history, taken)
        end = self.expected_end(sweeps)
        limit = 2 * sum(parameter.numel() for parameter in self.model.lm.parameters())
        left = {name: self.affordable(name, sweep, history, end) for name, sweep in sweeps.items()}
        return propose(
            {name: some for name, some in left.items() if some}, history, taken, limit, self.seed, self.target
        )

    def trial(
        self,
        module: ModuleType | combined.Combined,
        name: str,
        settings: dict,
        label: str,
        say: Callable[[str], None],
        end: float | None,
    ) -> None:
        """Fit, write, decode and score one program. An error is recorded.

        Raises _TooLong as soon as it is seen to take too much of the time until `end`, unless it is the first of all.
        """
        begun, rows, scored_inputs = time.monotonic(), len(self.task.splits["validation"]), 0
        history = self.study.history()
        bounded = self.budget is not None and not self.is_first(history)
        room = self.room(name, history, end) if bounded else math.inf
        # When which step began. What is before, and in the very first, says little of the others.
        first: tuple[float, int] | None = None

        def fitting(at: int, of: int) -> None:
            nonlocal first
            say(f"fitting, step {at + 1} of {of}")
            now = time.monotonic()
            first = first or ((now, at) if at else None)
            if not first:
                return
            spent, steps = now - first[0], at - first[1]
            whole = now - begun + (spent * (of - at) / steps if steps > 0 else 0.0)
            if spent > _PROBE and whole > room:
                self.pace.saw(name, settings, whole)
                raise _TooLong

        def scoring(count: int) -> None:
            nonlocal scored_inputs
            scored_inputs += count
            say(f"scoring, {scored_inputs} of {rows}")
            spent = time.monotonic() - fit_done
            if scored_inputs > rows / 2:  # the first ones to end tell little: they are the short ones
                spent *= rows / scored_inputs
            if bounded and fit_done + spent * (1 + self.testing_share()) > end:
                raise _TooLong

        say("fitting")
        with self.study.trial(name, settings) as trial:
            try:
                memory.forget()
                fitted = module.fit(self.model, self.task, settings, self.seed, fitting)
                content = fitted.program.to_bytes()
                fit_done, peak = time.monotonic(), memory.peak()
                self.pace.saw(name, settings, fit_done - begun)
                size = len(standalone(fitted.program, self.model.dtype))
                if enough := self.enough(size):
                    trial.give_up(f"{size:,} bytes, and {enough:,} reach the target")
                    tell(f"{label}: {size:,} bytes, where {enough:,} reach the target")
                    return
                if bounded and fit_done + self.behind(name) > end:
                    raise _TooLong
                scored = self.known(content) or score(
                    content, self.model, self.task, ["validation"], scoring, self.rival(size)
                )
                m = trial.finish(
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
                    flops_once=scored.flops_once,
                    flops_per_input=scored.flops_per_input,
                    content=fitted.content,
                    seconds=round(time.monotonic() - begun, 2),
                    scoring_seconds=round(time.monotonic() - fit_done, 2),
                    seed=self.seed,
                    peak_memory=peak,
                    versions=versions(),
                )
            except Dominated as error:
                trial.give_up(str(error), (size, error.seen))
                tell(f"{label}: {size:,} bytes, {error}")
                return
            except (Taken, _TooLong, StoreError):
                raise
            except Exception as error:  # whatever a method, a metric or a model raises
                why = trial.fail(error)
                warn(f"{label}: {'left out' if isinstance(error, UserError) else 'failed'}: {why}")
                return
        self.scorings.append(m.scoring_seconds)
        tell(f"{label}: {m.validation.value:.3f} in {m.bytes:,} bytes, {m.seconds:.1f} s, {m.program}")

    def known(self, content: bytes) -> Scored | None:
        """What was found for the same program before, with other settings or by another worker."""
        name = hash_of(content)
        outputs = self.study.outputs(name, "validation")
        found = [m for m in self.study.measurements() if m.program == name] if outputs else []
        if not found:
            return None
        m = found[0]
        flops = m.flops_once, m.flops_per_input
        return Scored(
            m.bytes, m.payload_bytes, m.adapted, *flops, {"validation": m.validation}, {"validation": outputs}
        )

    def enough(self, size: int) -> int | None:
        """The bytes of a program that reaches the target, if one of so many bytes is therefore of no use."""
        reaching = [m.bytes for m in self.study.measurements() if self.reaches(m)]
        return min((count for count in reaching if count <= size), default=None)

    def reaches(self, m: Measurement) -> bool:
        return self.target is not None and m.validation.value >= self.target

    def rival(self, size: int) -> Rival | None:
        """What a program of `size` bytes must beat, on each validation row: the target, or the best one as short and as
        cheap to run."""
        if not self.race or not self.task.is_mean:
            return None
        if self.target is not None:
            return lambda flops: np.full(len(self.task.splits["validation"]), self.target)
        shorter = [m for m in self.study.measurements() if m.bytes <= size]

        @functools.cache
        def rewards(program: str) -> np.ndarray | None:
            outputs = self.study.outputs(program, "validation")
            return outputs and self.task.rewards("validation", list(range(len(outputs))), outputs)

        def best(flops: float) -> np.ndarray | None:
            found = envelope(as_cheap(shorter, flops))
            return rewards(found[-1].program) if found else None

        return best

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
        return self.started + self.budget - self.confirming()

    def confirming(self) -> float:
        """Seconds that the fresh process will take for what is on the frontier now, going by what the same took here.

        The first program that a process scores may take longer than the others.
        """
        measured = self.study.measurements()
        took: dict[str, float] = {}
        for m in measured:  # one that was found again was not scored again
            took[m.program] = max(took.get(m.program, 0.0), m.scoring_seconds or 0.0)
        first, others = self.scorings[:1], self.scorings[1:]
        warming = max(0.0, first[0] - statistics.median(others)) if others else 0.0
        testing = sum(took[m.program] for m in candidates(measured) if m.test is None)
        tasks = 1 + len(self.study.asked().get("also") or [])  # whose rows may take about as long
        return _MARGIN * (_STARTING + self.opening + warming) + tasks * self.testing_share() * testing

    def testing_share(self) -> float:
        """How much longer the confirmation will take for a program whose scoring on validation took a second."""
        rows = {split: len(self.task.splits[split]) for split in ("validation", "test")}
        return _MARGIN * max(1.0, rows["test"] / rows["validation"]) if self.confirms else 0.0

    def scoring_time(self, name: str) -> float:
        """Seconds that a program of the method is likely to need to be scored on validation."""
        found = [m.scoring_seconds for m in self.study.measurements() if m.method == name and m.scoring_seconds]
        return max(found) if found else statistics.median(self.scorings) if self.scorings else 0.0

    def is_first(self, history: list[Attempt]) -> bool:
        """Whether nothing was measured before, nor tried here: then there must be something to show."""
        return not self.took and not any(attempt.bytes is not None for attempt in history)

    def scaled(self, name: str, sweep: list[dict], history: list[Attempt], end: float) -> list[dict]:
        """The settings, looking for as long as there is time; without those that were tried for longer."""
        room, found = self.room(name, history, end), []
        for settings in sweep:
            cut = self.pace.within(name, settings, room)
            if cut == settings or not any(covers(a.settings, cut) for a in history if a.method == name):
                found.append(cut)
        return found

    def room(self, name: str, history: list[Attempt], end: float) -> float:
        """Seconds that the fitting may take in a trial of the method that begins now, of the time until `end`."""
        left = end - time.monotonic()
        return min(_SHARES[any(attempt.method == name for attempt in history)] * left, left - self.behind(name))

    def behind(self, name: str) -> float:
        """Seconds for what comes behind the fitting in a trial of the method."""
        return self.scoring_time(name) * (1 + self.testing_share())

    def affordable(self, name: str, sweep: list[dict], history: list[Attempt], end: float | None) -> list[dict]:
        """The settings whose trial fits in the time until `end`, going by others. The first of all always does."""
        if self.budget is None or self.is_first(history):
            return sweep
        before = [attempt.seconds for attempt in history if attempt.method == name]
        if [method for method, _ in self.skipped].count(name) >= (_CHANCES if before else 1):
            return []
        longest = max((seconds for method, seconds in self.took if method == name), default=max(before, default=0.0))
        left = end - time.monotonic() - self.scoring_time(name) * self.testing_share()

        def takes(settings: dict) -> float:
            fitting = self.pace.expects(name, settings)
            return longest if fitting is None else fitting + self.scoring_time(name)

        return [settings for settings in sweep if takes(settings) < left]
