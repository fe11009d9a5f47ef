"""Files that are there whole or not at all."""

import uuid
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file with its folder; a reader sees it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    part.write_bytes(content)
    part.replace(path)
