"""A short text, searched for: what M itself would write after examples, then edited for score minus price times bytes.

It stands before the prompt, behind the input ("Let's think step by step", Kojima et al. 2022), or as the beginning of
the answer. The search for one before starts from examples of the train split, the task's description and texts that M
invents when it is shown a few examples; those are likely under M, so that they are cheap to code, too. That for another
starts from the description, some phrases and what M writes there by itself. Edits delete, replace, insert and move
spans of words. The price of a byte is swept, so that the programs walk along the frontier.
"""

import math
import random
from dataclasses import replace

import transformers

from taskbits.fitting.edits import climb
from taskbits.fitting.fitted import fitted
from taskbits.fitting.judge import judge
from taskbits.models.predict import predict
from taskbits.programs.coding import Coded
from taskbits.programs.texts import encode_text, ideal_bits
from taskbits.tasks.frame import PLACES, Frame

FAMILY = "inference control"
_SHOWN = 3  # examples that M sees before it invents one
_INVENTED = 16
_BEGUN = 12  # tokens of what M writes by itself
_PHRASES = (" Let's think step by step.", " The answer is", " Answer:", " That is,")


def sweep(model, task):
    prices = [{"price": price, "tries": tries} for tries in (100, 600) for price in (1e-3, 3e-4, 3e-3, 1e-4)]
    return [{**settings, **place} for settings in prices for place in ({}, *({"place": p} for p in PLACES[1:]))]


def fit(model, task, settings, seed, progress):
    judged, examples = judge(model, task, seed)
    judged = replace(judged, place=settings.get("place", PLACES[0]))
    if before := judged.place == PLACES[0]:
        texts = [example + task.separator for example in examples[: max(4, settings["tries"] // 8)]]
        described = task.description + "\n"
        starts = [*invented(model, task, texts, seed), *texts]
    else:
        described = " " + task.description
        starts = _begun(model, task, seed)
    starts = ["", *([] if before else _PHRASES), *([described] if task.description else []), *starts]
    price = settings["price"]
    found = climb(lambda text: judged.gain(text, price), starts, settings["tries"], seed, progress)
    text = judged.settle(["", *found], price)
    if before:
        return fitted("prompt-search", model, task, *encode_text(model, text))
    coded = Coded("plain", {}, b"", _bits(model, text), {"text": text, "place": judged.place})
    return fitted("prompt-search", model, task, coded, frame=model.placed(task.frame, text, judged.place))


def _begun(model, task, seed: int) -> list[str]:
    """What M begins to write by itself where the answer stands."""
    rows = random.Random(seed).sample(task.splits["train"], min(_INVENTED, len(task.splits["train"])))
    transformers.set_seed(seed)
    most = min(_BEGUN, task.frame.max_new_tokens)
    freely = replace(task.frame, choices=(), offsets=(), answers=(), max_new_tokens=most)
    with model.quick(writes=True):
        return list(filter(None, predict(model, freely, rows, sample=True)))


def _bits(model, text: str) -> float | None:
    bits = ideal_bits(model, text) if text else 0.0
    return bits if math.isfinite(bits) else None


def invented(model, task, texts: list[str], seed: int) -> list[str]:
    """Texts that M writes after some of these."""
    draw = random.Random(seed)
    transformers.set_seed(seed)
    length = max(len(model.tokenizer(text).input_ids) for text in texts)
    room = model.context // (_SHOWN + 1)
    if length > room:
        return []
    prompts = ["".join(draw.sample(texts, min(_SHOWN, len(texts)))) for _ in range(_INVENTED)]
    rows = [{"text": prompt} for prompt in prompts]
    found = predict(model, Frame("{text}", max_new_tokens=length), rows, sample=True)
    ends = [text.split(task.separator) for text in found]
    # The first one or two examples that M invents: an input may hold the separator itself.
    return [task.separator.join(parts[:n]) + task.separator for parts in ends for n in (1, 2) if "".join(parts[:n])]
