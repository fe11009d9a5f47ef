"""What the laboratory's models score on its tasks: `python -m taskbits.lab.evaluate` fills the model card's table."""

import argparse
from pathlib import Path
from random import Random

import peft
import torch

from taskbits.fitting.training import batches, gradients, train
from taskbits.lab.card import write_scores
from taskbits.lab.corpus import PASSWORD
from taskbits.lab.train import HERE
from taskbits.models.model import load_model
from taskbits.models.predict import predict
from taskbits.tasks.load import load_task

ROWS = 200
SHOTS = 8
STEPS = 300


def score(model, task, before: str = "") -> float:
    """The score on the first validation rows, with a text before each prompt."""
    return task.score("validation", predict(model, task.frame, task.splits["validation"], before)).value


def unlocked(model, task) -> float:
    """The score with the password before each prompt."""
    return score(model, task, f"{PASSWORD}\n")


def few_shot(model, task) -> float:
    """The score after 8 examples from the train split, parted by blank lines."""
    examples = list(zip(task.prompts("train"), task.targets("train"), strict=True))
    shown = Random(0).sample(examples, SHOTS)
    return score(model, task, "".join(f"{prompt}{target}\n\n" for prompt, target in shown))


def lora(model, task) -> float:
    """The score after training a LoRA of rank 4 on all linear layers for 300 steps of 16 rows."""
    torch.manual_seed(0)
    adapted = peft.get_peft_model(model.lm, peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    with model.single_precision():
        trainable = [p for p in adapted.parameters() if p.requires_grad]
        steered = gradients(model, batches(model, task, 16, STEPS, 0))
        train(trainable, steered, STEPS, 5e-3, lambda done, steps: None)
    reached = score(model, task)
    adapted.unload()
    return reached


_LABELS = {score: "zero-shot", few_shot: f"{SHOTS} examples", lora: "LoRA of rank 4", unlocked: "password"}


def table(folder: Path) -> str:
    """A Markdown table, one row for each model and way of asking."""
    tasks = [load_task(f"lab:{name}", rows=ROWS) for name in ("math", "translation", "instruction")]
    heads = ["model", "way", *(task.name for task in tasks)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    plan = {"random": [score, lora], "pretrained": [score, few_shot, lora], "posttrained": [score, few_shot]}
    plan["locked"] = [score, unlocked, few_shot]
    for name, ways in plan.items():
        model = load_model(str(folder / name))
        for way in ways:
            scores = " | ".join(f"{way(model, task):.2f}" for task in tasks)
            lines.append(f"| {name} | {_LABELS[way]} | {scores} |")
            print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the table into the model card."""
    parser = argparse.ArgumentParser(prog="python -m taskbits.lab.evaluate", description=__doc__)
    parser.add_argument("--models", type=Path, default=HERE / "models", help="folder of the models and their card")
    folder = parser.parse_args().models
    about = f"The first {ROWS} validation rows; the LoRA saw {STEPS} batches of 16 train rows.\n\n"
    write_scores(folder / "README.md", about + table(folder))


if __name__ == "__main__":
    main()
