"""Training on the task's own metric, which may ask for less than the references say.

For few coefficients an evolution strategy on the whole numbers themselves, for many a policy gradient. Both see the
train split only.
"""

from collections.abc import Callable, Iterator

import cmaes
import numpy as np
import torch

from taskbits.fitting.training import Weights, example_batch
from taskbits.models.model import Model
from taskbits.models.predict import predict
from taskbits.tasks.task import Task

_JUDGED = 64  # train rows that a generation is compared on
_PROMPTS = 4
_SAMPLES = 4


def evolve(
    model: Model,
    task: Task,
    weights: Callable[[np.ndarray], Weights],
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
    with model.preserved(), model.single_precision():
        while done + search.population_size <= evaluations:
            chosen = random.permutation(len(task.splits["train"]))[:_JUDGED].tolist()
            told = []
            for _ in range(search.population_size):
                progress(done)
                done += 1
                numbers, sample = search.ask()
                values = numbers.astype(np.int64)
                fits = allowed(values)
                score = _score(model, task, weights(values), chosen) if fits else 0.0
                told.append((sample, -score))
                if fits and score >= max(best.values()):
                    best[tuple(values)] = score
            search.tell(told)
        middle = np.clip(np.rint(search.mean), -bound, bound).astype(np.int64)
        finalists = [start, *(np.array(v) for v in list(best)[-3:]), *([middle] if allowed(middle) else [])]
        chosen = random.permutation(len(task.splits["train"]))[: 4 * _JUDGED].tolist()
        return max(finalists, key=lambda values: _score(model, task, weights(values), chosen))


def expected_losses(
    model: Model, task: Task, weights: Callable[[], Weights], steps: int, seed: int
) -> Iterator[torch.Tensor]:
    """Losses whose gradient is that of minus the expected metric (REINFORCE, Williams 1992).

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
        else:
            with torch.no_grad(), model.preserved():
                install(model, weights())
                asked = [i for i in chosen for _ in range(_SAMPLES)]
                written = predict(model, task.frame, [examples[i] for i in asked], sample=True)
            model.lm.requires_grad_(False)
            rows = list(zip(asked, written, strict=True))
        rewards = torch.tensor(task.rewards("train", [i for i, _ in rows], [text for _, text in rows]))
        rewards = rewards.to(model.lm.device).float()
        # An empty output is the choice of its end; other ends are not counted, since a stop string is cut off.
        pairs = [(examples[i], text or task.separator) for i, text in rows]
        tokens, mask, labels = example_batch(model, task.frame, pairs, ends=False)
        inputs = {"input_ids": tokens, "attention_mask": mask}
        logits = torch.func.functional_call(model.lm, weights(), kwargs=inputs, tie_weights=False).logits
        surprisal = torch.nn.functional.cross_entropy(
            logits[:, :-1].transpose(1, 2), labels[:, 1:], ignore_index=-100, reduction="none"
        )
        chances = -surprisal.sum(1) / torch.tensor([task.frame.scale(text) for _, text in rows]).to(surprisal.device)
        if task.frame.choices:
            counts = [len(task.frame.options(examples[i])) for i in chosen]
            pairs = zip(chances.split(counts), rewards.split(counts), strict=True)
            yield -sum((chance.softmax(0) * reward).sum() for chance, reward in pairs) / len(chosen)
        else:
            chances, rewards = (values.view(len(chosen), -1) for values in (chances, rewards))
            others = (rewards.sum(1, keepdim=True) - rewards) / (_SAMPLES - 1)
            yield -((rewards - others) * chances).mean()


def install(model: Model, weights: Weights) -> None:
    """Put these in the place of the model's parameters, or where it has none (a bias)."""
    for name, value in weights.items():
        module, _, slot = name.rpartition(".")
        setattr(model.lm.get_submodule(module), slot, torch.nn.Parameter(value.detach()))


def _score(model: Model, task: Task, weights: Weights, chosen: list[int]) -> float:
    install(model, weights)
    written = predict(model, task.frame, [task.splits["train"][i] for i in chosen])
    return float(task.rewards("train", chosen, written).mean())
