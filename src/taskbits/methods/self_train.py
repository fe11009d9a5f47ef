"""Data that M makes itself: a few chosen examples teach it the form, then it trains on answers that it agrees on.

The program is those examples, a seed, a check (a pattern that an answer must have, and agreement among eight
samples) and a loop. The inputs are M's own inventions, so that they cost nothing.
"""

import re
from dataclasses import replace

from taskbits.errors import UserError
from taskbits.fitting.fitted import fitted
from taskbits.fitting.judge import taught
from taskbits.methods.subset import lesson
from taskbits.programs import decode
from taskbits.programs.texts import encode_text
from taskbits.tasks import template
from taskbits.tasks.frame import Frame

FAMILY = "data"
_CHOSEN_FROM = 64
_PACE = 1e-4  # learning rate of the loop


def sweep(model, task):
    return [{"n": n, "rounds": rounds, "number": 64} for rounds in (1, 4) for n in (1, 2, 4)]


def fit(model, task, settings, seed, progress):
    prompt = form(model, task)
    cut = template.tail(prompt)
    if not cut.strip():
        raise UserError("method self-train needs a prompt with text behind its last field, where an input ends")
    text, judged = lesson(model, task, settings["n"], _CHOSEN_FROM, seed, progress)
    examples = taught(model, task, task.examples("train"))
    lengths = [len(model.tokenizer(example).input_ids) for example in examples]
    loop = {
        "stem": template.head(prompt).rstrip() or model.start,
        "cut": cut,
        "pattern": pattern(prompt, task.frame),
        "seed": seed,
        "rounds": settings["rounds"],
        "number": settings["number"],
        "count": min(max(lengths) + 8, model.context // 2),
        "pace": _PACE,
    }
    ways = encode_text(model, text)
    found = fitted("self-train", model, task, *ways, then="train+self_train", **loop, **judged.lesson.settings)
    [part] = found.program.parts
    with model.preserved():
        decoded = decode.results(model, part)
    program = replace(found.program, parts=(replace(part, checksum=decode.checksum(decoded)),))
    return replace(found, program=program, content={**found.content, "made by the model": decoded[-1][1]})


def form(model, task) -> str:
    """The prompt template, in a chat task within the model's chat template."""
    if not task.frame.chat:
        return task.frame.prompt
    before, behind = model.around(task.frame)
    return template.escape(model.unbegun(before)) + task.frame.prompt + template.escape(behind)


def pattern(prompt: str, frame: Frame) -> str:
    """A regular expression for a whole example: the prompt's own text, anything in its fields, an output, a stop."""
    begin, *others = map(re.escape, template.texts(prompt))
    form = ".+".join([begin, *filter(None, others[:-1]), *others[-1:]])  # fields side by side are one
    if frame.choices and not isinstance(frame.choices, str):
        return f"{form}(?:{'|'.join(map(re.escape, frame.choices))})"
    return f"{form}.+{re.escape(frame.stop[0]) if frame.stop else ''}"
