"""A sentence that says what the task is, then k drawn examples, as URIAL does (Lin et al. 2023)."""

from taskbits.errors import UserError
from taskbits.fitting.fitted import fitted
from taskbits.methods.few_shot import demonstrations
from taskbits.programs.texts import encode_text

FAMILY = "inference control"


def sweep(model, task):
    return [{"k": k} for k in (0, 1, 3)]


def fit(model, task, settings, seed, progress):
    if not task.description:
        raise UserError(f"method instructed needs a 'description' in the task {task.name}")
    text = task.description + "\n\n" + demonstrations(task, settings["k"], seed)
    return fitted("instructed", model, task, *encode_text(model, text))
