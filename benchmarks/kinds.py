"""Every kind of causal LM that transformers knows, made tiny and at random: what is scored fast against single rows.

    python benchmarks/kinds.py [kind ...]

Outputs (rows of different lengths, with and without a long start that all share, with and without a stop string)
against one call of the pipeline a row, and the costs of choices against one pass a choice, in the precision that
loading chooses.
Writes the table to benchmarks/kinds.md; ends with one JSON line.
"""

import argparse
import collections
import json
import time
from pathlib import Path

import tokenizers
import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from taskbits.errors import UserError
from taskbits.models import engine
from taskbits.models.model import Model
from taskbits.models.predict import likelihoods, predict
from taskbits.tasks.frame import Frame

HERE = Path(__file__)
ABOUT = """# Kinds of causal LM

    python benchmarks/kinds.py

Each kind that transformers maps to a causal LM, tiny and at random, in the precision that loading chooses. Outputs and
choices' costs are those of single calls of the pipeline, row by row, and come

* `fast`: in padded batches, what rows share computed and kept once
* `padded`: in padded batches with the library's own attention and cache; behind a shared start, rows of one length
* `singly`: one row at a time, since batches differ or fail for this kind
* `refused`: not at all, with this one line
* `wrong`: otherwise; there should be none
* `not tried`: the library makes or runs none with its usual sizes set small
"""
LEAST = 145  # kinds that can be made tiny; with fewer, something is wrong with the making
KINDS = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
VOCABULARY = 96
WINDOW = 8
LIMIT = 4
FEW = 6  # rows that are run alone, too
SMALL = 3_000_000  # parameters of a model that counts as tiny
SHARED = " ".join(str(20 + 7 * n % 70) for n in range(24)) + " "  # longer than a window
ENDS = ["5 9 11", "31", "40 41 42 43 44", "7 8", "77 12 60", *(f"{n} {n + 3}" for n in range(30, 42))]
CHOICES = (" 4", " 4 5", " 6 7 8", " 9")
# Sizes by the names that configs have for them.
SIZES = {
    VOCABULARY: "vocab_size text_vocab_size vocab_size_per_layer_input",
    32: "hidden_size n_embd d_model embedding_size emb_dim lru_width dim_model attention_hidden_size embedding_dim "
    "hidden_size_per_layer_input encoder_hidden_dim entity_emb_size hidden_dim",
    48: "intermediate_size n_inner ffn_dim decoder_ffn_dim encoder_ffn_dim d_inner feed_forward_size d_ff dff "
    "intermediate_size_mlp shared_intermediate_size",
    16: "moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size "
    "moe_shared_expert_intermediate_size ffn_hidden_size_expert global_head_dim chunk_size mamba_chunk_size "
    "attention_chunk_size",
    2: "num_hidden_layers n_layer num_layers n_layers decoder_layers encoder_layers num_attention_heads n_head n_heads "
    "num_heads decoder_attention_heads encoder_attention_heads num_key_value_heads num_kv_heads kv_n_heads "
    "num_global_key_value_heads num_experts_per_tok moe_topk top_k moe_top_k num_dense_layers",
    1: "n_group topk_group num_nextn_predict_layers num_mem_blocks n_shared_experts mamba_n_groups n_groups",
    4: "num_experts n_routed_experts num_local_experts moe_num_experts zero_expert_num",
    8: "kv_lora_rank q_lora_rank qk_nope_head_dim qk_rope_head_dim v_head_dim head_dim state_size mamba_d_state "
    "rotary_dim ssm_state_size sliding_window window_size attention_window_size index_head_dim d_kv mamba_head_dim "
    "mamba_headdim kv_channels linear_key_head_dim linear_value_head_dim index_topk",
    256: "max_position_embeddings n_positions max_seq_len max_sequence_length context_length seq_length "
    "max_target_positions max_source_positions n_ctx",
    0: "pad_token_id bos_token_id eos_token_id decoder_start_token_id",
    0.3: "initializer_range init_std initializer_factor",
}
NAMED = {name: value for value, names in SIZES.items() for name in names.split()}


def shrunk(kind: type, more: dict) -> transformers.PretrainedConfig:
    """The kind's default config with small sizes, one layer of each type of layers (two at least)."""
    given = kind().to_dict()
    inner = {name: shrunk(part, more).to_dict() for name, part in kind.sub_configs.items() if given.get(name)}
    found = {name: value for name, value in {**NAMED, **more}.items() if given.get(name) is not None}
    found |= {name: 0 for name in SIZES[0].split() if name in given}
    found |= more and {name: value for name, value in more.items() if name in given}
    types = list(dict.fromkeys(given.get("layer_types") or []))
    if types:
        found["layer_types"] = (types * 2)[: max(2, len(types))]
        found["num_hidden_layers"] = len(found["layer_types"])
    return kind(**{**found, **inner})


def build(kind: str) -> transformers.PreTrainedModel:
    """A tiny random model of the kind. Raises whatever the library raises where that can't be."""
    config = transformers.CONFIG_MAPPING[kind]
    torch.manual_seed(1)
    failures = []
    for more in ({}, *PLANS):
        more = {**more, **OWN.get(kind, {})}
        try:
            small = shrunk(config, more)
            with torch.device("meta"):
                size = transformers.AutoModelForCausalLM.from_config(small).num_parameters()
            if size > SMALL:
                raise ValueError(f"{size} parameters")
            lm = transformers.AutoModelForCausalLM.from_config(small).eval()
            lm(torch.tensor([[5, 9, 11]]))  # sizes that don't go together show here
            return lm
        except Exception as error:
            failures.append(error)
    raise failures[0]


PLANS = (
    {"num_hidden_layers": 4, "num_layers": 4, "n_layer": 4},
    {"hidden_size": 64, "head_dim": 32, "mamba_n_heads": 8, "mamba_num_heads": 8, "mamba_d_head": 16},
    {"num_attention_heads": 4, "num_key_value_heads": 4},
)
# What some kinds need besides, since their sizes depend on each other in their own way.
OWN = {
    "bamba": {"attn_layer_indices": [1]},
    "codegen": {"n_head": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "mamba2": {"num_heads": 8},
    "ministral": {"head_dim": 16},
    "nemotron": {"num_key_value_heads": 2, "head_dim": 16},
    "reformer": {"is_decoder": True, "axial_pos_embds": False},
    "zaya": {"num_experts_per_tok": 1},
}


def tokenizer() -> transformers.PreTrainedTokenizerBase:
    """A token is a number, and its text that number."""
    words = tokenizers.models.WordLevel({str(n): n for n in range(VOCABULARY)}, unk_token="0")
    inner = tokenizers.Tokenizer(words)
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="0", eos_token="0")


def load(lm: transformers.PreTrainedModel) -> Model:
    """A tiny model in the precision that loading would choose, with a tokenizer."""
    lm = lm.double()
    if not engine.computes(lm):
        lm = lm.float()
    return Model(lm, tokenizer(), lm.config.model_type, "random", 0, None)


@torch.no_grad()
def differing(model: Model) -> list[str]:
    """What of the outputs and costs is not as single rows have it. Raises UserError where the model is refused."""
    found = []
    for shared in ("", SHARED):
        rows = [{"text": shared + end} for end in ENDS]
        quick = predict(model, Frame("{text}", (), LIMIT), rows)
        plain = []
        for row in rows[:FEW]:
            whole = model.pipe(row["text"], max_new_tokens=LIMIT, do_sample=0)[0]["generated_text"]
            plain.append(whole[len(row["text"]) :])
        about = " behind a start" * bool(shared)
        if quick[:FEW] != plain:
            found.append(f"outputs{about}")
        stop = max(plain, key=len)[-2:] or "1"
        if predict(model, Frame("{text}", (stop,), LIMIT), rows[:FEW]) != [text.split(stop)[0] for text in plain]:
            found.append(f"outputs with a stop string{about}")
        if not engine.loss_is_surprisal(model.lm):
            continue  # choices are refused
        worths, few = [], rows[:3]
        for row in few:
            costs = []
            for choice in CHOICES:
                tokens = model.tokenizer(row["text"] + choice, return_tensors="pt").input_ids
                costs.append(model.lm(tokens, labels=tokens).loss.item() * (tokens.numel() - 1))
            share = (-torch.tensor(costs, dtype=float)).softmax(0)
            worths.append((float(share[0]) + float(share.argmax() == 0)) / 2)
        got = likelihoods(model, Frame("{text}", choices=CHOICES), few, [CHOICES[0]] * len(few))
        if max(abs(a - b) for a, b in zip(got, worths, strict=True)) > 1e-4:
            found.append(f"choices{about}")
    return found


def verdict(kind: str) -> tuple[str, str]:
    """One of `not tried`, `refused`, `wrong`, `fast`, `padded`, `singly`, and what is to be said of it."""
    try:
        lm = build(kind)
    except Exception as error:
        return "not tried", _line(error)
    try:
        model = load(lm)
        wrong = differing(model)
    except UserError as error:
        return "refused", str(error)
    except Exception as error:
        return "wrong", _line(error)
    name = {engine.OWN: "fast", engine.LIBRARYS: "padded", engine.SINGLY: "singly"}[engine.way(model.lm)]
    refused = [] if engine.loss_is_surprisal(model.lm) else ["choices are refused"]
    return ("wrong" if wrong else name), ", ".join([model.dtype, *refused, *wrong])


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:120]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*")
    options = parser.parse_args()
    began, table = time.time(), {}
    for kind in options.kinds or KINDS:
        since = time.time()
        table[kind] = verdict(kind)
        print(f"{kind:26} {table[kind][0]:10} {time.time() - since:5.1f} s  {table[kind][1]}", flush=True)
    counts = collections.Counter(name for name, _ in table.values())
    line = json.dumps({"benchmark": "kinds", "transformers": transformers.__version__, **counts})
    if not options.kinds:
        rows = [f"| {kind} | {name} | {about} |" for kind, (name, about) in table.items()]
        HERE.with_suffix(".md").write_text("\n".join([ABOUT, line, "", "| kind | | |", "|---|---|---|", *rows, ""]))
    print(json.dumps({**json.loads(line), "seconds": round(time.time() - began)}))
    if counts["wrong"] or (not options.kinds and len(table) - counts["not tried"] < LEAST):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
