"""What is added to a model's weights and is small beside them: low-rank factors and vectors.

It acts beside the weights (y = W x + left (right x), Hu et al. 2021), so that nothing is as large as a matrix but the
matrix itself, whether it is trained or only read. Knows nothing of how it is found or coded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import transformers
from transformers.pytorch_utils import Conv1D

from taskbits.models import heads

_PLAIN = (torch.nn.Linear, Conv1D)


@dataclass(frozen=True)
class Update:
    """factors: by a matrix's name (rows, r) and (r, columns), whose product is added to it. vectors: by a vector's name
    what is added to it; a bias that the model does not have is taken to be zero. So it is by any parameter's name, for
    what is as large as the parameter."""

    factors: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    vectors: dict[str, torch.Tensor] = field(default_factory=dict)

    def tensors(self) -> list[torch.Tensor]:
        """All factors and vectors, in their order."""
        return [*(part for pair in self.factors.values() for part in pair), *self.vectors.values()]

    def of(self, tensors: list[torch.Tensor]) -> "Update":
        """The same with other tensors, in the order of `tensors()`."""
        left = iter(tensors)
        factors = {name: (next(left), next(left)) for name in self.factors}
        return Update(factors, {name: next(left) for name in self.vectors})


@contextmanager
def beside(lm: transformers.PreTrainedModel, update: Update) -> Iterator[None]:
    """Inside, the model computes as if the update were added to its weights; differentiable in the update."""
    hooks, kept = [], []
    plain, owners = _products(lm), _owners(lm)
    try:
        for name, (left, right) in update.factors.items():
            for module, slot in owners[id(lm.get_parameter(name))]:
                if slot == "weight" and module in plain:
                    hooks.append(module.register_forward_hook(_side_path(module, left, right)))
                else:
                    weight = module._parameters[slot]
                    _put(kept, module, slot, weight + (left.to(weight) @ right.to(weight)))
        for name, vector in update.vectors.items():
            owner, _, slot = name.rpartition(".")
            module = lm.get_submodule(owner)
            weight = module._parameters[slot]
            places = [(module, slot)] if weight is None else owners[id(weight)]
            for module, slot in places:
                new = vector.to(module.weight) if weight is None else weight + vector.to(weight)
                _put(kept, module, slot, new)
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module, slot, weight in kept:
            module._parameters[slot] = weight


def _put(kept: list, module: torch.nn.Module, slot: str, weight: torch.Tensor) -> None:
    kept.append((module, slot, module._parameters[slot]))
    module._parameters[slot] = weight


def _side_path(module: torch.nn.Module, left: torch.Tensor, right: torch.Tensor):
    """A hook that adds what the factors make of a module's input to its output."""
    first, second = (left, right) if isinstance(module, Conv1D) else (right.mT, left.mT)

    def add(_, inputs, output):
        (given, *_) = inputs
        return output + (given @ first.to(given)) @ second.to(given)

    return add


def _owners(lm: transformers.PreTrainedModel) -> dict[int, list[tuple[torch.nn.Module, str]]]:
    """By a parameter's id, the modules that have it: tied ones have it more than once."""
    found: dict[int, list] = {}
    for module in lm.modules():
        for slot, weight in module._parameters.items():
            if weight is not None:
                found.setdefault(id(weight), []).append((module, slot))
    return found


def _products(lm: transformers.PreTrainedModel) -> set[torch.nn.Module]:
    """The modules that are plain products with their matrix, and are called as modules: seen once, on a few tokens."""
    if "_taskbits_products" not in lm.__dict__:
        called: set[torch.nn.Module] = set()
        plain = [module for module in lm.modules() if type(module).forward in [kind.forward for kind in _PLAIN]]
        hooks = [module.register_forward_hook(lambda module, *_: called.add(module)) for module in plain]
        try:
            heads.read_some(lm)
        finally:
            for hook in hooks:
                hook.remove()
        lm.__dict__["_taskbits_products"] = called
    return lm.__dict__["_taskbits_products"]
