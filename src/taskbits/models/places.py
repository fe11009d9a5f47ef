"""Where a change goes: some of a model's matrices, and the shortest text that tells them from its other parameters."""

import re
from collections.abc import Iterable

import torch
from transformers.pytorch_utils import Conv1D

from taskbits.errors import UserError
from taskbits.models.model import Model

Places = tuple[list[str], str]  # parameters' names in the model's order, and the text in these names alone


def blocks(model: Model) -> Places:
    """The matrices in the transformer's blocks."""
    return _selectable(model, _matrices(model))


def attention(model: Model) -> Places:
    """The attention's matrices; all in the blocks if the names don't tell which those are."""
    names = _matrices(model)
    return _selectable(model, [name for name in names if "attn" in name or "attention" in name] or names)


def norms(model: Model) -> Places:
    """The norms' scales."""
    parameters = model.lm.named_parameters()
    return _selectable(model, [n for n, p in parameters if p.ndim == 1 and "norm" in n.lower() and "bias" not in n])


def last_in_blocks(model: Model) -> list[str]:
    """Names of each block's last matrix whose output goes to the residual stream for every token, not an expert's.

    Raises UserError if the blocks have none that is a plain linear module.
    """
    width, found = model.lm.get_input_embeddings().weight.shape[-1], {}
    for name in _matrices(model):
        block, rest = re.match(r"(.*?\.\d+\.)(.*)", name).groups()
        module = model.lm.get_submodule(name.rpartition(".")[0])
        if isinstance(module, torch.nn.Linear) and module.out_features == width and not re.search(r"\.\d+\.", rest):
            found[block] = name
    if not found:
        raise UserError("this model's blocks have no linear module, with or without bias, that writes to the stream")
    return list(found.values())


def covering(model: Model, names: Iterable[str]) -> Places:
    """These matrices, with the fewest others that a text can't tell from them.

    Raises UserError if no text stands in their names and in no other kind of parameter's.
    """
    parameters, names = dict(model.lm.named_parameters()), list(names)
    best: Places | None = None
    for part in _texts_in(names[0]):
        found = [name for name in parameters if part in name]
        fits = set(names) <= set(found) and all(parameters[name].ndim == 2 for name in found)
        if fits and (best is None or len(found) < len(best[0])):
            best = found, part
    if best is None:
        raise UserError("nothing tells the adapter's matrices from this model's other parameters by name")
    return best


def is_transposed(model: Model, name: str) -> bool:
    """Whether the module keeps this matrix as (in, out), as GPT-2's do, and not as (out, in)."""
    return isinstance(model.lm.get_submodule(name.rpartition(".")[0]), Conv1D)


def selector(names: Iterable[str], everything: Iterable[str]) -> str | None:
    """The shortest text that stands in each of these names and in no other one of `everything`; None if none does."""
    names = list(names)
    others = set(everything) - set(names)
    for part in _texts_in(names[0] if names else ""):
        if all(part in name for name in names) and not any(part in name for name in others):
            return part
    return None


def _texts_in(name: str) -> list[str]:
    """All that stands in a name, the shortest first."""
    parts = {name[i:j] for i in range(len(name)) for j in range(i + 1, len(name) + 1)}
    return sorted(parts, key=lambda part: (len(part), part))


def _matrices(model: Model) -> list[str]:
    numbered = [re.match(r"(.*?)\.\d+\.", name) for name, _ in model.lm.named_parameters()]
    stems = [match.group(1) for match in numbered if match]
    stem = max(sorted(set(stems)), key=stems.count, default=None)
    return [
        name
        for name, weight in model.lm.named_parameters()
        if stem is not None and re.match(rf"{re.escape(stem)}\.\d+\.", name) and weight.ndim == 2
    ]


def _selectable(model: Model, wanted: list[str]) -> Places:
    """The wanted parameters, or where a bias' name gets in the way the largest group of one name that can be told.

    Raises UserError if there is none.
    """
    parameters = dict(model.lm.named_parameters())
    modules = {name: name.rpartition(".")[0].rpartition(".")[2] for name in wanted}
    groups = [[name for name in wanted if modules[name] == kind] for kind in sorted(set(modules.values()))]
    groups.sort(key=lambda names: -sum(parameters[name].numel() for name in names))
    for names in (wanted, *groups):
        if names and (text := selector(names, parameters)):
            return names, text
    raise UserError("nothing tells this model's matrices or norms from its other parameters by name")
