"""A text that the model samples itself, from a seed, behind a stem.

The random numbers are those of the device's own generator: a seed that was found on a CPU gives another text on a GPU.
"""

import transformers

from taskbits.programs.runners import check_seed, require

WORD = ""
CHANGES = "nothing"


def adapt(pipe, data, stem, seed, count):
    transformers.set_seed(seed)
    return pipe(stem, max_new_tokens=count, do_sample=1)[0]["generated_text"]


def check(model, data, stem, seed, count):
    require(not len(data), "a sampled text has no payload")
    check_seed(seed)
    require(type(stem) is str, "stem")
    require(type(count) is int and count > 0, "count of tokens")
    require(len(model.tokenizer(stem).input_ids) + count < model.context, "the text is longer than the model's context")
