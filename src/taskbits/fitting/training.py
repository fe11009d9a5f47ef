"""Supervised training on a task's train split: the loss counts the reference outputs only.

For methods whose programs carry the result of training. Knows nothing of how that result is coded.
"""

from collections.abc import Callable, Iterable, Iterator

import torch

from taskbits.errors import UserError
from taskbits.models.model import Model
from taskbits.models.predict import asked
from taskbits.tasks.frame import Frame
from taskbits.tasks.rows import Row
from taskbits.tasks.task import Task

Progress = Callable[[int, int], None]
Weights = dict[str, torch.Tensor]


def batches(model: Model, task: Task, size: int, count: int, seed: int) -> Iterator[tuple[torch.Tensor, ...]]:
    """`count` batches of token ids, attention mask and labels, each of shape (size, longest).

    Rows are prompt, reference output and end token, in an order shuffled by `seed` and again for each pass.
    """
    rows, targets = task.splits["train"], task.targets("train")
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    for _ in range(count):
        while len(order) < size:
            order += torch.randperm(len(rows), generator=generator).tolist()
        chosen, order = order[:size], order[size:]
        yield example_batch(model, task.frame, [(rows[i], targets[i]) for i in chosen], ends=not task.frame.choices)


def cross_entropies(
    model: Model, data: Iterable[tuple[torch.Tensor, ...]], weights: Callable[[], Weights] = dict
) -> Iterator[torch.Tensor]:
    """The mean cross-entropy of each batch, in nats, under the model with some of its parameters replaced."""
    for tokens, mask, labels in data:
        inputs = {"input_ids": tokens, "attention_mask": mask, "labels": labels}
        yield torch.func.functional_call(model.lm, weights(), kwargs=inputs, tie_weights=False).loss


def train(
    parameters: Iterable[torch.Tensor], losses: Iterable[torch.Tensor], steps: int, rate: float, progress: Progress
) -> None:
    """Adam over `parameters` with a short warm-up and a linear decay to zero. Raises UserError if it diverges."""
    parameters = list(parameters)
    optimizer = torch.optim.Adam(parameters, rate)
    warm = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, (steps - step) / max(1, steps - warm))
    )
    for step, loss in enumerate(losses):
        progress(step, steps)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    require_finite(*parameters)


def require_finite(*trained: torch.Tensor) -> None:
    """Raises UserError if what was trained holds anything but numbers."""
    if not all(part.isfinite().all() for part in trained):
        raise UserError("the training diverged: its numbers are not finite any more")


def example_batch(model: Model, frame: Frame, examples: list[tuple[Row, str]], ends: bool) -> tuple[torch.Tensor, ...]:
    """Token ids, attention mask and labels of (row, output) pairs; `ends`: with the end token behind each.

    Labels are the output's, without what is given of it.
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
    width = max(len(whole) for whole, _ in rows)
    tokens = torch.tensor([whole + [end] * (width - len(whole)) for whole, _ in rows])
    mask = torch.tensor([[1] * len(whole) + [0] * (width - len(whole)) for whole, _ in rows])
    labels = torch.tensor([[-100] * n + whole[n:] + [-100] * (width - len(whole)) for whole, n in rows])
    return tuple(part.to(model.lm.device) for part in (tokens, mask, labels))
