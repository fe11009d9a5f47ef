"""A short text, searched for: what M itself would write after examples, then edited for score minus price times bytes.

The search starts from examples of the train split, the task's description and texts that M invents when it is shown a
few examples; those are likely under M, so that they are cheap to code, too. Edits delete, replace, insert and move
spans of words. The price of a byte is swept, so that the programs walk along the frontier.
"""

import random

import transformers

from taskbits.fitting.edits import climb
from taskbits.fitting.fitted import fitted
from taskbits.fitting.judge import judge
from taskbits.models.predict import predict
from taskbits.programs.texts import encode_text
from taskbits.tasks.frame import Frame

FAMILY = "inference control"
_SHOWN = 3  # examples that M sees before it invents one
_INVENTED = 16


def sweep(model, task):
    return [{"price": price, "tries": tries} for tries in (100, 600) for price in (1e-3, 3e-4, 3e-3, 1e-4)]


def fit(model, task, settings, seed, progress):
    judged, examples = judge(model, task, seed)
    count = max(4, settings["tries"] // 8)
    texts = [example + task.separator for example in examples[:count]]
    starts = ["", *([task.description + "\n"] if task.description else []), *invented(model, task, texts, seed), *texts]
    price = settings["price"]
    found = climb(lambda text: judged.gain(text, price), starts, settings["tries"], seed, progress)
    return fitted("prompt-search", model, task, *encode_text(model, judged.settle(["", *found], price)))


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
