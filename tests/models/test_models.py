"""Models and tokenizers of other kinds than the laboratory's: all that is promised of a program holds for them, too."""

import io
import json
import runpy
import sys

import pytest
import tokenizers
import torch
import transformers
from conftest import nothing, shorten_lessons, write_task

from taskbits.errors import UserError
from taskbits.methods import method
from taskbits.models import engine
from taskbits.models.model import load_model
from taskbits.models.places import blocks, last_in_blocks
from taskbits.models.predict import predict
from taskbits.programs.export import standalone
from taskbits.search.scoring import score
from taskbits.shipped import resolve
from taskbits.tasks.frame import Frame
from taskbits.tasks.load import load_task

SMALL = dict(
    hidden_size=24,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=512,
    bos_token_id=0,
    eos_token_id=0,
    pad_token_id=0,
)
GROUPED = dict(SMALL, num_key_value_heads=1, head_dim=12)
CHAT = (
    "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def spaced_tokenizer():
    """A tokenizer that puts a space before any text, as sentencepiece does, and no token for its beginning."""
    words = sorted(set("Q: after comes A: Q A : \n".split(" ")) | {str(n) for n in range(10)} | set("QA:<>userasitn "))
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<unk>", *(f"▁{w}" for w in words if w), *words, "▁"])}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split("\n", "isolated"),
            tokenizers.pre_tokenizers.Metaspace(prepend_scheme="first"),
        ]
    )
    inner.decoder = tokenizers.decoders.Metaspace(prepend_scheme="first")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<pad>", unk_token="<unk>"
    )


def lab_tokenizer():
    return transformers.AutoTokenizer.from_pretrained(resolve("lab:random", "models"))


def llama(tokenizer, **more):
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=len(tokenizer), **{**SMALL, **more}))


def gemma(tokenizer):
    config = transformers.Gemma3TextConfig(
        vocab_size=len(tokenizer),
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
        **{**GROUPED, "query_pre_attn_scalar": 12},
    )
    return transformers.Gemma3ForCausalLM(config)


def mistral(tokenizer):
    config = transformers.MistralConfig(vocab_size=len(tokenizer), sliding_window=8, **GROUPED)
    return transformers.MistralForCausalLM(config)


def gpt2(tokenizer):
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=24, n_layer=2, n_head=2, n_positions=512, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


KINDS = {
    "grouped heads": (lab_tokenizer, lambda t: llama(t, num_key_value_heads=1), {}),
    "bfloat16 in shards": (
        lab_tokenizer,
        lambda t: llama(t, tie_word_embeddings=False).bfloat16(),
        {"max_shard_size": "60KB"},
    ),
    "sliding windows, tied": (lab_tokenizer, gemma, {}),
    "one sliding window": (lab_tokenizer, mistral, {}),
    "learned positions": (lab_tokenizer, gpt2, {}),
    "a tokenizer that adds a space": (spaced_tokenizer, llama, {}),
}


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    make_tokenizer, make_model, how = KINDS[request.param]
    path = tmp_path_factory.mktemp("model")
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT
    torch.manual_seed(3)
    make_model(tokenizer).save_pretrained(path, **how)
    tokenizer.save_pretrained(path)
    assert not how or len(list(path.glob("*.safetensors"))) > 1
    return str(path)


@pytest.fixture(scope="module")
def odd(folder):
    return load_model(folder)


@pytest.mark.parametrize("count", [1, 6])
def test_generation_equals_one_call_per_input(odd, count):
    """With a start of at least sixteen tokens that all share, and without."""
    rows = [{"text": f"Q: after {n} comes A: {n + 1} " * count + f"Q: after {n}"} for n in (1, 11, 111)]
    alike = [{"text": "Q: after 1 comes A: 2 " * count + "Q: " * n} for n in range(1, 18)]
    for given in (rows, alike):
        plain = []
        for row in given:
            whole = odd.pipe(row["text"], max_new_tokens=12, do_sample=0)[0]["generated_text"]
            plain.append(whole[len(row["text"]) :])
        assert predict(odd, Frame("{text}", (), 12), given) == plain


@pytest.mark.parametrize(
    "changes, way, settings",
    [
        ({}, "few-shot", {"k": 2, "tries": 1}),
        ({"chat": True}, "few-shot", {"k": 2, "tries": 1}),
        ({"chat": True}, "subset", {"n": 2, "tries": 3}),
        ({"chat": True}, "tiny", {"bytes": 8, "objective": "loss", "steps": 3}),
        ({"choices": [str(n) for n in range(1, 77)], "chat": True}, "few-shot", {"k": 2, "tries": 1}),
    ],
)
def test_the_standalone_file_writes_what_scoring_saw(
    folder, odd, tmp_path, monkeypatch, capsys, changes, way, settings
):
    shorten_lessons(monkeypatch)
    task = load_task(write_task(tmp_path / "task", **changes), rows=4)
    with odd.preserved():
        program = method(way).fit(odd, task, settings, 0, nothing).program
    scored = score(program.to_bytes(), odd, task, ["test"])
    assert scored.outputs["test"] == program.run(odd, task.splits["test"])
    file = tmp_path / "alone.py"
    file.write_bytes(standalone(program, odd.dtype))
    assert file.stat().st_size == scored.bytes
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in task.splits["test"]))
    monkeypatch.setattr(sys, "argv", [str(file), "--model", folder, "--input", str(tmp_path / "in.jsonl")])
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with odd.preserved():  # the file may change torch's names for number types
        runpy.run_path(str(file))
    written = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert written == scored.outputs["test"]


def test_both_states_have_fingerprints_of_their_own(folder, odd):
    random = [load_model(folder, "random", seed) for seed in (0, 0, 1)]
    prints = [model.fingerprint for model in (odd, *random)]
    assert prints[1] == prints[2] and len(set(prints)) == 3


def test_a_mixture_of_experts_computes_in_float32_where_there_is_no_float64(tmp_path):
    config = transformers.MixtralConfig(vocab_size=len(lab_tokenizer()), num_local_experts=4, **GROUPED)
    transformers.MixtralForCausalLM(config).save_pretrained(tmp_path)
    lab_tokenizer().save_pretrained(tmp_path)
    model = load_model(str(tmp_path))
    assert model.dtype == "float32" and engine.way(model.lm) == engine.OWN
    prompts = [f"Q: after {n} comes" for n in (1, 11, 1111)]
    plain = [model.pipe(prompt, max_new_tokens=9, do_sample=0)[0]["generated_text"] for prompt in prompts]
    written = predict(model, Frame("{text}", (), 9), [{"text": prompt} for prompt in prompts])
    assert [a + b for a, b in zip(prompts, written, strict=True)] == plain
    # Its experts are no matrices; what is behind a block's attention takes a vector for all tokens.
    assert all("experts" not in name for name in (*blocks(model)[0], *last_in_blocks(model)))


def test_methods_say_where_a_models_blocks_have_no_place_for_them(tmp_path):
    gpt2(lab_tokenizer()).save_pretrained(tmp_path)
    lab_tokenizer().save_pretrained(tmp_path)
    model = load_model(str(tmp_path))
    assert model.context == 512
    with pytest.raises(UserError, match="no linear module"):
        last_in_blocks(model)
