"""Memory: the most that this process held, on the GPU if there is one, and how much more can be had."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import torch

_PROC = Path("/proc/self")
_CGROUPS = Path("/sys/fs/cgroup")
# Of a container's group, version 2 and version 1: where it lies, its limit, what it uses, what of that are files that
# can be dropped.
_VERSIONS = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


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


def available(device: torch.device) -> int:
    """Bytes that can be had on the device: what is free, and what torch keeps there for itself but does not use."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    free = min([psutil.virtual_memory().available, *_left_in_groups()])
    if device.type == "mps":
        return min(free, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return max(0, free)


def _left_in_groups() -> Iterator[int]:
    """What the process' control groups, from its own up, leave to it; none where there are no such limits."""
    try:
        lines = (_PROC / "cgroup").read_text("ascii", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        root, limit, used, files = _VERSIONS[bool(kinds)]
        own = Path(path.lstrip("/"))
        # A container may see its own group as the root, whatever path it is told.
        for folder in (own, *own.parents):
            try:
                group = _CGROUPS / root / folder
                most = int((group / limit).read_text("ascii", "replace"))
                held = int((group / used).read_text("ascii", "replace"))
                dropped = re.search(
                    rf"^{files} (\d+)", (group / "memory.stat").read_text("ascii", "replace"), re.MULTILINE
                )
            except (OSError, ValueError):  # not there, or "max"
                continue
            yield most - held + (int(dropped.group(1)) if dropped else 0)
