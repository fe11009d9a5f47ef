"""The face of every standalone file: `python FILE --model M --input IN`, JSON rows in, one JSON text a line out.

These functions are not called: `taskbits export` joins their bodies around those of the runners' `adapt`, with the
parameters in capitals replaced by the program's own values. M is a hub id or a folder; IN may be `-`, and is in the
encoding that Python takes for text (UTF-8 anywhere would cost nine bytes); blank lines are skipped. The payload
stands at the very beginning of the file.

A model in float64 computes on the CPU: there it gives the same on any machine, and some accelerators (MPS) have no such
numbers. But a program that draws from a device's own generator runs on the GPU, if there is one. A model in float32
goes to the accelerators that there are; what does not fit on one is split (needs accelerate).
"""

import fileinput
import json
import sys

import numpy
import torch
import transformers


def load(DTYPE, DOUBLE, DRAWS):
    file, _, name, _, path = sys.argv
    if DRAWS:
        pipe = transformers.pipeline("text-generation", name, dtype=DTYPE, device=torch.cuda.device_count() - 1)
    elif DOUBLE:
        pipe = transformers.pipeline("text-generation", name, dtype=DTYPE, device=-1)
    else:
        pipe = transformers.pipeline("text-generation", name, dtype=DTYPE, device_map="auto")


def read(file, WORD, OFFSET):
    if OFFSET:
        data = numpy.fromfile(file, WORD, offset=OFFSET)
    else:
        data = numpy.fromfile(file, WORD)


def generate(pipe, path, prefix, BEFORE, PROMPT, STOP, MAX_NEW_TOKENS, CHAT, VERBATIM):
    for line in filter(str.split, fileinput.input(path)):
        prompt = BEFORE + prefix + PROMPT % json.loads(line)
        if CHAT:
            turns = [{"role": "user", "content": prompt}]
            text = pipe(turns, max_new_tokens=MAX_NEW_TOKENS, do_sample=0)[0]["generated_text"][1]["content"]
        else:
            if VERBATIM:
                full = pipe(prompt, max_new_tokens=MAX_NEW_TOKENS, do_sample=0, add_special_tokens=False)
            else:
                full = pipe(prompt, max_new_tokens=MAX_NEW_TOKENS, do_sample=0)
            text = full[0]["generated_text"][len(prompt) :]
        for end in STOP:
            text = text.split(end)[0]
        print(json.dumps(text))


def choose(
    pipe, path, prefix, BEFORE, PROMPT, CHOICES, FIELD, OFFSETS, ANSWERS, PER_CHARACTER, CONDITIONAL, CHAT, VERBATIM
):
    for line in filter(str.split, fileinput.input(path)):
        row = json.loads(line)
        prompt = BEFORE + prefix + PROMPT % row
        if CHAT:
            turns = [{"role": "user", "content": prompt}]
            prompt = pipe.tokenizer.apply_chat_template(turns, tokenize=0, add_generation_prompt=1)

        def surprisal(choice):
            if VERBATIM:
                tokens = pipe.tokenizer(prompt + choice, return_tensors="pt", add_special_tokens=False).input_ids
            else:
                tokens = pipe.tokenizer(prompt + choice, return_tensors="pt").input_ids
            tokens = tokens.to(pipe.device)
            return pipe.model(tokens, labels=tokens).loss * (tokens.numel() - 1)

        if FIELD:
            choices = row[FIELD]
        else:
            choices = CHOICES
        # The surprisal of a single token that nothing stands before is not a number.
        if PER_CHARACTER:
            before = surprisal("").nan_to_num()
            if OFFSETS:
                best = min(
                    choices,
                    key=lambda choice: (surprisal(choice) - before) / max(1, len(choice.strip())) + choices[choice],
                )
            else:
                best = min(choices, key=lambda choice: (surprisal(choice) - before) / max(1, len(choice.strip())))
        elif CONDITIONAL:
            best = min(choices, key=lambda choice: surprisal(choice) - surprisal(choices[choice]).nan_to_num())
        elif OFFSETS:
            best = min(choices, key=lambda choice: surprisal(choice) + choices[choice])
        else:
            best = min(choices, key=surprisal)
        if ANSWERS:
            if OFFSETS:
                best = ANSWERS[[*choices].index(best)]
            else:
                best = choices[best]
        print(json.dumps(best))
