"""Fingerprints of large models, kept beside their files: to read all weights takes seconds for each gigabyte.

A fingerprint that was kept counts only as long as the files are the same by name, size, time and the hash of how they
begin and end, and so are the versions that read them. Where the folder can't be written, nothing is kept.
"""

import hashlib
import json
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from taskbits.atomic import write_atomically

_NAME = ".taskbits-fingerprints.json"
_LARGE = 100_000_000  # bytes of files: below, computing takes no time
_READ = 2**20  # bytes at the beginning and the end of a file that are hashed
_MOST = 2**20  # bytes of what is kept
_SUFFIXES = (".safetensors", ".gguf", ".json", ".model", ".txt", ".jinja")
_VERSIONS = ("taskbits", "torch", "transformers", "gguf")

Fingerprints = tuple[bytes, bytes]


def stamp(location: Path, dtype: str) -> str | None:
    """What a model's fingerprint depends on, without reading its weights: a folder's or a file's, in this arithmetic.

    None if there are no files, or if they are small.
    """
    if not location.exists():
        return None
    files = sorted(location.iterdir()) if location.is_dir() else [location]
    files = [file for file in files if file.suffix in _SUFFIXES and file.name != _NAME and file.is_file()]
    if sum(file.stat().st_size for file in files) < _LARGE:
        return None
    digest = hashlib.sha256(json.dumps([dtype, *map(version, _VERSIONS)]).encode())
    for path in files:
        about = path.stat()
        digest.update(json.dumps([path.name, about.st_size, about.st_mtime_ns]).encode())
        with path.open("rb") as file:
            digest.update(file.read(_READ))
            file.seek(max(0, about.st_size - _READ))
            digest.update(file.read(_READ))
    return digest.hexdigest()


def known(location: Path, stamped: str) -> Fingerprints | None:
    """The fingerprints that were kept for files with this stamp, if any."""
    found = _kept(location).get(stamped)
    if not isinstance(found, list) or len(found) != 2:
        return None
    with suppress(ValueError, TypeError):
        now, former = map(bytes.fromhex, found)
        return (now, former) if len(now) == len(former) == 6 else None
    return None


def keep(location: Path, stamped: str, found: Fingerprints) -> None:
    """Keep the fingerprints of files with this stamp, if the folder can be written."""
    with suppress(OSError):
        content = {**_kept(location), stamped: [one.hex() for one in found]}
        write_atomically(_path(location), json.dumps(content, indent=1).encode())


def _path(location: Path) -> Path:
    return (location if location.is_dir() else location.parent) / _NAME


def _kept(location: Path) -> dict:
    path = _path(location)
    with suppress(OSError, ValueError, RecursionError):
        if path.stat().st_size <= _MOST and isinstance(content := json.loads(path.read_text("utf-8")), dict):
            return content
    return {}
