"""Runners: the code that turns a program's payload into an adapted model. One readable source a runner.

A runner is a module with

    WORD                                   numpy's name for the type of the payload's words, "" if there is none
    adapt(pipe, data, **settings) -> str   decode `data`, an array of words, into the model of the text-generation
                                           pipeline, in place; returns the text that goes before every prompt, or
                                           a pair of it and whatever else was decoded, for the checksum
    check(model, data, **settings)         raise UserError unless `adapt` is safe on these values; may return settings
                                           that stand for the same and take less time

A program names one runner or some: in `coded+train` the second's parameter `text` is what the first returns, and the
program's settings are those of both.

`adapt` is written to be inlined: `taskbits export` takes its body, with the settings as constants, into the
standalone file. So it is one straight piece of code with a single return at its end, and what is scored here is
what runs there; there, other words follow the payload's own.
"""

import hashlib
import importlib
import inspect
import json
import time
import zlib
from contextlib import nullcontext
from types import ModuleType

import numpy
import torch
from torch.overrides import TorchFunctionMode

from taskbits.devices import repeatable
from taskbits.errors import UserError
from taskbits.model import Model, weights_digest
from taskbits.program import Program

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
    if name not in NAMES:
        raise UserError(f"the program needs the unknown runner {name[:40]!r}: known are {', '.join(NAMES)}")
    return importlib.import_module(f"taskbits.runners.{name}")


def require_model(model: Model, program: Program) -> None:
    """Raise UserError unless the program was made for this model."""
    if program.fingerprint not in model.fingerprints:
        name = f"{model.spec} at random" if model.state == "random" else model.spec
        raise UserError(
            f"the program is for another model: its fingerprint is {program.fingerprint.hex()}, "
            f"that of {name} is {model.fingerprint.hex()}"
        )


def stages(name: str, settings: dict) -> list[tuple[ModuleType, dict]]:
    """The runners that a program names, each with its own settings. Raises UserError if they don't fit it."""
    names = name.split("+")
    if len(names) > _MAX_STAGES:
        raise UserError(f"the program has {len(names):,} runners: at most {_MAX_STAGES} are allowed")
    modules = [runner(part) for part in names]
    parameters = [set(inspect.signature(module.adapt).parameters) - {"pipe", "data"} for module in modules]
    parameters = [parameters[0], *(names - {"text"} for names in parameters[1:])]
    expected = sorted(set().union(*parameters))
    if sorted(settings) != expected:
        raise UserError(f"the program's settings do not fit the runner {name}: it takes {expected}")
    return [
        (module, {key: settings[key] for key in settings if key in names})
        for module, names in zip(modules, parameters, strict=True)
    ]


def adapt(model: Model, program: Program, limit: float | None = None) -> str:
    """Decode the program into the model (in place) and return the text that goes before every prompt.

    limit: seconds that it may take. Raises UserError if the program is for another model, its values make no sense,
    the texts that it decodes to are not those that its maker wrote, or the time is over.
    """
    require_model(model, program)
    decoded = results(model, program, limit)
    if program.checksum is not None and checksum(decoded) != program.checksum:
        raise UserError(
            "the program decodes to another text here than where it was made: the model's numbers differ on this "
            "machine or with these versions (its maker's are in the study's record); make the program anew here"
        )
    return _text(decoded[-1])


def results(model: Model, program: Program, limit: float | None = None) -> list:
    """What each of the program's runners returns, the model changed in place. limit: seconds that it may take.

    Raises UserError on senseless values, what comes of them included, or if the time is over.
    """
    found = stages(program.runner, program.settings)
    word = found[0][0].WORD
    short = -len(program.payload) % numpy.dtype(word or "u1").itemsize
    # A big-endian word may be cut off between bytes; whatever follows will do, in the standalone file the code.
    require(not short or word.startswith(">"), "the payload is not a whole number of words")
    data = program.payload + bytes(short)
    decoded: list = []
    with _Deadline(limit) if limit else nullcontext(), numpy.errstate(all="ignore"):
        for module, settings in found:
            given = dict(settings)
            if decoded and "text" in inspect.signature(module.adapt).parameters:
                given["text"] = _text(decoded[-1])
            words = numpy.frombuffer(b"" if decoded else data, module.WORD or "u1")
            try:
                given |= module.check(model, words, **given) or {}
                with repeatable():
                    decoded.append(module.adapt(model.pipe, words, **given))
            except UserError:
                raise
            except BaseException as error:
                # Whatever values that make no sense lead to; constriction's panics are no Exceptions.
                if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                    raise
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise UserError(f"the program's payload can't be decoded: {reason}") from error
        finite = all(weight.isfinite().all() for weight in model.lm.parameters())
        require(finite, "what it makes of the weights are no finite numbers")
    return decoded


class _Deadline(TorchFunctionMode):
    """Inside, torch raises UserError once `seconds` are over: all that takes long calls it often.

    Only where a tensor is worked on, and no sooner than a second later again: what a library sets for a while, such as
    that no gradients are kept, it can set back.
    """

    def __init__(self, seconds: float):
        super().__init__()
        self._seconds, self._end = seconds, time.monotonic() + seconds

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if time.monotonic() > self._end and args and isinstance(args[0], torch.Tensor):
            self._end = time.monotonic() + 1
            raise UserError(f"decoding the program takes more than {self._seconds:g} s: allow it more with --limit")
        return function(*args, **(kwargs or {}))


def _text(result: str | tuple) -> str:
    return result if isinstance(result, str) else result[0]


def checksum(decoded: list) -> int:
    """CRC-32 of what the runners of a program decoded."""
    return zlib.crc32(json.dumps(decoded).encode())


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
    require(found != [] and set(found) == {2}, f"{target[:40]!r} does not stand for matrices in this model")


def check_numbers(step: float, spread: float, bound: int) -> None:
    """Refuse a distribution of whole numbers, or a step between them, that makes no sense."""
    require(type(bound) is int and 0 < bound < 2**20, "bound")
    require(type(step) in (int, float) and 0 < step < _MAX_STEP, "step")
    require(type(spread) in (int, float) and 1 / _MAX_SPREAD < spread < _MAX_SPREAD, "spread")


def check_seed(seed: int) -> None:
    """Refuse a seed that not every generator takes."""
    require(type(seed) is int and 0 <= seed < 2**32, "seed")
