"""Training rows made to teach: those that `subset` chooses, then edited for score minus price times bytes.

An edit is judged by what training on the edited rows does to other rows of the train split (dataset distillation,
Wang et al. 2018, over texts instead of soft inputs: a text costs its bytes, a soft row thousands).
"""

from taskbits.fitting.edits import climb
from taskbits.fitting.fitted import fitted
from taskbits.fitting.judge import judge, taught
from taskbits.methods.subset import lesson
from taskbits.programs.texts import encode_text

FAMILY = "data"
_CHOSEN_FROM = 64


def sweep(model, task):
    prices = (1e-3, 3e-4)
    return [{"n": n, "price": price, "tries": tries} for n, tries in ((1, 60), (1, 300), (4, 200)) for price in prices]


def fit(model, task, settings, seed, progress):
    tries, price = settings["tries"], settings["price"]
    of = _CHOSEN_FROM + tries
    text, judged = lesson(
        model,
        task,
        settings["n"],
        _CHOSEN_FROM,
        seed,
        lambda done, all_of_them: progress(_CHOSEN_FROM * done // all_of_them, of),
    )
    _, examples = judge(model, task, seed)
    examples = taught(model, task, examples)
    found = climb(
        lambda text: judged.gain(text, price) if text.strip() else -1.0,
        [text, *examples[: tries // 8]],
        tries,
        seed,
        lambda done, _: progress(_CHOSEN_FROM + done, of),
    )
    text = judged.settle([text, *found], price)
    return fitted("distilled", model, task, *encode_text(model, text), then="train", **judged.lesson.settings)
