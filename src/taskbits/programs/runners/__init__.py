"""Runners: the code that turns a program's payload into an adapted model. One readable source a runner; other packages
may add some (`taskbits.plugins`).

A runner is a module with

    WORD                                   numpy's name for the type of the payload's words, "" if there is none
    CHANGES                                which of the model's parameters `adapt` changes: "nothing" (it may add some),
                                           "target" (those with its setting `target` in their names), or "everything"
                                           (so it is if nothing is said)
    adapt(pipe, data, **settings) -> str   decode `data`, an array of words, into the model of the text-generation
                                           pipeline, in place; returns the text that goes before every prompt, or
                                           a pair of it and whatever else was decoded, for the checksum; settings
                                           that have a default need not be said
    adapt_inexact                          takes the place of `adapt` under a model that is not in float64, if there is
    check(model, data, **settings)         raise UserError unless `adapt` is safe on these values; may return settings
                                           that stand for the same and take less time

A part of a program names one runner or some: in `coded+train` the second's parameter `text` is what the first returns,
and the part's settings are those of both. A text that a part returns goes before that of the parts before it.

`adapt` is written to be inlined: `taskbits export` takes its body, with the settings as constants, into the
standalone file. So it is one straight piece of code with a single return at its end, and what is scored here is
what runs there; there, other words follow the payload's own.
"""

import importlib
import inspect
from collections.abc import Callable
from types import ModuleType

from taskbits import plugins
from taskbits.errors import UserError
from taskbits.models.model import Model

NAMES = (
    "plain",
    "literal",
    "coded",
    "sampled",
    "train",
    "self_train",
    "prequential",
    "low_rank",
    "lora_fp16",
    "full",
    "carried",
    "tiny",
    "lora_xs",
    "steer",
    "seeded",
    "blora",
    "norms",
)
_MAX_STAGES = 3
_MAX_STEP = 2.0**16
_MAX_SPREAD = 2.0**32  # as of its inverse: far from where constriction's arithmetic ends


def runner(name: str) -> ModuleType:
    """The runner's module. Raises UserError if there is none of that name."""
    known = plugins.names("runners", NAMES)
    if name not in known:
        raise UserError(f"the program needs the unknown runner {name[:40]!r}: known are {', '.join(known)}")
    if name not in NAMES:
        return plugins.load("runners", name, ("WORD", "adapt", "check"))
    return importlib.import_module(f"taskbits.programs.runners.{name}")


def stages(name: str, settings: dict) -> list[tuple[ModuleType, dict]]:
    """The runners that a program names, each with its own settings. Raises UserError if they don't fit it."""
    names = name.split("+")
    if len(names) > _MAX_STAGES:
        raise UserError(f"a part of the program has {len(names):,} runners: at most {_MAX_STAGES} are allowed")
    modules = [runner(part) for part in names]
    parameters = [dict(inspect.signature(module.adapt).parameters) for module in modules]
    for at, names in enumerate(parameters):
        for name_ in ("pipe", "data", *(["text"] if at else [])):
            names.pop(name_, None)
    usual = {key: p.default for names in parameters for key, p in names.items() if p.default is not p.empty}
    expected = set().union(*parameters)
    if not expected - usual.keys() <= settings.keys() <= expected:
        raise UserError(f"the program's settings do not fit the runner {name}: it takes {sorted(expected)}")
    settings = {**usual, **settings}
    return [
        (module, {key: value for key, value in settings.items() if key in names})
        for module, names in zip(modules, parameters, strict=True)
    ]


def adapter(module: ModuleType, dtype: str) -> Callable:
    """The function that decodes under a model with this arithmetic."""
    return module.adapt if dtype == "float64" else getattr(module, "adapt_inexact", module.adapt)


def changed_by(model: Model, name: str, settings: dict) -> list[str]:
    """The names of the model's parameters that such a part of a program changes. Raises UserError as `stages` does."""
    kinds = [
        (getattr(module, "CHANGES", "everything"), given.get("target")) for module, given in stages(name, settings)
    ]
    targets = [target for kind, target in kinds if kind == "target" and type(target) is str]
    everything = any(kind == "everything" for kind, _ in kinds)
    return [name for name in sorted(model.names) if everything or any(target in name for target in targets)]


def require(condition: bool, what: str) -> None:
    """Raise UserError with `what` is wrong unless the condition holds."""
    if not condition:
        raise UserError(f"the program is not valid: {what}")


def check_matrices(model: Model, target: object) -> None:
    """Refuse a target that fits no matrix, or is in another parameter's name, too."""
    require(type(target) is str, "target")
    found = [weight.ndim for name, weight in model.lm.named_parameters() if target in name]
    require(found != [] and set(found) == {2}, f"{target[:40]!r} does not stand for matrices in this model")


def check_numbers(step: float, spread: float, bound: int) -> None:
    """Refuse a distribution of whole numbers, or a step between them, that makes no sense."""
    require(type(bound) is int and 0 < bound < 2**20, "bound")
    require(type(step) in (int, float) and 0 < step < _MAX_STEP, "step")
    require(type(spread) in (int, float) and 1 / _MAX_SPREAD < spread < _MAX_SPREAD, "spread")


OPTIMIZERS = ("Adam", "Adafactor", "SGD")


def check_training(model: Model, optimizer: object, target: object) -> None:
    """Refuse another optimizer than those of torch that are known, or one for no weights."""
    require(optimizer in OPTIMIZERS, f"optimizer: known are {', '.join(OPTIMIZERS)}")
    found = type(target) is str and any(target in name for name in model.names)
    require(found, f"{str(target)[:40]!r} does not stand for weights in this model")


def check_seed(seed: int) -> None:
    """Refuse a seed that not every generator takes."""
    require(type(seed) is int and 0 <= seed < 2**32, "seed")
