"""From a task's name, file or folder to the task, with every row checked."""

import hashlib
import json
import os
from pathlib import Path

from taskbits.errors import UserError
from taskbits.shipped import resolve
from taskbits.tasks import given, named, template
from taskbits.tasks.frame import Frame
from taskbits.tasks.metrics import OWN, Metric, metric, of_function, tokenizer_for
from taskbits.tasks.rows import SPLITS, Row, Splits, check_row, read_rows, sample, share
from taskbits.tasks.settings import check_settings, frame_of, is_field, read_yaml
from taskbits.tasks.task import Task


def load_task(
    spec: str | Path | dict,
    rows: int | None = None,
    data: str | None = None,
    chat: bool | None = None,
    code: bool = True,
) -> Task:
    """Load the task from a YAML file, a folder with task.yaml, or by its name (`lab:math`, `gsm8k`, `lm-eval:piqa`).

    >>> from taskbits import load_task
    >>> counting = [{"n": n, "next": n + 1} for n in range(99)]
    >>> task = load_task({"data": counting, "prompt": "{n} ", "target": "{next}", "metric": "exact"})
    >>> task.prompts("test")[:2]
    ['5 ', '6 ']

    spec may be a dict with the keys of a YAML file: the splits (or `data`) as lists of rows, `datasets.Dataset`s or
    paths, and `metric` also as a function (output, row) -> float in [0, 1].

    rows: keep at most so many rows of each of validation and test, drawn by a hash of the input. data: the folder with
    the files of a task that has its data from the hub. chat: over what the task says of the chat template. code:
    whether what the task brings along may run; a task that is data, or one of the package's or the harness's own,
    needs none of that.
    Raises UserError: no such task, a missing or unknown key, bad JSON, a row without a field or with null for it, an
    empty split, an input that stands in two splits, a reference that holds no answer or is none of the choices, code
    that can't be imported or may not run.
    """
    source = ""
    spec = str(spec) if isinstance(spec, Path) else spec
    if isinstance(spec, dict):
        settings, splits, judge, source = _read_given(spec)
        where, spec = settings["name"], ""
    elif named.is_known(spec):
        settings, splits, judge = named.load(spec, Path(data) if data else None, code)
        where = spec
    elif data:
        raise UserError(f"--data is for {', '.join(named.NAMES)} and lm-eval:NAME: {spec} names its own files")
    else:
        settings, splits, judge, where = _read_folder(spec, code)
    if chat is not None:
        settings = {**settings, "chat": chat and (settings.get("chat") or True)}
    check_settings(settings, where)
    own = [settings["choices"]] if is_field(settings.get("choices")) else []
    inputs = [*template.fields(settings["prompt"]), *own]
    _check_splits(splits, inputs, template.fields(settings["target"]), where)
    frame = frame_of(settings, where)
    for split, some in splits.items():
        # The harness has rows without an answer in its test split, and judges them.
        unanswered = "" if split == "test" and named.is_known(spec) else None
        for number, row in enumerate(some, 1):
            target = template.fill(settings["target"], row)
            try:
                _check_reference(frame, judge, row, target, unanswered)
            except UserError as error:
                raise UserError(f"{where}: {split}, row {number}: {error}") from error
    if rows is not None:
        splits = {name: part if name == "train" else sample(part, inputs, rows) for name, part in splits.items()}
    return Task(
        settings["name"],
        splits,
        frame,
        settings["target"],
        settings["metric"],
        settings.get("description") or "",
        _fingerprint(settings, splits, judge.code),
        judge,
        {"task": spec, "rows": rows, "data": data, "chat": chat},
        (settings, source),
    )


def write_task(task: Task, folder: Path) -> Task:
    """Write a task that was given as a dict to a folder, and load it from there: so can any other process.

    Raises UserError if it can't be written, or if another one lies there.
    """
    given.write(task.given[0], task.splits, task.given[1], folder)
    return load_task(str(folder))


def _read_folder(spec: str, code: bool) -> tuple[dict, Splits, Metric, str]:
    path = Path(resolve(spec, "tasks"))
    path = path / "task.yaml" if os.path.isdir(path) else path
    settings, where = read_yaml(path, spec), str(path)
    check_settings(settings, where)
    if not code and settings["metric"].startswith("python:") and settings["metric"] not in OWN:
        module = settings["metric"].removeprefix("python:").rpartition(".")[0]
        raise UserError(
            f"the task in {path.parent} runs the code of {module} ({settings['metric']}): --trust allows it"
        )
    splits = _read_splits(settings, path, template.fields(settings["prompt"]), template.fields(settings["target"]))
    settings = _with_tokenizer(settings, splits)
    judge = metric(settings["metric"], settings.get("pattern"), str(path.parent.resolve()), settings.get("tokenize"))
    return {**settings, "name": settings.get("name") or path.parent.name}, splits, judge, where


def _read_given(spec: dict) -> tuple[dict, Splits, Metric, str]:
    settings, rows, source = given.read(spec)
    check_settings({**settings, **dict.fromkeys(rows, "")}, "the task")
    settings = {"name": "task", **settings, **{split: f"{split}.jsonl" for split in SPLITS}}
    inputs = template.fields(settings["prompt"])
    if "data" in rows:
        splits: Splits = {split: [] for split in SPLITS}
        for row in rows["data"]:
            check_row(row, inputs, f"{settings['name']}: data")
            splits[_split_of(share(row, inputs))].append(row)
    elif missing := [split for split in SPLITS if split not in rows]:
        raise UserError(f"the task has no '{missing[0]}' rows (or give all rows as 'data')")
    else:
        splits = {split: rows[split] for split in SPLITS}
    settings = _with_tokenizer(settings, splits)
    if source:
        judge = of_function(spec["metric"], given.digest(source), settings["metric"])
    else:
        judge = metric(settings["metric"], settings.get("pattern"), "", settings.get("tokenize"))
    return settings, splits, judge, source


def _with_tokenizer(settings: dict, splits: Splits) -> dict:
    """The settings with BLEU's tokenizer, where the references ask for one: so that it is in the fingerprint."""
    if settings["metric"] not in ("bleu", "chrf") or settings.get("tokenize"):
        return settings
    found = tokenizer_for(template.fill(settings["target"], row) for rows in splits.values() for row in rows)
    return {**settings, **({"tokenize": found} if found else {})}


def _check_splits(splits: Splits, inputs: list[str], outputs: list[str], where: str) -> None:
    seen: dict[tuple, str] = {}
    for name, rows in splits.items():
        if not rows:
            raise UserError(f"{where}: the {name} split is empty")
        for number, row in enumerate(rows, 1):
            check_row(row, inputs + outputs, f"{where}: {name}, row {number}")
            given = tuple(str(row[field]) for field in inputs)
            if seen.setdefault(given, name) != name:
                raise UserError(f"{where}: an input stands in both {seen[given]} and {name}: {' | '.join(given)!r}")


def _check_reference(frame: Frame, judge: Metric, row: Row, target: str, unanswered: str | None) -> None:
    """Raises UserError if the target is none of the choices (or `unanswered`), or holds no answer."""
    if frame.choices and target not in frame.options(row) and target != unanswered:
        raise UserError(f"the target {target!r} is not among the choices")
    frame.given(row)
    if not judge.answers(target):
        raise UserError(f"the target {target!r} holds no answer that an output could be compared with")


def _read_splits(settings: dict, path: Path, inputs: list[str], outputs: list[str]) -> Splits:
    needed = inputs + outputs
    needed += [settings["choices"]] if isinstance(settings.get("choices"), str) else []
    for name in ("data", *SPLITS):
        if not isinstance(settings.get(name, ""), str):
            raise UserError(f"{path}: '{name}' must be a text")
    if "data" in settings:
        splits: Splits = {name: [] for name in SPLITS}
        for row in read_rows(path.parent / settings["data"], needed):
            splits[_split_of(share(row, inputs))].append(row)
        return splits
    for name in SPLITS:
        if name not in settings:
            raise UserError(f"{path}: the key '{name}' is missing (or give one file as 'data')")
    return {name: read_rows(path.parent / settings[name], needed) for name in SPLITS}


def _split_of(place: float) -> str:
    """80 / 10 / 10."""
    return "train" if place < 0.8 else "validation" if place < 0.9 else "test"


def _fingerprint(settings: dict, splits: dict, code: tuple[str, ...]) -> str:
    """code: of what source the metric is made."""
    content = json.dumps([settings, splits, *([code] if code else [])], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
