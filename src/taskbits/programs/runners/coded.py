"""A text, coded token by token under the model itself.

The model writes it by greedy generation, steered: in each step the range decoder draws a token from the distribution
of the next one, and the token's score is raised over all others. `start` is what it begins to write after; for
most models that is nothing, or its beginning-of-text token. `heat` multiplies the scores before the softmax.

Everything is computed in float64 (`Double`), also what the model's code asks to have in float32, since rounding to
float32 would make large differences of the tiny ones between machines. The payload's words are stored
inverted and big-endian: so the operator that inverts them also brings them into the machine's order, and the last
word can be cut off between bytes. Encoding: `taskbits.programs.texts`.

Under a model in float32 or bfloat16 nothing is raised to float64 but the sums over its scores: it decodes on machines
and with versions where the scores are the same to the bit.
"""

import constriction

from taskbits.programs.runners import require
from taskbits.programs.runners.double import Double

WORD = ">u4"
CHANGES = "nothing"


def adapt(pipe, data, start, count, heat):
    decoder = constriction.stream.queue.RangeDecoder(~data)
    with Double():
        return pipe(
            start,
            max_new_tokens=count,
            do_sample=0,
            logits_processor=[
                lambda tokens, scores: scores.scatter(
                    1,
                    tokens * 0
                    + decoder.decode(
                        constriction.stream.model.Categorical(
                            (scores[0] * heat).softmax(0).cpu().numpy(), perfect=False
                        )
                    ),
                    9e9,
                )
            ],
        )[0]["generated_text"]


def adapt_inexact(pipe, data, start, count, heat):
    decoder = constriction.stream.queue.RangeDecoder(~data)
    return pipe(
        start,
        max_new_tokens=count,
        do_sample=0,
        logits_processor=[
            lambda tokens, scores: scores.scatter(
                1,
                tokens[:, :1] * 0
                + decoder.decode(
                    constriction.stream.model.Categorical(
                        (scores[0].double() * heat).softmax(0).cpu().numpy(), perfect=False
                    )
                ),
                9e9,
            )
        ],
    )[0]["generated_text"]


def check(model, data, start, count, heat):
    require(start == model.start, "the text that it starts with")
    require(type(count) is int and 0 < count < model.context, "the text is longer than the model's context")
    require(type(heat) in (int, float) and 0 < heat < 100, "heat")
