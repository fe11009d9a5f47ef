"""What other checkpoints and adapters give to a model."""

import peft
import pytest
import torch
import transformers
from conftest import write_adapter, write_task

import taskbits
from taskbits.errors import UserError
from taskbits.fitting import carrying
from taskbits.methods import carried, shrunk
from taskbits.models import donors
from taskbits.models.places import covering
from taskbits.programs import decode
from taskbits.programs.program import Part
from taskbits.tasks.load import load_task
from taskbits.testing import write_model


def merged(model_folder, adapter) -> dict[str, torch.Tensor]:
    """By peft itself."""
    lm = transformers.AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float64)
    lm = peft.PeftModel.from_pretrained(lm, adapter).merge_and_unload()
    return {name: weight.detach() for name, weight in lm.named_parameters()}


@pytest.mark.parametrize("config", [{}, {"use_rslora": True, "r": 3}, {"use_dora": True, "r": 16}])
def test_an_adapter_gives_what_peft_merges(config, model, model_folder, tmp_path):
    adapter = write_adapter(tmp_path / "a", model_folder, **config)
    wanted = merged(model_folder, adapter)
    before = {name: weight.detach().clone() for name, weight in model.lm.named_parameters()}
    found, pairs = donors.weights_of(adapter, model), donors.factors(adapter, model)
    assert list(found) == [name for name, _ in model.lm.named_parameters()]
    assert all(torch.allclose(found[name].double(), wanted[name], atol=1e-6) for name in wanted)
    assert set(pairs) == {name for name in wanted if "q_proj" in name or "v_proj" in name}
    for name, (left, right) in pairs.items():
        change = wanted[name] - before[name]
        assert (left.double() @ right.double() - change).norm() < 1e-5 * change.norm()
    assert all(torch.equal(weight, before[name]) for name, weight in model.lm.named_parameters())
    assert all(weight.requires_grad for weight in model.lm.parameters())
    names, text = covering(model, pairs)
    assert set(pairs) <= set(names) and names == [name for name in before if text in name]


def test_a_model_gives_the_difference_of_its_matrices(model, tmp_path):
    donor = write_model(tmp_path / "donor", seed=8)
    theirs, pairs = donors.weights_of(donor, model), donors.factors(donor, model)
    assert {name for name, weight in theirs.items() if "layers" in name and weight.ndim == 2} == set(pairs)
    for name, (left, right) in pairs.items():
        change = theirs[name] - model.lm.get_parameter(name).detach().float()
        assert (left @ right - change).norm() < 1e-4 * change.norm()
    assert donors.values(donor, model) == sum(left.numel() + right.numel() for left, right in pairs.values())


@pytest.mark.parametrize(
    "config",
    [{"modules_to_save": ["down_proj"]}, {"target_modules": ["embed_tokens", "q_proj"]}],
)
def test_an_adapter_that_is_more_is_refused(config, model, model_folder, tmp_path):
    adapter = write_adapter(tmp_path / "a", model_folder, **config)
    with pytest.raises(UserError, match="--methods carried"):
        donors.factors(adapter, model)
    found, wanted = donors.weights_of(adapter, model), merged(model_folder, adapter)
    assert all(torch.allclose(found[name].double(), wanted[name], atol=1e-6) for name in wanted)


def test_what_is_no_donor_is_refused(model, model_folder, tmp_path):
    other = write_model(tmp_path / "other", hidden_size=32)
    with pytest.raises(UserError, match="other names or shapes"):
        donors.weights_of(other, model)
    adapter = write_adapter(tmp_path / "a", other)
    with pytest.raises(UserError, match="does not fit"):
        donors.weights_of(adapter, model)
    (tmp_path / "a" / "adapter_model.safetensors").rename(tmp_path / "a" / "adapter_model.bin")
    with pytest.raises(UserError, match="save the adapter in that format"):
        donors.factors(adapter, model)
    with pytest.raises(UserError, match="no PEFT adapter"):
        taskbits.shrink(other, model_folder, write_task(tmp_path / "task"), tmp_path / "s")
    with pytest.raises(UserError, match="--donor"):
        taskbits.measure(model_folder, write_task(tmp_path / "task"), tmp_path / "s", methods=["carried"])


def test_shrinking_says_what_the_adapter_was(model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shrunk, "sweep", lambda model, task, known=shrunk.sweep: known(model, task)[:2])
    adapter, task = write_adapter(tmp_path / "a", model_folder), write_task(tmp_path / "task")
    study, found = taskbits.shrink(adapter, model_folder, task, tmp_path / "s")
    assert found.sizes["as given"] == (tmp_path / "a" / "adapter_model.safetensors").stat().st_size
    assert sorted(found.sizes.values(), reverse=True)[0] == found.sizes["as given"]
    assert set(found.scores) == {"validation", "test"}
    assert {m.method for m in study.measurements()} == {"zero-shot", "shrunk"}
    assert taskbits.shrink(adapter, model_folder, task, tmp_path / "s")[1] == found
    (study.folder / "adapter.json").write_text('{"sizes": ', encoding="utf-8")
    assert taskbits.shrink(adapter, model_folder, task, tmp_path / "s")[1] == found


def test_carrying_more_bits_comes_nearer(model_folder, task_folder, tmp_path, model):
    donor, task = write_model(tmp_path / "donor", seed=8), load_task(task_folder)
    theirs, distances, sizes = donors.weights_of(donor, model), [], []
    for bits, steps in ((1.0, 0), (4.0, 0), (8.0, 0), (4.0, 4)):
        settings = {"donor": donor, "bits": bits, "steps": steps}
        found = carried.fit(model, task, settings, 0, lambda done, of: None)
        sizes.append(8 * len(found.program.payload) / model.lm.num_parameters())
        with found.program.applied(model):
            pairs = [(weight.detach().float(), theirs[name]) for name, weight in model.lm.named_parameters()]
            distances.append(float(sum((a - b).square().sum() for a, b in pairs)))
        assert 8 * len(found.program.payload) <= 1.02 * found.ideal_bits + 16
    assert distances[0] > 4 * distances[1] > 16 * distances[2]
    assert all(0.5 * bits < size < 1.3 * bits + 0.6 for size, bits in zip(sizes, (1, 4, 8), strict=False)), sizes


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0, 4.0])
def test_weights_are_decoded_in_the_steps_that_they_were_rounded_to(model, scale):
    generator = torch.Generator().manual_seed(0)
    changes = {name: torch.randn(w.shape, generator=generator) / 9 for name, w in model.lm.named_parameters()}
    rows = {name: torch.rand(w.numel() // w.shape[-1], generator=generator) for name, w in changes.items()}
    matters = carrying.Matter({name: scale * some for name, some in rows.items()}, {})
    size = 2 * model.lm.num_parameters()
    payload, settings, _ = carrying.quantised(changes, matters, size, lambda done, of: None)
    with model.preserved():
        decode.results(model, Part("carried", {"keep": 0, **settings}, payload))
        for name, weight in model.lm.named_parameters():
            assert (weight.detach().float() - changes[name]).norm() < 1e-2 * changes[name].norm()
