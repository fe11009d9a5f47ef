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

A study is read without being changed, and nothing outside its folder is opened unless it is trusted: it may have come
from anywhere. What is kept is checked before, and again when it is read: a record that is damaged is left out.

A study of published estimates (`published`) has no programs and no storage, but DIR/measurements.jsonl.
"""

import hashlib
import json
import math
import os
import re
import signal
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import NoneType

import psutil
from optuna.trial import FrozenTrial, TrialState

from taskbits import storage
from taskbits.display import warn
from taskbits.errors import StoreError, UserError, hidden
from taskbits.files import Files, require_inside, write_atomically

_BEAT = 10  # seconds between two signs of life
_SILENCE = 120  # seconds without one until a worker on another machine counts as dead
_DEATHS = 3  # of workers that ran the same settings, until nobody tries them again
_TEST_DEATHS = 2  # of processes that scored the same program on test
_HELD = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
_STOPPING = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}
_HAIR = 1e-6  # by which rounding may lead a score out of its interval
_INFO_SIZE = 2**20  # bytes of study.json, at most
_TRACEBACK = 20_000  # characters of a traceback that are kept

_TEXT, _MAYBE_TEXT, _NUMBER = (str,), (str, NoneType), (int, float, NoneType)
_INFO = {
    **dict.fromkeys(("name", "model", "task", "state", "metric", "task_fingerprint", "fingerprint"), _TEXT),
    **dict.fromkeys(("published", "family", "test_set"), _TEXT),
    **dict.fromkeys(("storage", "files", "revision", "data", "training"), _MAYBE_TEXT),
    **dict.fromkeys(("seed", "checkpoint"), (int,)),
    "rows": (int, NoneType),
    "chat": (bool, NoneType),
}
_NEEDED, _NEEDED_PUBLISHED = {"name", "model", "task"}, {"family", "training", "checkpoint", "test_set"}
_RECORD = {
    **dict.fromkeys(("method", "family", "program", "adapted"), _TEXT),
    **dict.fromkeys(("settings", "content", "versions"), (dict,)),
    **dict.fromkeys(("bytes", "payload_bytes", "seed"), (int,)),
    **dict.fromkeys(("ideal_bits", "seconds", "scoring_seconds"), _NUMBER),
    "peak_memory": (int, NoneType),
    "unconfirmed": _MAYBE_TEXT,
}
FAMILIES = ("inference control", "data", "parametric")


@dataclass(frozen=True)
class Score:
    """A score in [0, 1] with its 95% interval over `n` examples.

    also: what is reported beside it, such as other metrics of the same outputs, or how it was computed.
    bound: the one-sided 95% lower bound of the score on all rows of this kind (`intervals`); None in older records.
    low, high, n and bound are None where others have published a score without them.
    """

    value: float
    low: float | None = field(compare=False)
    high: float | None = field(compare=False)
    n: int | None
    also: dict[str, float | str] = field(default_factory=dict)
    bound: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Measurement:
    """One scored program.

    bytes: size of the exported standalone file; payload_bytes: size of the coded part in it;
    ideal_bits: cross-entropy of the payload under the model that codes it, where there is one;
    adapted: SHA-256 of what the program makes of the model (prefix text and changed weights);
    content: what the program is, for people: {"text": ...}, {"examples": [...]} or {"tensors": {...}};
    seconds: of the whole trial; scoring_seconds: of its scoring on validation.
    peak_memory: most bytes that the process held while the program was found, where the system tells.
    test is None until the program is a frontier candidate. unconfirmed: why it could not be scored on test, if so.
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
    unconfirmed: str | None = field(default=None, compare=False)


class Taken(Exception):
    """Another worker runs this, or has done it."""


@dataclass(frozen=True)
class Attempt:
    """A trial that has ended, for those who choose the next one.

    bytes, score: of its program on validation; where it was dropped, on the rows seen until then; None if there was
    no program, or no score. error: what ended it, in a line, if something did. failed: by an error that nobody
    foresaw, and not by one that says what is wrong with its settings.
    """

    method: str
    settings: dict
    seconds: float
    bytes: int | None
    score: float | None
    dropped: bool
    error: str | None = None
    failed: bool = False


class Study:
    """Measurements of one model on one task. Use `Study.create`, `Study.open` or `Study.join`."""

    def __init__(self, folder: Path, info: dict, trusted: bool = False):
        self.folder = folder
        self.info = info
        self._trusted = trusted
        self._damaged = 0  # records, as far as a person was told
        self._silent: dict[int, tuple[int, float]] = {}  # by trial: its last sign of life, and when it was first seen

    @cached_property
    def _records(self) -> storage.Records:
        """The records, to be changed."""
        return storage.Records(self._url, self.info["name"])

    @cached_property
    def _reader(self) -> storage.Records:
        return storage.Records(self._url, self.info["name"], reads_only=True)

    @property
    def _read(self) -> storage.Records:
        """The records, as they are: who has changed some sees what he changed."""
        return self._records if "_records" in self.__dict__ else self._reader

    @property
    def _url(self):
        named = self.info.get("storage")
        url = named or storage.sqlite(self.folder / "study.db")
        if not self._trusted:
            path = storage.file_of(url)
            if path is None or named and not path.resolve().is_relative_to(self.folder.resolve()):
                raise UserError(f"the records of {self.folder} are in {storage.shown(url)}: --trust opens that")
            require_inside(path, self.folder)
        return url

    @cached_property
    def _files(self) -> Files:
        named = self.info.get("files")
        if named and not self._trusted:
            raise UserError(f"the programs of {self.folder} are in {named}: --trust opens that")
        return Files(named or str(self.folder.absolute()), closed=not self._trusted)

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
            kept = _read_info(folder)
            if differing := _differing(kept, info, former):
                raise UserError(f"{folder} holds a study of another {differing}: name another --out")
            study = cls(folder, kept, trusted=True)
            study._invite(former)
            return study
        try:
            (folder / "programs").mkdir(parents=True, exist_ok=True)
            study = cls(folder, info, trusted=True)
            study._files.make()
            study._invite(former)
            write_atomically(path, json.dumps(info, indent=1).encode())
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror}: name another --out") from error
        return study

    @classmethod
    def open(cls, folder: Path | str, trust: bool = False) -> "Study":
        """Open an existing study. trust: also where its records or files are not in the folder.

        Raises UserError if there is none in `folder`; whoever asks for what lies elsewhere without trust gets one, too.
        """
        return cls(Path(folder), _read_info(Path(folder)), trust)

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
        study = cls(Path(kept["folder"]), {**kept["info"], "storage": url}, trusted=True)
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
        """All finished measurements, shortest program first, with test scores where they were taken.

        Records that are damaged are left out; a line says how many.
        """
        if self.published:
            return _read_estimates(self.folder / "measurements.jsonl")
        values, found, damaged = self._read.values(), [], 0
        for trial in self._read.trials(TrialState.COMPLETE):
            try:
                record = dict(trial.user_attrs["measurement"])
                name = record["program"]
                test, refused = values.get(f"test:{name}"), values.get(f"refused:{name}")
                found.append(_measurement({**record, "test": test, "unconfirmed": None if test else refused}))
            except (KeyError, TypeError, ValueError, UserError):
                damaged += 1
        damaged += self._read.unreadable
        if damaged > self._damaged:
            warn(f"{self.folder}: {damaged} damaged records are left out")
            self._damaged = damaged
        return sorted(found, key=lambda m: (m.bytes, -m.validation.value))

    def done(self) -> set[tuple[str, str]]:
        """The (method, settings as sorted JSON) pairs that need no second run: measured, or found impossible."""
        return _pairs(self._ended())

    def running(self) -> set[tuple[str, str]]:
        """The (method, settings as sorted JSON) pairs that workers run now. Frees those whose worker died."""
        self.free_the_dead()
        return _pairs(self._records.trials(TrialState.RUNNING))

    def history(self) -> list[Attempt]:
        """What was measured, dropped or found impossible, in the order in which it was begun."""
        found = []
        for trial in self._ended():
            with suppress(KeyError, TypeError, ValueError, AttributeError):
                attrs = trial.user_attrs
                size, score = trial.values or attrs.get("seen", (None, None))
                failure = attrs.get("failure", {})
                found.append(
                    Attempt(
                        str(attrs["method"]),
                        json.loads(attrs["settings"]),
                        trial.duration.total_seconds(),
                        size and int(size),
                        score,
                        dropped=trial.values is None,
                        error=str(attrs.get("why") or attrs["died"]) if {"failure", "died"} & attrs.keys() else None,
                        failed="died" in attrs or bool(failure) and not failure["foreseen"],
                    )
                )
        return found

    def retry(self) -> None:
        """Let what failed, what has killed its workers and what could not be confirmed be tried again."""
        self._records.set("retried", 1 + max((t.number for t in self._records.trials()), default=-1))
        for name, value in self._records.values().items():
            if name.startswith("refused:") and value:
                self._records.set(name, None)

    def _ended(self) -> list[FrozenTrial]:
        """What was measured or is not to be tried again."""
        return self._without_retried(self._read, self._read.trials(TrialState.COMPLETE, TrialState.PRUNED))

    @staticmethod
    def _without_retried(records: storage.Records, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        first = records.values().get("retried", 0)
        return [t for t in trials if t.number >= first or not {"failure", "died"} & t.user_attrs.keys()]

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
        """Keep the test score of a frontier candidate. It is taken once: raises ValueError on a second.

        Raises UserError if the score is none.
        """
        name = f"test:{program}"
        _check_score(asdict(score))
        if name in self._records.values():
            raise ValueError(f"{program} was scored on test before")
        self._write_outputs(program, "test", outputs)
        self._records.set(name, asdict(score))

    def record_refusal(self, program: str, why: str) -> None:
        """Keep that the program can't be scored on test, and why: it is no frontier candidate any more."""
        self._records.set(f"refused:{program}", hidden(why))

    def ask_workers(self, what: dict) -> None:
        """Say what workers that join from now on are to do, in terms of their own."""
        self._records.set("workers", what)

    def asked(self) -> dict:
        """What workers are to do, by the last `ask_workers`; nothing in a study from before there were any."""
        asked = self._read.values().get("workers")
        kinds = {"methods": (list,), "race": (bool,), "target": _NUMBER, "budget": _NUMBER}
        good = isinstance(asked, dict) and all(_is(asked.get(name), (*kinds[name], NoneType)) for name in kinds)
        return asked if good else {}

    def path(self, program: str) -> Path:
        """The file of the program with this hash: a copy in the study's folder, if the files lie elsewhere.

        Raises FileNotFoundError if they have none of it, UserError if it is no such hash.
        """
        path = self.folder / _program_name(program)
        if not self._trusted:
            require_inside(path, self.folder)
        if self.info.get("files") and not path.exists():
            write_atomically(path, self._files.read(_program_name(program)))
        return path

    def outputs(self, program: str, split: str) -> list[str] | None:
        """What the program with this hash wrote for each row of the split; None if that was not kept."""
        with suppress(FileNotFoundError):
            lines = self._files.read(_outputs_name(program, split)).decode().splitlines()
            try:
                return [str(json.loads(line)) for line in lines]
            except (ValueError, RecursionError) as error:
                raise StoreError(f"{_outputs_name(program, split)} in {self._files.place} is damaged") from error
        return None

    def _write_outputs(self, program: str, split: str, outputs: list[str]) -> None:
        lines = "".join(json.dumps(text) + "\n" for text in outputs)
        self._files.write(_outputs_name(program, split), lines.encode())

    @contextmanager
    def _reserved(self, what: dict[str, str]) -> Iterator[FrozenTrial]:
        """Hold a reservation, with signs of life, until the block ends. Raises Taken."""
        self.free_the_dead()
        token = uuid.uuid4().hex
        self._records.add({**what, "token": token, "worker": _this_process()})
        held = self._without_retried(self._records, self._records.trials(*_HELD))
        held = [t for t in held if what.items() <= t.user_attrs.items()]
        first, *mine = held[:1] + [t for t in held[1:] if t.user_attrs.get("token") == token]
        taken = first.user_attrs.get("token") != token
        for trial in mine:
            self._records.close(trial, TrialState.FAIL)
        if taken:
            raise Taken
        with _signals() as signals:
            threading.Thread(target=self._beat, args=(first, signals), daemon=True).start()
            try:
                yield first
            finally:
                self._records.close(first, TrialState.FAIL)  # no effect on what is finished

    def _beat(self, trial: FrozenTrial, signals: socket.socket) -> None:
        """Give signs of life until the end. What asks to stop frees the trial at once: a kill may come soon after."""
        count = 0
        with signals:
            signals.settimeout(_BEAT)
            while True:
                try:
                    got = signals.recv(64)
                except TimeoutError:
                    count += 1
                    with suppress(UserError):  # the trial's end will tell
                        self._records.note(trial, "beat", count)
                    continue
                if _STOPPING & set(got):
                    with suppress(UserError):
                        self._records.close(trial, TrialState.FAIL)
                if not got:
                    return

    def free_the_dead(self) -> list[str]:
        """Withdraw the reservations of processes that died; what has killed several is not tried again.

        Returns the programs that were being scored on test by those that died now.
        """
        testing = []
        for trial in filter(self._is_dead, self._records.trials(TrialState.RUNNING)):
            what = {name: trial.user_attrs[name] for name in ("method", "settings", "test") if name in trial.user_attrs}
            before = self._without_retried(self._records, self._records.trials(TrialState.FAIL))
            deaths = 1 + sum("died" in t.user_attrs and what.items() <= t.user_attrs.items() for t in before)
            self._records.note(trial, "died", f"death {deaths} of a worker that ran this")
            hopeless = "method" in what and deaths >= _DEATHS
            self._records.close(trial, TrialState.PRUNED if hopeless else TrialState.FAIL)
            if program := what.get("test"):
                testing.append(program)
                if deaths >= _TEST_DEATHS and f"test:{program}" not in self._records.values():
                    self.record_refusal(program, f"{deaths} processes died that scored it: out of memory?")
        return testing

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

        Raises UserError if a value can't be kept, such as a score of NaN. Raises Taken if this worker was held to be
        dead meanwhile: then another's result counts.
        """
        name = hash_of(program)
        measurement = Measurement(program=name, **measured)
        check(measurement)
        self._study._files.write(_program_name(name), program)
        self._study._write_outputs(name, "validation", outputs)
        record = {name: value for name, value in asdict(measurement).items() if name not in ("test", "unconfirmed")}
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

    def fail(self, error: Exception) -> str:
        """Don't try these settings again: the error is kept with its traceback. Returns it in one line, for people.

        Raises Taken as `finish` does.
        """
        why = in_short(error)
        told = hidden("".join(traceback.format_exception(error)))[-_TRACEBACK:]
        failure = {
            "class": type(error).__name__,
            "foreseen": isinstance(error, UserError),
            "message": hidden(str(error))[:_TRACEBACK],
            "traceback": told,
        }
        self._study._records.note(self._trial, "failure", failure)
        self.give_up(why)
        return why

    def _close(self, state: TrialState, values: list[float] | None = None) -> None:
        if not self._study._records.close(self._trial, state, values):
            raise Taken


def in_short(error: BaseException) -> str:
    """An error in one line, with its class unless it was made for people."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    text = hidden(lines[0][:300]) if lines else ""
    if isinstance(error, UserError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _read_info(folder: Path) -> dict:
    path = folder / "study.json"
    if not path.is_file():
        raise UserError(f"no study in {folder}: make one with 'taskbits measure --out {folder}'")
    try:
        if path.stat().st_size > _INFO_SIZE:
            raise ValueError
        info = json.loads(path.read_text(encoding="utf-8"))
        needed = _NEEDED | (_NEEDED_PUBLISHED if info.get("published") else set())
        if not (needed <= info.keys() and all(_is(info[name], kinds) for name, kinds in _INFO.items() if name in info)):
            raise ValueError
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged: it does not say what was measured") from error
    return info


def check(m: Measurement) -> None:
    """Raises UserError if the measurement holds what can't be kept, such as a score of NaN."""
    _measurement(asdict(m))


def _measurement(record: dict) -> Measurement:
    """The measurement that a record holds. Raises UserError, TypeError, ValueError or KeyError if it can't be one."""
    m = Measurement(**record)
    if not all(_is(record.get(name), kinds) for name, kinds in _RECORD.items()):
        raise UserError("the record of a measurement holds a value of a wrong kind")
    if not (m.bytes >= bool(m.program) and m.payload_bytes >= 0):
        raise UserError(f"a program of {m.bytes} bytes can't be kept")
    if m.program:
        _hash(m.program)
    if m.family not in FAMILIES:
        raise UserError(f"there is no family {m.family!r}")
    for name, value in (("settings", m.settings), ("content", m.content), ("versions", m.versions)):
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise UserError(f"the {name} of a program can't be kept: {error}") from error
    for number in (m.ideal_bits, m.seconds, m.scoring_seconds):
        if not (number is None or math.isfinite(number)):
            raise UserError(f"{number} is not a measure of a program")
    if not (_is_content(m.content) and all(isinstance(value, str) for value in m.versions.values())):
        raise UserError("the record of a measurement holds a value of a wrong kind")
    scores = {split: record[split] and _check_score(record[split]) for split in ("validation", "test")}
    return Measurement(**{**record, **scores})


def _check_score(record: dict) -> Score:
    """The score that a record holds. Raises UserError if its value is not in [-1, 1], or not within its interval."""
    score = Score(**record)
    low, high = (score.value if end is None else end for end in (score.low, score.high))
    if not all(isinstance(number, int | float) for number in (score.value, low, high)):
        raise UserError(f"{score.value!r} with the interval {low!r} to {high!r} is not a score")
    if not (-1 <= score.value <= 1 and low - _HAIR <= score.value <= high + _HAIR and high - low < math.inf):
        raise UserError(f"{score.value} with the interval {low} to {high} is not a score in [0, 1]")
    if not (score.n is None or type(score.n) is int and score.n > 0) or not isinstance(score.also, dict):
        raise UserError(f"a score over {score.n!r} examples can't be kept")
    for name, value in score.also.items():
        if not (isinstance(value, str) or isinstance(value, int | float) and math.isfinite(value)):
            raise UserError(f"{name} of {value!r} can't be kept beside a score")
    return score


def _is(value, kinds: tuple[type, ...]) -> bool:
    """Whether it is of one of the kinds; truth values are no numbers."""
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def _is_content(content: dict) -> bool:
    """Whether it is what `Measurement` says, as far as it says so."""

    def is_number(value) -> bool:
        return isinstance(value, int | float)

    def is_tokens(value) -> bool:
        pairs = isinstance(value, list) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value)
        return pairs and all(isinstance(token, str) and is_number(cost) for token, cost in value)

    def is_shape(value) -> bool:
        return isinstance(value, list | tuple) and all(type(size) is int for size in value)

    examples, tensors = content.get("examples", []), content.get("tensors", {})
    return (
        isinstance(content.get("text", ""), str)
        and is_tokens(content.get("tokens", []))
        and isinstance(examples, list)
        and all(isinstance(example, str) or is_tokens(example) for example in examples)
        and isinstance(tensors, dict)
        and all(map(is_shape, tensors.values()))
    )


def _read_estimates(path: Path) -> list[Measurement]:
    """Published estimates, a JSON object a line, shortest first. Raises UserError if the file holds anything else."""
    found = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            m = _measurement(json.loads(line))
            if m.test is None:
                raise ValueError
            found.append(m)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}: import the published runs again") from error
    except (ValueError, TypeError, KeyError, RecursionError, UserError) as error:
        raise UserError(f"{path}, line {len(found) + 1}: not an estimate: import the published runs again") from error
    return sorted(found, key=lambda m: (m.bytes, -m.test.value))


def hash_of(program: bytes) -> str:
    """The name of a program's file in a study."""
    return hashlib.sha256(program).hexdigest()[:12]


def key(settings: dict) -> str:
    """Settings as text: the same settings always give the same key."""
    return json.dumps(settings, sort_keys=True)


def _pairs(trials: list[FrozenTrial]) -> set[tuple[str, str]]:
    return {(str(t.user_attrs["method"]), str(t.user_attrs["settings"])) for t in trials if "method" in t.user_attrs}


def _hash(program: str) -> str:
    """The same text. Raises UserError if it isn't what `hash_of` gives."""
    if not re.fullmatch("[0-9a-f]{12}", program):
        raise UserError(f"{program!r} is not the name of a program: those are 12 digits from 0 to f")
    return program


def _program_name(program: str) -> str:
    return f"programs/{_hash(program)}.tbp"


def _outputs_name(program: str, split: str) -> str:
    return f"outputs/{_hash(program)}.{split}.jsonl"


# What two fingerprints that differ tell a person.
OTHER_TASK = (
    "its rows, its settings or the code of its metric are others, or it is from a version that counted less of them"
)


def _differing(kept: dict, wanted: dict, former: dict | None) -> str | None:
    """The first thing that is not as wanted, with both values; None if there is none."""
    for name, value in wanted.items():
        if kept.get(name) not in (value, (former or {}).get(name, value)):
            why = f": {OTHER_TASK}" if name == "task_fingerprint" else ""
            return f"{name} ({kept.get(name)!r}, not {value!r}{why})"
    return None


@cache
def _machine() -> str:
    """A name for everything in which a process id means the same process: a host, or a container on it."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # only Linux has these
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket from which the numbers of the signals come that this process gets meanwhile, as soon as it gets them.

    Python's own handlers wait for the end of what runs outside of Python. The reader closes it, at the end.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    in_main = threading.current_thread() is threading.main_thread()  # others can't ask for signals
    before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False) if in_main else None
    try:
        yield receiver
    finally:
        if before is not None:
            signal.set_wakeup_fd(before)
        sender.close()


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
