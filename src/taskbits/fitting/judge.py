"""What a text is worth to a task, and what it adds to a file: for methods that choose among many texts.

Judges on development rows: some of the task's train split, which the methods take no examples from. Everything is
estimated quickly (one forward pass a row, in float32); what is chosen is then coded and scored as any program.
"""

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property

from taskbits.errors import UserError
from taskbits.fitting.kept import kept
from taskbits.models.model import Model
from taskbits.models.predict import asked, likelihoods
from taskbits.programs.export import rough_size
from taskbits.programs.program import Part, Program
from taskbits.programs.runners import train
from taskbits.programs.texts import ideal_bits
from taskbits.tasks.frame import PLACES, Frame
from taskbits.tasks.task import Task

_ROWS = 32
_POOL = 12
_BETWEEN = ("\n\n", "\n~\n", "\0")


@dataclass(frozen=True)
class Lesson:
    """Training on a text, as the runner `train` does it: its settings."""

    between: str
    ending: str
    epochs: int
    rate: float
    optimizer: str = "Adam"
    target: str = ""

    @property
    def settings(self) -> dict:
        """Those of the runner, without what it takes anyway."""
        usual = {entry.name: entry.default for entry in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != usual[name]}


@dataclass(frozen=True)
class Judge:
    """Judges texts that go to a place in each prompt or, with a lesson, that the model is trained on.

    rows: those of the train split that it judges on, by number. held: more of them, for the last choice between a few.
    """

    model: Model
    task: Task
    rows: tuple[int, ...]
    held: tuple[int, ...]
    lesson: Lesson | None = None
    place: str = PLACES[0]

    def worth(self, text: str) -> float:
        """How near the model comes to the references, from 0 to 1."""
        what = self.model.fingerprint, self.rows, self.lesson, self.place
        known = kept(self.task, "worths").setdefault(what, {})
        if text not in known:
            known[text] = self._taught(text) if self.lesson else self._prompted(text)
        return known[text]

    def size(self, text: str) -> float:
        """About how many bytes the text adds to a file, lesson included, coded in the shorter way if it may be."""
        if self.place != PLACES[0]:
            return self._bare_size(self.model.placed(self.task.frame, text, self.place)) - self._plain
        literal = self._rough_size("literal", text=text)
        if literal > self._coded:  # else there is no need to know what the text costs under the model
            with self.model.quick():
                literal = min(literal, self._coded + ideal_bits(self.model, text) / 8)
        return literal - self._plain

    @cached_property
    def _coded(self) -> int:
        """Of a file with a coded text, without the text."""
        return self._rough_size("coded", start=self.model.start, count=99, heat=1)

    @cached_property
    def _plain(self) -> int:
        return self._bare_size(self.task.frame)

    def _bare_size(self, frame: Frame) -> int:
        return rough_size(Program("zero-shot", b"", frame, (Part("plain"),)), self.model.dtype)

    def _rough_size(self, runner: str, **settings) -> int:
        """Of a file with this runner, and the training behind it if there is a lesson."""
        then = self.lesson.settings if self.lesson else {}
        part = Part(runner + "+train" * bool(then), {**settings, **then})
        return rough_size(Program("zero-shot", b"", self.task.frame, (part,)), self.model.dtype)

    def gain(self, text: str, price: float) -> float:
        """Worth minus what the text's bytes cost at `price` a byte; -1 for a text that can't be used."""
        try:
            return self.worth(text) - price * self.size(text)
        except UserError:
            return -1.0

    def settle(self, texts: list[str], price: float) -> str:
        """The text with the largest gain on the held rows: the winner of many tries owes some of its gain to luck."""
        fresh = replace(self, rows=self.held)
        return max(texts, key=lambda text: fresh.gain(text, price))

    def _prompted(self, text: str) -> float:
        with self.model.quick():
            if self.place == PLACES[0]:
                return self._mean(self.task.frame, text)
            return self._mean(self.model.placed(self.task.frame, text, self.place))

    def _taught(self, text: str) -> float:
        train.check(self.model, (), text, **self.lesson.settings)
        names = [name for name in self.model.names if self.lesson.target in name]
        with self.model.preserved(names), self.model.single_precision():
            train.adapt(self.model.pipe, None, text, **self.lesson.settings)
            return self._mean(self.task.frame)

    def _mean(self, frame: Frame, prefix: str = "") -> float:
        rows = [self.task.splits["train"][i] for i in self.rows]
        targets = self.task.targets("train")
        found = likelihoods(self.model, frame, rows, [targets[i] for i in self.rows], prefix)
        return sum(found) / len(found)


def judge(model: Model, task: Task, seed: int) -> tuple[Judge, list[str]]:
    """A judge on some of the train rows, and the others as examples, in an order drawn by the seed.

    Raises UserError if there are too few rows.
    """
    number: dict[str, int] = {}
    for i, example in enumerate(task.examples("train")):
        number.setdefault(example, i)
    examples = list(number)
    random.Random(seed).shuffle(examples)
    if len(examples) < 4:
        raise UserError(f"the train split has {len(examples)} different rows: to choose among them takes at least 4")
    seen, held = min(_ROWS, len(examples) // 4), min(2 * _ROWS, len(examples) // 4)
    rows = [number[example] for example in examples[: seen + held]]
    return Judge(model, task, tuple(rows[:seen]), tuple(rows[seen:])), examples[seen + held :]


def taught(model: Model, task: Task, examples: list[str]) -> list[str]:
    """Examples as the model is to see them in training: in a chat task, in its chat template.

    The runners that train let the tokenizer begin a text as it does; where a template does not, rows have that more.
    """
    if not task.frame.chat:
        return examples
    prompts = asked(model, task.frame, task.splits["train"])
    begun = map(model.unbegun, prompts)
    turns = dict(zip(task.examples("train"), map(str.__add__, begun, task.completions("train")), strict=True))
    return [turns[example] for example in examples]


def between(examples: list[str]) -> str:
    """What may stand between examples that are joined to one text. Raises UserError if all choices stand in them."""
    for text in _BETWEEN:
        if not any(text in f"{example}\n" for example in examples):
            return text
    raise UserError("the examples hold every text that could stand between them")


def ending(model: Model, task: Task) -> str:
    """What the model must learn to write behind an output: a stop string, its end token, or nothing after a choice."""
    if task.frame.choices:
        return ""
    end = model.turn_end if task.frame.chat else model.end
    return task.frame.stop[0] if task.frame.stop else model.tokenizer.decode([end])


def choose(
    gain: Callable[[list[str]], float], examples: list[str], count: int, progress: Callable[[int, int], None]
) -> list[str]:
    """`count` examples in an order, chosen one by one: each comes first or last, where the gain is largest.

    All examples are tried as the first one; the best of those as the others. Raises UserError if there are too few.
    """
    if count > len(examples):
        raise UserError(f"{count} examples can't be chosen from {len(examples)}")
    chosen: list[str] = []
    most = max(_POOL, count)
    pool, of = examples, len(examples) + 2 * most * (count - 1)
    done = 0
    for _ in range(count):
        tried = {}
        for example in pool:
            if example in chosen:
                continue
            for order in ([*chosen, example], [example, *chosen])[: 1 + bool(chosen)]:
                progress(min(done, of - 1), of)
                done += 1
                tried[tuple(order)] = gain(order)
        ranked = sorted(tried, key=tried.__getitem__, reverse=True)
        if not chosen:
            pool = [order[0] for order in ranked[:most]]
        chosen = list(ranked[0])
    return chosen
