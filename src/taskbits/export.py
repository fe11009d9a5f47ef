"""From a program to files that run without taskbits: the standalone file, whose size is the program's length.

The build is deterministic: the bodies of the runner's functions are joined (`taskbits.inline`), minified and
compressed, and the smallest of three containers is taken:

    plain source | source that decompresses itself from a text literal | a zip application behind the payload
"""

import ast
import functools
import io
import itertools
import json
import zipfile

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

    def source(data: str) -> bytes:
        constants = {**json.loads(settings), "data": ast.parse(data, mode="eval").body}
        statements = inline.body(face.load, {"DTYPE": dtype})
        statements += inline.body(module.adapt, constants, result="prefix")
        statements += inline.body(
            face.choose if frame.choices else face.generate,
            {
                "PROMPT": template.as_percent(frame.prompt),
                "STOP": frame.stop,
                "CHOICES": frame.choices,
                "MAX_NEW_TOKENS": frame.max_new_tokens,
            },
        )
        return inline.script([face, module], statements)

    if not payload:
        plain = source("b''")
        return min(plain, _in_literal(_deflate(plain), b""), _in_zip(plain, b""), key=len)
    in_zip = _in_zip(source(f"open(sys.argv[0],'rb').read({len(payload)})"), payload)
    # The code names the place behind it where the payload begins, so that its length depends on itself.
    for place in itertools.count(len(_deflate(source("z[999:]"))) - 2):
        code = _deflate(source(f"z[{place}:]"))
        if len(code) <= place:
            return min(in_zip, _in_literal(code.ljust(place, b" "), payload), key=len)


def _in_literal(code: bytes, payload: bytes) -> bytes:
    """Source with a latin-1 literal that holds the compressed code and, behind it, the payload."""
    literal = min((_quote(code + payload, quote) for quote in ("'", '"', "'''", '"""')), key=len)
    if payload:
        return b"#coding:L1\nfrom zlib import*\nz=" + literal + b".encode('L1')\nexec(decompress(z,-15))"
    return b"#coding:L1\nfrom zlib import*\nexec(decompress(" + literal + b".encode('L1'),-15))"


def _quote(content: bytes, quote: str) -> bytes:
    """The bytes as a Python literal in latin-1, with an escape only where one is needed."""
    escapes = {0: b"\\0", 13: b"\\r", 92: b"\\\\", ord(quote[0]): b"\\" + quote[:1].encode()}
    if len(quote) == 1:
        escapes[10] = b"\\n"
    out = bytearray()
    for byte, following in zip(content, content[1:] + b" ", strict=True):
        digit_follows = byte == 0 and following in b"01234567"
        out += b"\\000" if digit_follows else escapes.get(byte) or bytes([byte])
    return quote.encode() + bytes(out) + quote.encode()


def _in_zip(source: bytes, payload: bytes) -> bytes:
    """A zip application; Python allows bytes before it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py"), source, zipfile.ZIP_DEFLATED, 9)
    return payload + buffer.getvalue()


def _deflate(source: bytes) -> bytes:
    """A raw deflate stream, as short as zopfli makes it."""
    return zopfli.zlib.compress(source, numiterations=50)[2:-4]
