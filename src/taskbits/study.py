"""The store of measurements for one (model, task): records in a database and a folder of programs.

Guarantees: a measurement is visible only when its program is kept under the hash of its content; no two workers run
the same trial, and none runs again what is done; a worker killed at any moment loses at most the trial that it was
running, which another may then run. Knows nothing of models, tasks or methods.

    DIR/study.json      what is measured, and where the records and the files are
    DIR/study.db        SQLite, unless another storage was named
    DIR/programs/       HASH.tbp, content-addressed
    DIR/outputs/        HASH.SPLIT.jsonl: what the program wrote, a JSON text for each row of the split

With `files` in what is measured, programs and outputs lie there; DIR/programs has copies of those that were asked for.

A reservation is a running trial of the database that holds what it reserves. Of those that hold the same the one that
was added first is the reservation; whoever added another withdraws it. A process that runs a trial makes a sign of
life every few seconds; one whose process is gone, or silent for too long, is withdrawn by whoever notices.

A study of published estimates (`published`) has no programs and no storage, but DIR/measurements.jsonl.
"""

import hashlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import psutil
from optuna.trial import FrozenTrial, TrialState

from taskbits import storage
from taskbits.errors import UserError
from taskbits.files import Files, write_atomically

_BEAT = 10  # seconds between two signs of life
_SILENCE = 120  # seconds without one until a worker on another machine counts as dead
_DEATHS = 3  # of workers that ran the same settings, until nobody tries them again
_HELD = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)


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


class Taken(Exception):
    """Another worker runs this, or has done it."""


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
    """Measurements of one model on one task. Use `Study.create`, `Study.open` or `Study.join`."""

    def __init__(self, folder: Path, info: dict):
        self.folder = folder
        self.info = info
        self._silent: dict[int, tuple[int, float]] = {}  # by trial: its last sign of life, and when it was first seen
        if self.published:
            return
        self._files = Files(info.get("files") or str(folder))
        url = info["storage"] or f"sqlite:///{folder / 'study.db'}"
        self._records = storage.Records(url, info["name"])

    @classmethod
    def create(cls, folder: Path | str, info: dict, former: dict | None = None) -> "Study":
        """Open the study in `folder`, or start it. `info` says what is measured; it needs "name" and "storage".

        With "files" programs and outputs go to that fsspec URL. former: other values that an earlier version has
        written for the same. Workers can join the study from here on.
        Raises UserError if the folder can't be written, or if it or the storage holds a study of something else.
        """
        folder = Path(folder)
        path = folder / "study.json"
        if path.exists():
            study = cls.open(folder)
            if differing := _differing(study.info, info, former):
                raise UserError(f"{folder} holds a study of another {differing}: name another --out")
            study._invite(former)
            return study
        try:
            (folder / "programs").mkdir(parents=True, exist_ok=True)
            study = cls(folder, info)
            study._files.make()
            study._invite(former)
            write_atomically(path, json.dumps(info, indent=1).encode())
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror}: name another --out") from error
        return study

    @classmethod
    def open(cls, folder: Path | str) -> "Study":
        """Open an existing study. Raises UserError if there is none in `folder`."""
        path = Path(folder) / "study.json"
        try:
            info = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"no study in {folder}: make one with 'taskbits measure --out {folder}'") from error
        return cls(Path(folder), info)

    @classmethod
    def join(cls, url: str, name: str | None = None) -> "Study":
        """Open an existing study from the URL of its storage, by its name if there are several.

        Raises UserError if there is no such study, or if this machine doesn't see the folder of its programs.
        """
        found, place = storage.names(url), storage.shown(url)
        if not found:
            raise UserError(f"no study in {place}: start one with 'taskbits measure --storage URL'")
        if name is None and len(found) == 1:
            name = found[0]
        if name not in found:
            wrong = "several studies" if name is None else f"no study {name!r}"
            raise UserError(f"{wrong} in {place}: name one with --study: {', '.join(map(repr, found))}")
        kept = storage.Records(url, name).values()
        if not {"info", "workers"} <= kept.keys():
            raise UserError(f"the study {name!r} in {place} is not ready for workers: run 'taskbits measure' on it")
        study = cls(Path(kept["folder"]), {**kept["info"], "storage": url})
        if study._files.missing:
            raise UserError(
                f"the study's programs go to {study._files.place}, which is not on this machine: share that folder, or "
                "run 'taskbits measure' with --files URL"
            )
        return study

    def _invite(self, former: dict | None = None) -> None:
        """Keep in the storage what a worker needs to know."""
        shared = {name: value for name, value in self.info.items() if name != "storage"}
        folder, kept = str(self.folder.resolve()), self._records.values()
        if self.info["storage"] and "info" in kept:  # a storage in the folder came along with the folder
            place = storage.shown(self.info["storage"])
            if differing := _differing(kept["info"], shared, former):
                raise UserError(f"{place} holds a study of another {differing}: name another --storage")
            if not self.info.get("files") and kept["folder"] != folder:
                raise UserError(
                    f"the programs of the study in {place} go to {kept['folder']}: name that as --out, or another "
                    "--storage"
                )
        self._records.set("folder", folder)
        self._records.set("info", shared)

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
            name.removeprefix("test:"): Score(**value)
            for name, value in self._records.values().items()
            if name.startswith("test:")
        }
        found = []
        for trial in self._records.trials(TrialState.COMPLETE):
            record = dict(trial.user_attrs["measurement"])
            record["validation"] = Score(**record["validation"])
            found.append(Measurement(**record, test=tests.get(record["program"])))
        return sorted(found, key=lambda m: (m.bytes, -m.validation.value))

    def done(self) -> set[tuple[str, str]]:
        """The (method, settings as sorted JSON) pairs that need no second run: measured, or found impossible."""
        return _pairs(self._records.trials(TrialState.COMPLETE, TrialState.PRUNED))

    def running(self) -> set[tuple[str, str]]:
        """The (method, settings as sorted JSON) pairs that workers run now. Frees those whose worker died."""
        self._free_the_dead()
        return _pairs(self._records.trials(TrialState.RUNNING))

    def history(self) -> list[Attempt]:
        """What was measured, dropped or found impossible, in the order in which it was begun."""
        found = []
        for trial in self._records.trials(TrialState.COMPLETE, TrialState.PRUNED):
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
        """Reserve one trial; it counts only once `finish` or `give_up` was called on it.

        Raises Taken if another worker runs it or has done it.
        """
        with self._reserved({"method": method, "settings": key(settings)}) as reserved:
            yield Trial(self, reserved)

    @contextmanager
    def testing(self, program: str) -> Iterator[None]:
        """Reserve the scoring on test of a program. Raises Taken if it was done, or another process does it now."""
        with self._reserved({"test": program}):
            if f"test:{program}" in self._records.values():
                raise Taken
            yield

    def record_test(self, program: str, score: Score, outputs: list[str]) -> None:
        """Keep the test score of a frontier candidate. It is taken once: raises ValueError on a second."""
        name = f"test:{program}"
        if name in self._records.values():
            raise ValueError(f"{program} was scored on test before")
        self._write_outputs(program, "test", outputs)
        self._records.set(name, asdict(score))

    def ask_workers(self, what: dict) -> None:
        """Say what workers that join from now on are to do, in terms of their own."""
        self._records.set("workers", what)

    def asked(self) -> dict:
        """What workers are to do, by the last `ask_workers`; nothing in a study from before there were any."""
        return self._records.values().get("workers", {})

    def path(self, program: str) -> Path:
        """The file of the program with this hash: a copy in the study's folder, if the files lie elsewhere.

        Raises FileNotFoundError if they have none of it.
        """
        path = self.folder / "programs" / f"{program}.tbp"
        if self.info.get("files") and not path.exists():
            write_atomically(path, self._files.read(_program_name(program)))
        return path

    def outputs(self, program: str, split: str) -> list[str] | None:
        """What the program with this hash wrote for each row of the split; None if that was not kept."""
        with suppress(FileNotFoundError):
            lines = self._files.read(_outputs_name(program, split)).decode().splitlines()
            return [json.loads(line) for line in lines]
        return None

    def _write_outputs(self, program: str, split: str, outputs: list[str]) -> None:
        lines = "".join(json.dumps(text) + "\n" for text in outputs)
        self._files.write(_outputs_name(program, split), lines.encode())

    @contextmanager
    def _reserved(self, what: dict[str, str]) -> Iterator[FrozenTrial]:
        """Hold a reservation, with signs of life, until the block ends. Raises Taken."""
        self._free_the_dead()
        token = uuid.uuid4().hex
        self._records.add({**what, "token": token, "worker": _this_process()})
        held = [t for t in self._records.trials(*_HELD) if what.items() <= t.user_attrs.items()]
        first, *mine = held[:1] + [t for t in held[1:] if t.user_attrs.get("token") == token]
        taken = first.user_attrs.get("token") != token
        for trial in mine:
            self._records.close(trial, TrialState.FAIL)
        if taken:
            raise Taken
        ended = threading.Event()
        threading.Thread(target=self._beat, args=(first, ended), daemon=True).start()
        try:
            yield first
        finally:
            ended.set()
            self._records.close(first, TrialState.FAIL)  # no effect on what is finished

    def _beat(self, trial: FrozenTrial, ended: threading.Event) -> None:
        count = 0
        while not ended.wait(_BEAT):
            count += 1
            with suppress(UserError):  # the trial's end will tell
                self._records.note(trial, "beat", count)

    def _free_the_dead(self) -> None:
        """Withdraw the reservations of processes that died; what has killed several is not tried again."""
        running = self._records.trials(TrialState.RUNNING)
        for trial in filter(self._is_dead, running):
            what = {name: trial.user_attrs.get(name) for name in ("method", "settings")}
            before = [t for t in self._records.trials(TrialState.FAIL) if "died" in t.user_attrs]
            deaths = 1 + sum(what.items() <= t.user_attrs.items() for t in before)
            self._records.note(trial, "died", f"death {deaths} of a worker that ran this")
            hopeless = what["method"] is not None and deaths >= _DEATHS
            self._records.close(trial, TrialState.PRUNED if hopeless else TrialState.FAIL)

    def _is_dead(self, trial: FrozenTrial) -> bool:
        worker = trial.user_attrs.get("worker")
        if worker is None:
            return True  # of a version that knew no workers
        if worker["machine"] == _machine():
            return not _is_alive(worker)
        beat, now = trial.user_attrs.get("beat", 0), time.monotonic()
        seen, since = self._silent.get(trial.number, (None, now))
        if beat != seen or self._records.interrupted > since:  # while the database is away nobody can give a sign
            since = now
        self._silent[trial.number] = beat, since
        return now - since > _SILENCE


class Trial:
    """A trial that is running."""

    def __init__(self, study: Study, trial: FrozenTrial):
        self._study, self._trial = study, trial

    def finish(self, program: bytes, outputs: list[str], **measured) -> Measurement:
        """Write the program and its outputs on validation, then the measurement: `measured` holds its other fields.

        Raises Taken if this worker was held to be dead meanwhile: then another's result counts.
        """
        name = hash_of(program)
        measurement = Measurement(program=name, **measured)
        self._study._files.write(_program_name(name), program)
        self._study._write_outputs(name, "validation", outputs)
        record = asdict(measurement)
        del record["test"]
        self._study._records.note(self._trial, "measurement", record)
        self._close(TrialState.COMPLETE, [measurement.bytes, measurement.validation.value])
        return measurement

    def give_up(self, why: str, seen: tuple[int, float] | None = None) -> None:
        """Never try these settings again. seen: bytes of the program, and its score as far as it is known.

        Raises Taken as `finish` does.
        """
        self._study._records.note(self._trial, "why", why)
        if seen:
            self._study._records.note(self._trial, "seen", seen)
        self._close(TrialState.PRUNED)

    def _close(self, state: TrialState, values: list[float] | None = None) -> None:
        if not self._study._records.close(self._trial, state, values):
            raise Taken


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


def _pairs(trials: list[FrozenTrial]) -> set[tuple[str, str]]:
    return {(t.user_attrs["method"], t.user_attrs["settings"]) for t in trials if "method" in t.user_attrs}


def _program_name(program: str) -> str:
    return f"programs/{program}.tbp"


def _outputs_name(program: str, split: str) -> str:
    return f"outputs/{program}.{split}.jsonl"


def _differing(kept: dict, wanted: dict, former: dict | None) -> str | None:
    """The first thing that is not as wanted, with both values; None if there is none."""
    for name, value in wanted.items():
        if kept.get(name) not in (value, (former or {}).get(name, value)):
            return f"{name} ({kept.get(name)!r}, not {value!r})"
    return None


@cache
def _machine() -> str:
    """A name for everything in which a process id means the same process: a host, or a container on it."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # only Linux has these
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def _this_process() -> dict:
    return {"machine": _machine(), "pid": os.getpid(), "born": psutil.Process().create_time()}


def _is_alive(worker: dict) -> bool:
    """Whether this machine's process with that id is the same that it was, and runs."""
    try:
        process = psutil.Process(worker["pid"])
        same = abs(process.create_time() - worker["born"]) < 2  # clocks are set
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
