"""Strangers' programs: damaged and hostile containers, read and decoded.

    python benchmarks/fuzz.py [--quick] [--seed N]

Takes a program of each runner, for a tiny model, and mutates them: bits, spans of bytes, section sizes, and in the
frame numbers, texts, keys and runners, to values at the edge of sense and beyond. Checksums are mended, so that only
what is behind them can refuse. Each container is read; of those that pass some are exported, and some are decoded into
the model within a limit of time. Only a UserError of one line may come of it. Ends with one JSON line; exit code 1 if
anything else came, or took longer than it may.
"""

import argparse
import json
import random
import re
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import constriction
import numpy as np
import torch

from taskbits.errors import UserError
from taskbits.fitting import carrying
from taskbits.models import memory
from taskbits.models.model import Model, load_model
from taskbits.programs import coding, decode, export, runners
from taskbits.programs.program import Part, Program
from taskbits.programs.texts import encode_examples, encode_text
from taskbits.tasks.frame import Frame
from taskbits.testing import write_model

LIMIT = 2.0  # seconds for decoding one program
SLACK = 2.0  # and until the limit is noticed: what one call of torch or of the tokenizer takes at most
READING = 1.0  # seconds of the processor for reading one container
EXPORTING = 60.0
EXPORTED = 20  # of so many that are decoded one is exported

NUMBERS = [
    *("0", "-1", "1", "2", "7", "255", "256", "4096", "65535", "65536", "1048575", "1048576", "4294967295"),
    *("4294967296", "9" * 18, "9" * 25, "9" * 5000, "-0.0", "0.5", "1.0", "1e-7", "5e-324", "1e-300", "1e300", "1e400"),
    *("NaN", "Infinity", "-Infinity", "true", "false", "null", '"1"', "[]", "{}", "[1]", '{"a":1}'),
]
TEXTS = [
    *(
        "",
        " ",
        "\\ud800",
        "\\udc00",
        "\\u0000",
        "\\u202e",
        "a" * 70_000,
        "word " * 5_000,
        "{",
        "}",
        "{x}",
        "{x.y}",
        "{0}",
    ),
    *(
        "{x!r}",
        "{x:9}",
        "%",
        "%s",
        "%(x)s",
        "'",
        '\\"',
        "'''",
        "\\\\",
        "\\n",
        "__import__('os')",
        "\\u00e9\\ud83d\\ude00",
    ),
    *("(a+)+b", ".+.+.+.+.+.+x", ".+a.+a.+a.+a.+a.+x", "(?:a|b)", "(", "weight", "norm", "model", "mlp", "0", "+"),
    *runners.NAMES,
    *("literal+train", "coded+train", "train+self_train", "literal+train+self_train", "plain+" * 9 + "plain"),
]


def programs(model: Model) -> list[Program]:
    """A program of each runner for this model, or a stack of them, all of which decode."""
    draw = np.random.default_rng(0)
    shapes = {name: list(weight.shape) for name, weight in model.lm.named_parameters()}
    matrices = [shape for name, shape in shapes.items() if "mlp" in name]
    vectors = [shape for name, shape in shapes.items() if "norm" in name]

    def integers(groups: list[int] | None, count: int) -> tuple[dict, bytes]:
        coded = coding.encode_integers(np.rint(draw.laplace(0, 1.5, count)), groups)
        return {"step": 0.01, **coded.settings}, coded.payload

    def grouped(groups: list[int]) -> tuple[dict, bytes]:
        return integers(groups, sum(groups))

    encoder, uniform = constriction.stream.queue.RangeEncoder(), constriction.stream.model.Uniform
    for shape in matrices:
        encoder.encode(1, uniform(3))
        for size in shape:
            encoder.encode(0, uniform(4))
            encoder.encode(int(np.float16(0.01).view("u2")), uniform(65536))
            encoder.encode(draw.integers(0, 4, size).astype(np.int32), uniform(4))
    lesson = {"between": "\n", "ending": "", "epochs": 2, "rate": 1e-3}
    loop = {"stem": "Q: ", "cut": "A:", "pattern": "Q:\\ .+A:.+\\\n", "seed": 3, "rounds": 1, "number": 4, "count": 12}
    taught = {"text": "Q: one A: 1\nQ: two A: 2", **lesson}
    examples = [f"Q: after {i} A: {i + 1}" for i in range(4)]
    change, spread, _ = coding.encode_tensors([draw.normal(0, 0.01, shape) for shape in shapes.values()], 1.0)
    changes = {name: torch.from_numpy(draw.normal(0, 0.01, shape)).float() for name, shape in shapes.items()}
    matters = carrying.Matter({name: torch.ones(part.numel() // part.shape[-1]) for name, part in changes.items()}, {})
    weights, steps, _ = carrying.quantised(changes, matters, 20_000, lambda done, of: None)
    coded = next(way for way in encode_text(model, ", ".join(["after 1 comes 2"] * 20)) if way.runner == "coded")
    with model.preserved():  # it learns them
        drawn = next(iter(encode_examples(model, examples, 2, 2, 1e-3, lambda done, of: None)))
    sums = [sum(shape) for shape in matrices]
    made = [
        ("plain", {}, b""),
        ("literal", {"text": "Count.\n"}, b""),
        ("coded", coded.settings, coded.payload),
        ("sampled", {"stem": "Q: ", "seed": 1, "count": 12}, b""),
        ("literal+train", taught, b""),
        ("coded+train", {**coded.settings, **lesson, "between": ", "}, coded.payload),
        ("literal+train+self_train", {**taught, **loop, "pace": 1e-4}, b""),
        (drawn.runner, drawn.settings, drawn.payload),
        ("low_rank", *_with({"target": "mlp", "rank": 2}, grouped(sums * 2))),
        ("lora_fp16", {"target": "mlp", "rank": 1}, (0.01 * draw.normal(size=sum(sums))).astype("<f2").tobytes()),
        ("full", spread, change),
        ("tiny", *_with({"target": "mlp", "count": 12}, integers(None, 12))),
        ("lora_xs", *_with({"target": "mlp", "rank": 3}, grouped([9] * len(matrices)))),
        ("steer", *_with({"target": "down_proj"}, grouped([16]))),
        ("seeded", {"target": "mlp", "blocks": 4, "scale": 0.01}, draw.bytes(8)),
        ("blora", {"target": "mlp", "rank": 2}, coding.payload(encoder)),
        ("norms", *_with({"target": "norm"}, grouped([shape[0] for shape in vectors]))),
        ("carried", {"keep": 1, **steps}, weights),
    ]
    assert {part for runner, _, _ in made for part in runner.split("+")} == set(runners.NAMES)
    frames = [
        Frame("Q: {question}\nA:", ("\n",), 6),
        Frame("100% of {question}", (), 4, (" yes", " no"), "per-character"),
        Frame("{a}{b}", ("\n", "Q:"), 4, "options", "conditional", chat=True),
    ]
    names = ("zero-shot", "norms", "of-a-stranger")
    parts = [Part(*some) for some in made]
    sequences = [*((part,) for part in parts), (parts[1], parts[8]), (parts[8], parts[4], parts[2])]
    return [
        Program(names[number % 3], model.fingerprint, frames[number % 3], some) for number, some in enumerate(sequences)
    ]


def _with(settings: dict, coded: tuple[dict, bytes]) -> tuple[dict, bytes]:
    return {**settings, **coded[0]}, coded[1]


def mutants(originals: list[bytes], seed: int) -> Iterator[bytes]:
    """Containers without end, each with a checksum that fits."""
    draw = random.Random(seed)
    while True:
        content = draw.choice(originals)[:-4]
        kind = draw.choice((_bits, _span, _splice, _head, _head, _head, _head, _sizes))
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            content = kind(content, draw, originals)
        yield content + zlib.crc32(content).to_bytes(4, "little")


def _bits(content: bytes, draw: random.Random, originals: list[bytes]) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 2, 8))):
        changed[draw.randrange(3, len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _span(content: bytes, draw: random.Random, originals: list[bytes]) -> bytes:
    """A span left out, doubled or replaced."""
    begin, end = sorted(draw.randrange(3, len(content) + 1) for _ in range(2))
    new = draw.choice((b"", 2 * content[begin:end], draw.randbytes(draw.randrange(9)), b"\xff" * (end - begin)))
    return content[:begin] + new + content[end:]


def _splice(content: bytes, draw: random.Random, originals: list[bytes]) -> bytes:
    other = draw.choice(originals)[:-4]
    return content[: draw.randrange(3, len(content) + 1)] + other[draw.randrange(3, len(other)) :]


def _sizes(content: bytes, draw: random.Random, originals: list[bytes]) -> bytes:
    """The bytes that say how many sections there are, and how long."""
    at = draw.randrange(11, 16)
    return (
        content[:at]
        + draw.choice((b"", b"\0", b"\xff", b"\x80\x80\x80\x80\x7f", draw.randbytes(1)))
        + content[at + 1 :]
    )


def _head(content: bytes, draw: random.Random, originals: list[bytes]) -> bytes:
    """The frame edited as text, its size mended."""
    begin = content.find(b'{"')
    if begin < 12:
        return content
    sizes = content[12:begin]
    length = _varint(sizes)
    head = content[begin : begin + length].decode("utf-8", "replace")
    other = draw.choice(originals)
    edits = [
        lambda: _replaced(r"(?<=:)-?\d[\d.e-]*", head, draw.choice(NUMBERS), draw),
        lambda: _replaced(r"(?<=:)-?\d[\d.e-]*", head, repr(draw.uniform(-9, 9) * 10.0 ** draw.randrange(-9, 9)), draw),
        lambda: _replaced(r"(?<=:)-?\d[\d.e-]*", head, str(draw.randrange(2 ** draw.randrange(1, 40))), draw),
        lambda: _replaced(r'(?<=")(?:[^"\\]|\\.)*(?=")', head, draw.choice(TEXTS), draw),
        lambda: _replaced(r'"(?:[^"\\]|\\.)*"|-?\d[\d.e-]*', head, draw.choice(NUMBERS), draw),
        lambda: _replaced(r".", head, draw.choice('{}[]",:0\\a\n\0'), draw),
        lambda: _replaced(r"\{.*\}", head, "[" * draw.choice((9, 9_000)), draw),
        lambda: _replaced(r'"settings":\{[^}]*\}', head, _settings_of(other), draw),
    ]
    edited = draw.choice(edits)().encode("utf-8", "surrogatepass")
    rest = content[begin + length :]
    return content[:12] + _as_varint(len(edited)) + sizes[_width(sizes) :] + edited + rest


def _replaced(pattern: str, head: str, new: str, draw: random.Random) -> str:
    places = list(re.finditer(pattern, head, re.DOTALL))
    if not places:
        return head
    place = draw.choice(places)
    return head[: place.start()] + new + head[place.end() :]


def _settings_of(content: bytes) -> str:
    found = re.search(rb'"settings":\{[^}]*\}', content)
    return found[0].decode("utf-8", "replace") if found else '"settings":{}'


def _width(sizes: bytes) -> int:
    return next((at for at, byte in enumerate(sizes, 1) if byte < 128), len(sizes))


def _varint(sizes: bytes) -> int:
    return sum((byte & 127) << 7 * at for at, byte in enumerate(sizes[: _width(sizes)]))


def _as_varint(number: int) -> bytes:
    out = bytearray()
    while number >= 128:
        out.append(number % 128 + 128)
        number //= 128
    return bytes([*out, number])


class Tally:
    """What came of trying something many times, and every failure: whatever is no UserError of one line."""

    def __init__(self, most: float, clock: Callable[[], float] = time.perf_counter):
        """most: seconds by this clock that it may take."""
        self.tried, self.refused, self.longest, self.failures = 0, 0, 0.0, []
        self._most, self._clock = most, clock

    def attempt(self, work, about: str):
        """What the work returns; None if it was refused or failed."""
        result, begun = None, self._clock()
        try:
            result = work()
        except UserError as error:
            self.refused += 1
            if not 0 < len(str(error)) < 1000 or "\n" in str(error):
                self.failures.append(f"{about}: {str(error)[:1000]!r}")
        except BaseException as error:  # constriction's panics are no Exceptions
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            self.failures.append(f"{about}: {traceback.format_exc()[-2000:]}")
        taken = self._clock() - begun
        self.tried, self.longest = self.tried + 1, max(self.longest, taken)
        if taken > self._most:
            self.failures.append(f"{about}: took {taken:.1f} s")
        return result


def fuzz(model: Model, containers: int, decodes: int, seed: int = 0) -> dict:
    """Read mutated containers, export and decode some of those that pass. Returns figures, and what failed.

    containers, decodes: at least so many of each.
    """
    originals = programs(model)
    for program in originals:
        with model.preserved():
            decode.adapt(model, program)
    reading, exporting, decoding = Tally(READING, time.process_time), Tally(EXPORTING), Tally(LIMIT + SLACK)
    memory.forget()
    before, begun = memory.peak() or 0, time.perf_counter()
    for number, content in enumerate(mutants([program.to_bytes() for program in originals], seed)):
        if number >= containers and decoding.tried >= decodes:
            break
        program = reading.attempt(lambda content=content: _read(content), f"container {number}")
        if program is None or decoding.tried * containers > number * decodes:
            continue
        # For this model, and with whatever it decodes to.
        parts = tuple(replace(part, checksum=None) for part in program.parts)
        program = replace(program, fingerprint=model.fingerprint, parts=parts)
        said = "; ".join(f"{part.runner} {str(part.settings)[:300]}" for part in program.parts)
        about = f"container {number}, {said}"
        if decoding.tried % EXPORTED == 0:
            exporting.attempt(lambda program=program: export.standalone(program, model.dtype), about)
        with model.preserved():
            decoding.attempt(lambda program=program: decode.adapt(model, program, LIMIT), about)
    return {
        "containers": reading.tried,
        "refused": reading.refused,
        "longest_ms": round(1000 * reading.longest, 1),
        "exported": exporting.tried,
        "decoded": decoding.tried,
        "refused_in_decoding": decoding.refused,
        "longest_decoding_s": round(decoding.longest, 2),
        "limit_s": LIMIT,
        "grown_mb": round(((memory.peak() or 0) - before) / 1e6),
        "seconds": round(time.perf_counter() - begun),
        "failures": [*reading.failures, *exporting.failures, *decoding.failures],
    }


def _read(content: bytes) -> Program:
    program = Program.from_bytes(content)
    for part in program.parts:
        runners.stages(part.runner, part.settings)
    return program


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "max_position_embeddings": 256}
        model = load_model(write_model(folder, seed=0, **sizes))
        found = fuzz(model, *((2_000, 50) if options.quick else (100_000, 2_000)), options.seed)
    failures = found.pop("failures")
    for failure in failures[:20]:
        print(failure, file=sys.stderr)
    print(json.dumps({"benchmark": "fuzz", "quick": options.quick, **found, "failures": len(failures)}))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
