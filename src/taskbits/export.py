"""From a program to a file that runs without taskbits: the standalone file, whose size is the program's length.

    payload | zip application: the bodies of the face's and the runner's functions, joined, minified and compressed

The build is deterministic.
"""

import functools
import json
import struct

import zopfli.zlib

from taskbits import inline, template
from taskbits.program import Program
from taskbits.runners import face, runner
from taskbits.task import Frame


def standalone(program: Program, dtype: str) -> bytes:
    """The content of the file that `python FILE --model M --input IN` runs. dtype: the model's arithmetic."""
    return _build(program.runner, json.dumps(program.settings), program.payload, program.frame, dtype)


@functools.lru_cache(maxsize=64)
def _build(name: str, settings: str, payload: bytes, frame: Frame, dtype: str) -> bytes:
    module = runner(name)
    statements = inline.body(face.load, {"DTYPE": dtype, "WORD": module.WORD})
    statements += inline.body(module.adapt, json.loads(settings), result="prefix")
    statements += inline.body(
        face.choose if frame.choices else face.generate,
        {
            "PROMPT": template.as_percent(frame.prompt),
            "STOP": frame.stop,
            "CHOICES": frame.choices,
            "MAX_NEW_TOKENS": frame.max_new_tokens,
        },
    )
    return payload + _application(_deflate(inline.script([face, module], statements)))


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
