"""What installed packages add to ours, by entry points: methods, runners and tasks, each by its name.

    [project.entry-points."taskbits.methods"]
    my-method = "my_package.my_method"

The package's own names can't be taken.
"""

from collections.abc import Collection
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from taskbits.errors import UserError, in_short


@cache
def installed(kind: str) -> dict[str, EntryPoint]:
    """The entry points of a kind ("methods", "runners" or "tasks"), in the order of their names."""
    return {entry.name: entry for entry in sorted(entry_points(group=f"taskbits.{kind}"), key=lambda e: e.name)}


def names(kind: str, own: Collection[str]) -> list[str]:
    """All names of a kind: our own, then those that were added."""
    return [*own, *(name for name in installed(kind) if name not in own)]


def load(kind: str, name: str, needed: Collection[str]) -> ModuleType:
    """The module behind an entry point. Raises UserError if it can't be imported, or lacks something that is needed."""
    entry = installed(kind)[name]
    try:
        module = entry.load()
    except Exception as error:  # whatever a stranger's module raises
        raise UserError(f"{name} of {origin(kind, name)} can't be imported: {in_short(error)}") from error
    if missing := [part for part in needed if not hasattr(module, part)]:
        raise UserError(f"{name} of {origin(kind, name)} is none of our {kind}: {entry.value} has no {missing[0]}")
    return module


def origin(kind: str, name: str) -> str:
    """The package that a name is from, with its version."""
    entry = installed(kind).get(name)
    return f"{entry.dist.name} {entry.dist.version}" if entry and entry.dist else "taskbits"
