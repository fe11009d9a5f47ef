"""A task: examples in three splits, a prompt template, a metric in [0, 1].

A task is data: a YAML file (or a folder with `task.yaml`) that names JSONL files.

    name: news                        # default: the folder's or file's name
    train: train.jsonl                # one JSON object a line; .gz may be added
    validation: validation.jsonl      # leave out both to split one file (`data:`) by a hash of the input
    test: test.jsonl
    prompt: "{text}\\nTopic:"          # {field} is filled from the row
    target: " {label}"                # what the model should write
    metric: exact                     # exact | regex | bleu | chrf | python:module.function
    pattern: null                     # for regex: group 1 is compared
    choices: [World, Sports]          # optional: pick the likeliest value of target's field, don't generate
    stop: ["\\n"]                      # generation ends at these strings, at max_new_tokens or at the model's eos
    max_new_tokens: 64
    description: What the task is, in a sentence (method `instructed` uses it).
"""

import gzip
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from taskbits import template
from taskbits.errors import UserError
from taskbits.metrics import Metric, metric
from taskbits.shipped import resolve
from taskbits.study import Score

SPLITS = ("train", "validation", "test")
_KEYS = {
    "name",
    "data",
    *SPLITS,
    "prompt",
    "target",
    "metric",
    "pattern",
    "choices",
    "stop",
    "max_new_tokens",
    "description",
}


@dataclass(frozen=True)
class Frame:
    """How inputs become prompts and where outputs end: all that a program must know of its task.

    choices are full completions; when given, the likeliest one is the output and nothing is generated.
    """

    prompt: str
    stop: tuple[str, ...] = ()
    max_new_tokens: int = 64
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Task:
    """`splits` maps train, validation and test to rows (dicts of the JSONL's fields)."""

    name: str
    splits: dict[str, list[dict]]
    frame: Frame
    target: str
    metric: str
    description: str
    fingerprint: str
    _metric: Metric

    def prompts(self, split: str) -> list[str]:
        """The split's inputs, each in the prompt template."""
        return [template.fill(self.frame.prompt, row) for row in self.splits[split]]

    def targets(self, split: str) -> list[str]:
        """The reference outputs of the split."""
        return [template.fill(self.target, row) for row in self.splits[split]]

    def examples(self, split: str) -> list[str]:
        """Each input in the prompt template with its reference output behind it."""
        return [a + b for a, b in zip(self.prompts(split), self.targets(split), strict=True)]

    @property
    def separator(self) -> str:
        """What ends one example in a text of several: a stop string, so that the model learns to stop."""
        return self.frame.stop[0] if self.frame.stop else "\n\n"

    def score(self, split: str, outputs: list[str]) -> Score:
        """Score the outputs for a split's rows, in their order."""
        return self._metric.score(outputs, self.targets(split), self.splits[split])

    def rewards(self, split: str, indices: list[int], outputs: list[str]) -> np.ndarray:
        """The score of each output alone, for the rows of a split at `indices`."""
        rows = [self.splits[split][i] for i in indices]
        return self._metric.each(outputs, [template.fill(self.target, row) for row in rows], rows)


def load_task(spec: str, rows: int | None = None) -> Task:
    """Load the task from a YAML file, a folder with task.yaml, or a shipped one's name (`lab:math`).

    rows: keep at most so many rows of each of validation and test (the first ones).
    Raises UserError: no such task, a missing or unknown key, bad JSON, a row without a field, an empty split,
    an input that stands in two splits.
    """
    path = Path(resolve(spec, "tasks"))
    path = path / "task.yaml" if path.is_dir() else path
    settings = _read_yaml(path, spec)
    where = str(path)
    for name in ("prompt", "target", "metric"):
        if name not in settings:
            raise UserError(f"{where}: the key '{name}' is missing")
    unknown = sorted(set(settings) - _KEYS)
    if unknown:
        raise UserError(f"{where}: unknown key '{unknown[0]}': known are {', '.join(sorted(_KEYS))}")
    prompt, target = _text(settings, "prompt", where), _text(settings, "target", where)
    splits = _read_splits(settings, path, template.fields(prompt), template.fields(target))
    if rows is not None:
        splits = {name: part if name == "train" else part[:rows] for name, part in splits.items()}
    frame = Frame(
        prompt, tuple(_texts(settings, "stop", where)), _limit(settings, where), _completions(settings, target, where)
    )
    judge = metric(_text(settings, "metric", where), settings.get("pattern"), str(path.parent.resolve()))
    task = Task(
        settings.get("name") or path.parent.name,
        splits,
        frame,
        target,
        settings["metric"],
        settings.get("description") or "",
        _fingerprint(settings, splits),
        judge,
    )
    if frame.choices and (missing := set(task.targets("train") + task.targets("validation")) - set(frame.choices)):
        raise UserError(f"{where}: the target {sorted(missing)[0]!r} is not among the choices")
    return task


def _read_yaml(path: Path, spec: str) -> dict:
    try:
        settings = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(
            f"unknown task {spec}: {path} can't be read; name a YAML file, a folder with task.yaml, "
            "or lab:math, lab:translation, lab:instruction"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path}: a task is a mapping of keys to values")
    return settings


def _text(settings: dict, name: str, where: str) -> str:
    if not isinstance(settings[name], str):
        raise UserError(f"{where}: '{name}' must be a text")
    return settings[name]


def _texts(settings: dict, name: str, where: str) -> list[str]:
    values = settings.get(name) or []
    values = [values] if isinstance(values, str) else values
    if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
        raise UserError(f"{where}: '{name}' must be a list of texts")
    return values


def _limit(settings: dict, where: str) -> int:
    limit = settings.get("max_new_tokens", 64)
    if not isinstance(limit, int) or limit < 1:
        raise UserError(f"{where}: 'max_new_tokens' must be a whole number from 1")
    return limit


def _completions(settings: dict, target: str, where: str) -> tuple[str, ...]:
    choices = _texts(settings, "choices", where)
    holes = template.fields(target)
    if choices and len(holes) != 1:
        raise UserError(f"{where}: with choices, 'target' needs exactly one {{field}}")
    return tuple(template.fill(target, {holes[0]: choice}) for choice in choices)


def _read_splits(settings: dict, path: Path, inputs: list[str], outputs: list[str]) -> dict[str, list[dict]]:
    if "data" in settings:
        rows = _read_rows(path.parent / _text(settings, "data", str(path)), inputs + outputs)
        splits = {name: [] for name in SPLITS}
        for row in rows:
            splits[_split_of(row, inputs)].append(row)
    else:
        splits = {}
        for name in SPLITS:
            if name not in settings:
                raise UserError(f"{path}: the key '{name}' is missing (or give one file as 'data')")
            splits[name] = _read_rows(path.parent / _text(settings, name, str(path)), inputs + outputs)
    seen: dict[tuple, str] = {}
    for name, rows in splits.items():
        if not rows:
            raise UserError(f"{path}: the {name} split is empty")
        for row in rows:
            given = tuple(str(row[field]) for field in inputs)
            if seen.setdefault(given, name) != name:
                raise UserError(f"{path}: an input stands in both {seen[given]} and {name}: {' | '.join(given)!r}")
    return splits


def _read_rows(path: Path, needed: list[str]) -> list[dict]:
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            lines = file.read().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read: {error}") from error
    return [parse_row(line, needed, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]


def parse_row(line: str, needed: list[str], where: str) -> dict:
    """One JSONL line as a row that has the needed fields. Raises UserError that says where it went wrong."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: bad JSON: {error}") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: a row must be a JSON object")
    for field in needed:
        if field not in row:
            raise UserError(f"{where}: the field '{field}' is missing")
    return row


def _split_of(row: dict, inputs: list[str]) -> str:
    """80 / 10 / 10 by a hash of the input, so that a row never moves when others are added."""
    text = "\x1f".join(str(row[field]) for field in inputs)
    bucket = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) / 2**32
    return "train" if bucket < 0.8 else "validation" if bucket < 0.9 else "test"


def _fingerprint(settings: dict, splits: dict) -> str:
    content = json.dumps([settings, splits], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
