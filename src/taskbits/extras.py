"""Packages that only some tasks or commands need, as extras of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from taskbits.errors import UserError


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """For imports of what the extra brings: where it is missing, raises UserError that says how to get it."""
    try:
        yield
    except ImportError as error:
        raise UserError(f"{error.name or error} is not installed: pip install 'taskbits[{extra}]'") from error
