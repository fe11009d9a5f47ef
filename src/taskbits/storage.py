"""A study's records in a database, through Optuna: trials and named values, written by many processes at once.

Guarantees: a call outlasts a restart of the database, and one that is repeated because its answer was lost has the
effect of one. Knows nothing of what is measured, nor of who may run which trial.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from taskbits.display import console, quiet
from taskbits.errors import UserError

_OPENING = 5  # seconds that a database may take to answer when it is opened: a wrong address shows soon
_PATIENCE = 300  # and when it went away in the middle
_PAUSE = 5  # seconds between two attempts, at most
_CONNECTING = {
    "sqlite": {"timeout": 60},  # seconds to wait for another writer
    # Seconds; milliseconds until a machine that fell silent counts as gone.
    "postgresql": {"connect_timeout": 10, "tcp_user_timeout": 60_000},
}


class Records:
    """The trials and the named values of one study. `interrupted`: when the database last failed to answer."""

    def __init__(self, url: str, name: str):
        """Open the study of this name, or start it. Raises UserError if the storage can't be opened."""
        self.interrupted = float("-inf")
        self._url = _parsed(url)

        @quiet()
        def open_storage() -> tuple[optuna.storages.RDBStorage, optuna.Study]:
            storage = optuna.storages.RDBStorage(_text(self._url), _engine_options(self._url))
            if storage.engine.name == "sqlite":
                # Optuna reads a trial's state before it changes it; SQLite lets another do so in between otherwise.
                event.listen(storage.engine, "begin", _lock)
            goals = ["minimize", "maximize"]
            return storage, optuna.create_study(storage=storage, study_name=name, directions=goals, load_if_exists=True)

        self._storage, self._study = _opened(self._url, lambda: self._patiently(open_storage, _OPENING))
        self._id = self._patiently(lambda: self._storage.get_study_id_from_name(name))

    def values(self) -> dict[str, Any]:
        """The named values of the study."""
        return self._patiently(lambda: self._storage.get_study_user_attrs(self._id))

    def set(self, name: str, value: Any) -> None:
        """Keep a value, which JSON must be able to hold, under this name."""
        self._patiently(lambda: self._storage.set_study_user_attr(self._id, name, value))

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials in these states, in the order in which they were added."""
        return self._patiently(lambda: self._study.get_trials(deepcopy=False, states=states))

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

    def _patiently(self, call: Callable, patience: float = _PATIENCE):
        """What the call returns, repeated for `patience` seconds while the database doesn't answer."""
        deadline, pause = time.monotonic() + patience, 0.1
        while True:
            try:
                return call()
            except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
                self.interrupted = time.monotonic()
                if isinstance(error, ArgumentError) or self.interrupted > deadline:
                    raise _unusable(self._url, error.__cause__ or error) from error
                if pause > 1 and patience == _PATIENCE:
                    console.print("the study's storage does not answer: trying again", style="yellow")
                time.sleep(pause)
                pause = min(2 * pause, _PAUSE)


def names(url: str) -> list[str]:
    """The names of the studies in a storage. Raises UserError if it can't be opened."""
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        return []  # opening it would make it

    def read() -> list[str]:
        return optuna.get_all_study_names(optuna.storages.RDBStorage(_text(parsed), _engine_options(parsed)))

    return _opened(parsed, read)


def shown(url: str) -> str:
    """The URL for people: without the password. Raises UserError if it is none."""
    return _parsed(url).render_as_string(hide_password=True)


def full(url: str) -> str:
    """The URL as it holds in any folder, with its driver. Raises UserError if it is none."""
    return _text(_parsed(url))


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise _unusable(url, error) from error
    if parsed.drivername in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        return parsed.set(database=os.path.abspath(parsed.database))
    return parsed


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def _engine_options(url: URL) -> dict[str, Any]:
    return {"pool_pre_ping": True, "connect_args": _CONNECTING.get(url.get_backend_name(), {})}


def _opened(url: URL, call: Callable):
    """What the call returns. Raises UserError with what is wrong with the storage."""
    try:
        return call()
    except ImportError as error:
        driver = "pip install 'taskbits[postgresql]'" if url.get_backend_name() == "postgresql" else "install it"
        raise UserError(f"the driver for the study's storage {url.drivername} is missing: {driver}") from error
    except UserError:
        raise
    except Exception as error:
        raise _unusable(url, error) from error


def _lock(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _unusable(url: URL | str, error: BaseException) -> UserError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    place = url.render_as_string(hide_password=True) if isinstance(url, URL) else url
    return UserError(f"cannot open the study's storage {place}: {reason}")
