"""What a person sees while something long goes on."""

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False)


def progress(*columns: ProgressColumn) -> Progress:
    """A progress bar on stderr that ends in these columns, or in the time that is left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        *(columns or (TimeRemainingColumn(),)),
        console=console,
    )
