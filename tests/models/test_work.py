"""Operations are counted as what a program makes the model read, write and train on."""

import torch

from taskbits.models import work
from taskbits.models.predict import predict
from taskbits.programs.program import Part, Program
from taskbits.search.scoring import score
from taskbits.tasks.frame import Frame
from taskbits.tasks.load import load_task

LESSON = {"text": "1 2 3\n4 5 6 7", "between": "\n", "ending": "", "epochs": 2, "rate": 1e-3}


def test_operations_of_a_token(model):
    lm = model.lm
    matrices = sum(w.numel() for w in lm.parameters())
    if lm.get_output_embeddings().weight is not lm.get_input_embeddings().weight:
        matrices -= lm.get_input_embeddings().weight.numel()
    assert work.per_token(lm) == 2 * matrices


def test_passes_that_train_count_three_times(model):
    lm, each = model.lm, work.per_token(model.lm)
    tokens = torch.zeros(2, 5, dtype=torch.long)
    with work.counted(lm) as passes:
        lm(tokens)
        with torch.no_grad():
            lm(input_ids=tokens)
            lm(inputs_embeds=lm.get_input_embeddings()(tokens))
            lm.generate(tokens[:1], max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert [count / each for count in passes] == [30, 10, 10, 5, 1, 1]
    lm(tokens)
    assert len(passes) == 6


def program(model, *parts):
    return Program("test", model.fingerprint, Frame("{question}", ("\n",), 4), parts, model.said_dtype).to_bytes()


def test_a_program_s_operations(model, task_folder):
    task, each = load_task(task_folder), work.per_token(model.lm)
    rows = task.splits["validation"]
    plain = score(program(model, Part("plain")), model, task, ["validation"])
    spent = []
    predict(model, Frame("{question}", ("\n",), 4), rows, spend=spent.append)
    asked = [len(model.tokenizer(row["question"]).input_ids) for row in rows]
    assert len(spent) == len(rows) and all(a < s <= a + 4 for a, s in zip(asked, spent, strict=True))
    assert plain.flops_once == 0 and plain.flops_per_input == each * sum(spent) / len(rows)
    lesson = score(program(model, Part("literal+train", LESSON)), model, task, ["validation"])
    trained = 2 * sum(len(model.tokenizer(row).input_ids) for row in LESSON["text"].split("\n"))
    assert lesson.flops_once == 3 * each * trained
    longer = score(program(model, Part("literal", {"text": "Before. " * 9})), model, task, ["validation"])
    assert longer.flops_once == 0 and longer.flops_per_input > plain.flops_per_input + 8 * each


def test_tokens_that_choices_take(model):
    """What some options share is read once, and behind the last token of one nothing is asked."""
    choices, spent = (" red", " green and blue", " green and blue and red"), []
    predict(model, Frame("{text}", choices=choices), [{"text": "It is"}], spend=spent.append)
    red, short, long = (model.tokenizer("It is" + choice).input_ids[:-1] for choice in choices)
    assert long[: len(short)] == short
    assert sum(spent) == len(long) + (0 if long[: len(red)] == red else len(red))
