"""k examples of the train split before the input: drawn at random (tries=1), or chosen for what each byte brings.

Chosen ones, their order included, are the best of `tries` on rows of the train split that none of them is from.
"""

import random

from taskbits.fitting.fitted import fitted
from taskbits.fitting.judge import choose, judge
from taskbits.programs.texts import encode_text

FAMILY = "inference control"
_PRICE = 3e-4  # of a byte, in score


def sweep(model, task):
    plan = [(1, 1), (1, 32), (2, 32), (2, 1), (4, 1), (4, 32), (8, 1), (8, 32), (16, 1)]
    return [{"k": k, "tries": tries} for k, tries in [*plan, *((k, 256) for k in (1, 2, 3, 4, 6, 8))]]


def fit(model, task, settings, seed, progress):
    k, tries = settings["k"], settings["tries"]
    if tries == 1:
        text = demonstrations(task, k, seed)
    else:
        judged, examples = judge(model, task, seed)

        def joined(some: list[str]) -> str:
            return "".join(example + task.separator for example in some)

        text = joined(choose(lambda some: judged.gain(joined(some), _PRICE), examples[:tries], k, progress))
    return fitted("few-shot", model, task, *encode_text(model, text))


def demonstrations(task, k: int, seed: int) -> str:
    """k examples drawn by the seed; a larger k begins with those of a smaller one."""
    examples = task.examples("train")
    random.Random(seed).shuffle(examples)
    return "".join(example + task.separator for example in examples[:k])
