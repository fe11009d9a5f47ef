"""What a task says of itself, read and checked.

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
import os
from pathlib import Path

import yaml

from taskbits.errors import UserError
from taskbits.tasks import template
from taskbits.tasks.frame import CHOOSE, Frame
from taskbits.tasks.rows import SPLITS, is_unicode, read_text

_DEPTH = 32  # of collections in a task's YAML
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


def check_settings(settings: dict, where: str) -> None:
    """Raises UserError that says which key is missing, unknown or of a wrong kind."""
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
    if settings.get("choose") == "conditional" and not is_field(settings.get("choices")):
        raise UserError(f"{where}: with choose: conditional, 'choices' must be the name of a field")


def frame_of(settings: dict, where: str) -> Frame:
    """The frame that checked settings describe. Raises UserError where stop strings or choices are none."""
    chat = _chat(settings)
    return Frame(
        settings["prompt"],
        tuple(_texts(chat if settings.get("chat") else settings, "stop", where)),
        settings.get("max_new_tokens", 64),
        _completions(settings, where),
        settings.get("choose", CHOOSE[0]),
        bool(settings.get("chat")),
        chat.get("system", ""),
        tuple(chat.get("arguments", {}).items()),
        str(chat.get("date", "")),
    )


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


def read_yaml(path: Path, spec: str) -> dict:
    """The settings in a task's file. Raises UserError if it can't be read, or is more than plain YAML."""
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
    if is_field(choices):
        return choices
    choices, holes = _texts(settings, "choices", where), template.fields(target)
    if choices and len(holes) != 1:
        raise UserError(f"{where}: with choices, 'target' needs exactly one {{field}}")
    return tuple(template.fill(target, {holes[0]: choice}) for choice in choices)


def is_field(choices) -> bool:
    """Whether choices are the name of a field that holds each row's own."""
    return isinstance(choices, str) and choices.isidentifier()
