"""k examples of the train split before the input, coded under the model."""

import random

from taskbits.coding import encode_text
from taskbits.methods import fitted

FAMILY = "inference control"


def sweep(model, task):
    return [{"k": k} for k in (1, 2, 4, 8, 16)]


def fit(model, task, settings, seed, progress):
    text = demonstrations(task, settings["k"], seed)
    return fitted("few-shot", model, task, "prompt", encode_text(model, text))


def demonstrations(task, k: int, seed: int) -> str:
    """k examples drawn by the seed; a larger k begins with those of a smaller one."""
    examples = task.examples("train")
    random.Random(seed).shuffle(examples)
    return "".join(example + task.separator for example in examples[:k])
