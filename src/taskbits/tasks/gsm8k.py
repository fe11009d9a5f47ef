"""GSM8K: grade-school word problems (Cobbe et al. 2021, "Training Verifiers to Solve Math Word Problems").

Files: train.jsonl and test.jsonl (`.gz` or not) with question and answer. A tenth of train is held out for validation.
The reference solutions are shown without the calculator's notes, `<<48/2=24>>`.
"""

import re
from pathlib import Path

from taskbits.errors import UserError
from taskbits.tasks.rows import Splits, find_file, hub_rows, read_rows, share

SETTINGS = {
    "prompt": "Question: {question}\nAnswer:",
    "target": " {solution}",
    "metric": "python:taskbits.tasks.gsm8k.score",
    "stop": ["\n\n", "Question:"],
    "max_new_tokens": 256,
    "description": "Solve the word problem step by step, then write #### and the number.",
}

_STRICT = re.compile(r"#### (-?[0-9.,]+)")
_NUMBER = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")


def read(data: Path | None) -> Splits:
    """See `taskbits.tasks.named`."""
    parts = {}
    for split in ("train", "test"):
        if data:
            rows = read_rows(find_file(data, "gsm8k", f"{split}.jsonl"), ["question", "answer"])
        else:
            rows = hub_rows("openai/gsm8k", "main", split)
        for number, row in enumerate(rows, 1):
            if not isinstance(row["answer"], str) or not re.search("[0-9]", _marked(row["answer"]) or ""):
                raise UserError(f"gsm8k: {split}, row {number}: the answer holds no '#### ' with a number behind it")
        parts[split] = [{**row, "solution": re.sub(r"<<.*?>>", "", row["answer"])} for row in rows]
    held = [share(row, ["question"]) < 0.1 for row in parts["train"]]
    return {
        "train": [row for row, is_held in zip(parts["train"], held, strict=True) if not is_held],
        "validation": [row for row, is_held in zip(parts["train"], held, strict=True) if is_held],
        "test": parts["test"],
    }


def score(output: str, row: dict) -> dict[str, float]:
    """Whether the answer is right: by the mark `####` that solutions end with, and by the last number of the output.

    strict: the first number behind `#### `, without commas, as in the data set's own evaluation. flexible: the last
    number, without commas, dollar signs and a full stop, as in lm-evaluation-harness.
    """
    wanted = _marked(row["answer"])
    if not wanted:
        return {"strict": 0.0, "flexible": 0.0}  # no output is like an answer that there isn't
    numbers = _NUMBER.findall(output)
    return {
        "strict": float(_marked(output) == wanted),
        "flexible": float(bool(numbers) and _plain(numbers[-1]) == _plain(wanted)),
    }


def _marked(text: str) -> str | None:
    found = _STRICT.search(text)
    return found.group(1).replace(",", "") if found else None


def _plain(number: str) -> str:
    return re.sub("[,$]", "", number).removesuffix(".")
