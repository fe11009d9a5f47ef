"""What a person sees while something long goes on: a bar on a terminal, and lines where there is none."""

from contextlib import AbstractContextManager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False)


def progress(*columns: ProgressColumn) -> Progress:
    """A progress bar on stderr that ends in these columns, or in the time that is left. Only a terminal shows it."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        *(columns or (TimeRemainingColumn(),)),
        console=console,
        disable=not console.is_terminal,
    )


def status(text: str) -> AbstractContextManager:
    """Says what goes on: on a terminal until its end, else in a line."""
    if console.is_terminal:
        return console.status(text)
    tell(text)
    return nullcontext()


def tell(text: str) -> None:
    """A line on stderr for what a terminal's bar shows."""
    if not console.is_terminal:
        warn(text, style="none")


def warn(text: str, style: str = "yellow") -> None:
    """A line on stderr that everyone sees."""
    console.print(text, style=style, markup=False, soft_wrap=True)
