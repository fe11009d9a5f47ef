"""n training examples coded under the model as it learns them; the decoder replays the training."""

import random

from taskbits.coding import encode_examples
from taskbits.errors import UserError
from taskbits.methods import fitted

FAMILY = "data"
_PASSES = 8
_STEPS = 32  # at least so many steps, however few the examples are


def sweep(model, task):
    sizes = [n for n in (4, 8, 16, 32, 64, 128, 256, 512, 1024) if n <= len(task.splits["train"])]
    return [{"n": n, "rate": rate} for n in sizes for rate in (1e-3, 3e-4)]


def fit(model, task, settings, seed, progress):
    examples = sorted(set(task.examples("train")))
    if settings["n"] > len(examples):
        raise UserError(f"the train split has {len(examples)} examples, not {settings['n']}")
    random.Random(seed).shuffle(examples)
    rows = max(4, min(16, settings["n"] // 16))
    epochs = max(_PASSES, _STEPS * rows // settings["n"])
    coded = encode_examples(model, examples[: settings["n"]], rows, epochs, settings["rate"], progress)
    return fitted("subset", model, task, "data", coded)
