"""A study's records in a database, through Optuna: trials and named values, written by many processes at once.

Guarantees: a call outlasts a restart of the database, and one that is repeated because its answer was lost has the
effect of one. Knows nothing of what is measured, nor of who may run which trial.
"""

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event, text
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from taskbits.display import quiet, warn
from taskbits.errors import StoreError, hidden

_OPENING = 5  # seconds that a database may take to answer when it is opened: a wrong address shows soon
_PATIENCE = 300  # and when it went away in the middle
_PAUSE = 5  # seconds between two attempts, at most
_WAIT = 60  # seconds that SQLite waits for another writer
_CONNECTING = {
    # Seconds; milliseconds until a machine that fell silent counts as gone.
    "postgresql": {"connect_timeout": 10, "tcp_user_timeout": 60_000},
}


class Records:
    """The trials and the named values of one study. `interrupted`: when the database last failed to answer.

    unreadable: how many trials were left out when they were last asked for, since the database holds no such values.
    """

    def __init__(self, url: str | URL, name: str, reads_only: bool = False):
        """Open the study of this name, or start it. reads_only: the study must be there, and nothing is changed.

        Raises StoreError if the storage can't be opened, or is not one that Optuna has made.
        """
        self.interrupted, self.unreadable = float("-inf"), 0
        self._url = _parsed(url)
        self._patience = _OPENING if reads_only else _PATIENCE

        @quiet()
        def open_storage() -> tuple[optuna.storages.RDBStorage, optuna.Study]:
            if reads_only:
                storage = _storage(self._url, reads_only=True)
                return storage, optuna.load_study(storage=storage, study_name=name)
            storage = _storage(self._url)
            if storage.engine.name == "sqlite":
                # Optuna reads a trial's state before it changes it; SQLite lets another do so in between otherwise.
                event.listen(storage.engine, "begin", _lock)
            goals = ["minimize", "maximize"]
            return storage, optuna.create_study(storage=storage, study_name=name, directions=goals, load_if_exists=True)

        self._storage, self._study = _opened(self._url, lambda: self._patiently(open_storage, _OPENING))
        self._id = self._patiently(lambda: self._storage.get_study_id_from_name(name))

    def values(self) -> dict[str, Any]:
        """The named values of the study."""
        return _opened(self._url, lambda: self._patiently(lambda: self._storage.get_study_user_attrs(self._id)))

    def set(self, name: str, value: Any) -> None:
        """Keep a value, which JSON must be able to hold, under this name."""
        self._patiently(lambda: self._storage.set_study_user_attr(self._id, name, value))

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials in these states, or in any, in the order in which they were added.

        What can't be read is left out.
        """
        try:
            found = self._patiently(lambda: self._study.get_trials(deepcopy=False, states=states or None))
        except StoreError:
            raise
        except Exception:  # Optuna stumbles over one that holds, say, NaN as a value
            return _opened(self._url, lambda: [t for t in self._one_by_one() if not states or t.state in states])
        self.unreadable = 0
        return found

    def _one_by_one(self) -> list[FrozenTrial]:
        query = text("SELECT trial_id FROM trials WHERE study_id = :study ORDER BY number")
        with self._storage.engine.connect() as connection:
            numbers = connection.execute(query, {"study": self._id}).scalars().all()
        found = []
        for number in numbers:
            with suppress(AssertionError, ValueError, TypeError, KeyError, LookupError):
                found.append(self._patiently(lambda number=number: self._storage.get_trial(number)))
        self.unreadable = len(numbers) - len(found)
        return found

    def add(self, facts: dict[str, Any]) -> None:
        """Add a running trial that holds these facts.

        All in one transaction: whoever sees a trial sees those that were added before it, too. If the answer is lost,
        the trial may be added twice.
        """
        trial = create_trial(state=TrialState.RUNNING, user_attrs=facts)
        self._patiently(lambda: self._storage.create_new_trial(self._id, trial))

    def note(self, trial: FrozenTrial, name: str, value: Any) -> bool:
        """Keep a fact with a running trial. Returns whether it still ran."""
        try:
            self._patiently(lambda: self._storage.set_trial_user_attr(trial._trial_id, name, value))
        except optuna.exceptions.UpdateFinishedTrialError:
            return False
        return True

    def close(self, trial: FrozenTrial, state: TrialState, values: list[float] | None = None) -> bool:
        """End a running trial. Returns whether it is in this state now: another process may have ended it before."""
        try:
            return self._patiently(lambda: self._storage.set_trial_state_values(trial._trial_id, state, values))
        except optuna.exceptions.UpdateFinishedTrialError:
            return self._patiently(lambda: self._storage.get_trial(trial._trial_id)).state == state

    def _patiently(self, call: Callable, patience: float | None = None):
        """What the call returns, repeated for `patience` seconds while the database doesn't answer."""
        patience = self._patience if patience is None else patience
        deadline, pause = time.monotonic() + patience, 0.1
        while True:
            try:
                return call()
            except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
                self.interrupted = time.monotonic()
                if isinstance(error, ArgumentError) or self.interrupted > deadline:
                    raise _unusable(self._url, error.__cause__ or error) from error
                if pause > 1 and patience == _PATIENCE:
                    warn("the study's storage does not answer: trying again")
                time.sleep(pause)
                pause = min(2 * pause, _PAUSE)


def names(url: str) -> list[str]:
    """The names of the studies in a storage. Raises StoreError if it can't be opened."""
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        return []  # opening it would make it
    return _opened(parsed, lambda: optuna.get_all_study_names(_storage(parsed)))


def sqlite(path: Path) -> URL:
    """The URL of a database in a file, whatever its path holds."""
    return URL.create("sqlite", database=os.path.abspath(path))


def file_of(url: str | URL) -> Path | None:
    """The file of an SQLite database; None for any other. Raises StoreError if it is no URL."""
    parsed = _parsed(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def shown(url: str) -> str:
    """The URL for people: without the password. Raises StoreError if it is none."""
    return hidden(_parsed(url).render_as_string(hide_password=True))


def full(url: str) -> str:
    """The URL as it holds in any folder, with its driver. Raises StoreError if it is none."""
    return _parsed(url).render_as_string(hide_password=False)


def _parsed(url: str | URL) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:  # a port that is no number
        raise _unusable(url, error) from error
    if parsed.drivername in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        return parsed.set(database=os.path.abspath(parsed.database))
    return parsed


def _storage(url: URL, reads_only: bool = False) -> optuna.storages.RDBStorage:
    if url.get_backend_name() != "sqlite" or not url.database:
        options = {"pool_pre_ping": True, "connect_args": _CONNECTING.get(url.get_backend_name(), {})}
        # Optuna fills in what it finds in braces.
        place = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
        return optuna.storages.RDBStorage(place, options, skip_table_creation=reads_only)
    # The file is opened here: not every path comes through the URLs of all these libraries as it was.
    (path, *_), given = url.get_dialect()().create_connect_args(url)
    given, copy = {**given, "timeout": _WAIT, "check_same_thread": False}, None
    if reads_only and not given.get("uri"):
        path, copy = _readable(Path(path))
        given["uri"] = True

    def connect(kept: tempfile.TemporaryDirectory | None = copy) -> sqlite3.Connection:
        return sqlite3.connect(path, **given)

    return optuna.storages.RDBStorage("sqlite:///study.db", {"creator": connect}, skip_table_creation=reads_only)


def _readable(path: Path) -> tuple[str, tempfile.TemporaryDirectory | None]:
    """A URI by which SQLite reads the file and changes nothing; of a copy, which lives as long as what is returned
    with it, where the file can't be read without mending what a writer left that died.

    Raises ValueError if the database holds anything but plain tables: a view or a trigger is a program.
    """
    uri, copy = f"{path.absolute().as_uri()}?mode=ro", None
    try:
        held = _schema(uri)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            raise
        copy = tempfile.TemporaryDirectory(prefix="taskbits-")
        for end in ("", "-journal", "-wal"):
            if not end or Path(f"{path}{end}").exists():
                shutil.copyfile(f"{path}{end}", Path(copy.name, f"study.db{end}"))
        uri = Path(copy.name, "study.db").as_uri()
        held = _schema(uri)
    if any(kind not in ("table", "index") or (made or "").upper().startswith("CREATE VIRTUAL") for kind, made in held):
        raise ValueError("it holds more than plain tables")
    return uri, copy


def _schema(uri: str) -> list[tuple[str, str | None]]:
    with closing(sqlite3.connect(uri, uri=True, timeout=_WAIT)) as connection:
        return connection.execute("SELECT type, sql FROM sqlite_master").fetchall()


def _opened(url: URL, call: Callable):
    """What the call returns. Raises StoreError with what is wrong with the storage."""
    try:
        return call()
    except ImportError as error:
        driver = "pip install 'taskbits[postgresql]'" if url.get_backend_name() == "postgresql" else "install it"
        raise StoreError(f"the driver for the study's storage {url.drivername} is missing: {driver}") from error
    except StoreError:
        raise
    except Exception as error:
        raise _unusable(url, error) from error


def _lock(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _unusable(url: URL | str, error: BaseException) -> StoreError:
    reason = " ".join(str(error).splitlines()[0].split()) if str(error).strip() else type(error).__name__
    place = (file_of(url) or url.render_as_string(hide_password=True)) if isinstance(url, URL) else url
    return StoreError(f"cannot open the study's storage {place}: {reason}")
