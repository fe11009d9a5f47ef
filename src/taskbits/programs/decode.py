"""From a program to what it makes of a model: its runners, in turn, if their values make sense, in a limited time."""

import hashlib
import inspect
import json
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy
import torch
from torch.overrides import TorchFunctionMode

from taskbits.errors import UserError
from taskbits.models.devices import repeatable
from taskbits.models.model import Model, weights_digest
from taskbits.programs.program import Part, Program
from taskbits.programs.runners import adapter, changed_by, require, stages


def require_model(model: Model, program: Program) -> None:
    """Raise UserError unless the program was made for this model."""
    if program.dtype not in (None, model.dtype):
        raise UserError(f"the program is for a model in {program.dtype}, and {model.spec} was loaded in {model.dtype}")
    if program.fingerprint not in model.fingerprints:
        name = f"{model.spec} at random" if model.state == "random" else model.spec
        raise UserError(
            f"the program is for another model: its fingerprint is {program.fingerprint.hex()}, "
            f"that of {name} is {model.fingerprint.hex()}"
        )


def adapt(model: Model, program: Program, limit: float | None = None) -> str:
    """Decode the program into the model (in place) and return the text that goes before every prompt.

    limit: seconds that it may take. Raises UserError if the program is for another model, its values make no sense,
    the texts that it decodes to are not those that its maker wrote, or the time is over.
    """
    require_model(model, program)
    prefix = ""
    with _Deadline(limit) if limit else nullcontext():
        for part in program.parts:
            decoded = results(model, part)
            if part.checksum is not None and checksum(decoded) != part.checksum:
                raise UserError(
                    "the program decodes to another text here than where it was made: the model's numbers differ on "
                    "this machine or with these versions (its maker's are in the study's record); make the program "
                    "anew here"
                )
            prefix = _text(decoded[-1]) + prefix
        finite = all(weight.isfinite().all() for _, weight in _touched(model, program))
        require(finite, "what it makes of the weights are no finite numbers")
    return prefix


def results(model: Model, part: Part) -> list:
    """What each runner of a part returns, the model changed in place.

    Raises UserError on senseless values, what comes of them included.
    """
    found = stages(part.runner, part.settings)
    word = found[0][0].WORD
    short = -len(part.payload) % numpy.dtype(word or "u1").itemsize
    # A big-endian word may be cut off between bytes; whatever follows will do, in the standalone file the code.
    require(not short or word.startswith(">"), "the payload is not a whole number of words")
    data = part.payload + bytes(short)
    decoded: list = []
    with numpy.errstate(all="ignore"):
        for module, settings in found:
            given = dict(settings)
            if decoded and "text" in inspect.signature(module.adapt).parameters:
                given["text"] = _text(decoded[-1])
            words = numpy.frombuffer(b"" if decoded else data, module.WORD or "u1")
            try:
                given |= module.check(model, words, **given) or {}
                with repeatable():
                    decoded.append(adapter(module, model.dtype)(model.pipe, words, **given))
            except UserError:
                raise
            except BaseException as error:
                # Whatever values that make no sense lead to; constriction's panics are no Exceptions.
                if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                    raise
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise UserError(f"the program's payload can't be decoded: {reason}") from error
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


@contextmanager
def adapted(model: Model, program: Program, limit: float | None = None) -> Iterator[str]:
    """Inside, the model is what the program makes of it; yields the text that goes before every prompt.

    Raises UserError as `adapt` does.
    """
    with model.preserved(changed(model, program)):
        yield adapt(model, program, limit)


def changed(model: Model, program: Program) -> set[str]:
    """The names of the model's parameters that a program changes. Raises UserError as `stages` does."""
    return {name for part in program.parts for name in changed_by(model, part.runner, part.settings)}


def _touched(model: Model, program: Program) -> list[tuple[str, torch.nn.Parameter]]:
    """The parameters that a program has changed or added."""
    names = changed(model, program)
    return [(name, weight) for name, weight in model.lm.named_parameters() if name in names or name not in model.names]


def _text(result: str | tuple) -> str:
    return result if isinstance(result, str) else result[0]


def checksum(decoded: list) -> int:
    """CRC-32 of what the runners of a part decoded."""
    return zlib.crc32(json.dumps(decoded).encode())


def digest(model: Model, program: Program, prefix: str, former: bool = False) -> str:
    """What a program made of the model: SHA-256 of the prefix text, the model's fingerprint and the weights that the
    program changes, 20 hex digits. former: of all weights instead, 16, as version 0.3.0 and those before it recorded.
    """
    if former:
        return hashlib.sha256(prefix.encode() + b"\0" + weights_digest(model.lm)).hexdigest()[:16]
    weights = weights_digest(model.lm, [name for name, _ in _touched(model, program)])
    return hashlib.sha256(prefix.encode() + b"\0" + model.fingerprint + weights).hexdigest()[:20]
