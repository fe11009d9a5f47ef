"""A program's change to the weights as a folder: a PEFT adapter where one can hold it, else the patched model.

The adapter is a LoRA with, for each matrix, the least rank that holds its change; a bias that the model itself does
not have becomes the LoRA's own. A text that the program puts before each prompt stands beside it, in prefix.txt.
"""

from pathlib import Path

import peft
import torch

from taskbits.errors import UserError
from taskbits.models.model import Model
from taskbits.models.places import is_transposed
from taskbits.programs import decode
from taskbits.programs.program import Program

_NOTHING = 1e-7  # of a change's largest singular value, for a rank to count


def write_peft(program: Program, model: Model, folder: Path, limit: float | None = None) -> str:
    """Write the folder; returns "adapter" for `peft.PeftModel.from_pretrained`, or "model", a patched checkpoint.

    limit: seconds that decoding may take.
    A checkpoint is written where the change is not of low rank or touches more than matrices and new biases.
    Raises UserError if the program changes no weight or adds a text, or an adapter would go where a model is or the
    other way round; OSError if the folder can't be written.
    """
    with model.preserved(decode.changed(model, program)) as before:
        prefix = decode.adapt(model, program, limit)
        changes = {
            name: weight.detach().double() - before.get(name, 0)
            for name, weight in model.lm.named_parameters()
            if name not in model.names or name in before and not torch.equal(weight, before[name])
        }
        if not changes:
            runners = " and ".join(part.runner for part in program.parts)
            raise UserError(f"only a change to the weights can be written for PEFT: this is {runners}")
        linear = {name for name, module in model.lm.named_modules() if hasattr(module, "weight")}
        biases = {name: change for name, change in changes.items() if name not in before}
        factors = {
            name: _factors(change.T if is_transposed(model, name) else change)
            for name, change in changes.items()
            if name in before and change.ndim == 2 and name.removesuffix(".weight") in linear
        }
        pays = sum(left.numel() + right.numel() for left, right in factors.values()) < sum(
            changes[name].numel() for name in factors
        )
        if len(biases) + len(factors) < len(changes) or (factors and not pays):
            _require_no(folder / "adapter_config.json")
            model.save(folder)
            _write_prefix(prefix, folder)
            return "model"
    _require_no(folder / "config.json")
    _write_adapter(model, factors, biases, folder)
    _write_prefix(prefix, folder)
    return "adapter"


def _factors(change: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors (out, r) and (r, in) of the least rank r, at least 1, whose product is the change.

    A change of low rank is seen through few random columns of its products (Halko et al. 2011), else whole.
    """
    frame, size = None, 16
    while 2 * size < min(change.shape) and frame is None:
        random = torch.Generator().manual_seed(0)
        sketch = torch.randn(change.shape[1], size, dtype=change.dtype, generator=random).to(change.device)
        tried = torch.linalg.qr(change @ sketch)[0]
        if (change - tried @ (tried.mT @ change)).norm() <= _NOTHING / 10 * change.norm():
            frame = tried
        size *= 4
    u, s, v = torch.linalg.svd(change if frame is None else frame.mT @ change, full_matrices=False)
    u = u if frame is None else frame @ u
    rank = max(1, int((s > _NOTHING * s[0]).sum()))
    root = s[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * v[:rank]


def _require_no(path: Path) -> None:
    """Refuse a folder that holds a model where an adapter is to go, or the other way round: both would be loaded."""
    if path.exists():
        raise UserError(f"{path} is there already, of a model or an adapter: name another folder")


def _write_prefix(prefix: str, folder: Path) -> None:
    path = folder / "prefix.txt"
    path.unlink(missing_ok=True)  # of a program that was exported here before
    if prefix:
        path.write_text(prefix, encoding="utf-8", newline="")


def _write_adapter(model: Model, factors: dict, biases: dict, folder: Path) -> None:
    ranks = {name.removesuffix(".weight"): left.shape[1] for name, (left, _) in factors.items()}
    ranks = {**{name.removesuffix(".bias"): 1 for name in biases}, **ranks}
    config = peft.LoraConfig(
        r=1,
        lora_alpha=1,
        rank_pattern=ranks,
        alpha_pattern=ranks,
        lora_bias=bool(biases),
        task_type="CAUSAL_LM",
        target_modules=list(ranks),
    )
    adapted = peft.get_peft_model(model.lm, config)
    try:
        state = {key: torch.zeros_like(value) for key, value in peft.get_peft_model_state_dict(adapted).items()}
        for name, (left, right) in factors.items():
            stem = f"base_model.model.{name.removesuffix('.weight')}.lora_"
            state[f"{stem}B.weight"], state[f"{stem}A.weight"] = left.float(), right.float()
        for name, value in biases.items():
            state[f"base_model.model.{name.removesuffix('.bias')}.lora_B.bias"] = value.float()
        peft.set_peft_model_state_dict(adapted, state)
        adapted.save_pretrained(folder)
    finally:
        adapted.unload()
