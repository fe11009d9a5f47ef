"""Rows of data: JSONL and plain-text files, gzipped or not, and data sets of the Hugging Face hub. Knows no task.

What is guaranteed of a row is that the fields which are needed can be written into a text (`check_row`).
"""

import gzip
import hashlib
import json
import math
import sys
import zlib
from pathlib import Path

from taskbits.display import quiet
from taskbits.errors import UserError
from taskbits.extras import needs

Row = dict
SPLITS = ("train", "validation", "test")
Splits = dict[str, list[Row]]
_GZIP = b"\x1f\x8b"  # how a gzipped file begins, and no text in UTF-8


def read_rows(path: Path | None, needed: list[str]) -> list[Row]:
    """The rows of a JSONL file, each with the needed fields; see `read_text`. Raises UserError that says where."""
    return [
        parse_row(line, needed, f"{path or 'standard input'}, line {number}")
        for number, line in enumerate(read_lines(path), 1)
        if line.strip()
    ]


def read_lines(path: Path | None) -> list[str]:
    """The lines of a text file, without their ends; see `read_text`."""
    return read_text(path).removesuffix("\n").split("\n")


def read_text(path: Path | None) -> str:
    """A text file in UTF-8, gzipped or not, with or without a byte-order mark; lines end with "\\n". None: stdin.

    Raises UserError if it can't be read.
    """
    try:
        content = path.read_bytes() if path else sys.stdin.buffer.read()
        content = gzip.decompress(content) if content.startswith(_GZIP) else content
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path or 'standard input'} can't be read: {error}: save it as UTF-8") from error
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path or 'standard input'} can't be read: {error}") from error


def parse_row(line: str, needed: list[str], where: str) -> Row:
    """One JSONL line as a row that has the needed fields. Raises UserError that says where it went wrong."""
    try:
        row = json.loads(line, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: bad JSON: {error}") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: a row must be a JSON object")
    check_row(row, needed, where)
    return row


def check_row(row: Row, needed: list[str], where: str) -> None:
    """Raises UserError if a needed field is missing, null or no number, or if any holds half a character."""
    for field in needed:
        if field not in row:
            raise UserError(f"{where}: the field '{field}' is missing")
        if row[field] is None:
            raise UserError(f"{where}: the field '{field}' is null: leave the row out, or write what it stands for")
        if isinstance(row[field], float) and not math.isfinite(row[field]):
            raise UserError(f"{where}: the field '{field}' is {row[field]}, which is no number")
    for field, value in row.items():
        if not is_unicode([field, value]):
            raise UserError(f"{where}: the field {field!r} holds a lone surrogate, half a character: mend the text")


def is_unicode(value) -> bool:
    """Whether all texts in the value can be encoded: JSON's "\\ud83d" alone is half a character."""
    try:
        json.dumps(value, ensure_ascii=False, skipkeys=True, default=str).encode()
    except UnicodeEncodeError:
        return False
    return True


def _object(pairs: list[tuple]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in an object")
    return found


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
    with needs("hub"):
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


def sample(rows: list[Row], fields: list[str], count: int) -> list[Row]:
    """`count` of the rows at most, in their order: those of the least `share`, so that their order in the file is
    of no account, and fewer are a part of more."""
    chosen = set(sorted(range(len(rows)), key=lambda i: share(rows[i], fields))[:count])
    return [row for i, row in enumerate(rows) if i in chosen]
