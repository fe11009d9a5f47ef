"""Where a change goes: names of a model's matrices, and the shortest text that tells them from its other parameters."""

import re
from collections.abc import Iterable

from taskbits.errors import UserError
from taskbits.model import Model


def matrices(model: Model, part: str = "") -> list[str]:
    """Names of the matrices in the transformer's blocks, in the model's order; those with `part` in the name."""
    numbered = [re.match(r"(.*?)\.\d+\.", name) for name, _ in model.lm.named_parameters()]
    stems = [match.group(1) for match in numbered if match]
    blocks = max(sorted(set(stems)), key=stems.count, default="")
    return [
        name
        for name, weight in model.lm.named_parameters()
        if blocks and name.startswith(blocks) and weight.ndim == 2 and part in name
    ]


def attention(model: Model) -> list[str]:
    """Names of the attention's matrices; of all in the blocks if their names don't tell."""
    return matrices(model, "attn") or matrices(model, "attention") or matrices(model)


def last_matrices(model: Model) -> list[str]:
    """Names of each block's last matrix, whose output goes to the residual stream."""
    return list({re.match(r".*?\.\d+\.", name).group(): name for name in matrices(model)}.values())


def selector(names: Iterable[str], everything: Iterable[str]) -> str:
    """The shortest text that stands in each of these names and in no other one of `everything`.

    Raises UserError if there is none.
    """
    names = list(names)
    others, first = set(everything) - set(names), names[0] if names else ""
    parts = {first[i:j] for i in range(len(first)) for j in range(i + 1, len(first) + 1)}
    for part in sorted(parts, key=lambda p: (len(p), p)):
        if all(part in name for name in names) and not any(part in name for name in others):
            return part
    raise UserError("nothing tells the matrices of this model's blocks from its other parts by name")
