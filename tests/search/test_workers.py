"""Many workers on one study: nothing is lost, nothing is done twice, whoever dies on the way."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import optuna
import pytest
from conftest import fresh
from optuna.trial import TrialState
from sqlalchemy.pool import NullPool
from test_study import INFO, finish

from taskbits.errors import UserError
from taskbits.methods import method
from taskbits.search.measure import measure
from taskbits.studies import reservations
from taskbits.studies.measurement import key
from taskbits.studies.reservations import Taken
from taskbits.studies.study import Study
from taskbits.tasks.metrics import Score

PAIR = ("few-shot", '{"k": 1}')
TRIAL = 'trial("few-shot", {"k": 1})'
DYING = """
import os, signal, sys
from taskbits.studies.study import Study
with Study.open(sys.argv[1]).trial("few-shot", {"k": 1}):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_one_worker_runs_or_has_done_is_taken(tmp_path):
    one, other = Study.create(tmp_path, INFO), Study.open(tmp_path)
    with one.trial("few-shot", {"k": 1}) as trial:
        assert other.running() == {PAIR} and other.done() == set()
        with pytest.raises(Taken), other.trial("few-shot", {"k": 1}):
            pass
        with other.trial("few-shot", {"k": 2}) as second:
            second.give_up("impossible")
        finish(trial, 1, 0.5)
    for pair in ({"k": 1}, {"k": 2}):
        with pytest.raises(Taken), other.trial("few-shot", pair):
            pass
    assert other.running() == set() and other.done() == {PAIR, ("few-shot", '{"k": 2}')}


def test_of_many_who_want_the_same_trial_one_gets_it(tmp_path):
    Study.create(tmp_path, INFO)
    start, got = threading.Barrier(6), []

    def want():
        study = Study.open(tmp_path)
        start.wait()
        for k in range(4):
            with suppress(Taken), study.trial("few-shot", {"k": k}) as trial:
                got.append(k)
                finish(trial, k + 1, 0.5)

    threads = [threading.Thread(target=want) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(Counter(got).values()) == 1 and len(Study.open(tmp_path).measurements()) == len(got) > 0


def test_a_trial_whose_process_was_killed_is_free_at_once_until_it_has_killed_three(tmp_path):
    study = Study.create(tmp_path, INFO)
    for death in (1, 2, 3):
        killed = subprocess.run([sys.executable, "-c", DYING, tmp_path])
        assert killed.returncode == -signal.SIGKILL
        assert study.running() == set() and study.done() == ({PAIR} if death == 3 else set())
    assert study.measurements() == []
    study.retry()
    assert study.done() == set()
    subprocess.run([sys.executable, "-c", DYING, tmp_path])
    assert study.running() == set() and study.done() == set()
    with study.trial("few-shot", {"k": 1}) as trial:
        finish(trial, 1, 0.5)


BUSY = """
import hashlib, signal, sys
from taskbits.studies.study import Study
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
with Study.open(sys.argv[1]).trial("few-shot", {"k": 1}):
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # Python does not see the signal before this ends
"""


def test_a_worker_that_is_told_to_stop_and_killed_soon_after_did_not_die(tmp_path):
    study = Study.create(tmp_path, INFO)
    with subprocess.Popen([sys.executable, "-c", BUSY, tmp_path], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"begun\n"
        assert study.running() == {PAIR}
        process.terminate()
        wait_for(lambda: study.running() == set())
        assert process.poll() is None
        process.kill()
    assert [(t.state, "died" in t.user_attrs) for t in study._records.trials()] == [(TrialState.FAIL, False)]


UNHEARD = """
import os, signal, sys
from taskbits.studies.reservations import Taken
from taskbits.studies.study import Study
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
class Deaf:
    def __del__(self):  # what is raised in here Python only prints
        os.kill(os.getpid(), signal.SIGTERM)
        sum(range(10))
study = Study.open(sys.argv[1])
with study.trial("few-shot", {"k": 1}):
    Deaf()
    while study.running():
        pass
    if sys.argv[2] == "withdrawn":
        raise Taken
"""


@pytest.mark.parametrize("how", ["ended", "withdrawn"])
def test_a_worker_ends_also_where_what_tells_it_to_stop_is_lost(tmp_path, how):
    Study.create(tmp_path, INFO)
    command = [sys.executable, "-c", UNHEARD, tmp_path, how]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 7 and "Exception ignored" in ended.stderr


def test_a_program_that_kills_who_scores_it_is_not_confirmed(tmp_path):
    study = Study.create(tmp_path, INFO)
    with study.trial("few-shot", {"k": 1}) as trial:
        program = finish(trial, 1, 0.5).program
    for death in (1, 2):
        killed = subprocess.run([sys.executable, "-c", DYING.replace(TRIAL, f"testing({program!r})"), tmp_path])
        assert killed.returncode == -signal.SIGKILL and study.free_the_dead() == [program]
        [m] = study.measurements()
        assert (m.unconfirmed is None) == (death == 1)
    assert "2 processes died" in m.unconfirmed


def test_a_worker_elsewhere_counts_as_dead_after_its_silence(tmp_path, monkeypatch):
    study = Study.create(tmp_path, INFO)
    monkeypatch.setattr(reservations, "_SILENCE", 1.0)
    monkeypatch.setattr(reservations, "_BEAT", 0.1)
    with elsewhere(monkeypatch, tmp_path):
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            assert study.running() == {PAIR}
            time.sleep(0.05)
    monkeypatch.setattr(reservations, "_BEAT", 1000)
    with pytest.raises(Taken), elsewhere(monkeypatch, tmp_path) as silent:
        assert study.running() == {PAIR}
        wait_for(lambda: study.running() == set(), seconds=30)
        with study.trial("few-shot", {"k": 1}) as again:
            finish(again, 2, 0.5)
        finish(silent, 1, 0.5)
    assert [m.bytes for m in study.measurements()] == [2]


@contextmanager
def elsewhere(monkeypatch, folder):
    """A trial that runs on another machine."""
    with ExitStack() as stack:
        with monkeypatch.context() as patched:
            patched.setattr(reservations, "_this_process", lambda: {"machine": "another", "pid": 1, "born": 0.0})
            trial = stack.enter_context(Study.open(folder).trial("few-shot", {"k": 1}))
        yield trial


@pytest.mark.parametrize(
    "call", ["create_new_trial", "set_trial_state_values", "set_trial_user_attr", "set_study_user_attr", "get_trial"]
)
def test_a_call_whose_answer_was_lost_has_one_effect(tmp_path, monkeypatch, call):
    storage = optuna.storages.RDBStorage
    known, calls = getattr(storage, call), []

    def answer_lost(*arguments):
        answer = known(*arguments)
        calls.append(call)
        if len(calls) % 2:
            raise optuna.exceptions.StorageInternalError("server closed the connection unexpectedly")
        return answer

    monkeypatch.setattr(storage, call, answer_lost)
    study = Study.create(tmp_path, INFO)
    for k in (1, 2):
        with study.trial("few-shot", {"k": k}) as trial:
            program = finish(trial, k, 0.5).program
    with study.testing(program):
        study.record_test(program, Score(0.4, 0.3, 0.5, 10), ["a"])
    assert calls
    assert [m.bytes for m in Study.open(tmp_path).measurements()] == [1, 2]
    assert study.running() == set()


def test_a_program_is_scored_on_test_by_one_process(tmp_path):
    one, other = Study.create(tmp_path, INFO), Study.open(tmp_path)
    with one.trial("few-shot", {"k": 1}) as trial:
        program = finish(trial, 1, 0.5).program
    with one.testing(program):
        with pytest.raises(Taken), other.testing(program):
            pass
        one.record_test(program, Score(0.4, 0.3, 0.5, 10), ["a"])
    with pytest.raises(Taken), other.testing(program):
        pass
    assert one.done() == {PAIR} and one.running() == set()


@pytest.mark.parametrize("place", ["memory://a-bucket/study", "file://{}/files", "{}/files"])
def test_programs_behind_a_url(tmp_path, place):
    database = f"sqlite:///{tmp_path}/shared.db"
    info = {**INFO, "storage": database, "files": place.format(tmp_path)}
    study = Study.create(tmp_path / "out", info)
    study.ask_workers({"methods": ["few-shot"]})
    joined = Study.join(database)
    assert joined.info == info and joined.asked() == {"methods": ["few-shot"]}
    with joined.trial("few-shot", {"k": 1}) as trial:
        program = finish(trial, 1, 0.5).program
    assert study.outputs(program, "validation") == ["an output"] and study.outputs(program, "test") is None
    assert not list((tmp_path / "out").glob("programs/*"))
    assert study.path(program).read_bytes() == b"program of 1" and study.path(program).parent.parent == tmp_path / "out"
    with pytest.raises(FileNotFoundError):
        study.path("0" * 12)


def test_studies_that_cannot_be_joined(tmp_path, taskbits):
    database = f"sqlite:///{tmp_path}/shared.db"

    def refused(*options):
        result = taskbits("worker", "--storage", database, *options)
        assert result.returncode == 2 and result.stderr.count("\n") == 1, result
        return result.stderr

    assert "no study in sqlite" in refused() and not (tmp_path / "shared.db").exists()
    Study.create(tmp_path / "one", {**INFO, "storage": database})
    assert "not ready for workers" in refused()
    with pytest.raises(UserError, match="go to .*/one: name that as --out"):
        Study.create(tmp_path / "elsewhere", {**INFO, "storage": database})
    with pytest.raises(UserError, match="another seed"):
        Study.create(tmp_path / "elsewhere", {**INFO, "storage": database, "seed": 5})
    other = Study.create(tmp_path / "two", {**INFO, "name": "b", "storage": database})
    other.ask_workers({"methods": ["few-shot"], "race": True})
    assert "--study: 'a study', 'b'" in refused()
    assert "no study 'c'" in refused("--study", "c")
    shutil.rmtree(tmp_path / "two")
    assert "not on this machine" in refused("--study", "b")


def test_storages_and_places_that_cannot_be_used(tmp_path, taskbits, monkeypatch):
    monkeypatch.setattr("taskbits.studies.storage._OPENING", 0.1)
    closed = taskbits("worker", "--storage", "postgresql://someone:secret@127.0.0.1:1/x")
    assert closed.returncode == 2 and "cannot open the study's storage" in closed.stderr
    assert "secret" not in closed.stderr and closed.stderr.count("\n") == 1
    monkeypatch.setitem(sys.modules, "psycopg", None)
    without = taskbits("worker", "--storage", "postgresql://127.0.0.1:1/x")
    assert without.returncode == 2 and "pip install 'taskbits[postgresql]'" in without.stderr
    for place in ("nonsense://x", "/dev/null/x"):
        with pytest.raises(UserError, match=place):
            Study.create(tmp_path / "out", {**INFO, "files": place})


def start_worker(storage):
    command = [sys.executable, "-m", "taskbits", "worker", "--storage", storage]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def trials(storage):
    """All trials, as the database has them."""
    # Without a pool: it is asked for often, and a server takes only so many connections.
    records = optuna.storages.RDBStorage(storage, {"poolclass": NullPool})
    (name,) = optuna.get_all_study_names(records)
    return optuna.load_study(study_name=name, storage=records).get_trials(deepcopy=False)


def running(storage, workers, methods):
    """The trials of these methods that run in these processes, by the process."""
    found = [t for t in trials(storage) if t.state == TrialState.RUNNING and t.user_attrs.get("method") in methods]
    pids = {worker.pid: worker for worker in workers}
    return [(pids[pid], t) for t in found if (pid := t.user_attrs["worker"]["pid"]) in pids]


def wait_for(condition, seconds=240):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.1)
    return found


def catch(storage, workers, methods):
    """Stop a worker in the middle of a trial; returns both."""

    def caught():
        for worker, trial in running(storage, workers, methods):
            os.kill(worker.pid, signal.SIGSTOP)
            with suppress(optuna.exceptions.StorageInternalError):  # stopped while it held SQLite's lock
                if trial.number in {t.number for _, t in running(storage, [worker], methods)}:
                    return worker, trial
            os.kill(worker.pid, signal.SIGCONT)

    return wait_for(caught)


def check_all_is_done_once(study, storage, methods, model, task):
    """Each of the sweeps' settings is measured or given up, once; the programs and outputs are there."""
    ended = [t for t in trials(storage) if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    counts = Counter((t.user_attrs["method"], t.user_attrs["settings"]) for t in ended)
    wanted = {(name, key(settings)) for name in methods for settings in method(name).sweep(model, task)}
    assert counts.keys() == wanted and set(counts.values()) == {1}
    assert study.running() == set() and study.done() == wanted
    for m in study.measurements():
        assert study.path(m.program).stat().st_size and len(study.outputs(m.program, "validation")) == 12


@pytest.fixture
def begun(monkeypatch, model_folder, task_folder, tmp_path):
    """Start a study that workers can join, with its first trial; nothing is scored on test."""

    def begin(storage, methods, **options):
        with monkeypatch.context() as patched:
            patched.setattr("taskbits.search.measure.confirm_in_fresh_process", lambda study: None)
            out = str(tmp_path / "study")
            return measure(
                model_folder, task_folder, out, methods=methods, budget=0.001, storage=storage, race=False, **options
            )

    return begin


def test_two_workers_on_sqlite_then_measure_confirms(begun, model, model_folder, task_folder, tmp_path):
    storage, methods = f"sqlite:///{tmp_path}/shared.db", ["zero-shot", "instructed"]
    study = begun(storage, methods, files=f"file://{tmp_path}/files")
    workers = [start_worker(storage) for _ in range(2)]
    (stopped, trial) = catch(storage, workers, {"instructed"})
    stopped.terminate()
    os.kill(stopped.pid, signal.SIGCONT)
    stopped.communicate(timeout=60)
    assert stopped.returncode == 128 + signal.SIGTERM
    (freed,) = [t for t in trials(storage) if t.number == trial.number]
    assert freed.state == TrialState.FAIL and "died" not in freed.user_attrs
    (other,) = [worker for worker in workers if worker is not stopped]
    _, errors = other.communicate(timeout=240)
    assert other.returncode == 0, errors
    first, *lines = errors.splitlines()
    assert first.startswith("loading ") and lines and all(" bytes, " in line for line in lines)
    check_all_is_done_once(study, storage, methods, model, task_folder)
    assert not any(m.test for m in study.measurements())
    arguments = {"methods": methods, "storage": storage, "files": f"file://{tmp_path}/files", "race": False}
    measure(model_folder, task_folder, str(tmp_path / "study"), **arguments)
    best = study.measurements()[0]
    assert best.test and fresh("verify", study.path(best.program), "--trust").returncode == 0


def test_three_workers_on_postgresql_one_is_killed_and_the_server_restarted(begun, postgresql, model, task_folder):
    methods = ["zero-shot", "instructed", "lora-fp16"]
    study = begun(postgresql.url, methods)
    storage = study.info["storage"]
    assert storage.startswith("postgresql+psycopg://")
    workers = [start_worker(postgresql.url) for _ in range(3)]
    wait_for(lambda: len(running(storage, workers, methods)) >= 3)
    killed, trial = catch(storage, workers, {"lora-fp16"})
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    wait_for(lambda: len(running(storage, [w for w in workers if w is not killed], methods)) >= 2)
    postgresql.control("restart", "-m", "fast")
    for worker in workers:
        _, errors = worker.communicate(timeout=240)
        assert worker is killed or (worker.returncode == 0 and "Traceback" not in errors), errors
    check_all_is_done_once(study, storage, methods, model, task_folder)
    again = [t for t in trials(storage) if t.user_attrs.items() >= pair_of(trial).items()]
    assert [t.state for t in again if "died" in t.user_attrs] == [TrialState.FAIL]
    (retried,) = [t for t in again if t.state != TrialState.FAIL]
    assert retried.user_attrs["worker"]["pid"] != killed.pid
    assert sum("died" in t.user_attrs for t in trials(storage)) == 1


def pair_of(trial):
    return {name: trial.user_attrs[name] for name in ("method", "settings")}


class Server:
    """A PostgreSQL server on loopback; as root it runs as the user postgres, since it refuses root."""

    def __init__(self, binaries, folder):
        self.binaries, self.folder = binaries, folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self.call("initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "-N")
        (folder / "data/postgresql.auto.conf").open("a").write(
            f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{folder}'\nfsync = off\n"
        )

    def control(self, *arguments):
        self.call("pg_ctl", "-D", self.folder / "data", "-w", "-l", self.folder / "log", *arguments)

    def call(self, program, *arguments):
        user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        command = [*user, self.binaries / program, *arguments]
        subprocess.run(command, cwd="/", check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture
def postgresql():
    found = shutil.which("initdb") or max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=None)
    if not found:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg")
    with tempfile.TemporaryDirectory() as folder:
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
        server = Server(Path(found).parent, Path(folder))
        server.control("start")
        yield server
        server.control("stop", "-m", "immediate")
