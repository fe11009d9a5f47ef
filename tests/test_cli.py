"""The command line as a process: interrupted, with an output of any encoding, read only in part."""

import importlib.metadata
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PRINTED, PROCESSES, _begin, _command, forked
from test_report import study

import taskbits
from taskbits import cli, display
from taskbits.programs.program import Part, Program
from taskbits.search import confirm
from taskbits.tasks.frame import Frame


def started(folder, function, *arguments):
    """A new process, forked from one that has loaded the libraries, whose output goes to files in the folder."""
    process = PROCESSES.Process(target=_begin, args=(str(folder), function, arguments))
    process.start()
    return process


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def _interruptible(words):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background may have it ignored
    _command(words)


def test_ctrl_c_ends_a_search_in_one_line(model_folder, task_folder, tmp_path):
    out = tmp_path / "study"
    process = started(
        tmp_path,
        _interruptible,
        ["taskbits", "measure", "--model", model_folder, "--task", task_folder, "--out", str(out)],
    )
    wait_for(lambda: list(out.glob("programs/*.tbp")) or not process.is_alive())
    os.kill(process.pid, signal.SIGINT)
    process.join()
    printed, errors = (Path(tmp_path, name).read_text(encoding="utf-8") for name in PRINTED)
    assert process.exitcode == 130, errors
    assert errors.endswith("taskbits: interrupted; what was measured is kept, and the same command goes on\n")
    assert "Traceback" not in errors and "Aborted" not in printed + errors


def test_the_fresh_process_says_nothing_on_ctrl_c(tmp_path):
    """The command that has started it says what there is to say. In the package's place is one that takes long."""
    package = tmp_path / "taskbits"
    (package / "search").mkdir(parents=True)
    for name, code in {
        "__init__": "",
        "errors": "class UserError(Exception): ...",
        "display": "from contextlib import nullcontext as quiet",
        "search/confirm": "import pathlib, time\n"
        "def confirm(at):\n    pathlib.Path(at, 'begun').touch()\n    time.sleep(60)",
    }.items():
        (package / f"{name}.py").write_text(code, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", confirm._FRESH, str(tmp_path), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test run in the background has it ignored
    )
    wait_for((tmp_path / "begun").exists)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, b"")


@pytest.mark.parametrize("encoding, sign", [("ascii", r"\u2264"), ("cp1252", r"\u2264"), ("utf-8", "≤")])
def test_whatever_the_output_s_encoding(encoding, sign, monkeypatch, tmp_path):
    study(tmp_path / "study", [(950, 0.5, "data", {"text": "é\u2192"})], model="mod\u00e8le\u2192")
    printed = []
    for command in (["complexity", "--at", "0.1"], ["frontier"], ["card"]):
        monkeypatch.setattr(sys, "argv", ["taskbits", command[0], str(tmp_path / "study"), *command[1:]])
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        printed.append(sys.stdout.buffer.getvalue().decode(encoding))
    assert all(printed) and f"C(T_0.1 | M) {sign} 950 bytes" in printed[0]


def test_what_goes_on_is_shown_as_it_is_called():
    with display.progress() as bar:
        bar.add_task("lab:locked: [bold] it")
        assert str(bar.columns[0].render(bar.tasks[0])) == "lab:locked: [bold] it"


def _unread(words):
    end, begin = os.pipe()
    os.close(end)
    os.dup2(begin, 1)
    sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False), encoding="utf-8")
    _command(words)


def test_an_output_that_nobody_reads_on(tmp_path):
    study(tmp_path, [(950, 0.5, "data", {})])
    result = forked(_unread, ["taskbits", "frontier", str(tmp_path)])
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.parametrize(
    "words, said",
    [
        (["complexity", "x", "--at", "nan"], "nan is not a level"),
        (["complexity", "x", "--at", "inf"], "inf is not a level"),
        (["measure", "--model", "m", "--task", "t", "--out", "o", "--target", "nan"], "nan is not a level"),
        (["measure", "--model", "m", "--task", "t", "--out", "o", "--budget", "9" * 400 + "h"], "is not a time"),
        (["measure", "--model", "m", "--task", "t", "--out", "o", "--budget", "1e999h"], "is not a time"),
        (["frontier", "name-\udcff"], "'name-\\udcff' is not in the system's encoding"),
    ],
)
def test_options_without_sense(taskbits, words, said):
    result = taskbits(*words)
    assert result.returncode == 2
    assert result.stderr.startswith("taskbits: ") and result.stderr.count("\n") == 1 and said in result.stderr


def test_a_study_where_a_file_is(taskbits, model_folder, task_folder, tmp_path):
    (tmp_path / "file").touch()
    result = taskbits("measure", "--model", model_folder, "--task", task_folder, "--out", tmp_path / "file")
    assert result.returncode == 2 and f"cannot write to {tmp_path / 'file'}" in result.stderr


def test_every_file_is_read_and_written_in_an_encoding_that_is_named():
    """So that it is the same on systems of other locales."""
    import ast

    unnamed = []
    for path in Path(taskbits.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
            needed = {"read_text": 1, "write_text": 2}.get(name)
            if needed and len(node.args) < needed and not any(word.arg == "encoding" for word in node.keywords):
                unnamed.append(f"{path}:{node.lineno}")
    assert unnamed == []


def test_quiet_says_only_what_went_wrong(taskbits, model_folder, task_folder, tmp_path, monkeypatch):
    from taskbits import display

    monkeypatch.setattr(display, "_hushed", False)  # and as it was afterwards
    options = ["--model", model_folder, "--task", task_folder, "--methods", "zero-shot", "--budget", "1s"]
    said = taskbits("--quiet", "measure", *options, "--out", tmp_path / "study")
    assert (said.returncode, said.stderr) == (0, "") and "zero-shot" in said.stdout
    wrong = taskbits("--quiet", "measure", *options, "--methods", "nine-shot", "--out", tmp_path / "study")
    assert wrong.returncode == 2 and "unknown method 'nine-shot'" in wrong.stderr


def test_version_and_completion(taskbits):
    assert taskbits("--version").stdout == f"taskbits {importlib.metadata.version('taskbits')}\n"
    assert "--install-completion" in taskbits("--help").stdout


@pytest.mark.parametrize(
    "missing, command, extra",
    [
        ("matplotlib", ["report", "STUDY"], "report"),
        ("langdetect", ["run", "PROGRAM", "--model", "lab:random", "--input", "-"], None),
        ("langdetect", ["score", "PROGRAM", "--model", "lab:random", "--task", "ifeval"], "ifeval"),
        ("datasets", ["score", "PROGRAM", "--model", "lab:random", "--task", "gsm8k"], "hub"),
    ],
)
def test_an_extra_that_is_missing_is_named_where_it_is_needed(missing, command, extra, tmp_path):
    made = study(tmp_path / "study", [(950, 0.5, "data", {})])
    program = tmp_path / "a.tbp"
    program.write_bytes(Program("zero-shot", bytes(6), Frame("{x}"), (Part("plain"),)).to_bytes())
    words = [{"STUDY": str(made.folder), "PROGRAM": str(program)}.get(word, word) for word in command]
    code = f"import sys; sys.modules[{missing!r}] = None; from taskbits.cli import main; main()"
    found = subprocess.run(
        [sys.executable, "-c", code, *words], input='{"x": "1"}\n', capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 2 and found.stderr.count("\n") == 1
    assert f"taskbits[{extra}]" in found.stderr if extra else "another model" in found.stderr
