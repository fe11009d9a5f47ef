"""Methods: ways to find a program. One file a method.

A method is a module whose docstring's first line says what it does, with

    FAMILY                                                "inference control", "data" or "parametric"
    sweep(model, task) -> list[dict]                      settings to try, cheapest first
    fit(model, task, settings, seed, progress) -> Fitted  the program, found on the task's train split

`fit` may change the model's weights; its caller preserves them. `progress(done, of)` reports steps.
Raises UserError where the settings can't work for this model and task.
"""

import importlib
from collections.abc import Iterable
from types import ModuleType

from taskbits.errors import UserError

# A method's place in this list is its id in program files: add new ones at the end.
NAMES = (
    "zero-shot",
    "few-shot",
    "instructed",
    "subset",
    "lora",
    "full",
    "lora-fp16",
    "tiny",
    "lora-xs",
    "steer",
    "seeded",
    "blora",
    "norms",
    "prompt-search",
    "seeded-prompt",
    "self-train",
    "distilled",
)

# In which a search begins to try them: what is quick and short first, what is as published, to be compared with, last.
ORDER = (
    *("zero-shot", "few-shot", "instructed", "lora", "prompt-search", "tiny", "seeded", "norms", "subset", "distilled"),
    *("seeded-prompt", "lora-xs", "steer", "self-train", "full", "lora-fp16", "blora"),
)


def method(name: str) -> ModuleType:
    """The method's module. Raises UserError if there is none of that name."""
    if name not in NAMES:
        raise UserError(f"unknown method {name!r}: 'taskbits methods' lists {', '.join(NAMES)}")
    return importlib.import_module(f"taskbits.methods.{name.replace('-', '_')}")


def targets(sizes: Iterable[int], by_metric: Iterable[int] = ()) -> list[dict]:
    """Settings for a sweep over payload sizes in bytes: a short training, then on the metric, then a long one."""
    sizes = list(sizes)
    plan = [(100, "loss", sizes), (100, "metric", by_metric), (400, "loss", sizes)]
    return [{"bytes": size, "objective": objective, "steps": steps} for steps, objective, some in plan for size in some]
