"""Words that M is asked about in the place of the choices: "retail" for Business, "coach" for Sports.

Verbalizers (Schick & Schütze 2021), found in the whole vocabulary: one pass over train rows gives what each token costs
behind each prompt, and a search on these figures alone puts one word after the other where the right answers then cost
the least, at a price of bytes. Several words may stand for a choice; the cheapest of all decides.
"""

import itertools
import math
from dataclasses import replace

import numpy as np
import torch

from taskbits.errors import UserError
from taskbits.fitting.fitted import fitted
from taskbits.fitting.kept import kept
from taskbits.models.predict import asked, following
from taskbits.programs.coding import Coded

FAMILY = "inference control"
_ROWS = 800
_TRIED = 100  # words for an answer
_MOST = 8  # words of an answer
_PASSES = 6
_AROUND = 4  # characters of code around a word
_SCALES = [10 ** (power / 4) for power in range(-6, 3)]  # of surprisals, of which the likeliest counts


def sweep(model, task):
    choices = task.frame.choices
    if isinstance(choices, str) or len(choices) < 2 or task.frame.choose != "likelihood":
        return []
    return [{"price": price} for price in (1e-3, 3e-3, 3e-4, 1e-2, 1e-4)]


def fit(model, task, settings, seed, progress):
    answers = list(dict.fromkeys(task.frame.answers or task.frame.choices))
    words, costs, right = _candidates(model, task, answers, seed)
    chosen = _search(words, costs, right, settings["price"], progress)
    pairs = [(words[k][i], answers[k]) for k, i in chosen]
    frame = replace(task.frame, choices=tuple(w for w, _ in pairs), answers=tuple(a for _, a in pairs), offsets=())
    bits = len(pairs) * math.log2(len(model.tokenizer))
    return fitted("label-words", model, task, Coded("plain", {}, b"", bits, {"words": dict(pairs)}), frame=frame)


def _candidates(model, task, answers: list[str], seed: int):
    """For each answer the words that tell it best from the others and what they cost, (rows, words) in nats; and the
    rows' answers, by number.

    Raises UserError if a choice is no train row's, or no single token is a word.
    """
    known = kept(task, "label words")
    if (what := (model.fingerprint, seed)) not in known:
        targets = task.targets("train")
        order = np.random.RandomState(seed).permutation(len(targets))
        order = [i for i in order.tolist() if targets[i] in answers][:_ROWS]
        rows, right = [task.splits["train"][i] for i in order], torch.tensor([answers.index(targets[i]) for i in order])
        if absent := [answer for k, answer in enumerate(answers) if k not in right]:
            raise UserError(f"no row of the train split that label words are found on has the choice {absent[0]!r}")
        lead = " " if all(choice.startswith(" ") for choice in task.frame.choices) else ""
        numbers, texts = zip(*((number, lead + word) for number, word in _words(model).items()), strict=True)
        with model.quick():
            costs = following(model, task.frame, rows, list(numbers))
        prompt = asked(model, task.frame, rows[:1])[0]
        before = model.tokens(prompt, task.frame.chat)
        words, columns = [], []
        for k in range(len(answers)):
            mine, others = costs[right == k], costs[right != k]
            spread = (mine.var(0, correction=0) + others.var(0, correction=0) + 1e-6).sqrt()
            order = ((others.mean(0) - mine.mean(0)) / spread).argsort(descending=True).tolist()
            alone = (at for at in order if model.tokens(prompt + texts[at], task.frame.chat) == [*before, numbers[at]])
            found = {texts[at]: at for at in itertools.islice(alone, _TRIED)}
            words.append(list(found))
            columns.append(costs[:, list(found.values())].double())
        known[what] = words, columns, right
    return known[what]


def _search(words, costs, right, price: float, progress) -> list[tuple[int, int]]:
    """Words by answer and number, those of an answer together, where no other, no more and no fewer gain.

    words, costs, right: as `_candidates` has them.
    """
    chosen = [(k, 0) for k in range(len(words))]
    for done in range(_PASSES):
        progress(done, _PASSES)
        before = list(chosen)
        for slot in [*before, *((k, None) for k in range(len(words)))]:
            k, rest = slot[0], [word for word in chosen if word != slot]
            if slot[1] is None and sum(word[0] == k for word in rest) == _MOST:
                continue
            values = _values(words, costs, right, price, k, rest)
            best = int(values.argmin())
            chosen = sorted([*rest, (k, best)] if best < len(words[k]) else rest)
        if chosen == before:
            break
    return chosen


def _values(words, costs, right, price: float, k: int, rest: list[tuple[int, int]]) -> torch.Tensor:
    """What the right answers and the bytes of all words cost with each word for answer k beside the rest; at the end,
    with none."""
    taken = {words[answer][i] for answer, i in rest}
    columns = torch.stack([costs[answer][:, i] for answer, i in rest], 1)
    theirs = torch.tensor([answer for answer, _ in rest]) == right[:, None]
    means = []
    for scale in _SCALES:
        whole = (-scale * columns).logsumexp(1, keepdim=True)
        good = (-scale * columns).masked_fill(~theirs, -math.inf).logsumexp(1, keepdim=True)
        mine = -scale * torch.cat([costs[k], torch.full((len(right), 1), math.inf, dtype=costs[k].dtype)], 1)
        good = torch.where(right[:, None] == k, good.logaddexp(mine), good)
        means.append((whole.logaddexp(mine) - good).mean(0))
    sizes = [math.inf if word in taken else len(word.encode()) + _AROUND for word in words[k]]
    return torch.stack(means).amin(0) + price * torch.tensor([*sizes, 0])


def _words(model) -> dict[int, str]:
    """The vocabulary's tokens that are words, or pieces of such, by number."""
    texts = model.tokenizer.batch_decode([[number] for number in range(len(model.tokenizer))])
    words = {number: text.strip() for number, text in enumerate(texts)}
    return {number: word for number, word in words.items() if word.isalnum()}
