"""A program file's score: decoded into the model, run on a split, judged by the task's metric.

The file's bytes are all that this sees of a program.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from taskbits.models import work
from taskbits.models.model import Model
from taskbits.models.predict import Advance, predict
from taskbits.programs import decode
from taskbits.programs.export import standalone
from taskbits.programs.program import Program
from taskbits.search import racing
from taskbits.tasks.metrics import Score
from taskbits.tasks.rows import Row
from taskbits.tasks.task import Task

Rival = Callable[[float], np.ndarray | None]


@dataclass(frozen=True)
class Scored:
    """bytes: size of the standalone file. adapted: digest of what the program made of the model.

    flops_once, flops_per_input: floating-point operations of decoding, and of an input in the mean over the rows
    (`models.work`). By split: the rest.
    """

    bytes: int
    payload_bytes: int
    adapted: str
    flops_once: float | None
    flops_per_input: float | None
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
    rival: Rival | None = None,
    limit: float | None = None,
    former: bool = False,
) -> Scored:
    """Score a `.tbp` file's content on the named splits. The model is left as it was.

    rival: gives the scores on the rows of the one split of what a program must beat whose inputs take so many
    operations. Raises Dominated once the program is seen not to (`racing`), where a score is a mean over rows.
    limit: seconds that decoding may take. former: with the digest of the adapted model that former versions recorded.
    Raises UserError if the program is damaged, for another model, or an input is too long for it.
    """
    program = Program.from_bytes(content)
    tokens: list[int] = []
    with model.preserved(decode.changed(model, program)):
        with work.counted(model.lm) as once:
            prefix = decode.adapt(model, program, limit)
        adapted = decode.digest(model, program, prefix, former)

        def outputs(rows: list[Row]) -> list[str]:
            return predict(model, program.frame, rows, prefix, advance, spend=tokens.append)

        def beaten(rows: int) -> np.ndarray | None:
            return rival(work.per_token(model.lm) * sum(tokens) / rows)

        races = rival is not None and task.is_mean
        written = {split: _written(model, task, split, outputs, beaten if races else None) for split in splits}
    size = len(standalone(program, model.dtype))
    each = work.per_token(model.lm) * sum(tokens) / sum(len(task.splits[split]) for split in splits)
    scores = {split: task.score(split, texts) for split, texts in written.items()}
    return Scored(size, len(program.payload), adapted, float(sum(once)), each, scores, written)


def score_elsewhere(content: bytes, model: Model, task: Task, advance: Advance = lambda n: None) -> Score:
    """What a `.tbp` file's weights and its text score on the test split of another task, in that task's own frame.

    The model is left as it was. Raises UserError as `score` does.
    """
    with decode.adapted(model, Program.from_bytes(content)) as prefix:
        return task.score("test", predict(model, task.frame, task.splits["test"], prefix, advance))


def _written(
    model: Model,
    task: Task,
    split: str,
    outputs: Callable[[list[Row]], list[str]],
    rival: Callable[[int], np.ndarray | None] | None,
) -> list[str]:
    """The program's outputs for a split's rows: where it has a rival, in random order and growing parts; and so, too,
    where what a row gets may depend on those beside it, for it must be the same each time. Raises Dominated.

    rival: the scores of what is to be beaten, by what was seen of so many rows; there may be none.
    """
    rows = task.splits[split]
    if rival is None and model.dtype == "float64":
        return outputs(rows)
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    written: list[str] = []
    size = racing.FIRST
    while len(written) < len(rows):
        part = [rows[i] for i in order[len(written) : len(written) + size]]
        written += outputs(part)
        size *= 2
        if rival is None or len(written) == len(rows) or (other := rival(len(written))) is None:
            continue
        seen = order[: len(written)]
        found = task.rewards(split, seen, written)
        if racing.is_dominated(found - other[seen], len(rows)):
            raise Dominated(
                f"dominated: {found.mean():.3f} on {len(seen)} of {len(rows)} rows, where what it must beat "
                f"has {other[seen].mean():.3f}",
                float(found.mean()),
            )
    return [text for _, text in sorted(zip(order, written, strict=True))]
