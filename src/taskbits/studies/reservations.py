"""Who works on what: reservations of trials, the signs of life of those who hold them, and their end.

A reservation is a running trial of the database that holds what it reserves. Of those that hold the same the one that
was added first is the reservation; whoever added another withdraws it. A process that runs a trial makes a sign of
life every few seconds; one whose process is gone, or silent for too long, is withdrawn by whoever notices.

Knows nothing of what is measured.
"""

import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import psutil
from optuna.trial import FrozenTrial, TrialState

from taskbits.errors import UserError
from taskbits.studies.storage import Records

_BEAT = 10  # seconds between two signs of life
_SILENCE = 120  # seconds without one until a worker on another machine counts as dead
_DEATHS = 3  # of workers that ran the same settings, until nobody tries them again
_HELD = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
_STOPPING = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}


class Taken(Exception):
    """Another worker runs this, or has done it."""


class Reservations:
    """Those in the records of one study."""

    def __init__(self, records: Records):
        self._records = records
        self._silent: dict[int, tuple[int, float]] = {}  # by trial: its last sign of life, and when it was first seen

    @contextmanager
    def hold(self, what: dict[str, str]) -> Iterator[FrozenTrial]:
        """Hold a reservation, with signs of life, until the block ends. Raises Taken."""
        self.free_the_dead()
        token = uuid.uuid4().hex
        self._records.add({**what, "token": token, "worker": _this_process()})
        held = without_retried(self._records, self._records.trials(*_HELD))
        held = [t for t in held if what.items() <= t.user_attrs.items()]
        first, *mine = held[:1] + [t for t in held[1:] if t.user_attrs.get("token") == token]
        taken = first.user_attrs.get("token") != token
        for trial in mine:
            self._records.close(trial, TrialState.FAIL)
        if taken:
            raise Taken
        asked: set[int] = set()
        try:
            with _signals(lambda signals: self._beat(first, signals, asked)):
                try:
                    yield first
                finally:
                    self._records.close(first, TrialState.FAIL)  # no effect on what is finished
        finally:
            if not isinstance(sys.exception(), SystemExit | KeyboardInterrupt):
                for number in tuple(asked):  # a finalizer, or a library, took what the handler raised for its own
                    signal.raise_signal(number)

    def _beat(self, trial: FrozenTrial, signals: socket.socket, asked: set[int]) -> None:
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
                if stopping := _STOPPING & set(got):
                    asked |= stopping
                    with suppress(UserError):
                        self._records.close(trial, TrialState.FAIL)
                if not got:
                    return

    def free_the_dead(self) -> list[tuple[str, int]]:
        """Withdraw the reservations of processes that died; settings that have killed several are not tried again.

        Returns the programs that were being scored on test by those that died now, with how many have died of each.
        """
        testing = []
        for trial in filter(self._is_dead, self._records.trials(TrialState.RUNNING)):
            what = {name: trial.user_attrs[name] for name in ("method", "settings", "test") if name in trial.user_attrs}
            before = without_retried(self._records, self._records.trials(TrialState.FAIL))
            deaths = 1 + sum("died" in t.user_attrs and what.items() <= t.user_attrs.items() for t in before)
            self._records.note(trial, "died", f"death {deaths} of a worker that ran this")
            hopeless = "method" in what and deaths >= _DEATHS
            self._records.close(trial, TrialState.PRUNED if hopeless else TrialState.FAIL)
            if program := what.get("test"):
                testing.append((program, deaths))
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


def without_retried(records: Records, trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The trials, without those that failed before it was asked to try again what failed."""
    first = records.values().get("retried", 0)
    return [t for t in trials if t.number >= first or not {"failure", "died"} & t.user_attrs.keys()]


@cache
def _machine() -> str:
    """A name for everything in which a process id means the same process: a host, or a container on it."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # only Linux has these
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


@contextmanager
def _signals(read: Callable[[socket.socket], None]) -> Iterator[None]:
    """A thread that reads from a socket the numbers of the signals that this process gets, as soon as it gets them.

    Python's own handlers wait for the end of what runs outside of Python. The reader closes the socket, at the end.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    in_main = threading.current_thread() is threading.main_thread()  # others can't ask for signals
    before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False) if in_main else None
    reader = threading.Thread(target=read, args=(receiver,), daemon=True)
    reader.start()
    try:
        yield
    finally:
        if before is not None:
            signal.set_wakeup_fd(before)
        sender.close()
        reader.join()


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
