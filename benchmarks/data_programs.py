"""Data programs: which optimizer the decoder takes and which weights it trains, against memory and bytes of code.

    python benchmarks/data_programs.py [--task math ...] [--model lab:pretrained] [--examples 8] [--steps 64] [--rows N]

For each way the best of some learning rates, chosen on rows of the train split, then a program scored on validation.
Memory is counted while the decoder trains: copies of what changes, gradients and the optimizer's state, over the bytes
of the weights. Ends with one JSON line.
"""

import argparse
import json
from dataclasses import replace

import torch
from rich.console import Console
from rich.table import Table

from taskbits.fitting.fitted import fitted
from taskbits.fitting.judge import Lesson, between, ending, judge, taught
from taskbits.models.model import load_model
from taskbits.models.places import attention
from taskbits.programs.coding import Coded
from taskbits.programs.runners import train
from taskbits.search.scoring import score
from taskbits.tasks.load import load_task

RATES = {"Adam": (1e-4, 3e-4, 1e-3), "Adafactor": (3e-3, 1e-2, 3e-2), "SGD": (1e-2, 3e-2, 1e-1, 3e-1)}


def memory(model, text: str, lesson: Lesson) -> float:
    """Copies, gradients and state, over the weights, of one step of training."""
    made: list[torch.optim.Optimizer] = []
    plain = getattr(torch.optim, lesson.optimizer)

    class Kept(plain):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

        def zero_grad(self, *_, **__):
            gradients.append(sum(w.grad.nbytes for group in self.param_groups for w in group["params"]))
            super().zero_grad()

    gradients: list[int] = []
    setattr(torch.optim, lesson.optimizer, Kept)
    try:
        names = [name for name in model.names if lesson.target in name]
        with model.preserved(names) as copies:
            row = text.split(lesson.between)[0]
            settings = {"optimizer": lesson.optimizer, "target": lesson.target}
            train.adapt(model.pipe, None, row, lesson.between, lesson.ending, 1, lesson.rate, **settings)
            state = sum(part.nbytes for slot in made[0].state.values() for part in slot.values() if part.ndim)
    finally:
        setattr(torch.optim, lesson.optimizer, plain)
    held = sum(copy.nbytes for copy in copies.values()) + gradients[0] + state
    return held / sum(weight.nbytes for weight in model.lm.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", nargs="*", default=["math", "translation"])
    parser.add_argument("--model", default="lab:pretrained")
    parser.add_argument("--examples", type=int, default=8)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--rows", type=int, default=200)
    options = parser.parse_args()
    model = load_model(options.model)
    names, target = attention(model)
    table = Table("task", "optimizer", "trains", "rate", "memory over weights", "bytes", "validation")
    found = []
    for task in (load_task(f"lab:{name}", options.rows) for name in options.task):
        judged, examples = judge(model, task, 0)
        some = taught(model, task, examples)[: options.examples]
        apart = between(some)
        text = apart.join(some)
        for optimizer, rates in RATES.items():
            for trains, where in (("all", ""), ("attention", target)):
                epochs = max(1, options.steps // len(some))
                lessons = [Lesson(apart, ending(model, task), epochs, rate, optimizer, where) for rate in rates]
                best = max(lessons, key=lambda lesson: replace(judged, lesson=lesson).worth(text))
                program = fitted(
                    "subset",
                    model,
                    task,
                    Coded("literal", {"text": text}, content={"text": text}),
                    then="train",
                    **best.settings,
                )
                scored = score(program.program.to_bytes(), model, task, ["validation"])
                row = {
                    "task": task.name, "optimizer": optimizer, "trains": trains, "rate": best.rate,
                    "memory": round(memory(model, text, best), 2), "bytes": scored.bytes,
                    "validation": round(scored.scores["validation"].value, 3),
                }  # fmt: skip
                found.append(row)
                table.add_row(*map(str, row.values()))
                print(json.dumps(row), flush=True)
    Console().print(table)
    print(json.dumps({"model": options.model, "threads": torch.get_num_threads(), "rows": found}))


if __name__ == "__main__":
    main()
