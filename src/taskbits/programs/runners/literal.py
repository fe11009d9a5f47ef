"""A text as it is, a part of the code. It is compressed along with it, and no model's numbers matter to it."""

from taskbits.programs.runners import require

WORD = ""
CHANGES = "nothing"


def adapt(pipe, data, text):
    return text


def check(model, data, text):
    require(not len(data), "a literal text has no payload")
    require(type(text) is str, "text")
