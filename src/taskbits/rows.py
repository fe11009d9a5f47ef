"""Rows of data: JSONL and plain-text files, gzipped or not, and data sets of the Hugging Face hub. Knows no task."""

import gzip
import hashlib
import json
from pathlib import Path

from taskbits.display import quiet
from taskbits.errors import UserError

Row = dict
Splits = dict[str, list[Row]]


def read_rows(path: Path, needed: list[str]) -> list[Row]:
    """The rows of a JSONL file, `.gz` or not, each with the needed fields. Raises UserError that says where."""
    return [
        parse_row(line, needed, f"{path}, line {number}")
        for number, line in enumerate(read_lines(path), 1)
        if line.strip()
    ]


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, `.gz` or not, without their ends. Raises UserError if it can't be read."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            return file.read().removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read: {error}") from error


def parse_row(line: str, needed: list[str], where: str) -> Row:
    """One JSONL line as a row that has the needed fields. Raises UserError that says where it went wrong."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: bad JSON: {error}") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: a row must be a JSON object")
    for field in needed:
        if field not in row:
            raise UserError(f"{where}: the field '{field}' is missing")
    return row


def find_file(folder: Path, kind: str, name: str) -> Path:
    """The file of that name, or of that name with .gz, in the folder or in its subfolder `kind`.

    Raises UserError if there is none.
    """
    for path in (folder / kind / name, folder / kind / f"{name}.gz", folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise UserError(f"neither {folder} nor {folder / kind} holds {name} or {name}.gz: name another folder with --data")


def hub_rows(repository: str, config: str | None, split: str) -> list[Row]:
    """A split of a data set on the hub, or of its copy in the local cache. Raises UserError if neither is there."""
    import datasets

    try:
        with quiet():
            return list(datasets.load_dataset(repository, config, split=split))
    except Exception as error:  # whatever the hub's client raises: it has no common class
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"the data set {repository} can't be had from the hub ({reason}): "
            "get a connection, or name a folder with its files with --data"
        ) from error


def share(row: Row, fields: list[str]) -> float:
    """A number in [0, 1) that depends on these fields alone, so that a row never moves when others are added."""
    text = "\x1f".join(str(row[field]) for field in fields)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) / 2**32
