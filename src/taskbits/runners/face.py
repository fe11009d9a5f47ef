"""The face of every standalone file: `python FILE --model M --input IN`, JSON rows in, one JSON text a line out.

These functions are not called: `taskbits export` joins their bodies around the body of a runner's `adapt`, with
the parameters in capitals replaced by the program's own values. M is a hub id or a folder; IN may be `-`. The payload
stands at the very beginning of the file.
"""

import fileinput
import json
import sys

import numpy
import transformers


def load(DTYPE, WORD):
    file, _, name, _, path = sys.argv
    pipe = transformers.pipeline("text-generation", name, dtype=DTYPE)
    if WORD:
        data = numpy.fromfile(file, WORD)


def generate(pipe, path, prefix, PROMPT, STOP, MAX_NEW_TOKENS):
    for line in fileinput.input(path):
        prompt = prefix + PROMPT % json.loads(line)
        text = pipe(prompt, max_new_tokens=MAX_NEW_TOKENS, do_sample=0)[0]["generated_text"][len(prompt) :]
        for end in STOP:
            text = text.split(end)[0]
        print(json.dumps(text))


def choose(pipe, path, prefix, PROMPT, CHOICES):
    for line in fileinput.input(path):
        prompt = prefix + PROMPT % json.loads(line)

        def surprisal(choice):
            tokens = pipe.tokenizer(prompt + choice, return_tensors="pt").input_ids.to(pipe.device)
            return pipe.model(tokens, labels=tokens).loss * (tokens.numel() - 1)

        print(json.dumps(min(CHOICES, key=surprisal)))
