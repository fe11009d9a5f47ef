"""What the devices of a machine can, and how to have them repeat themselves. Knows nothing of models or programs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# cuBLAS repeats itself only with a workspace of its own, which it must be told of before its first product.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def deterministic() -> Iterator[None]:
    """Inside, a device computes the same bits each time, or raises RuntimeError where it has no such kernel.

    Between processes, too, on the same kind of device with the same versions.
    """
    kept = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing reads what it has not written
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(kept[0], warn_only=kept[1])
        torch.utils.deterministic.fill_uninitialized_memory = fill
