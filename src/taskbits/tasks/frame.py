"""The frame of a task: how inputs become prompts, and where outputs end. Knows nothing of metrics, nor of models."""

from dataclasses import dataclass, replace

from taskbits.errors import UserError
from taskbits.tasks import template
from taskbits.tasks.rows import Row

CHOOSE = ("likelihood", "per-character", "conditional")
PLACES = ("before", "behind", "answer")  # where a text may stand: before the prompt, else as `Frame.placed` has it


@dataclass(frozen=True)
class Frame:
    """How inputs become prompts and where outputs end: all that a program must know of its task.

    choices are full completions; when given, the likeliest one is the output and nothing is generated. As a text, they
    name the row's field that holds them. choose: what "likeliest" means, see the module. chat: a prompt, with whatever
    a program puts before it, is a user's turn; system, arguments (of the chat template: names and values) and date are
    what a task says of the chat. around: what that makes of it for a model, the texts before and behind the user's.
    offsets: a number for each choice, in nats, that is added to what it costs; none, or as many as choices. answers:
    what is written for each choice, if that is not the choice itself.
    """

    prompt: str
    stop: tuple[str, ...] = ()
    max_new_tokens: int = 64
    choices: tuple[str, ...] | str = ()
    choose: str = CHOOSE[0]
    chat: bool = False
    system: str = ""
    arguments: tuple[tuple[str, str | int | float | bool], ...] = ()
    date: str = ""
    around: tuple[str, ...] = ()
    offsets: tuple[float, ...] = ()
    answers: tuple[str, ...] = ()

    def fill(self, row: Row) -> str:
        """The row in the prompt template. Raises KeyError if it lacks a field."""
        return template.fill(self.prompt, row)

    def placed(self, text: str, place: str) -> "Frame":
        """The frame with a text "behind" the prompt's last field (in a chat behind all of it), or as the beginning of
        the "answer" that the model goes on with; in a chat that takes `around`."""
        if not text:
            return self
        if self.chat and place == "answer":
            before, behind = self.around
            return replace(self, around=(before, behind + text))
        if place == "answer" or self.chat:
            return replace(self, prompt=self.prompt + template.escape(text))
        return replace(self, prompt=template.behind(self.prompt, text))

    def options(self, row: Row) -> tuple[str, ...]:
        """The completions to choose from for this row. Raises UserError if its field holds none."""
        if not isinstance(self.choices, str):
            return self.choices
        found, given = row.get(self.choices), self.choose == "conditional"
        if not isinstance(found, dict if given else list) or not found or not all(map(_is_text, found)):
            kind = "map texts to choose from to what is given of them" if given else "be a list of texts to choose from"
            raise UserError(f"the field '{self.choices}' must {kind}, not {found!r}")
        return tuple(found)

    def written(self, row: Row) -> tuple[str, ...]:
        """What is written for each of the row's options, if it is chosen."""
        return self.answers or self.options(row)

    def right(self, row: Row, target: str) -> list[bool]:
        """For each of the row's options, whether the target is what is written for it."""
        return [text == target for text in self.written(row)]

    def completion(self, target: str) -> str:
        """What M is to go on with to give the target: the first choice that it is written for, or the target itself."""
        return self.choices[self.answers.index(target)] if target in self.answers else target

    def given(self, row: Row) -> tuple[str, ...]:
        """The start of each completion behind which its likelihood counts; none where that of the prompt may count too.

        Raises UserError if one is not the start of its completion.
        """
        return () if self.choose == "likelihood" else tuple(self.start(row, option) for option in self.options(row))

    def scale(self, option: str) -> int:
        """What the surprisal of this completion is divided by."""
        return max(1, len(option.strip())) if self.choose == "per-character" else 1

    def start(self, row: Row, option: str) -> str:
        """What is given of this completion. Raises UserError if that is not its start."""
        if self.choose != "conditional":
            return ""
        start = row[self.choices][option]
        if not isinstance(start, str) or not option.startswith(start) or start == option:
            raise UserError(f"the field '{self.choices}' gives {start!r} as the start of {option!r}")
        return start


def _is_text(value) -> bool:
    return isinstance(value, str) and value != ""
