"""A measurement: what is known of one scored program, and whether a record can be one.

Knows nothing of where it is kept.
"""

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import NoneType

from taskbits.errors import UserError
from taskbits.tasks.metrics import Score

_HAIR = 1e-6  # by which rounding may lead a score out of its interval
TEXT, MAYBE_TEXT, NUMBER = (str,), (str, NoneType), (int, float, NoneType)
_RECORD = {
    **dict.fromkeys(("method", "family", "program", "adapted"), TEXT),
    **dict.fromkeys(("settings", "content", "versions"), (dict,)),
    **dict.fromkeys(("bytes", "payload_bytes", "seed"), (int,)),
    **dict.fromkeys(("ideal_bits", "seconds", "scoring_seconds"), NUMBER),
    "peak_memory": (int, NoneType),
    **dict.fromkeys(("flops_once", "flops_per_input"), NUMBER),
    "unconfirmed": MAYBE_TEXT,
}
FAMILIES = ("inference control", "data", "parametric", "combined")


@dataclass(frozen=True)
class Measurement:
    """One scored program.

    bytes: size of the exported standalone file; payload_bytes: size of the coded part in it;
    ideal_bits: cross-entropy of the payload under the model that codes it, where there is one;
    adapted: SHA-256 of what the program makes of the model (prefix text and changed weights);
    content: what the program is, for people: {"text": ...}, {"examples": [...]} or {"tensors": {...}}, of several parts
    {"parts": [...]};
    seconds: of the whole trial; scoring_seconds: of its scoring on validation.
    peak_memory: most bytes that the process held while the program was found, where the system tells.
    flops_once, flops_per_input: floating-point operations of decoding, and of a validation row in the mean, as
    `models.work` counts them; None if they were not counted.
    test is None until the program is a frontier candidate. unconfirmed: why it could not be scored on test, if so.
    elsewhere: by task, what a candidate scores on other tasks' test rows, its weights and its text with their prompts.
    A published estimate has no program ("") and no times (None).
    """

    method: str
    family: str
    settings: dict
    bytes: int
    payload_bytes: int
    ideal_bits: float | None
    validation: Score
    program: str
    adapted: str
    content: dict
    seconds: float | None
    scoring_seconds: float | None
    seed: int
    versions: dict
    peak_memory: int | None = None
    flops_once: float | None = None
    flops_per_input: float | None = None
    test: Score | None = field(default=None, compare=False)
    unconfirmed: str | None = field(default=None, compare=False)
    elsewhere: dict[str, Score] = field(default_factory=dict, compare=False)

    @property
    def settings_in_words(self) -> list[str]:
        """The settings for people, each a text; of a donor's path its last part."""
        shown = {name: Path(str(value)).name if name == "donor" else value for name, value in self.settings.items()}
        return [f"{name}={value}" for name, value in shown.items()]


@dataclass(frozen=True)
class Attempt:
    """A trial that has ended, for those who choose the next one.

    bytes, score: of its program on validation; where it was dropped, on the rows seen until then; None if there was
    no program, or no score. error: what ended it, in a line, if something did. failed: by an error that nobody
    foresaw, and not by one that says what is wrong with its settings.
    """

    method: str
    settings: dict
    seconds: float
    bytes: int | None
    score: float | None
    dropped: bool
    error: str | None = None
    failed: bool = False


def check(m: Measurement) -> None:
    """Raises UserError if the measurement holds what can't be kept, such as a score of NaN."""
    measurement_of(asdict(m))


def measurement_of(record: dict) -> Measurement:
    """The measurement that a record holds. Raises UserError, TypeError, ValueError or KeyError if it can't be one."""
    m = Measurement(**record)
    if not all(is_a(record.get(name), kinds) for name, kinds in _RECORD.items()):
        raise UserError("the record of a measurement holds a value of a wrong kind")
    if not (m.bytes >= bool(m.program) and m.payload_bytes >= 0):
        raise UserError(f"a program of {m.bytes} bytes can't be kept")
    if m.program:
        require_hash(m.program)
    if m.family not in FAMILIES:
        raise UserError(f"there is no family {m.family!r}")
    for name, value in (("settings", m.settings), ("content", m.content), ("versions", m.versions)):
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise UserError(f"the {name} of a program can't be kept: {error}") from error
    for number in (m.ideal_bits, m.seconds, m.scoring_seconds, m.flops_once, m.flops_per_input):
        if not (number is None or math.isfinite(number)):
            raise UserError(f"{number} is not a measure of a program")
    if any(number is not None and number < 0 for number in (m.flops_once, m.flops_per_input)):
        raise UserError("a program takes no fewer than no operations")
    if not (_is_content(m.content) and all(isinstance(value, str) for value in m.versions.values())):
        raise UserError("the record of a measurement holds a value of a wrong kind")
    scores = {split: record[split] and check_score(record[split]) for split in ("validation", "test")}
    elsewhere = {task: check_score(found) for task, found in m.elsewhere.items()}
    return Measurement(**{**record, **scores, "elsewhere": elsewhere})


def check_score(record: dict) -> Score:
    """The score that a record holds. Raises UserError if its value is not in [-1, 1], or not within its interval."""
    score = Score(**record)
    low, high = (score.value if end is None else end for end in (score.low, score.high))
    if not all(isinstance(number, int | float) for number in (score.value, low, high)):
        raise UserError(f"{score.value!r} with the interval {low!r} to {high!r} is not a score")
    if not (-1 <= score.value <= 1 and low - _HAIR <= score.value <= high + _HAIR and high - low < math.inf):
        raise UserError(f"{score.value} with the interval {low} to {high} is not a score in [0, 1]")
    if not (score.n is None or type(score.n) is int and score.n > 0) or not isinstance(score.also, dict):
        raise UserError(f"a score over {score.n!r} examples can't be kept")
    for name, value in score.also.items():
        if not (isinstance(value, str) or isinstance(value, int | float) and math.isfinite(value)):
            raise UserError(f"{name} of {value!r} can't be kept beside a score")
    return score


def is_a(value, kinds: tuple[type, ...]) -> bool:
    """Whether it is of one of the kinds; truth values are no numbers."""
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def _is_content(content: dict) -> bool:
    """Whether it is what `Measurement` says, as far as it says so."""

    def is_number(value) -> bool:
        return isinstance(value, int | float)

    def is_tokens(value) -> bool:
        pairs = isinstance(value, list) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value)
        return pairs and all(isinstance(token, str) and is_number(cost) for token, cost in value)

    def is_shape(value) -> bool:
        return isinstance(value, list | tuple) and all(type(size) is int for size in value)

    examples, tensors, parts = content.get("examples", []), content.get("tensors", {}), content.get("parts", [])
    return (
        isinstance(content.get("text", ""), str)
        and is_tokens(content.get("tokens", []))
        and isinstance(examples, list)
        and all(isinstance(example, str) or is_tokens(example) for example in examples)
        and isinstance(tensors, dict)
        and all(map(is_shape, tensors.values()))
        and isinstance(parts, list)
        and all(isinstance(part, dict) and "parts" not in part and _is_content(part) for part in parts)
    )


def hash_of(program: bytes) -> str:
    """The name of a program's file in a study."""
    return hashlib.sha256(program).hexdigest()[:12]


def key(settings: dict) -> str:
    """Settings as text: the same settings always give the same key."""
    return json.dumps(settings, sort_keys=True)


def require_hash(program: str) -> str:
    """The same text. Raises UserError if it isn't what `hash_of` gives."""
    if not re.fullmatch("[0-9a-f]{12}", program):
        raise UserError(f"{program!r} is not the name of a program: those are 12 digits from 0 to f")
    return program
