"""A tiny model and a tiny task, so that the suite runs the real code path in seconds."""

import io
import json
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

# Before anything reads them:
os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the hub
os.environ["OMP_NUM_THREADS"] = "1"  # threads of processes that share the cores would wait for each other

import peft
import pytest
import torch
import transformers
import yaml

from taskbits import cli
from taskbits.methods import LAST, NAMES, method, subset
from taskbits.models.model import load_model
from taskbits.search.confirm import confirm
from taskbits.search.measure import measure
from taskbits.testing import ROWS, choosing, counting, write_model

# Of measurements that are made up for a test: what it is not about.
FIELDS = {
    "ideal_bits": None,
    "adapted": "",
    "content": {},
    "seconds": 1.0,
    "scoring_seconds": 0.5,
    "seed": 0,
    "versions": {},
}
QUICK = {"distilled": {"tries": 8}, "self-train": {"number": 8}}  # instead of what their sweeps begin with
PRINTED = ("stdout", "stderr")
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["taskbits.search.confirm", "taskbits.cli"])


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def model(model_folder):
    return load_model(model_folder)


def write_adapter(folder, model_folder, **config) -> str:
    """A LoRA with random factors for the model in a folder."""
    lm = transformers.AutoModelForCausalLM.from_pretrained(model_folder)
    config = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"], **config}
    adapted = peft.get_peft_model(lm, peft.LoraConfig(**config))
    torch.manual_seed(5)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.add_(torch.randn_like(weight) / 9)
    adapted.save_pretrained(folder)
    return str(folder)


def write_task(folder, **changes):
    """A task folder about counting; `changes` overwrite or (None) remove keys of task.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = counting()
    for split in ROWS:
        rows = settings[split]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings[split] = f"{split}.jsonl"
    settings = {name: value for name, value in {**settings, **changes}.items() if value is not None}
    (folder / "task.yaml").write_text(yaml.safe_dump(settings))
    return str(folder)


@pytest.fixture(scope="session")
def task_folder(tmp_path_factory):
    return write_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="session")
def choices_folder(tmp_path_factory):
    changes = {key: value for key, value in choosing().items() if key not in ROWS}
    return write_task(tmp_path_factory.mktemp("choices"), **changes)


def shorten_lessons(monkeypatch):
    """For methods that try what training on chosen examples is worth."""
    monkeypatch.setattr(subset, "_STEPS", 8)
    monkeypatch.setattr(subset, "_PLANS", (8, 16))


@pytest.fixture(scope="session", params=NAMES)
def measured(request, model_folder, task_folder, choices_folder, tmp_path_factory):
    """A study with one measured program of each method in turn, confirmed on test in a fresh process."""
    out = tmp_path_factory.mktemp("study") / request.param
    module = method(request.param)

    def sweep(model, task, known=module.sweep):
        first, *more = known(model, task)
        return [{**first, **QUICK.get(request.param, {})}, *more]

    with pytest.MonkeyPatch.context() as patched:
        shorten_lessons(patched)
        patched.setattr(module, "sweep", sweep)
        donor = {
            "carried": lambda: write_model(out.parent / "donor", seed=8),
            "shrunk": lambda: write_adapter(out.parent / "adapter", model_folder),
        }.get(request.param, lambda: None)()
        task = choices_folder if request.param in LAST else task_folder
        yield measure(model_folder, task, str(out), methods=[request.param], budget=0.01, donor=donor)


def nothing(done, of):
    """For those who ask for progress and need none."""


def fresh(*arguments):
    """Run the command line in a process of its own."""
    return forked(_command, ["taskbits", *map(str, arguments)])


def _command(words):
    sys.argv = words
    cli.main()


def alone(file, *arguments):
    """Run a standalone file in a process of its own, where the package is not to be had."""
    return forked(_alone, [str(file), *map(str, arguments)])


def _alone(words):
    sys.modules.update((name, None) for name in list(sys.modules) if name.partition(".")[0] == "taskbits")
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")


def forked(function, *arguments):
    """Call a function in a new process, forked from one that has done nothing but load the libraries."""
    with tempfile.TemporaryDirectory() as folder:
        process = PROCESSES.Process(target=_begin, args=(folder, function, arguments))
        process.start()
        process.join()
        printed = [Path(folder, name).read_text(encoding="utf-8") for name in PRINTED]
    return subprocess.CompletedProcess(arguments, process.exitcode, *printed)


def _begin(folder, function, arguments):
    for number, name in enumerate(PRINTED, 1):
        os.dup2(os.open(Path(folder, name), os.O_CREAT | os.O_WRONLY), number)
    function(*arguments)


@pytest.fixture(scope="session", autouse=True)
def forked_confirmation():
    """Where a test calls `measure`, it confirms in a forked process; where one starts it, in a process as ever."""

    def confirm_in_forked_process(study):
        result = forked(confirm, str(study.folder))
        assert result.returncode == 0, result.stderr

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("taskbits.search.measure.confirm_in_fresh_process", confirm_in_forked_process)
        yield


@pytest.fixture
def taskbits(monkeypatch, capsys):
    """Run the command line in this process, which has loaded the libraries already."""

    def run(*arguments, input=""):
        monkeypatch.setattr(sys, "argv", ["taskbits", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(input.encode())))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, ended.value.code, printed.out, printed.err)

    return run
