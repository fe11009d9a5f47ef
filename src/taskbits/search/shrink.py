"""From an adapter that somebody has to short programs, and what there is to compare them with."""

import json
import tempfile
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch

from taskbits.atomic import write_atomically
from taskbits.errors import UserError
from taskbits.models import donors
from taskbits.models.model import Model
from taskbits.models.predict import predict
from taskbits.search.confirm import open_parts
from taskbits.search.measure import measure
from taskbits.studies.study import Study
from taskbits.tasks.task import Task

_METHODS = ("zero-shot", "shrunk")
_FACTS = "adapter.json"  # in the study's folder


@dataclass(frozen=True)
class Adapter:
    """An adapter as it was given. sizes: bytes of its file, and of what public tools make of it; scores: on the splits
    that programs are scored on."""

    sizes: dict[str, int]
    scores: dict[str, float]


def shrink(adapter: Path, model, task, out: str, **options) -> tuple[Study, Adapter]:
    """Programs from the adapter's own size downwards, in the study in `out`, and what the adapter itself is.

    options: as `measure` takes them. Raises UserError if it is no adapter for this model, or as `measure` does.
    """
    if not donors.is_adapter(str(adapter)):
        raise UserError(f"{adapter} is no PEFT adapter: it has no adapter_config.json")
    study = measure(model, task, out, methods=_METHODS, donor=str(adapter), **options)
    path = study.folder / _FACTS
    with suppress(OSError, ValueError, TypeError):  # not there, or damaged
        return study, Adapter(**json.loads(path.read_text(encoding="utf-8")))
    found = Adapter(sizes(adapter), scores(adapter, *open_parts(study)))
    write_atomically(path, json.dumps(asdict(found)).encode())
    return study, found


@torch.no_grad()
def scores(adapter: Path, model: Model, task: Task) -> dict[str, float]:
    """What the model scores on validation and test with the adapter."""
    weights = donors.weights_of(str(adapter), model)
    with model.preserved():
        for name, weight in model.lm.named_parameters():
            weight.copy_(weights[name])
        splits = ("validation", "test")
        return {split: task.score(split, predict(model, task.frame, task.splits[split])).value for split in splits}


def sizes(adapter: Path) -> dict[str, int]:
    """Bytes of the adapter's file; of its numbers in float16, also compressed; and in 8 bits with a scale for each
    tensor, compressed."""
    stored = donors.stored(adapter)
    tensors = safetensors.torch.load_file(stored)
    half = {name: tensor.half() for name, tensor in tensors.items()}
    eighths = {}
    for name, tensor in tensors.items():
        scale = tensor.float().abs().max().clamp(min=1e-12) / 127
        eighths |= {name: (tensor.float() / scale).round().to(torch.int8), f"{name}.scale": scale}
    with tempfile.TemporaryDirectory() as folder:
        contents = []
        for number, some in enumerate((half, eighths)):
            file = Path(folder, str(number))
            safetensors.torch.save_file(some, file)
            contents.append(file.read_bytes())
    return {
        "as given": Path(stored).stat().st_size,
        "float16": len(contents[0]),
        "float16, compressed": len(zlib.compress(contents[0], 9)),
        "8 bits, compressed": len(zlib.compress(contents[1], 9)),
    }
