"""What decodes on a GPU must decode to the same again, in another process. Knows nothing of models or programs."""

import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from taskbits.errors import UserError

_SLOW = 16  # times that float64 may take as long as float32
_TURNS = 6
_GAIN = 1.5  # times that bfloat16 must be faster: what is around the products gains nothing


def prepare() -> None:
    """Call it before a process' first product on a GPU: a workspace for each stream, so that cuBLAS repeats itself."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def repeatable() -> Iterator[None]:
    """Inside, a GPU computes the same bits each time, on the same kind of GPU with the same versions.

    Raises UserError where it has no kernel for that. (A CPU does so anyway, with as many threads.)
    """
    if not torch.cuda.is_available():
        yield
        return
    prepare()
    kept = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing reads what it has not written
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        reason = str(error).splitlines()[0].partition(", but you set")[0]
        raise UserError(f"what this takes can't be repeated bit by bit on this GPU: {reason}") from error
    finally:
        torch.use_deterministic_algorithms(kept[0], warn_only=kept[1])
        torch.utils.deterministic.fill_uninitialized_memory = fill


@functools.cache
def gains_by_bfloat16(device: torch.device, width: int) -> bool:
    """Whether products with matrices of this width take much less time in bfloat16 than in float32: measured here, once
    in a process. Not all processors and GPUs have units for it."""

    def product(dtype: torch.dtype) -> Callable[[], object]:
        rows, matrix = (torch.ones(size, width, dtype=dtype, device=device) for size in (512, 4 * width))
        return lambda: torch.nn.functional.linear(rows, matrix)

    try:
        return ratio(product(torch.bfloat16), product(torch.float32)) * _GAIN < 1
    except RuntimeError:  # no kernel for it
        return False


@functools.cache
def is_fast_in_float64(device: torch.device) -> bool:
    """Whether products in float64 take no more than a few times as long as in float32: GPUs for games take 64 times."""

    def product(dtype: torch.dtype) -> Callable[[], object]:
        matrix = torch.ones(1024, 1024, dtype=dtype, device=device)
        return lambda: matrix @ matrix

    return ratio(product(torch.float64), product(torch.float32)) < _SLOW


def ratio(first: Callable[[], object], second: Callable[[], object]) -> float:
    """How many times as long one work takes as another: the least of some times of each, taken in turn, since what else
    the machine does comes and goes; behind one that doesn't count."""
    took = [float("inf")] * 2
    for turn in range(_TURNS):
        for which, work in enumerate((first, second)):
            begun = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                took[which] = min(took[which], time.perf_counter() - begun)
    return took[0] / took[1]
