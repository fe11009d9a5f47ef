"""A text that M samples itself from a seed, after a stem or none; the program is the seed, the best of many.

The best of N samples costs log2 N bits and no decoder but a call of the sampler.
"""

import math

from taskbits.errors import UserError
from taskbits.fitting.fitted import fitted
from taskbits.fitting.judge import judge
from taskbits.programs.coding import Coded
from taskbits.programs.runners import sampled
from taskbits.tasks import template

FAMILY = "inference control"
_SETTLED = 4  # the best ones, judged anew


def sweep(model, task):
    return [{"tokens": tokens, "tries": tries} for tries in (16, 200) for tokens in (16, 32, 8)]


def fit(model, task, settings, seed, progress):
    judged, _ = judge(model, task, seed)
    stems = list(dict.fromkeys([model.start, template.head(task.frame.prompt).rstrip() or model.start]))
    found: dict[str, tuple[float, dict]] = {}
    tries = settings["tries"]
    for number in range(tries):
        progress(number, tries)
        drawn = {"stem": stems[number % len(stems)], "seed": number // len(stems), "count": settings["tokens"]}
        text = sampled.adapt(model.pipe, None, **drawn)
        try:
            found[text] = judged.worth(text), drawn
        except UserError:  # too long for the context
            continue
    if not found:
        raise UserError("no sampled text fits before the task's prompts")
    best = sorted(found, key=lambda text: -found[text][0])[:_SETTLED]
    text = judged.settle(best, 0.0)
    return fitted(
        "seeded-prompt", model, task, Coded("sampled", found[text][1], b"", math.log2(tries), {"text": text}, [text])
    )
