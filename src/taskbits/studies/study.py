"""The store of measurements for one (model, task): records in a database and a folder of programs.

Guarantees: a measurement is visible only when its program is kept under the hash of its content; no two workers run
the same trial, and none runs again what is done; a worker killed at any moment loses at most the trial that it was
running, which another may then run. Knows nothing of models, tasks or methods.

    DIR/study.json      what is measured, and where the records and the files are
    DIR/study.db        SQLite, unless another storage was named
    DIR/programs/       HASH.tbp, content-addressed
    DIR/outputs/        HASH.SPLIT.jsonl: what the program wrote, a JSON text for each row of the split

With `files` in what is measured, programs and outputs lie there; DIR/programs has copies of those that were asked for.

A study is read without being changed, and nothing outside its folder is opened unless it is trusted: it may have come
from anywhere. What is kept is checked before, and again when it is read: a record that is damaged is left out.

A study of published estimates (`published`) has no programs and no storage, but DIR/measurements.jsonl.
"""

import json
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from types import NoneType

from optuna.trial import FrozenTrial, TrialState

from taskbits.atomic import write_atomically
from taskbits.display import warn
from taskbits.errors import StoreError, UserError, hidden, in_short
from taskbits.studies import storage
from taskbits.studies.estimates import read_estimates
from taskbits.studies.files import Files, require_inside
from taskbits.studies.info import differing, read_info
from taskbits.studies.measurement import (
    NUMBER,
    Attempt,
    Measurement,
    check,
    check_score,
    hash_of,
    is_a,
    key,
    measurement_of,
    require_hash,
)
from taskbits.studies.reservations import Reservations, Taken, without_retried
from taskbits.tasks.metrics import Score

_TEST_DEATHS = 2  # of processes that scored the same program on test
_LATER = ("test", "unconfirmed", "elsewhere")  # what is found out about a measured program
_TRACEBACK = 20_000  # characters of a traceback that are kept


class Study:
    """Measurements of one model on one task. Use `Study.create`, `Study.open` or `Study.join`."""

    def __init__(self, folder: Path, info: dict, trusted: bool = False):
        self.folder = folder
        self.info = info
        self._trusted = trusted
        self._damaged = 0  # records, as far as a person was told

    @cached_property
    def _records(self) -> storage.Records:
        """The records, to be changed."""
        return storage.Records(self._url, self.info["name"])

    @cached_property
    def _reservations(self) -> Reservations:
        return Reservations(self._records)

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
            kept = read_info(folder)
            if other := differing(kept, info, former):
                raise UserError(f"{folder} holds a study of another {other}: name another --out")
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
        return cls(Path(folder), read_info(Path(folder)), trust)

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
            if other := differing(kept["info"], shared, former):
                raise UserError(f"{place} holds a study of another {other}: name another --storage")
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
            return read_estimates(self.folder / "measurements.jsonl")
        values, found, damaged = self._read.values(), [], 0
        for trial in self._read.trials(TrialState.COMPLETE):
            try:
                record = dict(trial.user_attrs["measurement"])
                name = record["program"]
                test, refused = values.get(f"test:{name}"), values.get(f"refused:{name}")
                unconfirmed, elsewhere = None if test else refused, _elsewhere(values, name)
                known = {"test": test, "unconfirmed": unconfirmed, "elsewhere": elsewhere}
                found.append(measurement_of({**record, **known}))
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
            if name.startswith(("refused:", "elsewhere:")) and isinstance(value, str):
                self._records.set(name, None)

    def _ended(self) -> list[FrozenTrial]:
        """What was measured or is not to be tried again."""
        return without_retried(self._read, self._read.trials(TrialState.COMPLETE, TrialState.PRUNED))

    @contextmanager
    def trial(self, method: str, settings: dict) -> Iterator["Trial"]:
        """Reserve one trial; it counts only once `finish` or `give_up` was called on it.

        Raises Taken if another worker runs it or has done it.
        """
        with self._reservations.hold({"method": method, "settings": key(settings)}) as reserved:
            yield Trial(self, reserved)

    @contextmanager
    def testing(self, program: str) -> Iterator[None]:
        """Reserve the scoring on test of a program. Raises Taken if it was done, or another process does it now."""
        with self._reservations.hold({"test": program}):
            if f"test:{program}" in self._records.values():
                raise Taken
            yield

    def record_test(self, program: str, score: Score, outputs: list[str]) -> None:
        """Keep the test score of a frontier candidate. It is taken once: raises ValueError on a second.

        Raises UserError if the score is none.
        """
        name = f"test:{program}"
        check_score(asdict(score))
        if name in self._records.values():
            raise ValueError(f"{program} was scored on test before")
        self._write_outputs(program, "test", outputs)
        self._records.set(name, asdict(score))

    def record_refusal(self, program: str, why: str) -> None:
        """Keep that the program can't be scored on test, and why: it is no frontier candidate any more."""
        self._records.set(f"refused:{program}", hidden(why))

    def begin_elsewhere(self, program: str, task: str) -> bool:
        """Whether the program is yet to be scored on another task. Who asks is to do it: whoever asks next need not."""
        name = _elsewhere_name(program, task)
        if self._records.values().get(name):
            return False
        self._records.set(name, "was begun and not ended")
        return True

    def record_elsewhere(self, program: str, task: str, found: Score | str) -> None:
        """Keep what the program scores on another task, or why it has no score there. Raises UserError as `record_test`
        does."""
        if isinstance(found, Score):
            check_score(asdict(found))
        self._records.set(_elsewhere_name(program, task), hidden(found) if isinstance(found, str) else asdict(found))

    def lacks(self, programs: Iterable[str]) -> list[tuple[str, str]]:
        """The programs, each with another task on which it is asked for and was not begun to be scored."""
        values, tasks = self._read.values(), self.asked().get("also") or []
        return [(p, task) for task in tasks for p in programs if not values.get(_elsewhere_name(p, task))]

    def ask_workers(self, what: dict) -> None:
        """Say what workers that join from now on are to do, in terms of their own."""
        self._records.set("workers", what)

    def asked(self) -> dict:
        """What workers are to do, by the last `ask_workers`; nothing in a study from before there were any."""
        asked = self._read.values().get("workers")
        kinds = {"methods": (list,), "target": NUMBER, "budget": NUMBER, "device_map": (str,), "donor": (str,)}
        kinds |= dict.fromkeys(("race", "combines"), (bool,)) | {"also": (list,)}
        good = isinstance(asked, dict) and all(is_a(asked.get(name), (*kinds[name], NoneType)) for name in kinds)
        return asked if good else {}

    def free_the_dead(self) -> list[str]:
        """Withdraw the reservations of processes that died. What has killed several is not tried again.

        Returns the programs that were being scored on test by those that died now.
        """
        testing = self._reservations.free_the_dead()
        for program, deaths in testing:
            if deaths >= _TEST_DEATHS and f"test:{program}" not in self._records.values():
                self.record_refusal(program, f"{deaths} processes died that scored it: out of memory?")
        return [program for program, _ in testing]

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
        record = {name: value for name, value in asdict(measurement).items() if name not in _LATER}
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


def _pairs(trials: list[FrozenTrial]) -> set[tuple[str, str]]:
    return {(str(t.user_attrs["method"]), str(t.user_attrs["settings"])) for t in trials if "method" in t.user_attrs}


def _elsewhere(values: dict, program: str) -> dict[str, dict]:
    """By task, the records of a program's scores on other tasks."""
    start = _elsewhere_name(program, "")
    return {name[len(start) :]: v for name, v in values.items() if name.startswith(start) and isinstance(v, dict)}


def _elsewhere_name(program: str, task: str) -> str:
    return f"elsewhere:{program}:{task}"


def _program_name(program: str) -> str:
    return f"programs/{require_hash(program)}.tbp"


def _outputs_name(program: str, split: str) -> str:
    return f"outputs/{require_hash(program)}.{split}.jsonl"
