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
from dataclasses import dataclass
from types import ModuleType

from taskbits.coding import Coded
from taskbits.coefficients import Numbers
from taskbits.errors import UserError
from taskbits.model import Model
from taskbits.program import Program
from taskbits.task import Task

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
)


@dataclass(frozen=True)
class Fitted:
    """What a method found: the program, its payload's cross-entropy in bits, and what it is, for people."""

    program: Program
    ideal_bits: float | None
    content: dict


def method(name: str) -> ModuleType:
    """The method's module. Raises UserError if there is none of that name."""
    if name not in NAMES:
        raise UserError(f"unknown method {name!r}: 'taskbits methods' lists {', '.join(NAMES)}")
    return importlib.import_module(f"taskbits.methods.{name.replace('-', '_')}")


def fitted(name: str, model: Model, task: Task, runner: str, coded: Coded | None = None) -> Fitted:
    """Wrap what a method coded into a program for this model and task."""
    coded = coded or Coded(b"", {}, 0.0, {})
    program = Program(NAMES.index(name), model.fingerprint, task.frame, runner, coded.settings, coded.payload)
    return Fitted(program, coded.ideal_bits, coded.content)


def fitted_numbers(
    name: str, model: Model, task: Task, runner: str, numbers: Numbers, settings: dict, content: dict
) -> Fitted:
    """Wrap whole numbers and their step into a program whose runner also takes `settings`."""
    coded = numbers.coded
    settings = {**settings, "step": numbers.step, **coded.settings}
    return fitted(name, model, task, runner, Coded(coded.payload, settings, coded.entropy, content))


def targets(sizes: Iterable[int], by_metric: Iterable[int] = ()) -> list[dict]:
    """Settings for a sweep over payload sizes in bytes: a short training, then on the metric, then a long one."""
    sizes = list(sizes)
    plan = [(100, "loss", sizes), (100, "metric", by_metric), (400, "loss", sizes)]
    return [{"bytes": size, "objective": objective, "steps": steps} for steps, objective, some in plan for size in some]
