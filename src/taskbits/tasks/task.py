"""A task: rows in three splits, a frame that asks them, a metric in [0, 1] that judges what comes back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from taskbits.errors import UserError
from taskbits.tasks import template
from taskbits.tasks.frame import Frame
from taskbits.tasks.metrics import Metric, Score, Unjudged
from taskbits.tasks.rows import Splits


@dataclass(frozen=True, eq=False)
class Task:
    """`splits` maps train, validation and test to rows (dicts of the JSONL's fields).

    origin: what `load_task` was asked for; its "task" is "" where that was a dict, which `given` then holds: settings
    as in a YAML file, and the source of the metric if it is a function.
    """

    name: str
    splits: Splits
    frame: Frame
    target: str
    metric: str
    description: str
    fingerprint: str
    _metric: Metric
    origin: dict
    given: tuple[dict, str]

    def prompts(self, split: str) -> list[str]:
        """The split's inputs, each in the prompt template."""
        return [self.frame.fill(row) for row in self.splits[split]]

    def targets(self, split: str) -> list[str]:
        """The reference outputs of the split."""
        return [template.fill(self.target, row) for row in self.splits[split]]

    def completions(self, split: str) -> list[str]:
        """What M is to go on with behind each prompt: the reference output, or the choice that it is written for."""
        return [self.frame.completion(target) for target in self.targets(split)]

    def examples(self, split: str) -> list[str]:
        """Each input in the prompt template with what M is to go on with behind it."""
        return [a + b for a, b in zip(self.prompts(split), self.completions(split), strict=True)]

    @property
    def separator(self) -> str:
        """What ends one example in a text of several: a stop string, so that the model learns to stop.

        A stop string of words (such as what begins the next input) is none that an example ends with.
        """
        return next((text for text in self.frame.stop if text.isspace()), "\n\n")

    def score(self, split: str, outputs: list[str]) -> Score:
        """Score the outputs for a split's rows, in their order. Raises UserError that names the row if one can't be."""
        return self._judged(self._metric.score, split, range(len(self.splits[split])), outputs)

    @property
    def is_mean(self) -> bool:
        """Whether the score of a split is the mean of the scores of its rows."""
        return self._metric.is_mean

    def rewards(self, split: str, indices: list[int], outputs: list[str]) -> np.ndarray:
        """The score of each output alone, for the rows of a split at `indices`. Raises UserError as `score` does."""
        return self._judged(self._metric.each, split, indices, outputs)

    def _judged(self, judge: Callable, split: str, indices: Sequence[int], outputs: list[str]):
        rows = [self.splits[split][i] for i in indices]
        try:
            return judge(outputs, [template.fill(self.target, row) for row in rows], rows)
        except Unjudged as error:
            prompt, number = self.frame.fill(rows[error.at]), indices[error.at] + 1
            raise UserError(f"{self.name}: {split}, row {number} ({prompt[-60:]!r}): {error.what}") from error
