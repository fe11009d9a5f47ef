"""A folder of files that many processes write: on disk, or behind any URL that fsspec knows.

Guarantees: on disk a file is there whole or not at all. Elsewhere it is as atomic as the store is, so a name must
stand for one content. Knows nothing of what is in the files.
"""

import errno
import os
import uuid
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from taskbits.errors import UserError


class Files:
    """The files of one folder, each named by its path in it."""

    def __init__(self, place: str):
        """place: a folder or an fsspec URL. Raises UserError if it can't be used."""
        self.place = place
        try:
            self._system, self._root = fsspec.core.url_to_fs(place)
        except Exception as error:  # whatever the driver of the store raises
            raise UserError(f"cannot use {place} for files: {error}") from error

    @property
    def missing(self) -> bool:
        """Whether the place is a folder that this machine doesn't have."""
        return isinstance(self._system, LocalFileSystem) and not Path(self._root).is_dir()

    def make(self) -> None:
        """Make the folder, where the place is one on this machine. Raises UserError if that can't be."""
        if isinstance(self._system, LocalFileSystem):
            try:
                Path(self._root).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"cannot write to {self.place}: {error.strerror}") from error

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError if there is no such file, UserError if it can't be read."""
        try:
            return self._system.cat_file(f"{self._root}/{name}")
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{self.place}/{name}") from error
        except Exception as error:
            raise UserError(f"{self.place}/{name} can't be read: {error}") from error

    def write(self, name: str, content: bytes) -> None:
        """Raises UserError if it can't be written."""
        path = f"{self._root}/{name}"
        try:
            if isinstance(self._system, LocalFileSystem):
                write_atomically(Path(path), content)
            else:
                self._system.pipe_file(path, content)
        except Exception as error:
            raise UserError(f"{self.place}/{name} can't be written: {error}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file with its folder; a reader sees it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    part.write_bytes(content)
    part.replace(path)
