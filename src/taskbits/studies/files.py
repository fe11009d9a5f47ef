"""A folder of files that many processes write: on disk, or behind any URL that fsspec knows.

Guarantees: on disk a file is there whole or not at all. Elsewhere it is as atomic as the store is, so a name must
stand for one content. Knows nothing of what is in the files.
"""

import errno
import os
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from taskbits.atomic import write_atomically
from taskbits.errors import StoreError, hidden


class Files:
    """The files of one folder, each named by its path in it."""

    def __init__(self, place: str, closed: bool = False):
        """place: a folder or an fsspec URL. closed: read nothing outside of the folder, whatever links lead there.

        Raises StoreError if the place can't be used.
        """
        self.place, self._closed = hidden(place), closed
        try:
            local = "://" not in place  # and then any name will do: fsspec has its own way with some
            self._system, self._root = (LocalFileSystem(), place) if local else fsspec.core.url_to_fs(place)
        except Exception as error:  # whatever the driver of the store raises
            raise StoreError(f"cannot use {place} for files: {_short(error)}") from error
        self._folder = Path(self._root) if isinstance(self._system, LocalFileSystem) else None

    @property
    def missing(self) -> bool:
        """Whether the place is a folder that this machine doesn't have."""
        return self._folder is not None and not self._folder.is_dir()

    def make(self) -> None:
        """Make the folder, where the place is one on this machine. Raises StoreError if that can't be."""
        if self._folder is not None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"cannot write to {self.place}: {error.strerror}") from error

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError if there is no such file, StoreError if it can't be read."""
        try:
            if self._folder is None:
                return self._system.cat_file(f"{self._root}/{name}")
            if self._closed:
                require_inside(self._folder / name, self._folder)
            return (self._folder / name).read_bytes()
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{self.place}/{name}") from error
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(f"{self.place}/{name} can't be read: {_short(error)}") from error

    def write(self, name: str, content: bytes) -> None:
        """Raises StoreError if it can't be written."""
        try:
            if self._folder is None:
                self._system.pipe_file(f"{self._root}/{name}", content)
            else:
                write_atomically(self._folder / name, content)
        except Exception as error:
            raise StoreError(f"{self.place}/{name} can't be written: {_short(error)}") from error


def require_inside(path: Path, folder: Path) -> None:
    """Raises StoreError if the path leads out of the folder, or to something that is no plain file but exists."""
    if not path.resolve().is_relative_to(folder.resolve()) or path.exists() and not path.is_file():
        raise StoreError(f"{path} is not a file in the study's folder: --trust opens what lies elsewhere")


def _short(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
