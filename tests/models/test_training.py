"""What trains: beside the weights as if in them, logits only where they count, and nothing of it stays."""

import copy

import pytest
import torch
from test_kinds import kinds

from taskbits.fitting.training import batches, gradients
from taskbits.models import devices, engine, forward, heads, memory, products
from taskbits.models.model import load_model
from taskbits.models.replay import Descent
from taskbits.models.update import Update, beside
from taskbits.tasks.load import load_task

KINDS = ["llama", "gpt2", "gemma3_text", "gemma2", "cohere", "mixtral", "falcon_mamba", "bloom", "opt", "gpt_neox"]
ROWS = [([5, 9, 11, 3, 8, 2], 3), ([7, 1, 4, 4], 2), ([6, 2, 9, 9, 1, 3, 5, 8], 6)]


def built(kind):
    torch.manual_seed(2)
    lm = kinds.build(kind).double()
    return lm if engine.computes(lm) else lm.float()


def drawn(lm) -> Update:
    """A change of every matrix and of every vector."""
    generator = torch.Generator().manual_seed(3)
    update = Update()
    for name, weight in lm.named_parameters():
        if weight.ndim == 2:
            parts = [torch.randn(size, generator=generator, dtype=torch.float64) / 9 for size in weight.shape]
            update.factors[name] = (parts[0][:, None], parts[1][None])
        elif weight.ndim == 1:
            update.vectors[name] = torch.randn(len(weight), generator=generator, dtype=torch.float64) / 9
    return update


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_beside_the_weights_is_as_one_in_them(kind):
    lm = built(kind)
    update, tokens = drawn(lm), torch.tensor([ROWS[0][0]])
    changed = copy.deepcopy(lm)
    with torch.no_grad():
        for name, (left, right) in update.factors.items():
            changed.get_parameter(name).add_(left @ right)
        for name, vector in update.vectors.items():
            changed.get_parameter(name).add_(vector)
        before = lm(tokens).logits
        with beside(lm, update):
            found = lm(tokens).logits
        assert (found - changed(tokens).logits).abs().max() < 1e-4 * found.abs().max()
        assert (found - before).abs().max() > 1e-2 * found.abs().max()
        assert torch.equal(lm(tokens).logits, before)  # nothing of it is left
    assert all(isinstance(weight, torch.nn.Parameter) for weight in lm.parameters())
    assert not any(module._forward_hooks for module in lm.modules())


def test_updates_add_up_beside_the_weights():
    lm, tokens = built("llama"), torch.tensor([ROWS[0][0]])
    update = Update({name: pair for name, pair in drawn(lm).factors.items() if "proj" in name})
    twice = Update({name: (left, 2 * right) for name, (left, right) in update.factors.items()})
    with torch.no_grad():
        with beside(lm, twice):
            wanted = lm(tokens).logits
        with beside(lm, update), beside(lm, update):
            assert torch.allclose(lm(tokens).logits, wanted, atol=1e-9)
        with beside(lm, update):
            assert not torch.allclose(lm(tokens).logits, wanted, atol=1e-3)
    assert {type(module) for module in lm.modules()} == {type(module) for module in built("llama").modules()}


def test_gradients_are_there_when_the_loss_is(model, task_folder):
    name = next(name for name in model.names if name.endswith("q_proj.weight"))
    rows, columns = model.lm.get_parameter(name).shape
    numbers = torch.ones(rows + columns, dtype=torch.float64, requires_grad=True)
    some = batches(model, load_task(str(task_folder)), 4, 2, 0)
    with model.quick():
        steps = gradients(model, some, lambda: Update({name: (numbers[:rows, None] / 9, numbers[None, rows:] / 9)}))
        next(steps)
        first = numbers.grad.clone()
        next(steps)
    assert first.abs().sum() > 0 and not torch.equal(first, numbers.grad)


@pytest.mark.parametrize("kind", KINDS)
def test_room_in_a_batch_costs_nothing(kind):
    lm = built(kind)
    if not engine.is_causal(lm):
        return
    wanted = forward.surprisals(lm, ROWS)
    found = forward.costs(lm, forward.inputs(lm, ROWS, length=40, count=len(wanted) + 3))
    assert torch.allclose(found[:-3], wanted, atol=1e-4) and not found[-3:].any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is nothing to record")
def test_a_recorded_step_gives_what_a_step_gives():
    lm = built("llama").cuda().float().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    descent, shapes = Descent(lm), [(3, 20), (2, 31), (3, 20)]
    for turn in range(12):
        count, length = shapes[turn % 3]
        rows = [(torch.randint(1, 60, (length - row,), generator=generator).tolist(), 9) for row in range(count)]
        made = [part.float().cuda().requires_grad_(True) for part in drawn(lm).tensors()]
        update = drawn(lm).of(made)
        loss = descent.descend(update, rows, 50)
        found = [part.grad.clone() for part in made]
        with beside(lm, update):
            wanted = forward.surprisals(lm, rows).sum() / 50
            usual = torch.autograd.grad(wanted, made)
        assert loss == pytest.approx(wanted.item(), rel=1e-4)
        assert all(torch.allclose(a, b, rtol=1e-2, atol=1e-4) for a, b in zip(found, usual, strict=True))
    assert descent._records


def test_a_bias_that_the_model_lacks_can_be_beside_it():
    lm, tokens = built("llama"), torch.tensor([ROWS[0][0]])
    name = next(name for name, module in lm.named_modules() if name.endswith("down_proj"))
    vector = torch.randn(lm.get_submodule(name).out_features, dtype=torch.float64)
    before = lm(tokens).logits
    with beside(lm, Update(vectors={f"{name}.bias": vector})):
        assert (lm(tokens).logits - before).abs().max() > 1e-3
    assert torch.equal(lm(tokens).logits, before) and lm.get_submodule(name).bias is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [2**25, 150])
def test_a_row_costs_what_its_whole_logits_say(kind, limit, monkeypatch):
    lm = built(kind)
    monkeypatch.setattr(forward, "_LOGITS", limit)  # the smaller, and a few tokens are many
    found = forward.surprisals(lm, ROWS)
    found.sum().backward()
    weight = lm.get_input_embeddings().weight
    got = weight.grad.clone()
    weight.grad = None
    wanted = []
    for tokens, first in ROWS:
        chances = lm(torch.tensor([tokens])).logits[0].float()[first - 1 : -1].log_softmax(-1)
        wanted.append(-chances[range(len(tokens) - first), tokens[first:]])
    torch.cat(wanted).sum().backward()
    assert torch.allclose(found, torch.cat(wanted), atol=1e-3)
    assert torch.allclose(got, weight.grad, atol=1e-3 * float(weight.grad.abs().max()))


def test_most_models_are_a_body_and_a_head():
    assert all(heads.splits(built(kind)) for kind in KINDS)


def test_what_does_not_fit_at_once_is_trained_in_parts(model, task_folder, monkeypatch):
    task = load_task(str(task_folder))
    some = list(batches(model, task, 8, 2, 0))
    weight = model.lm.get_input_embeddings().weight

    def trained() -> tuple[list[float], torch.Tensor]:
        with model.preserved():
            losses = list(gradients(model, some))
            return losses, weight.grad.clone()

    losses, whole = trained()
    monkeypatch.setattr(memory, "available", lambda device: 2**20)  # layers are computed twice, rows one by one
    assert all(len(part) == 1 for part in forward.parts(model.lm, some[0]))
    again, in_parts = trained()
    assert again == pytest.approx(losses) and torch.allclose(whole, in_parts, atol=1e-9)
    assert not any(module.training for module in model.lm.modules())


def test_little_of_a_batch_is_padding():
    model, task = load_model("lab:random"), load_task("lab:instruction")
    some = list(batches(model, task, 8, 64, 0))
    computed = sum(len(rows) * max(len(tokens) for tokens, _ in rows) for rows in some)
    assert sum(len(tokens) for rows in some for tokens, _ in rows) > 0.9 * computed
    assert some == list(batches(model, task, 8, 64, 0)) != list(batches(model, task, 8, 64, 1))


@pytest.mark.parametrize("gains", [True, False])
def test_what_is_quick_is_undone_to_the_last_bit(model_folder, gains, monkeypatch):
    monkeypatch.setattr("taskbits.models.devices.gains_by_bfloat16", lambda device, width: gains)
    model = load_model(model_folder)
    before = [weight.detach().clone() for weight in model.lm.parameters()]
    with model.quick():
        assert model.lm.dtype == (torch.bfloat16 if gains else torch.float32)
        assert not any(weight.requires_grad for weight in model.lm.parameters())
        assert all(buffer.dtype != torch.bfloat16 for buffer in model.lm.buffers())
    assert all(torch.equal(a, b) for a, b in zip(model.lm.parameters(), before, strict=True))
    assert all(weight.requires_grad for weight in model.lm.parameters())


@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "gemma3_text"])
def test_products_that_are_converted_are_those_of_bfloat16(kind, monkeypatch):
    lm = built(kind).bfloat16()
    weights = [lm.get_input_embeddings().weight, next(w for name, w in lm.named_parameters() if "layers.0" in name)]

    def costs() -> tuple[torch.Tensor, list[torch.Tensor]]:
        found = forward.surprisals(lm, ROWS)
        return found.detach(), list(torch.autograd.grad(found.sum(), weights))

    wanted, gradients_ = costs()
    monkeypatch.setattr(devices, "gains_by_bfloat16", lambda device, width: False)
    ran = []
    monkeypatch.setattr(
        products._Product, "apply", lambda *given, real=products._Product.apply: ran.append(1) or real(*given)
    )
    with products.converted(lm):
        found, got = costs()
    assert len(ran) > 5
    assert torch.allclose(found, wanted, atol=0.05)
    for a, b in zip(got, gradients_, strict=True):
        assert (a - b).norm() < 0.05 * b.norm()
    ran.clear()
    assert torch.equal(costs()[0], wanted) and not ran  # and nothing of it is left
    monkeypatch.setattr(devices, "gains_by_bfloat16", lambda device, width: True)
    with products.converted(lm):
        assert torch.equal(costs()[0], wanted) and not ran


def test_only_what_is_named_is_kept_and_once(model):
    names = sorted(model.names)[:2]
    with model.preserved(names) as outer:
        assert sorted(outer) == names
        with model.preserved(names) as inner:
            assert all(inner[name] is outer[name] for name in names)
        with torch.no_grad():
            model.lm.get_parameter(names[0]).add_(1)
        with model.preserved(names) as inner:
            assert inner[names[0]] is not outer[names[0]] and inner[names[1]] is outer[names[1]]
    assert torch.equal(model.lm.get_parameter(names[0]), outer[names[0]])
