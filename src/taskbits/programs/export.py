"""From a program to a file that runs without taskbits: the standalone file, whose size is the program's length.

    payloads | zip application: the bodies of the face's and the runners' functions, joined, minified and compressed

The build is deterministic.
"""

import ast
import functools
import json
import struct
import zlib
from types import ModuleType

import zopfli.zlib

from taskbits.programs import inline
from taskbits.programs.program import Program
from taskbits.programs.runners import adapter, face, sampled, self_train, stages
from taskbits.tasks import template
from taskbits.tasks.frame import Frame


def standalone(program: Program, dtype: str) -> bytes:
    """The content of the file that `python FILE --model M --input IN` runs. dtype: the model's arithmetic."""
    return program.payload + _code(json.dumps(_coded(program)), program.frame, dtype)


def rough_size(program: Program, dtype: str) -> int:
    """About the size of the standalone file, a few bytes too large: for comparing many programs quickly."""
    source = _source(_coded(program), program.frame, dtype)
    return len(program.payload) + len(_application(zlib.compress(source, 9)[2:-4]))


def _coded(program: Program) -> list[tuple[str, dict, int]]:
    """What the code depends on: for each part its runners, their settings and where its payload begins."""
    sizes = [len(part.payload) for part in program.parts]
    return [(part.runner, part.settings, sum(sizes[:at])) for at, part in enumerate(program.parts)]


@functools.lru_cache(maxsize=64)
def _code(parts: str, frame: Frame, dtype: str) -> bytes:
    return _application(_deflate(_source(json.loads(parts), frame, dtype)))


def _source(parts: list[tuple[str, dict, int]], frame: Frame, dtype: str) -> bytes:
    found = [(stages(runner, settings), offset) for runner, settings, offset in parts]
    modules = [module for some, _ in found for module, _ in some]
    double = dtype == "float64"
    draws = double and any(module in (sampled, self_train) for module in modules)
    statements = inline.body(face.load, {"DTYPE": dtype, "DOUBLE": double, "DRAWS": draws})
    texts: list[str] = []
    for at, (some, offset) in enumerate(found):
        suffix = str(at or "")
        statements += _part(some, offset, suffix, dtype)
        last = statements[-1]
        if isinstance(last, ast.Assign) and isinstance(last.value, ast.Constant) and last.value.value == "":
            statements.pop()
        else:
            texts.insert(0, f"prefix{suffix}")
    if texts != ["prefix"]:
        statements += ast.parse(f"prefix = {' + '.join(texts) or repr('')}").body
    before, behind = frame.around or ("", "")
    statements += inline.body(
        face.choose if frame.choices else face.generate,
        {
            "BEFORE": before,
            "PROMPT": template.as_percent(frame.prompt) + behind.replace("%", "%%"),
            "STOP": frame.stop,
            "CHOICES": _choices(frame),
            "OFFSETS": bool(frame.offsets),
            "ANSWERS": frame.answers,
            "FIELD": frame.choices if isinstance(frame.choices, str) else "",
            "PER_CHARACTER": frame.choose == "per-character",
            "CONDITIONAL": frame.choose == "conditional",
            "CHAT": frame.chat and not frame.around,
            "VERBATIM": frame.chat,
            "MAX_NEW_TOKENS": frame.max_new_tokens,
        },
    )
    return inline.script([face, *modules], statements)


def _choices(frame: Frame) -> tuple[str, ...] | dict[str, float] | dict[str, str]:
    """What the code chooses from: texts, with what is added to the cost of each, or else what is written for it."""
    if isinstance(frame.choices, str):
        return ()
    beside = frame.offsets or frame.answers
    return dict(zip(frame.choices, beside, strict=True)) if beside else frame.choices


def _part(some: list[tuple[ModuleType, dict]], offset: int, suffix: str, dtype: str) -> list[ast.stmt]:
    """The code of a part's runners, which leaves its text in `prefix` with the suffix."""
    word = some[0][0].WORD
    statements = inline.body(face.read, {"WORD": word, "OFFSET": offset}, suffix=suffix) if word else []
    for at, (module, settings) in enumerate(some):
        given = {name: ast.Name(name + suffix, ast.Load()) for name in ("data", "text")}
        result = "prefix" if at == len(some) - 1 else "text"
        statements += inline.body(adapter(module, dtype), {**given, **settings}, result + suffix, suffix)
    return statements


def _application(code: bytes) -> bytes:
    """A zip application of 68 bytes and the code, which is a raw deflate stream; any bytes may stand before it.

    What Python's zipimport reads of a zip file's three headers fits into one of them and ten bytes: the local header
    begins ten bytes before the central one and ends in its checksum, and the end record lies in the central header's
    sizes and attributes, where nothing looks at the numbers that it puts there.
    """
    name, comment = b"__main__.py", b"\0"  # a comment of one byte, since its size is also the number of entries
    header = struct.pack(
        "<4s4xHH4xHHI4sHHHHIHI",
        b"PK\1\2",
        0,  # flags
        8,  # deflate
        38,  # checksum, as the local header's sizes of name and extra field: the way to the code
        0,
        len(code),
        b"PK\5\6",  # size of the source, as the end record's signature; from here it reads on:
        len(name),
        0,
        len(comment),  # number of entries
        0,
        24,  # attributes, as the size of the directory: the way back to its beginning
        10,  # attributes, as the place of the directory: the way back to the local header
        0,  # place of the local header
    )
    return b"PK\3\4".ljust(10, b"\0") + header + name + comment + code


def _deflate(source: bytes) -> bytes:
    """A raw deflate stream, as short as zopfli makes it."""
    return zopfli.zlib.compress(source, numiterations=50)[2:-4]
