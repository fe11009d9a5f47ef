"""The store of measurements for one (model, task): an Optuna study and a folder of programs.

Guarantees: a measurement is visible only when its program is on disk under the hash of its content; a worker
killed at any moment loses at most the trial that it was running. Knows nothing of models, tasks or methods.

    DIR/study.json      what is measured, and where the Optuna storage is
    DIR/study.db        SQLite, unless another storage was named
    DIR/programs/       HASH.tbp, content-addressed
    DIR/outputs/        HASH.SPLIT.jsonl: what the program wrote, a JSON text for each row of the split

A study of published estimates (`published`) has no programs and no storage, but DIR/measurements.jsonl.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import optuna

from taskbits.errors import UserError

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Score:
    """A score in [0, 1] with its 95% interval over `n` examples.

    also: what is reported beside it, such as other metrics of the same outputs, or how it was computed.
    low, high and n are None where others have published a score without them.
    """

    value: float
    low: float | None
    high: float | None
    n: int | None
    also: dict[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """One scored program.

    bytes: size of the exported standalone file; payload_bytes: size of the coded part in it;
    ideal_bits: cross-entropy of the payload under the model that codes it, where there is one;
    adapted: SHA-256 of what the program makes of the model (prefix text and changed weights);
    content: what the program is, for people: {"text": ...}, {"examples": [...]} or {"tensors": {...}};
    seconds: of the whole trial; scoring_seconds: of its scoring on validation.
    peak_memory: most bytes that the process held while the program was found, where the system tells.
    test is None until the program is a frontier candidate.
    A published estimate has no program ("") and no times (None).
    """

    method: str
    family: str
    settings: dict
    bytes: int
    payload_bytes: int
    ideal_bits: float | None
    validation: Score
    program: str
    adapted: str
    content: dict
    seconds: float | None
    scoring_seconds: float | None
    seed: int
    versions: dict
    peak_memory: int | None = None
    test: Score | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Attempt:
    """A trial that has ended, for those who choose the next one.

    bytes, score: of its program on validation; where it was dropped, on the rows seen until then; None if there was
    no program, or no score.
    """

    method: str
    settings: dict
    seconds: float
    bytes: int | None
    score: float | None
    dropped: bool


class Study:
    """Measurements of one model on one task. Use `Study.create` or `Study.open`."""

    def __init__(self, folder: Path, info: dict):
        self.folder = folder
        self.info = info
        if self.published:
            return
        storage = info["storage"] or f"sqlite:///{folder / 'study.db'}"
        try:
            self._study = optuna.create_study(
                storage=storage, study_name=info["name"], directions=["minimize", "maximize"], load_if_exists=True
            )
        except Exception as error:
            raise UserError(f"cannot open the study's storage {storage}: {_first_line(error)}") from error

    @classmethod
    def create(cls, folder: Path | str, info: dict) -> "Study":
        """Open the study in `folder`, or start it. `info` says what is measured; it needs "name" and "storage".

        Raises UserError if the folder can't be written or holds a study of something else.
        """
        folder = Path(folder)
        path = folder / "study.json"
        if path.exists():
            study = cls.open(folder)
            differing = [key for key in info if study.info.get(key) != info[key]]
            if differing:
                key = differing[0]
                raise UserError(
                    f"{folder} holds a study of another {key} ({study.info.get(key)!r}, not {info[key]!r}): "
                    "name another --out"
                )
            return study
        try:
            (folder / "programs").mkdir(parents=True, exist_ok=True)
            _write_atomically(path, json.dumps(info, indent=1).encode())
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror}: name another --out") from error
        return cls(folder, info)

    @classmethod
    def open(cls, folder: Path | str) -> "Study":
        """Open an existing study. Raises UserError if there is none in `folder`."""
        path = Path(folder) / "study.json"
        try:
            info = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"no study in {folder}: make one with 'taskbits measure --out {folder}'") from error
        return cls(Path(folder), info)

    @property
    def published(self) -> str | None:
        """Where the estimates were published that stand here; None for a study of programs."""
        return self.info.get("published")

    def require_programs(self) -> "Study":
        """This study. Raises UserError if it holds published estimates, which no program stands behind."""
        if self.published:
            raise UserError(
                f"{self.folder} holds published estimates ({self.published}), for which there is no program: "
                "only 'frontier', 'complexity' and 'compare' read them"
            )
        return self

    def measurements(self) -> list[Measurement]:
        """All finished measurements, shortest program first, with test scores where they were taken."""
        if self.published:
            return _read_estimates(self.folder / "measurements.jsonl")
        tests = {
            key.removeprefix("test:"): Score(**value)
            for key, value in self._study.user_attrs.items()
            if key.startswith("test:")
        }
        found = []
        for trial in self._trials(optuna.trial.TrialState.COMPLETE):
            record = dict(trial.user_attrs["measurement"])
            record["validation"] = Score(**record["validation"])
            found.append(Measurement(**record, test=tests.get(record["program"])))
        return sorted(found, key=lambda m: (m.bytes, -m.validation.value))

    def done(self) -> set[tuple[str, str]]:
        """The (method, settings as sorted JSON) pairs that need no second run: measured, or found impossible."""
        states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        return {(t.user_attrs["method"], t.user_attrs["settings"]) for t in self._trials(*states)}

    def history(self) -> list[Attempt]:
        """What was measured, dropped or found impossible, in the order in which it was begun."""
        found = []
        for trial in self._trials(optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED):
            attrs = trial.user_attrs
            size, score = trial.values or attrs.get("seen", (None, None))
            found.append(
                Attempt(
                    attrs["method"],
                    json.loads(attrs["settings"]),
                    trial.duration.total_seconds(),
                    size and int(size),
                    score,
                    dropped=trial.values is None,
                )
            )
        return found

    @contextmanager
    def trial(self, method: str, settings: dict) -> Iterator["Trial"]:
        """Reserve one trial; it counts only once `finish` or `give_up` was called on it."""
        trial = self._study.ask()
        trial.set_user_attr("method", method)
        trial.set_user_attr("settings", key(settings))
        handle = Trial(self, trial)
        try:
            yield handle
        finally:
            if not handle.told:
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)

    def record_test(self, program: str, score: Score, outputs: list[str]) -> None:
        """Keep the test score of a frontier candidate. It is taken once: raises ValueError on a second."""
        name = f"test:{program}"
        if name in self._study.user_attrs:
            raise ValueError(f"{program} was scored on test before")
        self._write_outputs(program, "test", outputs)
        self._study.set_user_attr(name, asdict(score))

    def path(self, program: str) -> Path:
        """Where the program with this hash lies."""
        return self.folder / "programs" / f"{program}.tbp"

    def outputs(self, program: str, split: str) -> list[str] | None:
        """What the program with this hash wrote for each row of the split; None if that was not kept."""
        path = self._outputs_path(program, split)
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else None

    def _write_outputs(self, program: str, split: str, outputs: list[str]) -> None:
        path = self._outputs_path(program, split)
        path.parent.mkdir(exist_ok=True)
        _write_atomically(path, "".join(json.dumps(text) + "\n" for text in outputs).encode())

    def _outputs_path(self, program: str, split: str) -> Path:
        return self.folder / "outputs" / f"{program}.{split}.jsonl"

    def _trials(self, *states) -> list[optuna.trial.FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states)


class Trial:
    """A trial that is running."""

    def __init__(self, study: Study, trial: optuna.Trial):
        self._study, self._trial, self.told = study, trial, False

    def finish(self, program: bytes, outputs: list[str], **measured) -> Measurement:
        """Write the program and its outputs on validation, then the measurement: `measured` holds its other fields."""
        name = hash_of(program)
        measurement = Measurement(program=name, **measured)
        _write_atomically(self._study.path(name), program)
        self._study._write_outputs(name, "validation", outputs)
        record = asdict(measurement)
        del record["test"]
        self._trial.set_user_attr("measurement", record)
        self._study._study.tell(self._trial, [measurement.bytes, measurement.validation.value])
        self.told = True
        return measurement

    def give_up(self, why: str, seen: tuple[int, float] | None = None) -> None:
        """Never try these settings again. seen: bytes of the program, and its score as far as it is known."""
        self._trial.set_user_attr("why", why)
        if seen:
            self._trial.set_user_attr("seen", seen)
        self._study._study.tell(self._trial, state=optuna.trial.TrialState.PRUNED)
        self.told = True


def _read_estimates(path: Path) -> list[Measurement]:
    """Published estimates, a JSON object a line, shortest first. Raises UserError if the file holds anything else."""
    found = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            scores = {split: Score(**record[split]) for split in ("validation", "test")}
            m = Measurement(**{**record, **scores})
            if type(m.bytes) is not int or any(type(score.value) is not float for score in scores.values()):
                raise ValueError
            found.append(m)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}: import the published runs again") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}, line {len(found) + 1}: not an estimate: import the published runs again") from error
    return sorted(found, key=lambda m: (m.bytes, -m.test.value))


def hash_of(program: bytes) -> str:
    """The name of a program's file in a study."""
    return hashlib.sha256(program).hexdigest()[:12]


def key(settings: dict) -> str:
    """Settings as text: the same settings always give the same key."""
    return json.dumps(settings, sort_keys=True)


def _write_atomically(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
