"""Runners: the code that turns a program's payload into an adapted model. One readable source a runner.

A runner is a module with

    WORD                                   numpy's name for the type of the payload's words, "" if there is none
    adapt(pipe, data, **settings) -> str   decode `data`, an array of words, into the model of the text-generation
                                           pipeline, in place; returns the text that goes before every prompt
    check(model, data, **settings) -> None raise UserError unless `adapt` is safe on these values

`adapt` is written to be inlined: `taskbits export` takes its body, with the settings as constants, into the
standalone file. So it is one straight piece of code with a single return at its end, and what is scored here is
what runs there; there, other words follow the payload's own.
"""

import hashlib
import importlib
import inspect
import math
from types import ModuleType

import numpy

from taskbits.errors import UserError
from taskbits.model import Model, weights_digest
from taskbits.program import Program

NAMES = (
    "plain",
    "prompt",
    "data",
    "low_rank",
    "lora_fp16",
    "full",
    "tiny",
    "lora_xs",
    "steer",
    "seeded",
    "blora",
    "norms",
)


def runner(name: str) -> ModuleType:
    """The runner's module. Raises UserError if there is none of that name."""
    if name not in NAMES:
        raise UserError(f"the program needs the unknown runner {name!r}: known are {', '.join(NAMES)}")
    return importlib.import_module(f"taskbits.runners.{name}")


def require_model(model: Model, program: Program) -> None:
    """Raise UserError unless the program was made for this model."""
    if program.fingerprint != model.fingerprint:
        name = f"{model.spec} at random" if model.state == "random" else model.spec
        raise UserError(
            f"the program is for another model: its fingerprint is {program.fingerprint.hex()}, "
            f"that of {name} is {model.fingerprint.hex()}"
        )


def adapt(model: Model, program: Program) -> str:
    """Decode the program into the model (in place) and return the text that goes before every prompt.

    Raises UserError if the program is for another model or its values make no sense.
    """
    require_model(model, program)
    module = runner(program.runner)
    expected = set(inspect.signature(module.adapt).parameters) - {"pipe", "data"}
    if set(program.settings) != expected:
        raise UserError(f"the program's settings do not fit the runner {program.runner}: it takes {sorted(expected)}")
    word = numpy.dtype(module.WORD or "u1")
    require(len(program.payload) % word.itemsize == 0, "the payload is not a whole number of words")
    data = numpy.frombuffer(program.payload, word)
    try:
        module.check(model, data, **program.settings)
        return module.adapt(model.pipe, data, **program.settings)
    except (ValueError, TypeError, ArithmeticError, RuntimeError, AssertionError) as error:  # the last by constriction
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"the program's payload can't be decoded: {reason}") from error


def digest(model: Model, prefix: str) -> str:
    """What a program made of the model: SHA-256 of the prefix text and all weights, 16 hex digits."""
    return hashlib.sha256(prefix.encode() + b"\0" + weights_digest(model.lm)).hexdigest()[:16]


def require(condition: bool, what: str) -> None:
    """Raise UserError with `what` is wrong unless the condition holds."""
    if not condition:
        raise UserError(f"the program is not valid: {what}")


def check_matrices(model: Model, target: object) -> None:
    """Refuse a target that fits no matrix, or is in another parameter's name, too."""
    require(type(target) is str, "target")
    found = [weight.ndim for name, weight in model.lm.named_parameters() if target in name]
    require(found != [] and set(found) == {2}, f"{target!r} does not stand for matrices in this model")


def check_numbers(step: float, spread: float, bound: int) -> None:
    """Refuse a distribution of whole numbers, or a step between them, that makes no sense."""
    require(type(bound) is int and 0 < bound < 2**20, "bound")
    require(all(math.isfinite(x) and x > 0 for x in (step, spread)), "step or spread")
