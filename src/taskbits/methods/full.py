"""All weights trained; their change quantised and entropy-coded: the program that a random model needs."""

from taskbits.fitting.fitted import fitted
from taskbits.fitting.kept import kept
from taskbits.fitting.training import batches, gradients, train
from taskbits.programs.coding import Coded, encode_tensors

FAMILY = "parametric"
_BATCH = 16


def sweep(model, task):
    trainings = [(200, 1e-3), (600, 3e-3), (1800, 3e-3), (5400, 3e-3)]
    return [{"steps": steps, "rate": rate, "spread": spread} for steps, rate in trainings for spread in (1.0, 0.4)]


def fit(model, task, settings, seed, progress):
    key = (model.fingerprint, settings["steps"], settings["rate"], seed)
    if key not in (trained := kept(task, "full")):
        trained.clear()  # one is large
        trained[key] = _changes(model, task, settings["steps"], settings["rate"], seed, progress)
    payload, distribution, bits = encode_tensors(trained[key], settings["spread"])
    shapes = {name: list(weight.shape) for name, weight in model.lm.named_parameters()}
    return fitted("full", model, task, Coded("full", distribution, payload, bits, {"tensors": shapes}))


def _changes(model, task, steps, rate, seed, progress):
    before = [weight.detach().float().cpu().numpy().copy() for weight in model.lm.parameters()]
    with model.preserved(), model.single_precision():
        steered = gradients(model, batches(model, task, _BATCH, steps, seed))
        train(model.lm.parameters(), steered, steps, rate, progress)
        after = [weight.detach().cpu().numpy() for weight in model.lm.parameters()]
        return [new - old for new, old in zip(after, before, strict=True)]
