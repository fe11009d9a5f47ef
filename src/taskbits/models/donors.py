"""Donors: another checkpoint of a model's shape, or an adapter for it, whose weights a program may carry."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
import torch

from taskbits.errors import UserError, in_short
from taskbits.models.model import Model, load_model
from taskbits.models.places import blocks, is_transposed

if TYPE_CHECKING:
    import peft

_RANK = 64  # of what is taken of the difference between two models


def weights_of(spec: str, model: Model) -> dict[str, torch.Tensor]:
    """The donor's weights by the names of the model's parameters, float32 on the CPU: those of a model, or of this one
    with a PEFT adapter in it.

    Raises UserError if there is no such donor, or if it is none for this model.
    """
    if is_adapter(spec):
        return _with_adapter(Path(spec), model)
    donor = load_model(spec, dtype=model.dtype, device_map=model.device_map)
    found = {name: weight.detach().float().cpu() for name, weight in donor.lm.named_parameters()}
    shapes = {name: weight.shape for name, weight in model.lm.named_parameters()}
    if {name: weight.shape for name, weight in found.items()} != shapes:
        raise UserError(f"{spec} is no donor for {model.spec}: its weights have other names or shapes")
    if donor.tokenizer.get_vocab() != model.tokenizer.get_vocab():
        raise UserError(f"{spec} is no donor for {model.spec}: its tokenizer has another vocabulary")
    return found


def _with_adapter(folder: Path, model: Model) -> dict[str, torch.Tensor]:
    """The model's weights with the adapter merged into them."""
    with model.preserved(), _applied(folder, model) as adapted:
        try:
            adapted.merge_adapter(safe_merge=True)
        except Exception as error:  # each kind of adapter has its own reasons
            raise _unfit(folder, model, error) from error
        inside = (".base_layer", ".modules_to_save.default")
        merged = {
            next((name.replace(f"{part}.", ".") for part in inside if f"{part}." in name), name): weight
            for name, weight in adapted.base_model.model.named_parameters()
        }
        return {name: merged[name].detach().float().cpu().clone() for name, _ in model.lm.named_parameters()}


def is_adapter(spec: str) -> bool:
    """Whether a donor is an adapter's folder, and not a model."""
    return (Path(spec) / "adapter_config.json").exists()


def values(donor: str, model: Model) -> int:
    """How many numbers `factors` has, about. Raises UserError if an adapter is not stored as safetensors."""
    if not is_adapter(donor):
        shapes = [model.lm.get_parameter(name).shape for name in blocks(model)[0]]
        return sum(min(_RANK, *shape) * sum(shape) for shape in shapes)
    with safetensors.safe_open(stored(Path(donor)), "pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def factors(donor: str, model: Model) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """What a donor adds to the model's matrices: factors (rows, r) and (r, columns), float32 on the CPU.

    Of a LoRA (rsLoRA, DoRA) or of a model, whose difference is taken in the matrices of its blocks alone. What has no
    low rank (DoRA, a model) is taken as the nearest that has one. Raises UserError if the donor is none for this model,
    or is an adapter that changes more than matrices.
    """
    if is_adapter(donor):
        return _of_adapter(donor, model)
    theirs = weights_of(donor, model)
    return {name: _nearest(theirs[name] - model.lm.get_parameter(name).detach().cpu()) for name in blocks(model)[0]}


def _of_adapter(folder: str, model: Model) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    with _applied(Path(folder), model) as adapted:
        config = adapted.peft_config["default"]
        kind = getattr(config.peft_type, "value", config.peft_type)
        more = [
            option
            for option in ("modules_to_save", "lora_bias", "trainable_token_indices", "target_parameters")
            if getattr(config, option, None)
        ]
        if kind != "LORA" or more or getattr(config, "bias", "none") != "none":
            what = kind if kind != "LORA" else ", ".join(more) or "bias"
            raise UserError(
                f"the adapter {folder} is more than low-rank factors ({what}): use --methods carried, which takes any "
                "change of weights"
            )
        found = {}
        for name, module in adapted.base_model.model.named_modules():
            if getattr(module, "lora_embedding_A", None):
                raise UserError(f"the adapter {folder} changes the embedding {name}: use --methods carried")
            if not getattr(module, "lora_A", None):
                continue
            left = module.lora_B["default"].weight.detach() * module.scaling["default"]
            right = module.lora_A["default"].weight.detach()
            if module.use_dora["default"]:
                weight = module.base_layer.weight.detach()
                merged = weight + left @ right
                scale = module.lora_magnitude_vector["default"].weight.detach() / merged.norm(dim=1)
                u, s, v = torch.linalg.svd((scale[:, None] * merged - weight).double(), full_matrices=False)
                rank = 2 * right.shape[0]
                left, right = u[:, :rank] * s[:rank], v[:rank]
            if is_transposed(model, f"{name}.weight"):
                left, right = right.mT, left.mT
            found[f"{name}.weight"] = (left.float().cpu(), right.float().cpu())
    if not found:
        raise UserError(f"the adapter {folder} changes no matrix that is a plain product")
    return found


def _nearest(change: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors of about the nearest change of rank `_RANK` (Halko et al. 2011)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        u, s, v = torch.svd_lowrank(change.float(), min(_RANK, *change.shape), niter=4)
    return u * s, v.mT


@contextmanager
def _applied(folder: Path, model: Model) -> Iterator["peft.PeftModel"]:
    """Inside, the adapter is around the model's weights."""
    import peft

    stored(folder)
    # Around modules of its own, which have the model's weights: what peft does to modules is not always undone.
    weights = {id(tensor): tensor for tensor in (*model.lm.parameters(), *model.lm.buffers())}
    with model.preserved([]):
        try:
            adapted = peft.PeftModel.from_pretrained(
                copy.deepcopy(model.lm, weights), str(folder), use_safetensors=True
            )
        except Exception as error:
            raise _unfit(folder, model, error) from error
        yield adapted


def stored(folder: Path) -> str:
    """The file with an adapter's numbers. Raises UserError if it has none in safetensors."""
    path = folder / "adapter_model.safetensors"
    if not path.exists():
        raise UserError(f"{folder} has no {path.name}: save the adapter in that format")
    return str(path)


def _unfit(folder: Path, model: Model, error: Exception) -> UserError:
    return UserError(f"the adapter {folder} does not fit {model.spec}: {in_short(error)}")
