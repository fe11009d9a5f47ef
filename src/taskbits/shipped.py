"""Models and tasks that ship with the package, found by name: `lab:NAME` is a folder like any other."""

from pathlib import Path

from taskbits.errors import UserError

_ROOT = Path(__file__).parent


def resolve(spec: str, kind: str) -> str:
    """The path behind `COLLECTION:NAME` ("models" or "tasks"); any other spec comes back unchanged.

    Raises UserError if the collection is ours and has no such name.
    """
    collection, colon, name = spec.partition(":")
    folder = _ROOT / collection / kind
    if not colon or not collection.isidentifier() or not folder.is_dir():
        return spec
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if name not in names:
        raise UserError(f"unknown {kind[:-1]} {spec}: {collection} has {', '.join(names)}")
    return str(folder / name)
