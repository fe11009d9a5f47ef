"""The prompt template alone: what the model does without being told anything."""

from taskbits.fitting.fitted import fitted
from taskbits.programs.coding import Coded

FAMILY = "inference control"


def sweep(model, task):
    return [{}]


def fit(model, task, settings, seed, progress):
    return fitted("zero-shot", model, task, Coded("plain"))
