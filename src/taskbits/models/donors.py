"""Donors: another checkpoint of a model's shape, or an adapter for it, whose weights a program may carry."""

from pathlib import Path

import torch

from taskbits.errors import UserError
from taskbits.models.model import Model, load_model


def weights_of(spec: str, model: Model) -> dict[str, torch.Tensor]:
    """The donor's weights by the names of the model's parameters, float32 on the CPU: those of a model, or of this one
    with a PEFT adapter in it.

    Raises UserError if there is no such donor, or if it is none for this model.
    """
    if (Path(spec) / "adapter_config.json").exists():
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
    import peft

    if not (folder / "adapter_model.safetensors").exists():
        raise UserError(f"{folder} has no adapter_model.safetensors: save the adapter in that format")
    names = model.names
    with model.preserved():
        try:
            adapted = peft.PeftModel.from_pretrained(model.lm, str(folder), use_safetensors=True)
            try:
                merged = adapted.merge_and_unload(safe_merge=True)
            except BaseException:
                adapted.unload()
                raise
        except UserError:
            raise
        except Exception as error:  # each kind of adapter has its own reasons
            reason = str(error).strip() or type(error).__name__
            raise UserError(
                f"the adapter {folder} can't be merged into {model.spec}: {reason.splitlines()[0]}"
            ) from error
        found = {name: weight.detach().float().cpu().clone() for name, weight in merged.named_parameters()}
    if found.keys() != names:
        raise UserError(f"the adapter {folder} adds weights that {model.spec} does not have")
    return found
