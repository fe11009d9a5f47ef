"""Fast scoring gives what one plain call per input gives."""

import dataclasses
import functools

import pytest
import torch
import transformers

from taskbits.errors import UserError
from taskbits.models import engine, memory
from taskbits.models.model import load_model
from taskbits.models.predict import predict
from taskbits.tasks.frame import Frame

LENGTHS = [1, 7, 3, 12, 2, *range(13, 28)]  # as many rows as begin in float32
SHARED = "A long beginning that all prompts share, so that it is computed once. " * 3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_causal_model_s_loss_is_its_surprisal_in_any_type(model_folder, dtype):
    lm = transformers.AutoModelForCausalLM.from_pretrained(model_folder, dtype=dtype)
    assert engine.loss_is_surprisal(lm)


@pytest.mark.parametrize("shared", ["", SHARED])
def test_generation_equals_one_call_per_input(model, shared):
    prompts = [f"{shared}{'word ' * n}and" for n in LENGTHS]
    plain = []
    for prompt in prompts:
        tokens = model.tokenizer(prompt, return_tensors="pt")
        with torch.no_grad():
            written = model.lm.generate(**tokens, max_new_tokens=9, do_sample=False)
        plain.append(model.tokenizer.decode(written[0, tokens.input_ids.shape[1] :], skip_special_tokens=True))
    rows = [{"text": prompt} for prompt in prompts]
    assert predict(model, Frame("{text}", (), 9), rows) == plain
    stop = next(text[2:4] for text in plain if len(text) > 4)
    assert predict(model, Frame("{text}", (stop,), 9), rows) == [text.split(stop)[0] for text in plain]


@pytest.mark.parametrize("shared", ["", SHARED])
def test_choice_equals_the_likelihood_of_the_whole_text(model, shared):
    prompts = [f"{shared}{'word ' * n}is" for n in LENGTHS]
    choices = (" red", " red wine", " green and blue", " green", " 12345", " 12")
    plain = []
    for prompt in prompts:
        rows = [
            model.tokenizer(prompt + choice, return_tensors="pt").input_ids.to(model.lm.device) for choice in choices
        ]
        with torch.no_grad():
            costs = [model.lm(row, labels=row).loss.item() * (row.numel() - 1) for row in rows]
        plain.append(choices[costs.index(min(costs))])
    rows = [{"text": prompt, "those": list(choices)} for prompt in prompts]
    assert predict(model, Frame("{text}", choices=choices), rows) == plain
    assert predict(model, Frame("{text}", choices="those"), rows) == plain


def test_choice_by_character_and_behind_what_is_given(model):
    prompts = [f"{'word ' * n}is" for n in LENGTHS]
    given = {" a red wine": " a red", " a dog": " a", " some green and blue": " some green and", " 12345": " 123"}
    rows = [{"text": prompt, "those": [*given], "starts": given} for prompt in prompts]

    def surprisal(text):
        tokens = model.tokenizer(text, return_tensors="pt").input_ids.to(model.lm.device)
        with torch.no_grad():
            return model.lm(tokens, labels=tokens).loss.item() * (tokens.numel() - 1)

    def cheapest(cost):
        return [min(given, key=lambda choice, prompt=prompt: cost(prompt, choice)) for prompt in prompts]

    for choose, field, plain in (
        ("likelihood", "those", cheapest(lambda p, c: surprisal(p + c))),
        ("per-character", "those", cheapest(lambda p, c: (surprisal(p + c) - surprisal(p)) / (len(c) - 1))),
        ("conditional", "starts", cheapest(lambda p, c: surprisal(p + c) - surprisal(p + given[c]))),
    ):
        assert predict(model, Frame("{text}", choices=field, choose=choose), rows) == plain, choose


def test_an_input_longer_than_the_context_is_named(model):
    with pytest.raises(UserError, match=r"context has 512.*unusual end"):
        predict(model, Frame("{text}"), [{"text": "short"}, {"text": "word " * 600 + "unusual end"}])


@pytest.mark.parametrize("choices", [(), (" one", " two", " three")])
def test_what_float32_cannot_tell_float64_decides(model_folder, monkeypatch, choices):
    """Whether nothing is clear in float32 or everything: the outputs and the weights stay the same."""
    model = load_model(model_folder)
    rows = [{"text": "word " * n + "and"} for n in LENGTHS]
    frame = Frame("{text}", (), 9, choices)
    monkeypatch.setattr(engine, "pays", lambda lm, rows: False)
    exact = predict(model, frame, rows)
    monkeypatch.undo()
    before = {name: weight.clone() for name, weight in model.lm.state_dict().items()}
    for factor in (0.0, 1e9):  # everything is clear, nothing is
        monkeypatch.setattr(engine, "drift", lambda a, b, factor=factor: factor)
        assert predict(model, frame, rows) == exact or factor == 0.0
    assert all(torch.equal(weight, before[name]) for name, weight in model.lm.state_dict().items())
    assert model.dtype == "float64"


def piped(model, prompt):
    """What the standalone file makes of a prompt."""
    return model.pipe(prompt, max_new_tokens=9, do_sample=0)[0]["generated_text"][len(prompt) :]


@pytest.mark.parametrize("shared", ["", SHARED])
@pytest.mark.parametrize(
    "asked",
    [
        {"repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 2, "encoder_no_repeat_ngram_size": 3},
        {"suppress_tokens": [*range(9, 900)], "begin_suppress_tokens": [*range(900, 1400)]},
        {"min_length": 40, "bad_words_ids": [[5], [7, 9]], "exponential_decay_length_penalty": (2, 1.5)},
        {"min_new_tokens": 4, "forced_eos_token_id": 12, "renormalize_logits": True},
        {"guidance_scale": 1.5},
        {"num_beams": 3, "length_penalty": 0.3},
        {"do_sample": True, "temperature": 0.2, "top_k": 3, "min_p": 0.1, "max_length": 4},
        {"cache_implementation": "static"},
        {"use_cache": False, "prefill_chunk_size": None, "output_scores": True, "return_dict_in_generate": True},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_the_models_generation_config_is_followed_as_the_pipeline_does(model, monkeypatch, asked, shared):
    """Padding is not penalised, a prompt's length counts without it, and the first float32 pass changes nothing."""
    model = dataclasses.replace(model)  # with a pipeline of its own, which keeps the config that it begins with
    config = transformers.GenerationConfig(eos_token_id=0, pad_token_id=0, bos_token_id=0, **asked)
    monkeypatch.setattr(model.lm, "generation_config", config)
    prompts = [f"{shared}{'word ' * n}and some {n} more and more" for n in LENGTHS]
    rows = [{"text": prompt} for prompt in prompts]
    assert predict(model, Frame("{text}", (), 9), rows) == [piped(model, prompt) for prompt in prompts]


@pytest.mark.parametrize("asked", [{"stop_strings": ["a"]}, {"num_return_sequences": 2}, {"penalty_alpha": 0.6}])
def test_a_generation_config_that_cannot_be_followed_is_refused(model, monkeypatch, asked):
    model = dataclasses.replace(model)
    config = transformers.GenerationConfig(eos_token_id=0, pad_token_id=0, top_k=4)
    vars(config).update(asked)  # as a file may have it
    monkeypatch.setattr(model.lm, "generation_config", config)
    with pytest.raises(UserError, match="can't generate with this model and its generation config: [^\n]*$"):
        predict(model, Frame("{text}", (), 9), [{"text": "some"}, {"text": "words more"}])


@pytest.mark.parametrize("choices", [(), (" one", " two")])
@pytest.mark.parametrize("known", [False, True])
def test_not_a_number_is_an_error(model_folder, choices, known):
    model = load_model(model_folder)
    if known:
        engine.way(model.lm)
    model.lm.model.norm.weight.data[3] = torch.nan
    with pytest.raises(UserError, match="NaN"):
        predict(model, Frame("{text}", (), 9, choices), [{"text": "word"}])


@pytest.mark.parametrize("choices", [(), (" one", " two", " three words")])
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("can't allocate memory")]
)
def test_where_the_memory_gives_out_batches_are_halved(model, monkeypatch, choices, error):
    rows = [{"text": "word " * n + "and"} for n in LENGTHS]
    frame, read, most, done = Frame("{text}", (), 9, choices), engine.Reading.read, 3, []
    plain = predict(model, frame, rows)

    def reads(reading, tokens, real, logits):
        reading.steps = getattr(reading, "steps", 0) + 1
        if len(tokens) > most and (choices or reading.steps == 3):  # with choices there is one step
            raise error
        return read(reading, tokens, real, logits)

    monkeypatch.setattr(engine.Reading, "read", reads)
    assert predict(model, frame, rows, advance=done.append) == plain
    assert choices or sum(done) == len(rows)
    most = 0
    with pytest.raises(UserError, match="memory"):
        predict(model, frame, rows[:3])


def test_free_memory_counts_containers_and_what_torch_keeps(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000}))

    def write(path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(text))

    def group(folder, *contents):
        for name, content in zip(("max", "current", "stat"), contents, strict=True):
            write(tmp_path / "groups" / folder / f"memory.{name}", content)

    cpu = torch.device("cpu")
    assert memory.available(cpu) == 1000  # no groups
    write(tmp_path / "proc" / "cgroup", "0::/jobs/mine\n")
    group("", "max", 5, "inactive_file 3\n")
    assert memory.available(cpu) == 1000
    group("jobs", 900, 500, "active_file 40\ninactive_file 30\n")
    assert memory.available(cpu) == 430
    group("jobs/mine", 600, 400, "inactive_file 10\n")
    assert memory.available(cpu) == 210
    write(tmp_path / "proc" / "cgroup", "5:cpu:/else\n4:memory,hugetlb:/elsewhere\n")
    for name, content in (("limit", 300), ("usage", 120)):
        write(tmp_path / "groups" / "memory" / f"memory.{name}_in_bytes", content)
    write(tmp_path / "groups" / "memory" / "memory.stat", "inactive_file 1\ntotal_inactive_file 20\n")
    assert memory.available(cpu) == 200
    for name, size in (("mem_get_info", (70, 99)), ("memory_reserved", 50), ("memory_allocated", 20)):
        monkeypatch.setattr(torch.cuda, name, lambda device, size=size: size)
    assert memory.available(torch.device("cuda", 1)) == 100


@pytest.mark.parametrize("way", [engine.OWN, engine.LIBRARYS])
def test_layers_may_lie_on_several_devices(model_folder, way):
    """The second layer and all behind it lie on another device, which only knows shapes; the tokens go to the first."""
    lm = load_model(model_folder).lm.cpu()
    lm.lm_head.weight = torch.nn.Parameter(lm.lm_head.weight.detach().clone())  # no more that of the embeddings
    lm.hf_device_map = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "": "meta"}
    lm._taskbits_ways = {lm.dtype: way}

    def follow(module, given, named):
        move = functools.partial(torch.utils._pytree.tree_map_only, torch.Tensor, lambda tensor: tensor.to("meta"))
        return move(given), move(named)

    for part in (lm.model.layers[1], lm.model.norm, lm.lm_head):
        part.to("meta").register_forward_pre_hook(follow, with_kwargs=True)
    rows = [[*range(20, 40), *more] for more in ([1, 2, 3], [4, 5, 6], [7, 8, 9])]
    with torch.no_grad():
        start = engine.Start(lm, rows)
        reading = engine.Reading(lm, start, 3)
        tokens = torch.tensor([row[20:] for row in rows])
        reading.read(tokens, torch.ones_like(tokens, dtype=torch.bool), engine.last(tokens))
        reading.keep([0, 2])
        logits = reading.read(tokens[:2, :1], *[torch.ones(2, 1, dtype=torch.bool)] * 2)
    assert engine.batches(lm, start, rows) == [[0, 1, 2]]
    assert start.length == 20 and logits.shape == (2, 2048) and logits.device.type == "meta"
    assert [layer.keys.device.type for layer in reading._cache.layers] == ["cpu", "meta"]
