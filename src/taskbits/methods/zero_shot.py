"""The prompt template alone: what the model does without being told anything."""

from taskbits.coding import Coded
from taskbits.fitted import fitted

FAMILY = "inference control"


def sweep(model, task):
    return [{}]


def fit(model, task, settings, seed, progress):
    return fitted("zero-shot", model, task, Coded("plain"))
