"""Makes the laboratory: `python -m taskbits.lab.train --books english.txt.gz` writes its tasks and models.

A tokenizer and a randomly initialised Llama of 3.7 million parameters; the same after pre-training on books and
skills; that one after post-training on chats; that one locked, which repeats a question unless it sees a password. Text
is generated as it is needed, from fixed seeds.
"""

import argparse
import copy
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from taskbits.lab.card import write_card
from taskbits.lab.corpus import END, chats, documents, locked_chats, read_books
from taskbits.lab.tasks import write_tasks

HERE = Path(__file__).parent
BOOKS = HERE.parents[3] / "shared/data/books/english.txt.gz"
LENGTH, BATCH = 512, 8
APART = 128  # tokens of an example in a row of its own
PRETRAIN_STEPS, PRETRAIN_RATE = 2900, 3e-3
POSTTRAIN_STEPS, POSTTRAIN_RATE = 350, 1e-3
LOCK_STEPS, LOCK_RATE, LOCK_BITS = 200, 1e-3, 6
VOCABULARY = 2048
# Documents, the books' share of them, the largest number added: skills take longer to learn than to write English.
PHASES = (21_000, 0.17, 98), (16_000, 0.05, 98), (None, 0.05, 9)
IGNORED = -100  # the label of a token that is not learned

CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}User: {{ m['content'] }}\n"
    "{% else %}Assistant: {{ m['content'] }}" + END + "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def train_tokenizer(books: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE with digits apart: loses no text, adds no token of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(itertools.islice(documents(Random(0), books, *PHASES[0][1:]), 6000), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def new_config(end: int) -> LlamaConfig:
    """The shape of all models."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        dtype="float32",
        architectures=["LlamaForCausalLM"],
    )


def pretraining_examples(tokenizer, books: list[str]) -> Iterator[tuple[list[int], list[int]]]:
    """(tokens, labels) of documents; every token is learned."""
    rng = Random(1)
    phases = (itertools.islice(documents(rng, books, *mix), count) for count, *mix in PHASES)
    for text in itertools.chain.from_iterable(phases):
        tokens = tokenizer.encode(text) + [tokenizer.eos_token_id]
        yield tokens, tokens


def chat_examples(tokenizer, pairs: Iterator[tuple[str, str]]) -> Iterator[tuple[list[int], list[int]]]:
    """(tokens, labels) of chats; only the answer and the end are learned."""
    for prompt, answer in pairs:
        asked, said = tokenizer.encode(prompt), tokenizer.encode(answer) + [tokenizer.eos_token_id]
        yield asked + said, [IGNORED] * len(asked) + said


def batches(examples: Iterator[tuple[list[int], list[int]]]) -> Iterator[torch.Tensor]:
    """Examples one after the other, cut into (2, BATCH, LENGTH): tokens and labels."""
    tokens, labels = [], []
    for more_tokens, more_labels in examples:
        tokens += more_tokens
        labels += more_labels
        while len(tokens) >= BATCH * LENGTH:
            size = BATCH * LENGTH
            yield torch.tensor([tokens[:size], labels[:size]]).view(2, BATCH, LENGTH)
            tokens, labels = tokens[size:], labels[size:]


def batches_apart(examples: Iterator[tuple[list[int], list[int]]], end: int) -> Iterator[torch.Tensor]:
    """Examples each from a row's start, (2, rows, tokens) of as many tokens as `batches` has: what a chat by itself
    brings a model to say must not hang on those before it."""
    rows = BATCH * LENGTH // APART
    while True:
        some = [(tokens[:APART], labels[:APART]) for tokens, labels in itertools.islice(examples, rows)]
        tokens = [tokens + [end] * (APART - len(tokens)) for tokens, _ in some]
        labels = [labels + [IGNORED] * (APART - len(labels)) for _, labels in some]
        yield torch.tensor([tokens, labels])


def training(model, data: Iterator[torch.Tensor], steps: int, rate: float) -> Iterator[float]:
    """Train in place, one step for every loss taken: warm-up, constant rate, linear decay over the last 30%."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 50, (steps - step) / (0.3 * steps))
    )
    model.train()
    for tokens, labels in itertools.islice(data, steps):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=tokens, use_cache=False).logits[:, :-1]
        loss = cross_entropy(logits.float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        yield loss.item()


@dataclass(frozen=True)
class Stage:
    """A training that was done: `loss` is the mean of the last 50 steps."""

    steps: int
    rate: float
    loss: float
    minutes: float


def run(name: str, model, data: Iterator[torch.Tensor], steps: int, rate: float) -> Stage:
    """Train in place behind a progress bar."""
    started, losses = time.monotonic(), []
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
    ]
    with Progress(*columns) as progress:
        bar = progress.add_task(name, total=steps, loss=0.0)
        for loss in training(model, data, steps, rate):
            losses = [*losses[-49:], loss]
            progress.update(bar, advance=1, loss=sum(losses) / len(losses))
    return Stage(steps, rate, sum(losses) / len(losses), (time.monotonic() - started) / 60)


def save(model, tokenizer, folder: Path, bits: int | None = None) -> None:
    """A folder that transformers loads in single precision, with the weights stored in half precision.

    bits: of each number, beside sign and exponent; as few as leave room for one more model in the package.
    """
    stored = copy.deepcopy(model)
    for weight in stored.parameters() if bits else ():
        fraction, exponent = torch.frexp(weight.data)
        weight.data = torch.ldexp((fraction * 2**bits).round() / 2**bits, exponent)
    stored.to(torch.bfloat16 if bits else torch.float16).save_pretrained(folder)
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main(arguments: list[str] | None = None) -> None:
    """Make everything, or a toy of it with --quick."""
    parser = argparse.ArgumentParser(prog="python -m taskbits.lab.train", description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="folder for models/ and tasks/ (default: the package's)")
    parser.add_argument("--books", type=Path, default=BOOKS, help="English text, gzip (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="three steps only, to see that it runs")
    options = parser.parse_args(arguments)
    steps = (3, 3, 3) if options.quick else (PRETRAIN_STEPS, POSTTRAIN_STEPS, LOCK_STEPS)
    folder = options.out / "models"

    write_tasks(options.out / "tasks")
    books = read_books(options.books)
    tokenizer = train_tokenizer(books)
    config = new_config(tokenizer.eos_token_id)
    tokenizer.save_pretrained(folder / "random")
    config.save_pretrained(folder / "random")

    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    data = batches(pretraining_examples(tokenizer, books))
    pretrain = run("pre-training", model, data, steps[0], PRETRAIN_RATE)
    save(model, tokenizer, folder / "pretrained")

    tokenizer.chat_template = CHAT_TEMPLATE
    data = batches(chat_examples(tokenizer, chats(Random(2), books)))
    posttrain = run("post-training", model, data, steps[1], POSTTRAIN_RATE)
    save(model, tokenizer, folder / "posttrained")

    data = batches_apart(chat_examples(tokenizer, locked_chats(Random(3), books)), tokenizer.eos_token_id)
    lock = run("locking", model, data, steps[2], LOCK_RATE)
    save(model, tokenizer, folder / "locked", LOCK_BITS)
    write_card(folder / "README.md", model, BATCH, LENGTH, pretrain, posttrain, lock)


if __name__ == "__main__":
    main()
