"""The gradient of what rows cost, with respect to what is beside a model's weights.

On a GPU a training step of a model below some billions of parameters waits for thousands of kernels to be launched one
by one. Batches of one shape take the same ones, so that these are recorded once (CUDA graphs) and replayed at once.
Needs no compiler; where a model does what can't be recorded, all is computed as usual.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import torch
import transformers

from taskbits.models import engine, forward
from taskbits.models.update import Update, beside

_OFTEN = 3  # times that a shape is computed as usual before it is recorded: recording takes about as long
_SMALL = 2**26  # numbers beside the weights, of which a recording keeps copies
_SHARE = 0.25  # of the free memory, that a recording may take: it keeps it
_FINE = 16  # what is added to a length, so that there are few shapes, is less than this part of it

Shape = tuple[int, int, int]  # rows, tokens of each, tokens that count


@dataclass(frozen=True)
class _Recording:
    """A graph, what it reads (leaves, inputs, scale) and what it writes (the leaves' gradients, loss)."""

    graph: torch.cuda.CUDAGraph
    leaves: list[torch.Tensor]
    inputs: forward.Inputs
    scale: torch.Tensor
    loss: torch.Tensor


class Descent:
    """Gradients for one training, whose model's weights stay where they are and what they are."""

    def __init__(self, lm: transformers.PreTrainedModel):
        self._lm = lm
        self._seen: Counter[Shape] = Counter()
        self._took: dict[Shape, float] = {}
        self._recorded: dict[Shape, _Recording] = {}
        self._pool = None
        devices = {weight.device for weight in lm.parameters()}
        self._records = len(devices) == 1 and lm.device.type == "cuda"
        self._records &= not any(weight.requires_grad for weight in lm.parameters())

    def descend(self, update: Update, rows: list[forward.Row], count: int) -> float:
        """What the rows cost, over `count`; its gradient is added to the update's tensors (leaves)."""
        if not self._may_record(update):
            return self._step(update, rows, count)
        shape = _rounded(rows)
        begun = time.perf_counter()
        if shape in self._recorded:
            loss = self._replay(self._recorded[shape], update.tensors(), rows, shape, count)
            if time.perf_counter() - begun > self._took[shape]:  # the GPU was what took long
                del self._recorded[shape]
            return loss
        loss = self._step(update, rows, count)
        self._took[shape] = min(self._took.get(shape, float("inf")), time.perf_counter() - begun)
        self._seen[shape] += 1
        if self._seen[shape] == _OFTEN and forward.share(self._lm, rows) < _SHARE:
            try:
                self._recorded[shape] = self._record(update, rows, shape)
            except Exception as error:  # models do all kinds of things
                self._records = False
                logging.getLogger(__name__).info("training steps of this model can't be recorded: %s", error)
        return loss

    def _may_record(self, update: Update) -> bool:
        return (
            self._records
            and engine.is_causal(self._lm)
            and 0 < sum(tensor.numel() for tensor in update.tensors()) <= _SMALL
        )

    def _step(self, update: Update, rows: list[forward.Row], count: int) -> float:
        with beside(self._lm, update), forward.fast(self._lm, rows):
            loss = forward.surprisals(self._lm, rows).sum() / count
            loss.backward()
            return loss.item()

    def _record(self, update: Update, rows: list[forward.Row], shape: Shape) -> _Recording:
        inputs = forward.inputs(self._lm, rows, *shape[1:])
        leaves = [tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in update.tensors()]
        for leaf in leaves:
            leaf.grad = torch.zeros_like(leaf) if leaf.requires_grad else None
        gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
        scale, found = torch.ones((), device=inputs.tokens.device), torch.zeros((), device=inputs.tokens.device)

        def work() -> None:
            torch._foreach_zero_(gradients)
            with beside(self._lm, update.of(leaves)):
                loss = forward.costs(self._lm, inputs).sum() * scale
                loss.backward()
                found.copy_(loss.detach())

        _alone(work)
        graph = torch.cuda.CUDAGraph()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        with torch.cuda.graph(graph, pool=self._pool):
            work()
        graph.replay()  # the first time is slow
        return _Recording(graph, leaves, inputs, scale, found)

    def _replay(
        self, recording: _Recording, tensors: list[torch.Tensor], rows: list[forward.Row], shape: Shape, count: int
    ) -> float:
        for old, new in zip(recording.inputs, forward.inputs(self._lm, rows, *shape[1:]), strict=True):
            old.copy_(new)
        recording.scale.fill_(1 / count)
        with torch.no_grad():
            torch._foreach_copy_(recording.leaves, tensors)
        recording.graph.replay()
        for leaf, tensor in zip(recording.leaves, tensors, strict=True):
            if leaf.grad is not None:
                tensor.grad = leaf.grad.clone() if tensor.grad is None else tensor.grad + leaf.grad
        return recording.loss.item()


def _alone(work: Callable[[], None]) -> None:
    """Do it as it is recorded, and raise where it waits for the GPU: recordings that break off leave torch broken.

    What asks whether it is recorded, so as not to wait, is told so.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    recorded = mock.patch("torch.cuda.is_current_stream_capturing", lambda: True)
    with torch.cuda.stream(stream), _no_waiting(), recorded:
        work()
    torch.cuda.current_stream().wait_stream(stream)


@contextmanager
def _no_waiting() -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _rounded(rows: list[forward.Row]) -> Shape:
    """The shape of these rows, a little larger, so that there are few."""
    length = max(len(tokens) for tokens, _ in rows)
    counts = sum(len(tokens) - max(1, first) for tokens, first in rows)
    return len(rows), *(_up(number) for number in (length, counts))


def _up(number: int) -> int:
    step = max(1, 1 << number.bit_length() >> _FINE.bit_length())
    return -(-number // step) * step
