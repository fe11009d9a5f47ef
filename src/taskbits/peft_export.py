"""An adapter program as a PEFT folder, for `peft.PeftModel.from_pretrained`."""

from pathlib import Path

import peft
import torch

from taskbits import runners
from taskbits.errors import UserError
from taskbits.model import Model
from taskbits.program import Program


def write_peft(program: Program, model: Model, folder: Path) -> None:
    """Write the program's change of the model's matrices as a LoRA of the same rank.

    Raises UserError if the program is no adapter; OSError if the folder can't be written.
    """
    if program.runner not in ("lora", "lora_fp16"):
        raise UserError(f"only adapters can be written for PEFT: this program's runner is {program.runner}")
    target, rank = program.settings["target"], program.settings["rank"]
    before = {name: weight.detach().clone() for name, weight in model.lm.named_parameters() if target in name}
    with model.preserved():
        runners.adapt(model, program)
        changes = {
            name: weight.detach() - before[name] for name, weight in model.lm.named_parameters() if name in before
        }
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=rank,
        task_type="CAUSAL_LM",
        target_modules=[name.removesuffix(".weight") for name in changes],
    )
    adapted = peft.get_peft_model(model.lm, config)
    state = peft.get_peft_model_state_dict(adapted)
    for name, change in changes.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        right_key, left_key = f"{stem}A.weight", f"{stem}B.weight"
        if change.shape != (state[left_key].shape[0], state[right_key].shape[1]):  # W is kept transposed
            change = change.T
        u, s, v = torch.linalg.svd(change.double(), full_matrices=False)
        root = s[:rank].sqrt()
        state[left_key] = (u[:, :rank] * root).float()
        state[right_key] = (root[:, None] * v[:rank]).float()
    peft.set_peft_model_state_dict(adapted, state)
    adapted.save_pretrained(folder)
    adapted.unload()
