"""What a person sees while something long goes on: a bar on a terminal, and lines where there is none; and what not."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partialmethod

import tqdm
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

console = Console(stderr=True, highlight=False, emoji=False)  # "lab:locked:" is none
_hushed = False

# Modules that turn progress bars on and off: what to ask, what they answer if bars are on, and how to turn them. The
# last turns the first's bars, too, so it is the first to be set back.
_BARS = {
    "huggingface_hub.utils": ("are_progress_bars_disabled", False, "disable_progress_bars", "enable_progress_bars"),
    "datasets": ("are_progress_bars_disabled", False, "disable_progress_bars", "enable_progress_bars"),
    "transformers.utils.logging": ("is_progress_bar_enabled", True, "disable_progress_bar", "enable_progress_bar"),
}


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, libraries only say what they raise: they log nothing and show no progress, and nothing is to be renamed.

    For the whole of a process of this package, or for one call of a library. At the end all is as it was. Progress bars
    of a library that is only loaded inside stay.
    """
    level = logging.root.manager.disable
    with ExitStack() as after, warnings.catch_warnings():
        after.callback(logging.disable, level)
        logging.disable(max(level, logging.ERROR))
        # What is to be renamed in a library is nothing that a person can act on, whichever module the warning names.
        warnings.filterwarnings("ignore", category=FutureWarning)
        start = vars(tqdm.std.tqdm)["__init__"]
        after.callback(setattr, tqdm.std.tqdm, "__init__", start)
        tqdm.std.tqdm.__init__ = partialmethod(start, disable=True)  # for those who ask nobody
        for name, (asked, if_on, off, on) in _BARS.items():
            if library := sys.modules.get(name):
                after.callback(getattr(library, on if getattr(library, asked)() == if_on else off))
                getattr(library, off)()
        yield


def stdout() -> Console:
    """Where tables are printed: stdout as it is now, on which names are no pictures, either."""
    return Console(emoji=False)


def progress(*columns: ProgressColumn) -> Progress:
    """A progress bar on stderr that ends in these columns, or in the time that is left. Only a terminal shows it."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        *(columns or (TimeRemainingColumn(),)),
        console=console,
        disable=_hushed or not console.is_terminal,
    )


def hush() -> None:
    """From now on show no progress and tell nothing: what went wrong is still said."""
    global _hushed
    _hushed = True


def status(text: str) -> AbstractContextManager:
    """Says what goes on: on a terminal until its end, else in a line."""
    if console.is_terminal and not _hushed:
        return console.status(Text(text))
    tell(text)
    return nullcontext()


def tell(text: str) -> None:
    """A line on stderr for what a terminal's bar shows."""
    if not console.is_terminal and not _hushed:
        warn(text, style="none")


def warn(text: str, style: str = "yellow") -> None:
    """A line on stderr that everyone sees."""
    console.print(text, style=style, markup=False, soft_wrap=True)
