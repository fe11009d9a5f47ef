"""Writes the three tasks: the rows of all splits and task.yaml (JSON values are YAML)."""

import json
from pathlib import Path
from random import Random

from taskbits.lab.corpus import CHAT, LANGUAGE, instruction_row, math_row, translation_row

SIZES = {"train": 4000, "validation": 300, "test": 500}

_TASKS = {
    "math": (
        math_row,
        {
            "description": "Solve the word problem: write the sums, then #### and the result.",
            "metric": "regex",
            "pattern": r"#### (-?\d+)",
            "max_new_tokens": 40,
        },
    ),
    "translation": (
        translation_row,
        {"description": f"Translate the English sentence into {LANGUAGE}.", "metric": "chrf", "max_new_tokens": 48},
    ),
    "instruction": (
        instruction_row,
        {
            "description": "Do what the instruction says with the words after the colon.",
            "metric": "python:taskbits.lab.checks.follows",
            "max_new_tokens": 72,
        },
    ),
}


def write_tasks(folder: Path) -> None:
    """Write folder/math, folder/translation and folder/instruction."""
    for name, (make, settings) in _TASKS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for split, size in SIZES.items():
            rng, rows = Random(f"{name} {split}"), {}
            while len(rows) < size:
                row = make(rng, split)
                rows.setdefault(row["question"], row)
            lines = "".join(json.dumps(row) + "\n" for row in rows.values())
            (folder / name / f"{split}.jsonl").write_text(lines, encoding="utf-8")
        frame = {"name": f"lab:{name}"} | {split: f"{split}.jsonl" for split in SIZES}
        frame |= {"prompt": CHAT, "target": " {answer}", "stop": ["\n"]} | settings
        lines = "".join(f"{key}: {json.dumps(value)}\n" for key, value in frame.items())
        (folder / name / "task.yaml").write_text(lines, encoding="utf-8")
