"""A program file's score: decoded into the model, run on a split, judged by the task's metric.

The file's bytes are all that this sees of a program.
"""

from dataclasses import dataclass

import numpy as np

from taskbits.models.model import Model
from taskbits.models.predict import Advance, predict
from taskbits.programs import decode
from taskbits.programs.export import standalone
from taskbits.programs.program import Program
from taskbits.search import racing
from taskbits.tasks.metrics import Score
from taskbits.tasks.task import Task


@dataclass(frozen=True)
class Scored:
    """bytes: size of the standalone file. adapted: digest of what the program made of the model. By split: the rest."""

    bytes: int
    payload_bytes: int
    adapted: str
    scores: dict[str, Score]
    outputs: dict[str, list[str]]


class Dominated(Exception):
    """The program was seen to score no better than its rival, before all rows were scored. seen: its score so far."""

    def __init__(self, message: str, seen: float):
        super().__init__(message)
        self.seen = seen


def score(
    content: bytes,
    model: Model,
    task: Task,
    splits: list[str],
    advance: Advance = lambda n: None,
    rival: np.ndarray | None = None,
    limit: float | None = None,
    former: bool = False,
) -> Scored:
    """Score a `.tbp` file's content on the named splits. The model is left as it was.

    rival: the scores of another program on the rows of the one split. Raises Dominated once the program is seen not to
    beat it (`racing`), where a score is a mean over rows. limit: seconds that decoding may take. former: with the
    digest of the adapted model that former versions recorded.
    Raises UserError if the program is damaged, for another model, or an input is too long for it.
    """
    program = Program.from_bytes(content)
    with decode.adapted(model, program, limit) as prefix:
        adapted = decode.digest(model, program, prefix, former)
        rival = rival if task.is_mean else None
        written = {split: _written(model, program, task, split, prefix, advance, rival) for split in splits}
    scores = {split: task.score(split, outputs) for split, outputs in written.items()}
    return Scored(len(standalone(program, model.dtype)), len(program.payload), adapted, scores, written)


def _written(
    model: Model, program: Program, task: Task, split: str, prefix: str, advance: Advance, rival: np.ndarray | None
) -> list[str]:
    """The program's outputs for a split's rows: where there is a rival, in random order and growing parts; and so, too,
    where what a row gets may depend on those beside it, for it must be the same each time. Raises Dominated."""
    rows = task.splits[split]
    if rival is None and model.dtype == "float64":
        return predict(model, program.frame, rows, prefix, advance)
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    written: list[str] = []
    size = racing.FIRST
    while len(written) < len(rows):
        part = [rows[i] for i in order[len(written) : len(written) + size]]
        written += predict(model, program.frame, part, prefix, advance)
        size *= 2
        if rival is None:
            continue
        seen = order[: len(written)]
        found = task.rewards(split, seen, written)
        if len(seen) < len(rows) and racing.is_dominated(found - rival[seen], len(rows)):
            raise Dominated(
                f"dominated: {found.mean():.3f} on {len(seen)} of {len(rows)} rows, where what it must beat "
                f"has {rival[seen].mean():.3f}",
                float(found.mean()),
            )
    return [text for _, text in sorted(zip(order, written, strict=True))]
