"""The other adapters of peft, made as short as ours: does any of them reach the frontier?

    python benchmarks/peft_methods.py [--quick] [--task math ...] [--bytes 64 1024] [--steps 100]

Each is set up with about as many parameters as the payload's bytes allow (or its least number), trained on
lab:pretrained, and its parameters' changes are coded by the same price-steered training as ours into at most that many
bytes (`taskbits.fitting.coefficients`). Score on validation; ours at the same size are in the same table. Ends with
one JSON line. The payload alone is compared: a file would hold a decoder, too.
"""

import argparse
import json
import time
import warnings

import peft
import torch

from taskbits.fitting.coefficients import Change, find
from taskbits.methods import method
from taskbits.models.model import Model, load_model
from taskbits.models.places import attention
from taskbits.models.predict import predict
from taskbits.search.scoring import score
from taskbits.tasks.load import load_task
from taskbits.tasks.task import Task

OURS = ("tiny", "lora-xs", "lora", "steer")


def configs(targets: list[str], count: int) -> dict[str, peft.PeftConfig]:
    """Each kind of adapter, with about `count` parameters where it has a choice."""
    each = max(1, count // len(targets))
    return {
        "TINYLORA": peft.TinyLoraConfig(r=4, u=count, weight_tying=1.0, target_modules=targets),
        "UNILORA": peft.UniLoraConfig(r=1, theta_d_length=count, target_modules=targets),
        "VBLORA": peft.VBLoRAConfig(r=1, num_vectors=4, vector_length=64, topk=2, target_modules=targets),
        "FOURIERFT": peft.FourierFTConfig(n_frequency=each, target_modules=targets),
        "WAVEFT": peft.WaveFTConfig(n_frequency=each, target_modules=targets),
        "VERA": peft.VeraConfig(r=16, target_modules=targets),
        "RANDLORA": peft.RandLoraConfig(r=64, target_modules=targets),
        "SHIRA": peft.ShiraConfig(r=1, random_seed=0, target_modules=targets),
        "MISS": peft.MissConfig(r=1, target_modules=targets),
        "C3A": peft.C3AConfig(block_size=64, target_modules=targets),
        "ROAD": peft.RoadConfig(target_modules=targets),
        "IA3": peft.IA3Config(target_modules=targets, feedforward_modules=[]),
        "LN_TUNING": peft.LNTuningConfig(target_modules=["input_layernorm", "post_attention_layernorm", "norm"]),
    }


def adapted_score(model: Model, task: Task, config: peft.PeftConfig, settings: dict) -> tuple[int, int, float]:
    """Number of parameters, bytes that their changes take, and the score on validation."""
    torch.manual_seed(0)
    model.lm.float()
    adapted = peft.get_peft_model(model.lm, config)
    try:
        start = {name: p.detach().clone() for name, p in model.lm.named_parameters() if p.requires_grad}
        sizes = [p.numel() for p in start.values()]

        def weights(coefficients: torch.Tensor) -> dict[str, torch.Tensor]:
            parts = coefficients.split(sizes)
            return {name: p + part.view_as(p) for part, (name, p) in zip(parts, start.items(), strict=True)}

        change = Change((str(config.peft_type),), torch.zeros(sum(sizes)), weights, sizes if len(sizes) > 1 else None)
        found = find(model, task, change, settings, 2e-2, 0, lambda done, of: None)
        with torch.no_grad():
            for name, value in weights(torch.tensor(found.values * found.step, dtype=torch.float32)).items():
                model.lm.get_parameter(name).copy_(value)
        written = predict(model, task.frame, task.splits["validation"])
        return sum(sizes), len(found.coded.payload), task.score("validation", written).value
    finally:
        model.lm = adapted.unload()


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--task", nargs="*", default=["translation", "math"])
    parser.add_argument("--bytes", nargs="*", type=int, default=[64, 1024])
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    if options.quick:
        options.task, options.bytes, options.steps = options.task[:1], options.bytes[:1], 2
    table: list[dict] = []

    def note(task: str, size: int, name: str, count: int | None, taken: int, value: float, began: float) -> None:
        table.append({"task": task, "bytes": size, "adapter": name, "score": round(value, 3)})
        parameters = "" if count is None else f"{count:,}"
        print(
            f"{task:12} {size:6} B  {name:10} {parameters:>7}  {taken:6} B  {value:.3f}  {time.time() - began:4.0f} s"
        )

    for task_name in options.task:
        task = load_task(f"lab:{task_name}", 20 if options.quick else 150)
        for size in options.bytes:
            settings = {"bytes": size, "objective": "loss", "steps": options.steps}
            model = load_model("lab:pretrained")
            for name in OURS:
                began = time.time()
                with model.preserved():
                    program = method(name).fit(model, task, settings, 0, lambda done, of: None).program
                scored = score(program.to_bytes(), model, task, ["validation"])
                note(task_name, size, name, None, scored.payload_bytes, scored.scores["validation"].value, began)
            targets = [name.removesuffix(".weight") for name in attention(model)[0]]
            for name, config in configs(targets, 8 * size // 3).items():
                began = time.time()
                try:
                    found = adapted_score(load_model("lab:pretrained"), task, config, settings)
                except (ValueError, RuntimeError, TypeError) as error:
                    print(f"{task_name:12} {size:6} B  {name:10} can't be used: {str(error).splitlines()[0]}")
                    continue
                note(task_name, size, name, *found, began)
    print(json.dumps({"benchmark": "peft_methods", "quick": options.quick, "scores": table}))


if __name__ == "__main__":
    main()
