"""Nothing is added to the model: the prompt template alone."""

from taskbits.programs.runners import require

WORD = ""
CHANGES = "nothing"


def adapt(pipe, data):
    return ""


def check(model, data):
    require(not len(data), "the plain runner has no payload")
