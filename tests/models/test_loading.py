"""Models at load: whole or refused in a line, on the device that holds them, and known by all that computes."""

import json
import shutil
from pathlib import Path

import gguf
import pytest
import safetensors.torch
import torch
import transformers

import taskbits
from taskbits.errors import UserError
from taskbits.models.model import load_model, weights_digest
from taskbits.programs.decode import require_model
from taskbits.programs.program import Program
from taskbits.search import confirm
from taskbits.studies.study import Study

# The plain program for lab:random and the prompt "{x}", as version 0.1.0 wrote it.
FORMER = b'tbp\x01\x00\xe1sr\\\x97\xe0\x015{"prompt":"{x}","max_new_tokens":64,"runner":"plain"}\xce`g\x9c'


@pytest.fixture
def folder(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "model")


def changed(path, change):
    """Change a JSON file: its content, or what is in the dict that `change` is given."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def reweighted(folder, change):
    path = folder / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    change(weights)
    safetensors.torch.save_file(weights, path, {"format": "pt"})


def only_pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def only_gguf(folder):
    (folder / "model.safetensors").rename(folder / "small.gguf")


def without_shards(folder):
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def cut_off(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def pointer(folder):
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


STRANGE = {
    "pickled": (only_pickled, r"not safetensors \(pytorch_model.bin\).*convert"),
    "GGUF in a folder": (only_gguf, "name the file, .*small.gguf"),
    "an index without shards": (without_shards, "can't be loaded: .*safetensors"),
    "cut off": (cut_off, "can't be loaded: SafetensorError"),
    "a pointer": (pointer, "pointer of Git LFS.*git lfs pull"),
    "a layer missing": (
        lambda f: reweighted(f, lambda w: [w.pop(name) for name in list(w) if ".layers.1." in name]),
        r"9 missing \(model.layers.1.input_layernorm.weight, .*get the files again",
    ),
    "one more": (
        lambda f: reweighted(f, lambda w: w.update({"model.layers.2.mlp.up_proj.weight": torch.ones(2, 2)})),
        r"1 unexpected \(model.layers.2.mlp.up_proj.weight\)",
    ),
    "another shape": (
        lambda f: changed(f / "config.json", lambda c: c.update(intermediate_size=32)),
        r"6 of another shape \(model.layers.0.mlp.down_proj.weight",
    ),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "can't be loaded.*JSON"),
    "no text": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "can't be loaded"),
    "an odd value": (lambda f: changed(f / "config.json", lambda c: c.update(hidden_size="wide")), "can't be loaded"),
    "an odd tokenizer": (lambda f: (f / "tokenizer.json").write_text("[]"), "can't be loaded"),
    "quantised": (
        lambda f: changed(
            f / "config.json", lambda c: c.update(quantization_config={"quant_method": "gptq", "bits": 4})
        ),
        "quantised",
    ),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_a_strange_folder_is_refused_in_a_line(folder, kind):
    spoil, message = STRANGE[kind]
    spoil(folder)
    with pytest.raises(UserError, match=message) as error:
        load_model(str(folder))
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_a_strange_gguf_file_and_a_revision_of_a_folder_are_refused(folder, tmp_path):
    (tmp_path / "odd.gguf").write_bytes(b"GGUF" + bytes(range(64)))
    with pytest.raises(UserError, match="odd.gguf can't be loaded"):
        load_model(str(tmp_path / "odd.gguf"))
    with pytest.raises(UserError, match="leave out --revision"):
        load_model(str(folder), revision="main")


def as_gguf(model, path):
    """A model of the fixture's kind as llama.cpp keeps it, whose layout of queries and keys is its own."""
    config, tokenizer = model.lm.config, json.loads(model.tokenizer.backend_tokenizer.to_str())["model"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("small")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(tokenizer["vocab"], key=tokenizer["vocab"].get))
    writer.add_token_types([gguf.TokenType.NORMAL] * config.vocab_size)
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["merges"]])
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = config.num_attention_heads
    for name, weight in model.lm.named_parameters():
        weight = weight.detach().float().cpu().numpy()
        if "q_proj" in name or "k_proj" in name:
            weight = weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_is_the_model_that_it_was_made_of_and_is_read_once(model, tmp_path, monkeypatch, capfd):
    as_gguf(model, tmp_path / "small.gguf")
    made = []
    begin = gguf.GGUFReader.__init__
    monkeypatch.setattr(gguf.GGUFReader, "__init__", lambda self, *path: made.append(path) or begin(self, *path))
    loaded = load_model(str(tmp_path / "small.gguf"))
    assert weights_digest(loaded.lm) == weights_digest(model.lm) and len(made) == 1
    # The library adds an end token to the vocabulary, and in some versions another's to each text.
    assert model.tokenizer.get_vocab().items() <= loaded.tokenizer.get_vocab().items()
    assert capfd.readouterr().err == ""
    again = gguf.GGUFReader(tmp_path / "small.gguf")  # a reader of the library's own again
    assert len(made) == 2 and type(again) is gguf.GGUFReader


def test_random_is_what_is_asked_for_or_has_no_weights_at_all(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    asked = load_model(str(folder), "random", 5)
    (folder / "pytorch_model.bin").unlink()
    bare = load_model(str(folder), seed=5)
    assert asked.state == bare.state == "random" and asked.fingerprint == bare.fingerprint


def test_weights_are_those_of_the_file_in_the_arithmetic_of_the_standalone_file(tmp_path):
    """Also Gemma's scale of embeddings, which comes with the code and float32 rounds; and after a while in float32."""
    config = transformers.Gemma3TextConfig(
        vocab_size=2048, hidden_size=24, intermediate_size=48, num_hidden_layers=1, head_dim=12,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    shutil.copytree(Path(taskbits.__file__).parent / "lab/models/random", tmp_path / "m")
    transformers.Gemma3ForCausalLM(config).save_pretrained(tmp_path / "m")
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float64)
    given, drawn = load_model(str(tmp_path / "m")), load_model(str(tmp_path / "m"), "random")
    for model in (given, drawn):
        with model.single_precision():
            assert model.lm.dtype == torch.float32
        assert model.lm.model.embed_tokens.embed_scale.double() == plain.model.embed_tokens.embed_scale.double()
    assert weights_digest(given.lm) == weights_digest(plain)


def test_a_fingerprint_stands_for_all_that_computes(folder):
    prints = {load_model(str(folder)).fingerprint}

    def of(file, change):
        kept = (folder / file).read_text()
        changed(folder / file, change)
        prints.add(load_model(str(folder)).fingerprint)
        (folder / file).write_text(kept)

    of("config.json", lambda c: c["rope_parameters"].update(rope_theta=5e5))
    of("config.json", lambda c: c.update(rms_norm_eps=1e-3))
    of("generation_config.json", lambda c: c.update(repetition_penalty=1.2))
    of("tokenizer.json", lambda c: c["model"]["merges"].pop())
    of("tokenizer.json", lambda c: c.update(normalizer={"type": "Lowercase"}))
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    prints.add(load_model(str(folder)).fingerprint)
    (folder / "chat_template.jinja").unlink()
    assert len(prints) == 7
    of("config.json", lambda c: c.update(transformers_version="5.0.0", dtype="bfloat16", architectures=["X"]))
    of("config.json", lambda c: c.update(use_cache=False, _name_or_path="org/elsewhere"))
    assert len(prints) == 7


def test_a_saved_model_keeps_its_fingerprint(folder, tmp_path):
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    for state in ("given", "random"):
        model = load_model(str(folder), state)
        model.pipe("some text", max_new_tokens=2)
        model.save(tmp_path / state)
        again = load_model(str(tmp_path / state))
        assert again.fingerprints == model.fingerprints


def test_programs_and_studies_of_the_first_version_still_open(tmp_path, task_folder):
    model, program = load_model("lab:random"), Program.from_bytes(FORMER)
    assert program.fingerprint == model.fingerprints[1] != model.fingerprint
    require_model(model, program)
    with pytest.raises(UserError, match="another model"):
        require_model(load_model("lab:pretrained"), program)
    task = confirm.load_task(task_folder)
    info = {"model": "lab:random", "state": "given", "seed": 0, "revision": None, "task": task_folder, "rows": None}
    info |= {"name": "a", "storage": None, "task_fingerprint": task.fingerprint}
    Study.create(tmp_path, {**info, "fingerprint": program.fingerprint.hex()})
    now, former = ({"fingerprint": known.hex()} for known in model.fingerprints)
    assert confirm.open_parts(Study.create(tmp_path, {**info, **now}, former))[0].fingerprint == model.fingerprint
    with pytest.raises(UserError, match="another fingerprint"):
        Study.create(tmp_path, {**info, **now})


@pytest.mark.parametrize(
    "free, where", [([10**9], "cuda:0"), ([10**6, 10**9], "cuda:1"), ([400_000, 400_000], "split"), ([9, 9], "cpu")]
)
def test_one_device_unless_it_does_not_fit(model_folder, monkeypatch, free, where):
    """The 60,000 parameters take 480,000 bytes and a fifth more."""
    calls, places = [], []
    plain = transformers.AutoModelForCausalLM.from_pretrained

    def from_pretrained(*arguments, device_map=None, max_memory=None, **options):
        calls.append((device_map, max_memory))
        lm, report = plain(*arguments, **options)
        if device_map:
            lm.hf_device_map = {"model.embed_tokens": 0, "model.layers": 1}
        return lm, report

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    monkeypatch.setattr(transformers.PreTrainedModel, "to", lambda lm, device: places.append(str(device)) or lm)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: (free[i], 10**9))
    load_model(model_folder)
    if where == "split":
        assert calls[0][0] == "auto" and calls[0][1].keys() == {0, 1} and not places
    else:
        assert calls == [(None, None)] and places == [where]


def test_a_split_model_has_a_pipeline(model_folder):
    """transformers refuses a device for what accelerate has placed."""
    whole, split = load_model(model_folder), load_model(model_folder)
    split.lm.hf_device_map = {"": "cpu"}
    assert split.pipe("some text", max_new_tokens=4, do_sample=False) == whole.pipe(
        "some text", max_new_tokens=4, do_sample=False
    )
