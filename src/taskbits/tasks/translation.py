"""English to French.

Files: train, val and test_2016_flickr, each as `.en` and `.fr` (`.gz` or not), line by line, as Multi30k has them
(Elliott et al. 2016, 2017). From the hub: OPUS-100 (Zhang et al. 2020).
"""

from pathlib import Path

from taskbits.errors import UserError
from taskbits.tasks.rows import Splits, find_file, hub_rows, read_lines

SETTINGS = {
    "prompt": "English: {en}\nFrench:",
    "target": " {fr}",
    "metric": "bleu",
    "stop": ["\n"],
    "max_new_tokens": 96,
    "description": "Translate the English sentence into French.",
}

_FILES = {"train": "train", "validation": "val", "test": "test_2016_flickr"}


def read(data: Path | None) -> Splits:
    """See `taskbits.tasks.named`. A sentence that stands in a later split, too, is left out of the earlier one.

    Pairs without text are left out. Text on one side only is left out too where it is the hub's; in files it is an
    error, since it may come of a line that went missing.
    """
    if data:
        splits = {split: _pairs(data, name) for split, name in _FILES.items()}
    else:
        splits = {
            split: [row["translation"] for row in hub_rows("Helsinki-NLP/opus-100", "en-fr", split)] for split in _FILES
        }
        splits = {
            split: [row for row in rows if row["en"].strip() and row["fr"].strip()] for split, rows in splits.items()
        }
    kept: Splits = {}
    later: set[str] = set()
    for split in ("test", "validation", "train"):
        kept[split] = [row for row in splits[split] if row["en"] not in later]
        later |= {row["en"] for row in splits[split]}
    return {split: kept[split] for split in _FILES}


def _pairs(data: Path, name: str) -> list[dict]:
    english, french = (
        [line.strip() for line in read_lines(find_file(data, "multi30k", f"{name}.{language}"))]
        for language in ("en", "fr")
    )
    if len(english) != len(french):
        raise UserError(f"{data}: {name}.en has {len(english)} lines and {name}.fr {len(french)}: get them again")
    pairs = list(zip(english, french, strict=True))
    for number, (en, fr) in enumerate(pairs, 1):
        if bool(en) != bool(fr):
            raise UserError(f"{data}: {name}, line {number} is empty on one side: take it out of both files")
    return [{"en": en, "fr": fr} for en, fr in pairs if en]
