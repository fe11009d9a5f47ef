"""What methods keep from one trial for the next of the same search: freed with the search."""

from weakref import WeakKeyDictionary

from taskbits.tasks.task import Task

_kept: WeakKeyDictionary[Task, dict[str, dict]] = WeakKeyDictionary()  # a search has a task of its own


def kept(task: Task, what: str) -> dict:
    """What is kept for this task under a name: to be read and changed."""
    return _kept.setdefault(task, {}).setdefault(what, {})
