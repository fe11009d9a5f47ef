"""The most memory that this process held, on the GPU if there is one, since it was last forgotten."""

from contextlib import suppress
from pathlib import Path

import torch

_PROC = Path("/proc/self")


def forget() -> None:
    """Begin anew. On the CPU only Linux can."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif (_PROC / "clear_refs").exists():
        with suppress(OSError):  # a container may not allow it
            (_PROC / "clear_refs").write_text("5", encoding="ascii")


def peak() -> int | None:
    """Bytes; None where the system doesn't tell."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if not (_PROC / "status").exists():
        return None
    lines = (_PROC / "status").read_text("utf-8").splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)
