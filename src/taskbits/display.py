"""What a person sees while something long goes on."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

console = Console(stderr=True, highlight=False)


def progress() -> Progress:
    """A progress bar on stderr. Each of its tasks has the extra fields `best` and `left`, texts that may be empty."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[best]}"),
        TextColumn("{task.fields[left]}"),
        console=console,
    )
