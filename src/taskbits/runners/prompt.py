"""A text that goes before every prompt, coded token by token under the model itself.

The range decoder and the model take turns: the model's next-token distribution decodes a token, which is fed
back. Encoding: `taskbits.coding.encode_text`.
"""

import constriction
import numpy
import torch

from taskbits.runners import require


def adapt(model, tokenizer, data, start, count):
    model.requires_grad_(False)
    decoder = constriction.stream.queue.RangeDecoder(numpy.frombuffer(data, "u4"))
    tokens = [start]
    cache = None
    while len(tokens) <= count:
        step = model(torch.tensor([tokens[-1:]]).to(model.device), past_key_values=cache)
        cache = step.past_key_values
        chances = step.logits[0, -1].softmax(0, float).cpu().numpy()
        tokens.append(decoder.decode(constriction.stream.model.Categorical(chances, perfect=False)))
    return tokenizer.decode(tokens[1:])


def check(model, data, start, count):
    require(len(data) % 4 == 0, "the payload is not a whole number of words")
    require(type(start) is int and 0 <= start < model.lm.config.get_text_config().vocab_size, "start token")
    require(type(count) is int and 0 < count < model.context, "the text is longer than the model's context")
