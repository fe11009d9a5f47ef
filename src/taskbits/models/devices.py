"""What decodes on a GPU must decode to the same again, in another process. Knows nothing of models or programs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from taskbits.errors import UserError


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
