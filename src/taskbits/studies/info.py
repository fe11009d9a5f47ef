"""What a study measures: study.json, read and compared."""

import json
from pathlib import Path
from types import NoneType

from taskbits.errors import UserError
from taskbits.studies.measurement import MAYBE_TEXT, TEXT, is_a

_INFO_SIZE = 2**20  # bytes of study.json, at most
_INFO = {
    **dict.fromkeys(("name", "model", "task", "state", "metric", "task_fingerprint", "fingerprint"), TEXT),
    **dict.fromkeys(("published", "family", "test_set"), TEXT),
    **dict.fromkeys(("storage", "files", "revision", "data", "training", "dtype"), MAYBE_TEXT),
    **dict.fromkeys(("seed", "checkpoint"), (int,)),
    "rows": (int, NoneType),
    "chat": (bool, NoneType),
}
_NEEDED, _NEEDED_PUBLISHED = {"name", "model", "task"}, {"family", "training", "checkpoint", "test_set"}


def read_info(folder: Path) -> dict:
    """What study.json says. Raises UserError if there is none, or if it is damaged."""
    path = folder / "study.json"
    if not path.is_file():
        raise UserError(f"no study in {folder}: make one with 'taskbits measure --out {folder}'")
    try:
        if path.stat().st_size > _INFO_SIZE:
            raise ValueError
        info = json.loads(path.read_text(encoding="utf-8"))
        needed = _NEEDED | (_NEEDED_PUBLISHED if info.get("published") else set())
        if not (
            needed <= info.keys() and all(is_a(info[name], kinds) for name, kinds in _INFO.items() if name in info)
        ):
            raise ValueError
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged: it does not say what was measured") from error
    return info


# What two fingerprints that differ tell a person.
OTHER_TASK = (
    "its rows, its settings or the code of its metric are others, or it is from a version that counted less of them"
)


def differing(kept: dict, wanted: dict, former: dict | None) -> str | None:
    """The first thing that is not as wanted, with both values; None if there is none."""
    for name, value in wanted.items():
        if kept.get(name) not in (value, (former or {}).get(name, value)):
            why = f": {OTHER_TASK}" if name == "task_fingerprint" else ""
            found, asked = ("the usual" if text is None else repr(text) for text in (kept.get(name), value))
            return f"{name} ({found}, not {asked}{why})"
    return None
