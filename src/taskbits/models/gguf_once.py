"""GGUF files, read once, and fast, where transformers reads them three times: for config, tokenizer and weights."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import gguf
import numpy as np


class _Plain(gguf.GGUFReader):
    """A reader whose pieces are plain arrays. It makes some for each entry of a vocabulary, and pieces of a memory map
    take three times as long."""

    @property
    def data(self) -> np.ndarray:
        return self._data

    @data.setter
    def data(self, mapped: np.memmap) -> None:
        self._data = mapped.view(np.ndarray)


@contextmanager
def read_once() -> Iterator[None]:
    """Inside, whoever makes gguf's reader of a file a second time gets the first. To load one model from files that
    stay as they are."""
    usual = gguf.GGUFReader
    gguf.GGUFReader = functools.cache(_Plain)
    try:
        yield
    finally:
        gguf.GGUFReader = usual
