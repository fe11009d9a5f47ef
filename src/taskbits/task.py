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
    tokenize: 13a                     # for bleu: a tokenizer of sacrebleu; default: zh for references in Chinese,
                                      # ja-mecab (or char, where that isn't installed) for Japanese, 13a for others
    choices: [World, Sports]          # optional: pick the likeliest value of target's field, don't generate;
                                      # or the name of a field that holds each row's own completions
    choose: likelihood                # which of the choices is the likeliest: by likelihood | per-character (by its
                                      # logarithm over the choice's length, spaces around it not counted) |
                                      # conditional (the field maps each completion to its start that is given)
    stop: ["\\n"]                      # generation ends at these strings, at max_new_tokens or at the model's eos
    max_new_tokens: 64
    chat: false                       # whether the prompt goes through the model's chat template, as the user's turn;
                                      # or true with more, all of it optional:
                                      #   system: You are terse.              the turn before the user's
                                      #   arguments: {enable_thinking: false} what the template is given
                                      #   date: 2026-01-31                    for templates that tell it (2024-07-26)
                                      #   stop: ["\n"]                        instead of `stop`, which is for prompts
                                      # without a chat: in a chat the model's end of turn ends the output
    description: What the task is, in a sentence (method `instructed` uses it).

Only a metric `python:module.function` is code; the rest is data. (A stranger's `pattern` can take for ever, though.)
"""

import datetime
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from taskbits import tasks, template
from taskbits.errors import UserError
from taskbits.metrics import OWN, Metric, Unjudged, metric, tokenizer_for
from taskbits.rows import Row, Splits, check_row, is_unicode, read_rows, read_text, sample, share
from taskbits.shipped import resolve
from taskbits.study import Score

SPLITS = ("train", "validation", "test")
_DEPTH = 32  # of collections in a task's YAML
CHOOSE = ("likelihood", "per-character", "conditional")
_CHAT = {"system", "arguments", "date", "stop"}
_KEYS = {
    "name",
    "data",
    *SPLITS,
    "prompt",
    "target",
    "metric",
    "pattern",
    "tokenize",
    "choices",
    "choose",
    "stop",
    "max_new_tokens",
    "chat",
    "description",
}


@dataclass(frozen=True)
class Frame:
    """How inputs become prompts and where outputs end: all that a program must know of its task.

    choices are full completions; when given, the likeliest one is the output and nothing is generated. As a text, they
    name the row's field that holds them. choose: what "likeliest" means, see the module. chat: a prompt, with whatever
    a program puts before it, is a user's turn; system, arguments (of the chat template: names and values) and date are
    what a task says of the chat. around: what that makes of it for a model, the texts before and behind the user's.
    """

    prompt: str
    stop: tuple[str, ...] = ()
    max_new_tokens: int = 64
    choices: tuple[str, ...] | str = ()
    choose: str = CHOOSE[0]
    chat: bool = False
    system: str = ""
    arguments: tuple[tuple[str, str | int | float | bool], ...] = ()
    date: str = ""
    around: tuple[str, ...] = ()

    def fill(self, row: Row) -> str:
        """The row in the prompt template. Raises KeyError if it lacks a field."""
        return template.fill(self.prompt, row)

    def options(self, row: Row) -> tuple[str, ...]:
        """The completions to choose from for this row. Raises UserError if its field holds none."""
        if not isinstance(self.choices, str):
            return self.choices
        found, given = row.get(self.choices), self.choose == "conditional"
        if not isinstance(found, dict if given else list) or not found or not all(map(_is_text, found)):
            kind = "map texts to choose from to what is given of them" if given else "be a list of texts to choose from"
            raise UserError(f"the field '{self.choices}' must {kind}, not {found!r}")
        return tuple(found)

    def given(self, row: Row) -> tuple[str, ...]:
        """The start of each completion behind which its likelihood counts; none where that of the prompt may count too.

        Raises UserError if one is not the start of its completion.
        """
        return () if self.choose == "likelihood" else tuple(self.start(row, option) for option in self.options(row))

    def scale(self, option: str) -> int:
        """What the surprisal of this completion is divided by."""
        return max(1, len(option.strip())) if self.choose == "per-character" else 1

    def start(self, row: Row, option: str) -> str:
        """What is given of this completion. Raises UserError if that is not its start."""
        if self.choose != "conditional":
            return ""
        start = row[self.choices][option]
        if not isinstance(start, str) or not option.startswith(start) or start == option:
            raise UserError(f"the field '{self.choices}' gives {start!r} as the start of {option!r}")
        return start


@dataclass(frozen=True, eq=False)
class Task:
    """`splits` maps train, validation and test to rows (dicts of the JSONL's fields)."""

    name: str
    splits: Splits
    frame: Frame
    target: str
    metric: str
    description: str
    fingerprint: str
    _metric: Metric

    def prompts(self, split: str) -> list[str]:
        """The split's inputs, each in the prompt template."""
        return [self.frame.fill(row) for row in self.splits[split]]

    def targets(self, split: str) -> list[str]:
        """The reference outputs of the split."""
        return [template.fill(self.target, row) for row in self.splits[split]]

    def examples(self, split: str) -> list[str]:
        """Each input in the prompt template with its reference output behind it."""
        return [a + b for a, b in zip(self.prompts(split), self.targets(split), strict=True)]

    @property
    def separator(self) -> str:
        """What ends one example in a text of several: a stop string, so that the model learns to stop.

        A stop string of words (such as what begins the next input) is none that an example ends with.
        """
        return next((text for text in self.frame.stop if text.isspace()), "\n\n")

    def score(self, split: str, outputs: list[str]) -> Score:
        """Score the outputs for a split's rows, in their order. Raises UserError that names the row if one can't be."""
        return self._judged(self._metric.score, split, range(len(self.splits[split])), outputs)

    @property
    def is_mean(self) -> bool:
        """Whether the score of a split is the mean of the scores of its rows."""
        return self._metric.is_mean

    def rewards(self, split: str, indices: list[int], outputs: list[str]) -> np.ndarray:
        """The score of each output alone, for the rows of a split at `indices`. Raises UserError as `score` does."""
        return self._judged(self._metric.each, split, indices, outputs)

    def _judged(self, judge: Callable, split: str, indices: Sequence[int], outputs: list[str]):
        rows = [self.splits[split][i] for i in indices]
        try:
            return judge(outputs, [template.fill(self.target, row) for row in rows], rows)
        except Unjudged as error:
            prompt, number = self.frame.fill(rows[error.at]), indices[error.at] + 1
            raise UserError(f"{self.name}: {split}, row {number} ({prompt[-60:]!r}): {error.what}") from error


def load_task(
    spec: str, rows: int | None = None, data: str | None = None, chat: bool | None = None, code: bool = True
) -> Task:
    """Load the task from a YAML file, a folder with task.yaml, or by its name (`lab:math`, `gsm8k`, `lm-eval:piqa`).

    rows: keep at most so many rows of each of validation and test, drawn by a hash of the input. data: the folder with
    the files of a task that has its data from the hub. chat: over what the task says of the chat template. code:
    whether what the task brings along may run; a task that is data, or one of the package's or the harness's own,
    needs none of that.
    Raises UserError: no such task, a missing or unknown key, bad JSON, a row without a field or with null for it, an
    empty split, an input that stands in two splits, a reference that holds no answer or is none of the choices, code
    that can't be imported or may not run.
    """
    if tasks.is_known(spec):
        settings, splits, judge = tasks.load(spec, Path(data) if data else None, code)
        where = spec
    elif data:
        raise UserError(f"--data is for {', '.join(tasks.NAMES)} and lm-eval:NAME: {spec} names its own files")
    else:
        settings, splits, judge, where = _read_folder(spec, code)
    if chat is not None:
        settings = {**settings, "chat": chat and (settings.get("chat") or True)}
    _check_settings(settings, where)
    own = [settings["choices"]] if _is_field(settings.get("choices")) else []
    inputs = [*template.fields(settings["prompt"]), *own]
    _check_splits(splits, inputs, template.fields(settings["target"]), where)
    frame = Frame(
        settings["prompt"],
        tuple(_texts(_chat(settings) if settings.get("chat") else settings, "stop", where)),
        settings.get("max_new_tokens", 64),
        _completions(settings, where),
        settings.get("choose", CHOOSE[0]),
        bool(settings.get("chat")),
        _chat(settings).get("system", ""),
        tuple(_chat(settings).get("arguments", {}).items()),
        str(_chat(settings).get("date", "")),
    )
    for split, some in splits.items():
        # The harness has rows without an answer in its test split, and judges them.
        unanswered = "" if split == "test" and tasks.is_known(spec) else None
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
    )


def _read_folder(spec: str, code: bool) -> tuple[dict, Splits, Metric, str]:
    path = Path(resolve(spec, "tasks"))
    path = path / "task.yaml" if os.path.isdir(path) else path
    settings, where = _read_yaml(path, spec), str(path)
    _check_settings(settings, where)
    if not code and settings["metric"].startswith("python:") and settings["metric"] not in OWN:
        module = settings["metric"].removeprefix("python:").rpartition(".")[0]
        raise UserError(
            f"the task in {path.parent} runs the code of {module} ({settings['metric']}): --trust allows it"
        )
    splits = _read_splits(settings, path, template.fields(settings["prompt"]), template.fields(settings["target"]))
    tokenize = settings.get("tokenize")
    if settings["metric"] in ("bleu", "chrf") and not tokenize:
        tokenize = tokenizer_for(template.fill(settings["target"], row) for rows in splits.values() for row in rows)
        settings |= {"tokenize": tokenize} if tokenize else {}  # so that it is in the fingerprint
    judge = metric(settings["metric"], settings.get("pattern"), str(path.parent.resolve()), tokenize)
    return {**settings, "name": settings.get("name") or path.parent.name}, splits, judge, where


def _check_settings(settings: dict, where: str) -> None:
    for name in ("prompt", "target", "metric"):
        if name not in settings:
            raise UserError(f"{where}: the key '{name}' is missing")
        if not isinstance(settings[name], str):
            raise UserError(f"{where}: '{name}' must be a text")
    for name in ("name", "pattern", "tokenize", "description"):
        if not isinstance(settings.get(name) or "", str):
            raise UserError(f"{where}: '{name}' must be a text")
    unknown = sorted(map(str, set(settings) - _KEYS))
    if unknown:
        raise UserError(f"{where}: unknown key '{unknown[0]}': known are {', '.join(sorted(_KEYS))}")
    if not is_unicode(settings):
        raise UserError(f"{where}: a text holds a lone surrogate, half a character")
    limit = settings.get("max_new_tokens", 64)
    if type(limit) is not int or limit < 1:
        raise UserError(f"{where}: 'max_new_tokens' must be a whole number from 1")
    _check_chat(settings.get("chat", False), where)
    if settings.get("choose", CHOOSE[0]) not in CHOOSE:
        raise UserError(f"{where}: 'choose' must be {', '.join(CHOOSE[:-1])} or {CHOOSE[-1]}")
    if settings.get("choose") == "conditional" and not _is_field(settings.get("choices")):
        raise UserError(f"{where}: with choose: conditional, 'choices' must be the name of a field")


def _check_chat(chat, where: str) -> None:
    if isinstance(chat, bool):
        return
    if not isinstance(chat, dict) or not chat.keys() <= _CHAT:
        raise UserError(f"{where}: 'chat' must be true, false, or a mapping of {', '.join(sorted(_CHAT))}")
    arguments = chat.get("arguments", {})
    if not isinstance(chat.get("system", ""), str):
        raise UserError(f"{where}: 'system' of 'chat' must be a text")
    if not isinstance(arguments, dict) or not all(
        isinstance(name, str) and name.isidentifier() and isinstance(value, str | int | float)
        for name, value in arguments.items()
    ):
        raise UserError(f"{where}: 'arguments' of 'chat' must map names to texts, numbers, true or false")
    try:
        datetime.date.fromisoformat(str(chat.get("date", "2024-07-26")))
    except ValueError as error:
        raise UserError(f"{where}: 'date' of 'chat' must be a day, such as 2026-01-31") from error


def _chat(settings: dict) -> dict:
    """What the settings say of the chat, more than that it is one."""
    return settings["chat"] if isinstance(settings.get("chat"), dict) else {}


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


def _read_yaml(path: Path, spec: str) -> dict:
    if not os.path.exists(path):
        raise UserError(
            f"unknown task {spec}: {path} can't be read; name a YAML file, a folder with task.yaml, "
            "or lab:math, lab:translation, lab:instruction"
        )
    text = read_text(path)
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            # A few lines of aliases to aliases would be gigabytes, and deep nesting takes its square in time.
            if isinstance(event, yaml.AliasEvent):
                raise UserError(f"{path}: aliases (*name) are not allowed: write it out")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEPTH:
                raise UserError(f"{path}: not YAML that a task is: it is nested too deeply")
        settings = yaml.safe_load(text)
    except UserError:
        raise
    except Exception as error:  # YAMLError, and whatever else PyYAML lets out: ValueError, RecursionError, IndexError
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path}: a task is a mapping of keys to values")
    return settings


def _texts(settings: dict, name: str, where: str) -> list[str]:
    values = settings.get(name) or []
    values = [values] if isinstance(values, str) else values
    if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
        raise UserError(f"{where}: '{name}' must be a list of texts")
    return values


def _completions(settings: dict, where: str) -> tuple[str, ...] | str:
    choices, target = settings.get("choices"), settings["target"]
    if _is_field(choices):
        return choices
    choices, holes = _texts(settings, "choices", where), template.fields(target)
    if choices and len(holes) != 1:
        raise UserError(f"{where}: with choices, 'target' needs exactly one {{field}}")
    return tuple(template.fill(target, {holes[0]: choice}) for choice in choices)


def _is_field(choices) -> bool:
    return isinstance(choices, str) and choices.isidentifier()


def _is_text(value) -> bool:
    return isinstance(value, str) and value != ""


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
