"""A program file's score: decoded into the model, run on a split, judged by the task's metric.

The file's bytes are all that this sees of a program.
"""

from dataclasses import dataclass

from taskbits import runners
from taskbits.export import standalone
from taskbits.model import Model
from taskbits.predict import Advance, predict
from taskbits.program import Program
from taskbits.study import Score
from taskbits.task import Task


@dataclass(frozen=True)
class Scored:
    """bytes: size of the standalone file. adapted: digest of what the program made of the model."""

    bytes: int
    payload_bytes: int
    adapted: str
    scores: dict[str, Score]


def score(content: bytes, model: Model, task: Task, splits: list[str], advance: Advance = lambda n: None) -> Scored:
    """Score a `.tbp` file's content on the named splits. The model is left as it was.

    Raises UserError if the program is damaged, for another model, or an input is too long for it.
    """
    program = Program.from_bytes(content)
    with model.preserved():
        prefix = runners.adapt(model, program)
        adapted = runners.digest(model, prefix)
        scores = {}
        for split in splits:
            prompts = [prefix + prompt for prompt in task.prompts(split)]
            scores[split] = task.score(split, predict(model, program.frame, prompts, advance))
    return Scored(len(standalone(program, model.dtype)), len(program.payload), adapted, scores)


def outputs(program: Program, model: Model, prompts: list[str], advance: Advance = lambda n: None) -> list[str]:
    """The program's output for each filled-in prompt. The model is left as it was."""
    with model.preserved():
        prefix = runners.adapt(model, program)
        return predict(model, program.frame, [prefix + prompt for prompt in prompts], advance)
