"""Published runs as studies of estimates, to be drawn and compared beside one's own.

Vergara-Browne et al. 2026 give, for each run, an estimate of its bits and its score on the test set. No program was
written, the best of many runs was chosen on the test set itself, and no interval is known: what is made of them here
says so wherever it is shown (`Study.published`). Knows the layout of that one file of results.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from taskbits.errors import UserError
from taskbits.studies.frontier import complexity, envelope
from taskbits.studies.measurement import Measurement, check
from taskbits.studies.study import Study
from taskbits.tasks.metrics import Score
from taskbits.tasks.rows import parse_row, read_lines

SOURCE = "Vergara-Browne et al. 2026"
# What stands for a model family in a comparison: the start, the end of pre-training and the end of post-training.
TRAINING = ("random", "pre-trained", "post-trained")

_NEEDED = ["model_name", "dataset_name", "experiment_name", "bits", "performance", "strategy_hparams", "seed"]
# Bits of the published inference scripts, and the family of each method. Nothing was added where there is no script.
_METHODS = {
    "baseline": (2952, "inference control"),
    "urial": (3704, "inference control"),
    "icl": (3704, "inference control"),
    "online_coding": (5704, "data"),
    "lora": (2832, "parametric"),
    "blora": (8376, "parametric"),
    "phase-one": (0, "parametric"),
    "phase-two": (0, "parametric"),
    "lm_head": (0, "parametric"),
    "full_ft": (0, "parametric"),
}


@dataclass(frozen=True)
class _Task:
    """What was scored and how; `best` is the best possible score."""

    name: str
    test_set: str
    metric: str
    best: int


# By the start of the data set's name.
_TASKS = {
    "meta-math/MetaMathQA": _Task("gsm8k", "GSM8K", "accuracy", 1),
    "allenai/nllb": _Task("translation", "FLORES, English to French", "bleu", 100),
    "ifeval:": _Task("ifeval", "IFEval", "accuracy", 1),
}
# The checkpoints of each model family in the order of training; those that TRAINING speaks of are named by it.
_CHECKPOINTS = {
    "SmolLM3 3B": {
        "smollm3-step0": "random",
        "smollm3-step40k": None,
        "smollm3-step1720k": None,
        "smollm3-stage1": "pre-trained",
        "smollm3-stage2": None,
        "smollm3-stage3": None,
        "smollm3": "post-trained",
    },
    "Olmo3 7B": {
        "olmo3-7b-step0": "random",
        "olmo3-7b-step707k": None,
        "olmo3-7b-step1414k": "pre-trained",
        "olmo3-7b-stage2-step6k": None,
        "olmo3-7b-stage2-step12k": None,
        "olmo3-7b-stage2-step24k": None,
        "olmo3-7b-stage2-step48k": None,
        "olmo3-1025-7b": None,
        "olmo3-7b-instruct-step200": None,
        "olmo3-7b-instruct-step400": "post-trained",
    },
    "Olmo3 32B": {"olmo3-32b-step656k": "pre-trained"},
}
_MODELS = [model for models in _CHECKPOINTS.values() for model in models]


def import_paper(runs: Path, folder: Path) -> tuple[list[Study], dict[str, int]]:
    """Write the runs (a JSON object a line) as studies FOLDER/TASK/MODEL, in place of those imported before.

    Gives the studies, and how many runs were skipped by what of theirs is not known here, such as "data set 'NAME'".
    Raises UserError if a line is no such run or none is known, or if a folder can't be written or holds something else.
    """
    skipped: dict[str, int] = {}
    found: dict[tuple[_Task, str], list[Measurement]] = {}
    for number, line in enumerate(read_lines(runs), 1):
        if not line.strip():
            continue
        where = f"{runs}, line {number}"
        try:
            run = parse_row(line, [], where)
            if unknown := _unknown(run):
                skipped[unknown] = skipped.get(unknown, 0) + 1
                continue
            task, model, estimate = _estimate(run)
        except ValueError as error:
            raise UserError(f"{where}: not a run of {SOURCE}: {error}") from error
        if estimate.bytes:  # The published figures leave out what takes none, too.
            found.setdefault((task, model), []).append(estimate)
    if not found:
        unknown = f" that is known here, but of {', '.join(skipped)}" if skipped else ""
        raise UserError(f"{runs} holds no run{unknown}")
    return [_write(folder, task, model, estimates) for (task, model), estimates in found.items()], skipped


def open_published(folder: Path) -> list[Study]:
    """The imported studies that stand for a family's training, by task, family and training.

    Raises UserError if there is none in `folder`.
    """
    studies = [Study.open(path.parent) for path in folder.glob("*/*/study.json")]
    tasks = [task.name for task in _TASKS.values()]
    studies = [study for study in studies if study.published and study.info["training"] and study.info["task"] in tasks]
    if not studies:
        raise UserError(
            f"no published results in {folder}: read them with 'taskbits import paper RUNS.jsonl --out {folder}', "
            "or name their folder with --imports"
        )
    return sorted(studies, key=lambda study: (tasks.index(study.info["task"]), study.info["checkpoint"]))


def reductions(studies: Iterable[Study]) -> list[dict]:
    """What it takes to reach the best score of a pre-trained model, for it and for the post-trained one.

    A row is {"task", "family", "level", "pre-trained", "post-trained"}; the last two are the checkpoint and what its
    shortest estimate is, {"checkpoint", "bytes", "method", "score"}, with None for the last three if none reaches it.
    """
    found = {(study.info["task"], study.info["family"], study.info["training"]): study for study in studies}
    rows = []
    for task, family in dict.fromkeys((task, family) for task, family, _ in found):
        pair = {training: found.get((task, family, training)) for training in TRAINING[1:]}
        if all(pair.values()):
            level = envelope(pair["pre-trained"].measurements())[-1].test.value
            shortest = {training: _shortest(study, level) for training, study in pair.items()}
            rows.append({"task": task, "family": family, "level": level, **shortest})
    return rows


def _shortest(study: Study, level: float) -> dict:
    m = complexity(study.measurements(), level)
    known = {"bytes": m.bytes, "method": m.method, "score": m.test.value} if m else {}
    return {"checkpoint": study.info["model"], **dict.fromkeys(("bytes", "method", "score")), **known}


def _unknown(run: dict) -> str | None:
    """What of a run is not known here; None if all is. Raises ValueError if it is no run at all."""
    for key in _NEEDED:
        if key not in run:
            raise ValueError(f"the field '{key}' is missing")
    for key in ("model_name", "dataset_name", "experiment_name"):
        if not isinstance(run[key], str) or not run[key]:
            raise ValueError(f"{key} must be a name, not {run[key]!r}")
    if type(run["bits"]) is not int or run["bits"] < 0:
        raise ValueError(f"bits must be a whole number, not {run['bits']!r}")
    if type(run["performance"]) not in (int, float) or not 0 <= run["performance"] < math.inf:
        raise ValueError(f"performance must be a number from 0, not {run['performance']!r}")
    known = {
        f"data set {run['dataset_name']!r}": _task(run["dataset_name"]),
        f"model {run['model_name']!r}": run["model_name"] in _MODELS,
        f"method {run['experiment_name']!r}": run["experiment_name"] in _METHODS,
    }
    return next((what for what, is_known in known.items() if not is_known), None)


def _task(data: str) -> _Task | None:
    return next((task for start, task in _TASKS.items() if data.startswith(start)), None)


def _estimate(run: dict) -> tuple[_Task, str, Measurement]:
    """The task, the model and the estimate of a run of which all is known. Raises ValueError if it can't be."""
    model, data, method, bits, score, settings, seed = (run[key] for key in _NEEDED)
    task = _task(data)
    if not score <= task.best:
        raise ValueError(f"performance must be a number from 0 to {task.best}, not {score!r}")
    if not isinstance(settings, dict):
        raise ValueError(f"strategy_hparams must be an object, not {settings!r}")
    script, family = _METHODS[method]
    # The one score that is published stands for both: runs were chosen on the test set.
    both = Score(score / task.best, None, None, None, {"how": f"published estimate, {SOURCE}"})
    estimate = Measurement(
        method=method,
        family=family,
        settings={key: value for key, value in settings.items() if key not in ("bits", "diffs_file")},
        bytes=math.ceil((bits + script) / 8),
        payload_bytes=math.ceil(bits / 8),
        ideal_bits=None,
        validation=both,
        program="",
        adapted="",
        content={},
        seconds=None,
        scoring_seconds=None,
        seed=seed,
        versions={},
        test=both,
    )
    return task, model, estimate


def _write(folder: Path, task: _Task, model: str, found: list[Measurement]) -> Study:
    family = next(family for family, models in _CHECKPOINTS.items() if model in models)
    info = {
        "published": SOURCE,
        "name": f"{model} {task.name}, {SOURCE}",
        "model": model,
        "family": family,
        "training": _CHECKPOINTS[family][model],
        "checkpoint": _MODELS.index(model),
        "task": task.name,
        "test_set": task.test_set,
        "metric": task.metric,
    }
    for estimate in found:
        check(estimate)
    path = folder / task.name / model
    if (path / "study.json").exists() and not Study.open(path).published:
        raise UserError(f"{path} holds a study of programs: name another --out")
    try:
        path.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(asdict(m)) + "\n" for m in found)
        (path / "measurements.jsonl").write_text(lines, encoding="utf-8")
        (path / "study.json").write_text(json.dumps(info, indent=1), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write to {path}: {error.strerror}: name another --out") from error
    return Study.open(path)
