"""A text that goes before every prompt, coded token by token under the model itself.

The model writes it by greedy generation, steered: in each step the range decoder draws a token from the distribution
of the next one, and the token's score is raised over all others. `start` is what it begins to write after; for
most models that is nothing, or its beginning-of-text token. Encoding: `taskbits.coding.encode_text`.
"""

import constriction

from taskbits.runners import require

WORD = "u4"


def adapt(pipe, data, start, count):
    decoder = constriction.stream.queue.RangeDecoder(data)
    return pipe(
        start,
        max_new_tokens=count,
        do_sample=0,
        logits_processor=[
            lambda tokens, scores: scores.scatter(
                1,
                tokens * 0
                + decoder.decode(
                    constriction.stream.model.Categorical(scores[0].softmax(0, float).cpu().numpy(), perfect=False)
                ),
                9e9,
            )
        ],
    )[0]["generated_text"]


def check(model, data, start, count):
    require(start == model.start, "the text that it starts with")
    require(type(count) is int and 0 < count < model.context, "the text is longer than the model's context")
