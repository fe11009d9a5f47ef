"""The commonest answers of the train split, listed before each prompt: what an answer may look like.

The list is the shortest that says it: no examples of inputs, no instruction. `count` is how many answers it holds.
"""

from collections import Counter

from taskbits.errors import UserError
from taskbits.fitting.fitted import fitted
from taskbits.programs.texts import encode_text

FAMILY = "inference control"


def sweep(model, task):
    """The settings to try, cheapest first."""
    kinds = len(set(task.targets("train")))
    return [{"count": count} for count in (2, 4, 8, 16, 32) if count <= kinds]


def fit(model, task, settings, seed, progress):
    """The program for these settings, found on the train split. `progress(done, of)` would report steps."""
    common = Counter(target.strip() for target in task.targets("train")).most_common(settings["count"])
    if any("\n" in answer for answer, _ in common):
        raise UserError("the answers have several lines, which a list can't show")
    text = "Answers: " + ", ".join(answer for answer, _ in common) + task.separator
    # Both ways to carry a text, as it is and coded under the model: the shorter file is kept.
    return fitted("answers", model, task, *encode_text(model, text))
