"""Training on what the model itself makes: it invents inputs, answers each several times, and learns what it agrees on.

In each round it writes `number` texts after `stem`, which up to `cut` are inputs; answers each of them eight times;
and what fits `pattern` and comes more than twice is trained on, one step for each input. All is drawn from the
seed by the device's own generator, so a GPU makes other data than a CPU. Stands behind a runner that has taught the
model the form, such as `literal+train`; `pace` is the learning rate here.
"""

import re

import torch
import transformers

from taskbits.programs.runners import check_seed, require

WORD = ""
# Of a pattern: texts as `re.escape` writes them, with `.+` between; at the end perhaps one of several.
_LETTER = r"(?:[^\\.^$*+?{}\[\]|()]|\\\W)"
_FORM = re.compile(rf"{_LETTER}*(?:\.\+{_LETTER}+)*(?:\.\+)?(?:\(\?:{_LETTER}*(?:\|{_LETTER}*)*\))?")


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
    longest = max(len(model.tokenizer(text).input_ids) for text in (stem, cut))
    require(longest <= model.context, "stem or cut is longer than the model's context")
    check_seed(seed)
    require(all(type(n) is int and n > 0 for n in (rounds, number, count)), "a count is not positive")
    require(rounds <= 256 and count <= 1024 and number * count <= 2**16, "too many rounds or texts")
    require(type(pace) is float and 0 < pace < 1, "learning rate")
    require(type(pattern) is str and len(pattern) < 2000 and pattern.count(".+") <= 16, "pattern is too long")
    require(_FORM.fullmatch(pattern) is not None, "pattern is more than texts with .+ between, and then one of several")
    return {"pattern": bounded(pattern)}


def bounded(pattern: str) -> str:
    """A pattern that finds the same as one of `_FORM`, in time that grows with the square of a text's length.

    Plain backtracking tries all ways to divide a line, as many as its length to the power of the repetitions. Here a
    look ahead comes before each repetition: does the rest match at all? One way is enough to know, each text where it
    first stands, since that leaves the most for those behind it; so nothing is ever taken back.
    """
    pieces = [""]
    for token in re.findall(r"\\.|\.\+|.", pattern, re.DOTALL):
        if token == ".+":
            pieces.append("")
        else:
            pieces[-1] += token
    looks = ["".join(f"(?>.+?{piece})" for piece in pieces[at:]) for at in range(len(pieces))]
    return pieces[0] + "".join(f"(?={looks[at]}).+{pieces[at]}" for at in range(1, len(pieces)))
