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
    if (place := settings.get("place", PLACES[0])) != PLACES[0]:
        return _elsewhere(model, task, replace(judged, place=place), settings, seed, progress)
    count = max(4, settings["tries"] // 8)
    texts = [example + task.separator for example in examples[:count]]
    starts = ["", *([task.description + "\n"] if task.description else []), *invented(model, task, texts, seed), *texts]
    price = settings["price"]
    found = climb(lambda text: judged.gain(text, price), starts, settings["tries"], seed, progress)
    return fitted("prompt-search", model, task, *encode_text(model, judged.settle(["", *found], price)))


def _elsewhere(model, task, judged, settings, seed, progress):
    """A text behind the input or at the beginning of the answer."""
    rows = random.Random(seed).sample(task.splits["train"], min(_INVENTED, len(task.splits["train"])))
    transformers.set_seed(seed)
    with model.quick(writes=True):
        freely = replace(task.frame, choices=(), offsets=(), max_new_tokens=min(_BEGUN, task.frame.max_new_tokens))
        begun = predict(model, freely, rows, sample=True)
    starts = ["", *_PHRASES, *([" " + task.description] if task.description else []), *filter(None, begun)]
    price = settings["price"]
    found = climb(lambda text: judged.gain(text, price), starts, settings["tries"], seed, progress)
    text = judged.settle(["", *found], price)
    coded = Coded("plain", {}, b"", _bits(model, text), {"text": text, "place": judged.place})
    return fitted("prompt-search", model, task, coded, frame=model.placed(task.frame, text, judged.place))


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
