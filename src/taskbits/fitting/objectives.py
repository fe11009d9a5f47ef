"""Training on the task's own metric, which may ask for less than the references say.

For few coefficients an evolution strategy on the whole numbers themselves, for many a policy gradient. Both see the
train split only.
"""

from collections.abc import Callable, Iterator

import cmaes
import numpy as np
import torch

from taskbits.fitting.training import example_rows, leaves
from taskbits.models import forward
from taskbits.models.model import Model
from taskbits.models.predict import predict
from taskbits.models.update import Update, beside
from taskbits.tasks.task import Task

_JUDGED = 64  # train rows that a generation is compared on
_PROMPTS = 4
_SAMPLES = 4


def evolve(
    model: Model,
    task: Task,
    update: Callable[[np.ndarray], Update],
    start: np.ndarray,
    allowed: Callable[[np.ndarray], bool],
    seed: int,
    evaluations: int,
    progress: Callable[[int], None],
) -> np.ndarray:
    """Whole numbers (n,) that score better than `start` on the train split, or `start` if none are found.

    CMA-ES with a margin for whole numbers (Hamano et al. 2022). `allowed` says which are short enough.
    """
    bound = max(3, 2 * int(np.abs(start).max()))
    search = cmaes.CMAwM(
        mean=start.astype(float),
        sigma=1.0,
        bounds=np.tile([-bound, bound], (len(start), 1)),
        steps=np.ones(len(start)),
        seed=seed + 1,
    )
    random = np.random.default_rng(seed)
    best, done = {tuple(start): 0.0}, 0
    with model.quick(writes=not task.frame.choices):
        while done + search.population_size <= evaluations:
            chosen = random.permutation(len(task.splits["train"]))[:_JUDGED].tolist()
            told = []
            for _ in range(search.population_size):
                progress(done)
                done += 1
                numbers, sample = search.ask()
                values = numbers.astype(np.int64)
                fits = allowed(values)
                score = _score(model, task, update(values), chosen) if fits else 0.0
                told.append((sample, -score))
                if fits and score >= max(best.values()):
                    best[tuple(values)] = score
            search.tell(told)
        middle = np.clip(np.rint(search.mean), -bound, bound).astype(np.int64)
        finalists = [start, *(np.array(v) for v in list(best)[-3:]), *([middle] if allowed(middle) else [])]
        chosen = random.permutation(len(task.splits["train"]))[: 4 * _JUDGED].tolist()
        return max(finalists, key=lambda values: _score(model, task, update(values), chosen))


def expected_gradients(
    model: Model, task: Task, update: Callable[[], Update], steps: int, seed: int
) -> Iterator[float]:
    """The gradient of minus the expected metric (REINFORCE, Williams 1992) is added to what it depends on, `steps`
    times; yields what it is the gradient of.

    A prompt's baseline is the mean reward of its other samples (Kool et al. 2019). Where the task has choices, the
    expectation over them is computed instead of sampled.
    """
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    examples = task.splits["train"]
    for _ in range(steps):
        chosen = random.permutation(len(examples))[:_PROMPTS].tolist()
        if task.frame.choices:
            rows = [(i, choice) for i in chosen for choice in task.frame.options(examples[i])]
            outputs = [text for i in chosen for text in task.frame.written(examples[i])]
        else:
            with torch.no_grad(), beside(model.lm, update()):
                asked = [i for i in chosen for _ in range(_SAMPLES)]
                outputs = predict(model, task.frame, [examples[i] for i in asked], sample=True)
            rows = list(zip(asked, outputs, strict=True))
        rewards = torch.tensor(task.rewards("train", [i for i, _ in rows], outputs)).float()
        # An empty output is the choice of its end; other ends are not counted, since a stop string is cut off.
        pairs = [(examples[i], text or task.separator) for i, text in rows]
        some = example_rows(model, task.frame, pairs, ends=False)
        scales = [task.frame.scale(text) for _, text in rows]
        with leaves(update()) as own, beside(model.lm, own), forward.fast(model.lm, some):
            loss = -_expected(task, examples, chosen, _chances(model, some) / torch.tensor(scales), rewards)
            loss.backward()
        yield loss.item()


def _chances(model: Model, rows: list[forward.Row]) -> torch.Tensor:
    """The logarithm of each row's chance, on the CPU."""
    found: dict[int, torch.Tensor] = {}
    for part in forward.parts(model.lm, rows):
        surprisals = forward.surprisals(model.lm, part).cpu()
        counts = [len(tokens) - max(1, first) for tokens, first in part]
        found |= {id(row): -some.sum() for row, some in zip(part, surprisals.split(counts), strict=True)}
    return torch.stack([found[id(row)] for row in rows])


def _expected(task: Task, examples: list, chosen: list[int], chances: torch.Tensor, rewards: torch.Tensor):
    """The expected metric as far as its gradient goes: over choices, or over the samples of each prompt."""
    if task.frame.choices:
        counts = [len(task.frame.options(examples[i])) for i in chosen]
        pairs = zip(chances.split(counts), rewards.split(counts), strict=True)
        return sum((chance.softmax(0) * reward).sum() for chance, reward in pairs) / len(chosen)
    chances, rewards = (values.view(len(chosen), -1) for values in (chances, rewards))
    others = (rewards.sum(1, keepdim=True) - rewards) / (_SAMPLES - 1)
    return ((rewards - others) * chances).mean()


def _score(model: Model, task: Task, update: Update, chosen: list[int]) -> float:
    with torch.no_grad(), beside(model.lm, update):
        written = predict(model, task.frame, [task.splits["train"][i] for i in chosen])
    return float(task.rewards("train", chosen, written).mean())
