"""n training examples, and the decoder trains on them: drawn at random (tries=1), or chosen for what each byte brings.

Random ones are coded under the model as it learns them, batch by batch. Chosen ones are the best of `tries`, judged by
what training on them does to other rows of the train split; so are the optimizer, the learning rate and the number of
steps. They are few, so they are carried as one text: as it is, or coded under the model before it learns.
"""

import random
from dataclasses import replace

from taskbits.errors import UserError
from taskbits.fitting.decoders import affordable
from taskbits.fitting.fitted import fitted
from taskbits.fitting.judge import Judge, Lesson, between, choose, ending, judge, taught
from taskbits.programs.texts import encode_examples, encode_text, example_bits

FAMILY = "data"
_PASSES = 8
_STEPS = 32  # at least so many steps, however few the examples are
_PLANS = (16, 32, 64, 128)  # steps that a lesson of chosen examples may take
_RATE = 3e-4
_PRICE = 3e-4  # of a byte, in score
_FRESH = 64  # examples, of which it is told what they cost once others are learned


def sweep(model, task):
    sizes = [n for n in (4, 16, 64, 256, 1024) if n <= len(task.splits["train"])]
    chosen = [{"n": n, "tries": tries} for tries in (8, 64) for n in (1, 2, 4, 8)]
    drawn = [{"n": n, "tries": 1, "rate": rate} for n in sizes for rate in (1e-3, 3e-4)]
    return [*drawn[:1], *chosen[:4], *drawn[1:4], *chosen[4:], *drawn[4:]]


def fit(model, task, settings, seed, progress):
    n, tries = settings["n"], settings["tries"]
    if tries == 1:
        return _drawn(model, task, n, settings["rate"], seed, progress)
    text, judged = lesson(model, task, n, tries, seed, progress)
    return fitted("subset", model, task, *encode_text(model, text), then="train", **judged.lesson.settings)


def lesson(model, task, n: int, tries: int, seed: int, progress) -> tuple[str, Judge]:
    """n examples, chosen, as one text, and a judge with the lesson that suits them best."""
    judged, examples = judge(model, task, seed)
    examples = taught(model, task, examples)
    apart = between(examples)
    first, *others = affordable(model)
    plain = Lesson(apart, ending(model, task), max(1, _STEPS // n), first.pace * _RATE, first.optimizer, first.target)
    judged = replace(judged, lesson=plain)
    of = tries + 24 * (n - 1) + 7 + len(others)
    chosen = choose(
        lambda some: judged.gain(apart.join(some), _PRICE), examples[:tries], n, lambda done, _: progress(done, of)
    )
    text = apart.join(chosen)
    lessons = [replace(judged.lesson, epochs=max(1, steps // n)) for steps in _PLANS]
    for part in range(2):  # the number of steps, then the rate and the optimizer
        gains = {}
        for number, plan in enumerate(lessons):
            progress(of - 7 - len(others) + 4 * part + number, of)
            gains[plan] = replace(judged, lesson=plan).gain(text, _PRICE)
        best = max(gains, key=gains.__getitem__)
        lessons = [best, replace(best, rate=plain.rate / 3), replace(best, rate=3 * plain.rate)]
        lessons += [replace(best, rate=d.pace * _RATE, optimizer=d.optimizer, target=d.target) for d in others]
    return text, replace(judged, lesson=best)


def _drawn(model, task, n: int, rate: float, seed: int, progress):
    examples = sorted(set(taught(model, task, task.examples("train"))))
    if n > len(examples):
        raise UserError(f"the train split has {len(examples)} examples, not {n}")
    random.Random(seed).shuffle(examples)
    rows = max(4, min(16, n // 16))
    epochs = max(_PASSES, _STEPS * rows // n)
    first, *_ = affordable(model)
    fresh = examples[n : n + _FRESH]
    bits = [example_bits(model, fresh)] if fresh else []
    with model.preserved([name for name in model.names if first.target in name]):  # it learns them
        ways = encode_examples(
            model, examples[:n], rows, epochs, first.pace * rate, progress, first.optimizer, first.target
        )
        bits += [example_bits(model, fresh)] if fresh else []
    if fresh:  # what is coded as it is learned, less what it would cost with all of that known (arXiv 2601.04728)
        before, after = bits
        told = {"excess_description_length": f"{ways[0].ideal_bits - n * after:,.1f} bits"}
        told["bits_of_a_new_example"] = f"{before:,.1f} before, {after:,.1f} after"
        ways = [replace(way, content={**way.content, **told}) for way in ways]
    return fitted("subset", model, task, *ways)
