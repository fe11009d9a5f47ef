"""IFEval: prompts with instructions that a program can check (Zhou et al. 2023).

Files: input_data.jsonl, the 541 prompts, which are the test split. The benchmark has no answers to learn from: the
examples of train and validation are written by rules and checked by the same checkers (`examples`).
"""

from pathlib import Path

from taskbits.errors import UserError
from taskbits.tasks.ifeval.checkers import follows
from taskbits.tasks.ifeval.examples import examples
from taskbits.tasks.imports import described
from taskbits.tasks.rows import Splits, find_file, hub_rows, read_rows

SETTINGS = {
    "prompt": "{prompt}\n\n",
    "target": "{response}",
    "metric": "python:taskbits.tasks.ifeval.checkers.score",
    "max_new_tokens": 1280,
    "description": "Answer the request and follow each of its instructions to the letter.",
}

_SIZES = {"train": 2000, "validation": 200}


def read(data: Path | None) -> Splits:
    """See `taskbits.tasks.named`."""
    fields = ["prompt", "instruction_id_list", "kwargs"]
    if data:
        rows = read_rows(find_file(data, "ifeval", "input_data.jsonl"), fields)
    else:
        rows = hub_rows("google/IFEval", None, "train")
    for number, row in enumerate(rows, 1):
        try:
            if not row["instruction_id_list"]:
                raise UserError("there is no instruction")
            for name, kwargs in zip(row["instruction_id_list"], row["kwargs"], strict=True):
                follows(name, kwargs, row["prompt"], "Hello.")
        except Exception as error:  # of what type the values are was never checked
            raise UserError(f"ifeval: test, row {number}: {described(error)}") from error
    made = {split: examples(size, split) for split, size in _SIZES.items()}
    return {**made, "test": [{**row, "response": ""} for row in rows]}
