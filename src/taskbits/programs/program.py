"""The container of a program, `.tbp`: bytes in, a checked `Program` out.

    magic "tbp" | version | method's number | fingerprint of M (6) | number of sections | their sizes (varints)
    | sections | CRC-32 of all before (4)

16 bytes and a size for each section: at most 24 bytes over the sections of any program with two of them. The
first section is the frame (JSON in UTF-8: runners, their settings, prompt template, limits), the others are the coded
payload of each part; a program of one part without payload has none.
Loading is safe on any input: it runs nothing, takes memory in proportion to the file's size, knows every key, and lets
through only texts that can be encoded and numbers that are finite.
"""

import json
import math
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from taskbits.errors import UserError
from taskbits.tasks import template
from taskbits.tasks.frame import CHOOSE, Frame
from taskbits.tasks.rows import Row, read_rows
from taskbits.times import seconds

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from taskbits.models.model import Model

MAGIC = b"tbp"
LIMIT = "1h"  # for decoding: far more than any program that this package has made takes
# Methods that are written as their place here; others are written by name.
_NUMBERED = (
    *("zero-shot", "few-shot", "instructed", "subset", "lora", "full", "lora-fp16", "tiny", "lora-xs", "steer"),
    *("seeded", "blora", "norms", "prompt-search", "seeded-prompt", "self-train", "distilled"),
)
_NAMED = 255
_NAME = r"(?=.{1,64}$)[a-z0-9][a-z0-9-]*(\+[a-z0-9][a-z0-9-]*)*"
VERSION = 1
_HEAD = struct.Struct("<3sBB6sB")
_MAX_SECTIONS = 8
_MAX_PARTS = _MAX_SECTIONS - 1
_OF_PART = {"runner": str, "settings": dict, "checksum": int}
_MAX_VARINT = 5
_MAX_FILE = 2**32
_MAX_FRAME = 2**22  # bytes of its JSON: what is inlined into the standalone file, and compressed there
_MAX_PROMPT = 65_536
_MAX_TEXTS = {"stop": 256, "choices": 65_536}
_MAX_NEW_TOKENS = 65_536
_DTYPES = ("float64", "float32", "bfloat16")


@dataclass(frozen=True)
class Part:
    """One of the things that are added to M, in turn.

    runner: name of the code that decodes it. settings: the runner's constants (numbers and texts).
    payload: what the runner decodes; empty for the plain runner. checksum: CRC-32 of what it decodes to, where
    that depends on the model's arithmetic.
    """

    runner: str
    settings: dict = field(default_factory=dict)
    payload: bytes = b""
    checksum: int | None = None

    def _head(self) -> dict:
        """What the frame's JSON says of it."""
        found = {"runner": self.runner, "settings": self.settings or None, "checksum": self.checksum}
        return {key: value for key, value in found.items() if value is not None}


@dataclass(frozen=True)
class Program:
    """Everything that is added to M.

    method: name of the method that made it, for the record; running it needs only what follows.
    fingerprint: the six bytes of the model that it is for. frame: the task's face, from prompt to stop.
    parts: at least one, each decoded into what those before it have made of M; the text of a later one goes before that
    of an earlier one. dtype: the model's arithmetic; None: what a model of its size has if nothing is said (see
    `load_model`).
    """

    method: str
    fingerprint: bytes
    frame: Frame
    parts: tuple[Part, ...]
    dtype: str | None = None

    @property
    def payload(self) -> bytes:
        """That of all parts, as the standalone file begins with it."""
        return b"".join(part.payload for part in self.parts)

    def to_bytes(self) -> bytes:
        """The content of the `.tbp` file."""
        usual = {entry.name: entry.default for entry in fields(Frame) if entry.name != "max_new_tokens"}
        frame = {key: value for key, value in asdict(self.frame).items() if value != usual.get(key)}
        first, others = self.parts[0]._head(), self.parts[1:]
        head = json.dumps(
            {
                **frame,
                "runner": first.pop("runner"),
                **({} if self.method in _NUMBERED else {"method": self.method}),
                **first,
                **({"then": [part._head() for part in others]} if others else {}),
                **({} if self.dtype is None else {"dtype": self.dtype}),
            },
            separators=(",", ":"),
            ensure_ascii=False,
        ).encode()
        sections = [head, *(part.payload for part in self.parts)] if self.payload else [head]
        number = _NUMBERED.index(self.method) if self.method in _NUMBERED else _NAMED
        body = _HEAD.pack(MAGIC, VERSION, number, self.fingerprint, len(sections))
        body += b"".join(_varint(len(section)) for section in sections) + b"".join(sections)
        return body + zlib.crc32(body).to_bytes(4, "little")

    @classmethod
    def from_bytes(cls, data: bytes) -> "Program":
        """Read a `.tbp` file. Raises UserError if it is truncated, altered, or not a program of this version."""
        if data[:3] != MAGIC:
            raise UserError("not a taskbits program: it does not begin with 'tbp'")
        if len(data) < _HEAD.size + 4:
            raise UserError("the program is truncated: get the file again")
        _check_size(len(data))
        if zlib.crc32(memoryview(data)[:-4]).to_bytes(4, "little") != data[-4:]:
            raise UserError("the program is truncated or altered: its checksum does not match; get the file again")
        _, version, number, fingerprint, count = _HEAD.unpack_from(data)
        if version != VERSION:
            raise UserError(f"the program has version {version}, this taskbits reads version {VERSION}")
        sections = _sections(data, count)
        frame, method, parts, dtype = _read_head(sections[0], number)
        payloads = sections[1:] or [b""] * len(parts)
        if len(payloads) != len(parts):
            raise UserError(f"the program has {len(payloads)} sections of payload for {len(parts)} parts")
        parts = [replace(part, payload=payload) for part, payload in zip(parts, payloads, strict=True)]
        return cls(method, fingerprint, frame, tuple(parts), dtype)

    @classmethod
    def read(cls, path: Path) -> "Program":
        """The program in a file. Raises UserError if it can't be read, or as `from_bytes` does."""
        try:
            with path.open("rb") as file:
                _check_size(os.fstat(file.fileno()).st_size)
                # Of what is none, such as a device without an end, no more is read.
                return cls.from_bytes(file.read() if file.peek(len(MAGIC)).startswith(MAGIC) else b"")
        except OSError as error:
            raise UserError(f"{path} can't be read: {error.strerror}") from error

    # What follows runs a program, which takes libraries that nobody needs who only reads one.

    @contextmanager
    def applied(self, model: "Model", limit: float | str = LIMIT) -> Iterator["Adapted"]:
        """Inside, the model's weights are what the program makes of them; then they are as before.

        limit: time that decoding may take. Raises UserError if the program is for another model, or can't be decoded.
        """
        from taskbits.programs.decode import adapted

        with adapted(model, self, seconds(limit, "limit")) as prefix, model.shown() as lm:
            yield Adapted(lm, prefix, model, self.frame)

    def run(self, model: "Model", rows: Iterable[Row], limit: float | str = LIMIT) -> list[str]:
        """The program's output for each row, a dict with the prompt's fields. Raises UserError as `applied` does."""
        from taskbits.models.predict import predict
        from taskbits.programs.decode import adapted

        with adapted(model, self, seconds(limit, "limit")) as prefix:
            return predict(model, self.frame, list(rows), prefix)

    def read_inputs(self, path: Path | str) -> list[Row]:
        """The rows of a JSONL file ("-": of stdin). Raises UserError if one lacks a field that the prompt needs."""
        return read_rows(None if str(path) == "-" else Path(path), template.fields(self.frame.prompt))

    def standalone(self, model: "Model | None" = None) -> bytes:
        """The Python file that runs the program without taskbits; the program's length is its size.

        It computes as `model` does; without one, as the program says, in float64 if it says nothing. Raises UserError
        if the program is for another model.
        """
        from taskbits.programs.decode import require_model
        from taskbits.programs.export import standalone

        if model:
            require_model(model, self)
        return standalone(self, model.dtype if model else self.dtype or "float64")

    def write_peft(self, model: "Model", folder: Path | str, limit: float | str = LIMIT) -> str:
        """Write the change of weights as a PEFT "adapter" or, where no LoRA can hold it, the patched "model".

        Returns which of the two. Raises UserError as `applied` does, or if the folder can't be written.
        """
        from taskbits.programs.peft_export import write_peft

        try:
            return write_peft(self, model, Path(folder), seconds(limit, "limit"))
        except OSError as error:
            raise UserError(f"cannot write {folder}: {error.strerror}") from error


@dataclass(frozen=True)
class Adapted:
    """A model with a program in it. lm: the transformers model; prefix: the text that goes before each prompt."""

    lm: "PreTrainedModel"
    prefix: str
    _model: "Model"
    _frame: Frame

    def prompt(self, row: Row) -> str:
        """All that the model is given for a row: prefix and prompt, in the chat template where the task has one."""
        from taskbits.models.predict import asked

        return asked(self._model, self._frame, [row], self.prefix)[0]

    def inputs(self, row: Row) -> dict:
        """The tokens of `prompt`, for `lm.generate(**inputs)`: input_ids and attention_mask, (1, tokens) int64."""
        import torch

        tokens = torch.tensor([self._model.tokens(self.prompt(row), self._frame.chat)], device=self.lm.device)
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}


def load_program(path: Path | str) -> Program:
    """The program in a `.tbp` file. Raises UserError if it can't be read, is damaged, or is none."""
    return Program.read(Path(path))


def _check_size(size: int) -> None:
    if size > _MAX_FILE:
        raise UserError(f"the program has {size:,} bytes: at most {_MAX_FILE:,} are allowed")


def _varint(number: int) -> bytes:
    out = b""
    while number >= 128:
        out += bytes([number % 128 + 128])
        number //= 128
    return out + bytes([number])


def _sections(data: bytes, count: int) -> list[bytes]:
    if not 1 <= count <= _MAX_SECTIONS:
        raise UserError(f"the program claims {count} sections: 1 to {_MAX_SECTIONS} are allowed")
    at, sizes = _HEAD.size, []
    for _ in range(count):
        size = 0
        for shift in range(_MAX_VARINT):
            if at >= len(data) - 4:
                raise UserError("the program's section sizes are cut off")
            size += (data[at] & 127) << (7 * shift)
            at += 1
            if data[at - 1] < 128:
                break
        else:
            raise UserError("the program has a section size that is too long")
        sizes.append(size)
    if at + sum(sizes) != len(data) - 4:
        raise UserError("the program's section sizes do not add up to its size")
    sections = []
    for size in sizes:
        sections.append(data[at : at + size])
        at += size
    return sections


def _read_head(section: bytes, number: int) -> tuple[Frame, str, list[Part], str | None]:
    head = _read_json(section)
    known = {
        "prompt": (str,),
        "stop": (list,),
        "max_new_tokens": (int,),
        "choices": (list, str),
        "choose": (str,),
        "chat": (bool,),
        "around": (list,),
        "offsets": (list,),
        "answers": (list,),
        "runner": (str,),
        "method": (str,),
        "settings": (dict,),
        "checksum": (int,),
        "then": (list,),
        "dtype": (str,),
    }
    if not isinstance(head, dict) or any(type(value) not in known.get(key, ()) for key, value in head.items()):
        raise UserError("the program's frame has an unknown key or a value of a wrong type")
    parts = [
        _read_part({key: head.pop(key) for key in _OF_PART if key in head}),
        *map(_read_part, head.pop("then", [])),
    ]
    if len(parts) > _MAX_PARTS:
        raise UserError(f"the program has {len(parts):,} parts: at most {_MAX_PARTS} are allowed")
    method, dtype = head.pop("method", None), head.pop("dtype", None)
    if dtype not in (None, *_DTYPES):
        raise UserError(f"the program computes in an unknown type of numbers: known are {', '.join(_DTYPES)}")
    if number < len(_NUMBERED) and method is None:
        method = _NUMBERED[number]
    elif number != _NAMED or method in _NUMBERED or not re.fullmatch(_NAME, method or ""):
        raise UserError("the program does not say which method made it, or says it in another way than one does")
    choices = head.get("choices", [])
    texts = [*head.get("stop", []), *([choices] if isinstance(choices, str) else choices)]
    around = head.get("around", ["", ""])
    if (
        len(around) != 2
        or not all(isinstance(text, str) for text in around)
        or ("around" in head and "chat" not in head)
    ):
        raise UserError("the program's frame must have two texts around a user's, and only in a chat")
    if "prompt" not in head or not all(isinstance(text, str) and text for text in texts):
        raise UserError("the program's frame lacks its prompt, or has an empty text")
    if head.get("choose", CHOOSE[0]) not in CHOOSE:
        raise UserError("the program's frame has an unknown way to choose")
    few = all(isinstance(head.get(key, []), str) or len(head.get(key, [])) <= most for key, most in _MAX_TEXTS.items())
    if not few or len(head["prompt"]) > _MAX_PROMPT or not 1 <= head.get("max_new_tokens", 1) <= _MAX_NEW_TOKENS:
        raise UserError("the program's frame has a prompt, a limit or a number of texts that is too large")
    offsets, answers = head.get("offsets", []), head.get("answers", [])
    if (
        not all(type(number) in (int, float) and _is_plain(number) for number in offsets)
        or not all(isinstance(text, str) for text in answers)
        or any(some and (isinstance(choices, str) or len(some) != len(choices)) for some in (offsets, answers))
        or len(set(choices)) < len(choices)
        and (offsets or answers)
    ):
        raise UserError("the program's frame must have a finite number, or an answer, for each choice, or none")
    template.fields(head["prompt"])
    head = {key: tuple(value) if isinstance(value, list) else value for key, value in head.items()}
    return Frame(**head), method, parts, dtype


def _read_part(head) -> Part:
    """A part without its payload."""
    if not isinstance(head, dict) or any(type(value) is not _OF_PART.get(key) for key, value in head.items()):
        raise UserError("the program's frame has a part with an unknown key or a value of a wrong type")
    if "runner" not in head:
        raise UserError("the program's frame lacks the runner of a part")
    if not all(map(_is_plain, head.get("settings", {}).values())):
        raise UserError("the program's settings must be numbers, neither infinite nor too large, and texts")
    return Part(**head)


def _read_json(section: bytes):
    """What the frame's JSON stands for. Raises UserError if it is none, or holds what can't be written again."""

    def once(pairs: list[tuple]) -> dict:
        if len(found := dict(pairs)) < len(pairs):
            raise ValueError("a key that stands twice")
        return found

    if len(section) > _MAX_FRAME:
        raise UserError(f"the program's frame has {len(section):,} bytes: at most {_MAX_FRAME:,} are allowed")
    try:
        head = json.loads(section.decode(), object_pairs_hook=once)
        json.dumps(head, ensure_ascii=False).encode()  # of a lone surrogate there is no UTF-8
    except (ValueError, RecursionError) as error:
        raise UserError("the program's frame is not JSON in UTF-8") from error
    return head


def _is_plain(value: object) -> bool:
    """Whether a setting is a text, or a number that is finite and, if whole, of 64 bits."""
    return type(value) is str or type(value) in (int, float) and -(2**63) <= value < 2**63 and math.isfinite(value)
