"""Supervised training on a task's train split: the loss counts the reference outputs only.

For methods whose programs carry the result of training. Knows nothing of how that result is coded.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch

from taskbits.errors import UserError
from taskbits.models import forward
from taskbits.models.model import Model
from taskbits.models.predict import asked
from taskbits.models.replay import Descent
from taskbits.models.update import Update
from taskbits.tasks.frame import Frame
from taskbits.tasks.rows import Row
from taskbits.tasks.task import Task

Progress = Callable[[int, int], None]

_POOL = 16  # batches whose rows are shared out by length, so that little of a batch is padding


def batches(model: Model, task: Task, size: int, count: int, seed: int) -> Iterator[list[forward.Row]]:
    """`count` batches of `size` rows as `forward` has them, those of a batch of like length.

    Rows are prompt, what M is to go on with and end token, in an order shuffled by `seed` and again for each pass.
    """
    rows, outputs = task.splits["train"], task.completions("train")
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    while count > 0:
        pool = min(_POOL, count)
        while len(order) < size * pool:
            order += torch.randperm(len(rows), generator=generator).tolist()
        chosen, order = order[: size * pool], order[size * pool :]
        some = example_rows(model, task.frame, [(rows[i], outputs[i]) for i in chosen], ends=not task.frame.choices)
        some.sort(key=lambda row: len(row[0]))
        for at in torch.randperm(pool, generator=generator).tolist():
            yield some[size * at : size * (at + 1)]
        count -= pool


def gradients(
    model: Model, data: Iterable[list[forward.Row]], update: Callable[[], Update] = Update
) -> Iterator[float]:
    """For each batch, the gradient of its mean cross-entropy is added to what it depends on; yields that, in nats.

    update: what is beside the model's weights, computed anew for each batch.
    """
    descent = Descent(model.lm)
    for rows in data:
        count = sum(len(tokens) - max(1, first) for tokens, first in rows)
        with leaves(update()) as some:
            total = sum(descent.descend(some, part, count) for part in forward.parts(model.lm, rows))
        yield total


@contextmanager
def leaves(update: Update) -> Iterator[Update]:
    """The same update as tensors of its own, whose gradients go on at the end to what made it.

    So that may be more than one backward pass, and what made it is gone through once.
    """
    made = update.tensors()
    own = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in made]
    yield update.of(own)
    seen = [(tensor, leaf.grad) for tensor, leaf in zip(made, own, strict=True) if leaf.grad is not None]
    if seen:
        torch.autograd.backward([tensor for tensor, _ in seen], [gradient for _, gradient in seen])


def train(
    parameters: Iterable[torch.Tensor], gradients: Iterable[float], steps: int, rate: float, progress: Progress
) -> None:
    """Adam over `parameters` with a short warm-up and a linear decay to zero, a step behind each of the `gradients`.

    Raises UserError if it diverges.
    """
    parameters = list(parameters)
    optimizer = torch.optim.Adam(parameters, rate)
    warm = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (steps - step) / max(1, steps - warm))
    )
    for step, _ in enumerate(gradients):
        progress(step, steps)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    require_finite(*parameters)


def require_finite(*trained: torch.Tensor) -> None:
    """Raises UserError if what was trained holds anything but numbers."""
    if not all(part.isfinite().all() for part in trained):
        raise UserError("the training diverged: its numbers are not finite any more")


def example_rows(model: Model, frame: Frame, examples: list[tuple[Row, str]], ends: bool) -> list[forward.Row]:
    """(row, output) pairs as tokens, and the number of the first that is the output's, without what is given of it.

    ends: with the end token behind each.
    """
    rows = []
    prompts = asked(model, frame, [row for row, _ in examples])
    end = model.turn_end if frame.chat else model.end
    for prompt, (row, target) in zip(prompts, examples, strict=True):
        before = model.tokens(prompt + frame.start(row, target), frame.chat)
        whole = model.tokens(prompt + target, frame.chat) + ([end] if ends else [])
        # A tokenizer may join the prompt's last characters with the target's first: what differs is target.
        shared = next((n for n, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b), len(before))
        # What is too long is cut at its end; if nothing were left of the output, at its start.
        cut = len(whole) - model.context if shared >= model.context else 0
        rows.append((whole[cut:][: model.context], max(0, shared - cut)))
    return rows
