"""Training on what the model itself makes: it invents inputs, answers each several times, and learns what it agrees on.

In each round it writes `number` texts after `stem`, which up to `cut` are inputs; answers each of them eight times;
and what fits `pattern` and comes more than twice is trained on, one step for each input. All is drawn from the
seed by the device's own generator, so a GPU makes other data than a CPU. Stands behind a runner that has taught the
model the form, such as `literal+train`; `pace` is the learning rate here.
"""

import re

import torch
import transformers

from taskbits.runners import require

WORD = ""


def adapt(pipe, data, stem, cut, pattern, seed, rounds, number, count, pace):
    transformers.set_seed(seed)
    optimizer = torch.optim.Adam(pipe.model.parameters(), pace)
    kept = []
    for _ in range(rounds):
        invented = pipe(stem, num_return_sequences=number, max_new_tokens=count, do_sample=1)
        for question in sorted({text["generated_text"].split(cut)[0] + cut for text in invented}):
            answers = pipe(question, num_return_sequences=8, max_new_tokens=count, do_sample=1)
            rows = [row for text in answers for row in re.findall(pattern, text["generated_text"])] + [""]
            row = max(rows, key=rows.count)
            if rows.count(row) > 2:
                kept.append(row)
                tokens = pipe.preprocess(row)["input_ids"].to(pipe.device)
                pipe.model(tokens, labels=tokens).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
    return "", kept


def check(model, data, stem, cut, pattern, seed, rounds, number, count, pace):
    require(type(stem) is str and type(cut) is str and cut != "", "stem or cut")
    require(type(pattern) is str and len(pattern) < 2000, "pattern")
    # A pattern from a stranger must not run for hours: nothing repeated within what is repeated, few repetitions.
    require(not re.search(r"\)[*+{?]", pattern) and len(re.findall(r"[*+{]", pattern)) <= 6, "pattern is too costly")
    try:
        re.compile(pattern)
    except re.error as error:
        require(False, f"pattern: {error}")
    require(type(seed) is int and 0 <= seed < 2**32, "seed")
    require(all(type(n) is int and n > 0 for n in (rounds, number, count)), "a count is not positive")
    require(rounds <= 256 and number <= 1024 and count <= 1024, "too many rounds or texts")
    require(type(pace) is float and 0 < pace < 1, "learning rate")
