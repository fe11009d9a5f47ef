"""Nothing is added to the model: the prompt template alone."""

from taskbits.runners import require


def adapt(model, tokenizer, data):
    return ""


def check(model, data):
    require(not data, "the plain runner has no payload")
