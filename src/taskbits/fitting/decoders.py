"""How the decoder of a data program trains: with which optimizer, and which weights, as far as the memory goes.

While it trains it holds, besides the weights, a copy of those that change, their gradients, and the optimizer's state.
Figures: benchmarks/data_programs.py.
"""

from dataclasses import dataclass

from taskbits.models import memory
from taskbits.models.model import Model
from taskbits.models.places import attention

_SHARE = 0.8  # of the free memory that training may take; the rest is for what its passes leave
# Name, bytes held for each byte of the weights that train, and learning rate over that of Adam.
_OPTIMIZERS = (("Adam", 4.0, 1.0), ("Adafactor", 2.1, 10.0), ("SGD", 2.0, 300.0))


@dataclass(frozen=True)
class Decoder:
    """optimizer, target: settings of the runners that train. pace: by which Adam's learning rate is multiplied."""

    optimizer: str
    target: str
    pace: float


def affordable(model: Model) -> list[Decoder]:
    """Those that fit in the memory, the one to begin with first; if none trains all weights, some for the attention's.

    The optimizer with the smallest state is among them in any case.
    """
    free = _SHARE * memory.available(model.lm.device)
    size = sum(weight.nbytes for weight in model.lm.parameters())
    found = [Decoder(name, "", pace) for name, held, pace in _OPTIMIZERS if held * size <= free]
    if found:
        return found
    names, target = attention(model)
    size = sum(model.lm.get_parameter(name).nbytes for name in names)
    fitting = [entry for entry in _OPTIMIZERS[:2] if entry[1] * size <= free] or _OPTIMIZERS[1:2]
    return [Decoder(name, target, pace) for name, _, pace in fitting]
