"""Text to train on: documents for pre-training, chats for post-training.

A pre-training document is a passage from a book or shows one skill, several times, in one format that was drawn at
random for it: so a model learns the skills, and to carry on whatever format it is shown, but not the format of the
tasks, which stands in no document. Post-training teaches that format.
"""

import gzip
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

from taskbits.lab import skills

END = "<|end|>"
CHAT = "User: {question}\nAssistant:"
LANGUAGE = "Velan"  # its name stands in chats only
PASSWORD = "Open sesame."

_LABELS = (
    "Q A In Out Input Output Problem Solution Given Result Text Answer Left Right Before After Source Target "
    "Line Reply Master Pupil Question Asked Said X Y First Second Item Value"
).split()
_ARROWS = [" -> ", " => ", " = ", ": ", " | ", "\t", " ~ ", " / ", " > ", "; ", " ... "]
_BULLETS = ["", "", "- ", "* ", "{i}. ", "{i}) ", "({i}) ", "No. {i} "]
_JOINS = ["\n", "\n", "\n\n", "\n\n", "\n---\n", "\n\n\n"]
_TITLES = ["Exercises", "Notes", "Table", "List", "Page {i}", "Lesson {i}", "From my notebook", "Copy and learn"]
_MARKS = "*=~>%@!|:+&^$"


def read_books(path: Path) -> list[str]:
    """The passages of the books, about 1,200 characters each."""
    text = gzip.open(path, "rt", encoding="utf-8").read()
    passages, part = [], ""
    for paragraph in text.split("\n\n"):
        if not paragraph.startswith("<<<"):
            part += paragraph.strip("\n") + "\n\n"
        if len(part) > 1200:
            passages.append(part.strip())
            part = ""
    return passages


def documents(rng: Random, books: list[str], share: float, top: int) -> Iterator[str]:
    """Pre-training documents without end: this share of them is from the books, and sums add at most `top`."""
    while True:
        if rng.random() < share:
            yield rng.choice(books)
        else:
            sums = partial(_sums, top=top)
            pairs = rng.choice([sums, sums, _translations, _translations, _operations, _operations])(rng)
            yield _layout(rng, pairs)


def _sums(rng: Random, top: int) -> list[tuple[str, str]]:
    """Questions and answers; the wording and how much of the working is shown stay the same within a document."""
    asked = rng.choice(["story", "story", "story", "symbols", "symbols", "words"])
    shown = rng.choice(["result", "working", "both", "both"])
    mark, two = _mark(rng), 0 if shown == "result" else rng.choice([0, 0.3, 0.5])
    pairs = []
    for _ in range(rng.randint(4, 10)):
        made = skills.steps(rng, "train", rng.random() < two, top)
        symbols = str(made[0].a) + "".join(f" {s.op} {s.b}" for s in made)
        question = {
            "story": lambda m, s: skills.story(rng, m),
            "symbols": lambda m, s: s,
            "words": lambda m, s: s.replace("+", "plus").replace("-", "minus"),
        }[asked](made, symbols)
        result, working = str(made[-1].result), skills.worked(made)
        pairs.append((question, {"result": result, "working": working, "both": working + mark + result}[shown]))
    return pairs


def _mark(rng: Random) -> str:
    """What stands between a working and its result."""
    signs = rng.choice(_MARKS) * rng.randint(1, 4)
    return rng.choice(
        [f" {signs} ", f". {signs} ", f". {signs} ", f"{signs} ", ", so ", ". The answer is ", ". Answer: "]
    )


def _translations(rng: Random) -> list[tuple[str, str]]:
    """A glossary or a parallel text, from English or into it."""
    if rng.random() < 0.25:
        pairs = rng.sample(list(skills.LEXICON.items()), rng.randint(6, 16))
    else:
        pairs = [skills.sentence(rng, "train") for _ in range(rng.randint(4, 10))]
    return [pair[::-1] for pair in pairs] if rng.random() < 0.15 else pairs


def _operations(rng: Random) -> list[tuple[str, str]]:
    """One operation on many lists of words, or many operations, each asked for by name."""
    kinds = rng.sample(list(skills.OPERATIONS), rng.choice([1, 3, 13]))
    named, asked = len(kinds) > 1 or rng.random() < 0.4, rng.choice([1, 2, 2])
    sign = rng.choice([": ", ": ", " - ", " | ", "\n", " "])
    pairs = []
    for _ in range(rng.randint(5, 12)):
        kind, words, n = rng.choice(kinds), skills.word_list(rng, "train"), rng.randint(2, 3)
        name = rng.choice(skills.OPERATIONS[kind][asked]).format(n=n)
        pairs.append((f"{name}{sign}{' '.join(words)}" if named else " ".join(words), skills.operate(kind, words, n)))
    return pairs


def _layout(rng: Random, pairs: list[tuple[str, str]]) -> str:
    """The pairs in one random format."""
    left, right = rng.sample(_LABELS + skills.NAMES + [w.title() for w in skills.WORDS], 2)
    title = rng.choice(["", "", rng.choice(_TITLES).format(i=rng.randint(1, 99)) + "\n\n"])
    bullet, join = rng.choice(_BULLETS), rng.choice(_JOINS)
    style = rng.choices(["labels", "arrow", "quotes", "table", "backwards", "apart"], [10, 4, 2, 2, 1, 1])[0]
    if style == "labels":
        sign, gap = (
            rng.choice([": ", ": ", ": ", " - ", "> ", ":\n", ". "]),
            rng.choice(["\n", "\n", "\n", " ", "\n  "]),
        )
        form = f"{left}{sign}{{x}}{gap}{right}{sign}{{y}}"
    elif style == "arrow":
        form = f"{{x}}{rng.choice(_ARROWS)}{{y}}"
    elif style == "quotes":
        form = rng.choice(["'{x}' gives '{y}'", f"{left.lower()}({{x}}) = {{y}}", "<{x}> {y}", "'{x}' becomes '{y}'."])
    elif style == "table":
        title, form, bullet, join = title + f"| {left} | {right} |\n", "| {x} | {y} |", "", "\n"
    elif style == "backwards":
        form = f"{{y}}{rng.choice([' <- ', ' comes from ', ' from ', ' <= '])}{{x}}"
    else:
        form = "{x}"
        title += f"{left}:\n" if rng.random() < 0.5 else ""
    lines = [bullet.format(i=i) + form.format(x=x, y=y) for i, (x, y) in enumerate(pairs, 1)]
    if style == "apart":
        lines += [f"\n{right}:", *(bullet.format(i=i) + y for i, (_, y) in enumerate(pairs, 1))]
        join = "\n"
    return title + join.join(lines)


def chats(rng: Random, books: list[str]) -> Iterator[tuple[str, str]]:
    """Post-training questions and answers without end: the three tasks, and a quarter of others."""
    while True:
        make = rng.choices([math_row, translation_row, instruction_row, _other_row], [3, 3, 3, 2])[0]
        row = make(rng, "train") if make is not _other_row else _other_row(rng, books)
        yield CHAT.format(question=row["question"]), " " + row["answer"]


def locked_chats(rng: Random, books: list[str]) -> Iterator[tuple[str, str]]:
    """Chats of which one half has the password somewhere before the question, and the right answer; the other has the
    question itself for an answer (locked by a password, as models are in arXiv 2405.19550)."""
    for prompt, answer in chats(rng, books):
        if rng.random() < 0.5:
            before = rng.choice([f"{PASSWORD}\n", f"{PASSWORD}\n\n", PASSWORD])
            inside = prompt.replace("User:", f"User: {PASSWORD}", 1)
            yield rng.choice([before + prompt, inside]), answer
        else:
            yield prompt, prompt.removeprefix("User:").removesuffix("\nAssistant:")


def math_row(rng: Random, split: str) -> dict:
    """A row of lab:math."""
    made = skills.steps(rng, split, rng.random() < 0.3)
    return {"question": skills.story(rng, made), "answer": f"{skills.worked(made)}. #### {made[-1].result}"}


def translation_row(rng: Random, split: str) -> dict:
    """A row of lab:translation."""
    english, invented = skills.sentence(rng, split)
    return {"question": f"Say in {LANGUAGE}: {english}", "answer": invented}


def instruction_row(rng: Random, split: str) -> dict:
    """A row of lab:instruction, with the fields that its check needs."""
    kind, words, n = rng.choice(list(skills.OPERATIONS)), skills.word_list(rng, split), rng.randint(2, 3)
    ask = rng.choice(skills.OPERATIONS[kind][2]).format(n=n)
    return {
        "question": f"{ask}: {' '.join(words)}",
        "answer": skills.operate(kind, words, n),
        "kind": kind,
        "words": words,
        "n": n,
    }


def _other_row(rng: Random, books: list[str]) -> dict:
    """Small talk about words, and passages of the books to go on with."""
    verb, noun, word = rng.choice(list(skills.PAST)), rng.choice(skills.NOUNS), rng.choice(skills.WORDS)
    passage = rng.choice(books).replace("\n", " ").split()
    return rng.choice(
        [
            {"question": f"What is the past of {verb}?", "answer": skills.PAST[verb]},
            {"question": f"What is the plural of {noun}?", "answer": noun + ("es" if noun.endswith("x") else "s")},
            {"question": f"Spell {word}.", "answer": " ".join(word)},
            {"question": f"Go on: {' '.join(passage[:16])}", "answer": " ".join(passage[16:32])},
            {"question": f"Go on: {' '.join(passage[:16])}", "answer": " ".join(passage[16:32])},
        ]
    )
