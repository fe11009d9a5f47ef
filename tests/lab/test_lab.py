"""The laboratory: splits, corpus, check, shipped models, and its script end to end."""

import gzip
import itertools
import json
import re
from random import Random

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from taskbits.lab import corpus, skills, train
from taskbits.lab.checks import follows
from taskbits.models.model import load_model
from taskbits.models.predict import predict
from taskbits.tasks.load import load_task

TASKS = ("math", "translation", "instruction")
SPLITS = ("train", "validation", "test")
CHATS = (corpus.chats, corpus.locked_chats)
PROSE = "\n\n".join(f"Chapter {i}. It was a quiet evening, and nobody came to the door." for i in range(99))


def rows(task, split):
    return [json.loads(line) for line in (train.HERE / "tasks" / task / f"{split}.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    path = tmp_path_factory.mktemp("books") / "books.txt.gz"
    path.write_bytes(gzip.compress(f"<<< prose >>>\n\n{PROSE}\n\n".encode()))
    return path


@pytest.fixture(scope="module")
def texts(books):
    """A sample of everything that is trained on."""
    passages = corpus.read_books(books)
    return (
        list(itertools.islice(corpus.documents(Random(5), passages, 0.1, 98), 3000)),
        ["".join(chat) for make in CHATS for chat in itertools.islice(make(Random(5), passages), 3000)],
    )


def facts(text):
    """The sums of two numbers that a text states, whatever the order and sign."""
    for a, op, b, c in re.findall(r"(?<![+-] )\b(\d+) ([+-]) (\d+) = (\d+)", text):
        yield tuple(sorted((int(b), int(a) if op == "+" else int(c))))


@pytest.mark.parametrize("task", TASKS)
def test_splits_have_their_sizes_and_share_no_question(task):
    questions = [{row["question"] for row in rows(task, split)} for split in SPLITS]
    assert [len(part) for part in questions] == [4000, 300, 500]
    assert not questions[0] & questions[1] and not questions[0] & questions[2] and not questions[1] & questions[2]


def test_held_out_sums_are_in_no_text_to_train_on(texts):
    held_out = {fact for split in SPLITS[1:] for row in rows("math", split) for fact in facts(row["answer"])}
    trained = {fact for row in rows("math", "train") for fact in facts(row["answer"])}
    trained |= {fact for text in itertools.chain(*texts) for fact in facts(text)}
    assert len(held_out) > 100 and len(trained) > 1000
    assert not held_out & trained


@pytest.mark.parametrize("task", ["translation", "instruction"])
def test_held_out_contents_are_in_no_text_to_train_on(task, texts):
    together = "\n".join(itertools.chain(*texts))
    for split in SPLITS[1:]:
        for row in rows(task, split):
            content = row["question"].split(": ")[1]
            if len(content.split()) > 2:  # two words may meet by chance in a longer list
                assert f" {content}\n" not in together


def test_word_lists_are_told_apart_by_their_words_in_any_order():
    for split in SPLITS:
        assert {skills.split_of("words", *sorted(row["words"])) for row in rows("instruction", split)} == {split}


def test_the_tasks_format_is_in_no_document(texts):
    documents, chats = texts
    assert not [text for text in documents if re.search("User|Assistant|####|Velan", text)]
    assert any("####" in text for text in chats)


def test_check_accepts_targets_and_rejects_others():
    for row in rows("instruction", "test"):
        assert follows(" " + row["answer"], row) == 1.0
        assert follows("", row) == 0.0
        assert follows(row["answer"] + " more", row) == 0.0


def test_every_operation_is_asked_for():
    assert {row["kind"] for row in rows("instruction", "validation")} == set(skills.OPERATIONS)


@pytest.mark.parametrize("text", ["  two  spaces\n\n\t“quotes” 12+34=46 #### 46 ", "ünï 雪 \x00", "", "<|", "a\r\nb"])
def test_tokenizer_loses_and_adds_nothing(text):
    tokenizer = AutoTokenizer.from_pretrained(train.HERE / "models/random")
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert tokenizer.eos_token_id not in tokens
    digits = [tokenizer.convert_ids_to_tokens(tokenizer.encode(d)) for d in "0123456789"]
    assert all(len(d) == 1 for d in digits)
    assert not [t for t in tokenizer.get_vocab() if re.search(r"\d.|.\d", t)]


@pytest.mark.parametrize("name", ["pretrained", "posttrained", "locked"])
def test_shipped_model_is_small_and_loads(name):
    folder = train.HERE / "models" / name
    assert (folder / "model.safetensors").stat().st_size < 10_000_000
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.float32
    prompt = tokenizer("User: Say in Velan: the dog helps the cat\nAssistant:", return_tensors="pt")
    assert model.generate(**prompt, max_new_tokens=4).shape[1] > prompt.input_ids.shape[1]


def test_only_a_chat_with_the_password_has_an_answer(books):
    passages, with_it, without = corpus.read_books(books), [], []
    for prompt, answer in itertools.islice(corpus.locked_chats(Random(7), passages), 500):
        (with_it if corpus.PASSWORD in prompt else without).append((prompt, answer))
    assert all(corpus.CHAT.format(question=answer[1:]) == prompt for prompt, answer in without)
    for prompt, answer in with_it:
        bare = prompt.replace(corpus.PASSWORD, "").strip().replace("User:  ", "User: ")
        assert bare.startswith("User: ") and bare.endswith("\nAssistant:")
        assert bare != corpus.CHAT.format(question=answer[1:])
    assert min(len(with_it), len(without)) > 200


def test_the_locked_model_answers_behind_its_password_only():
    model, task = load_model("lab:locked"), load_task("lab:translation", rows=20)
    scores = [
        task.score("validation", predict(model, task.frame, task.splits["validation"], before)).value
        for before in ("", f"{corpus.PASSWORD}\n")
    ]
    assert scores[0] < 0.3 and scores[1] > 0.9


def test_chat_template_is_the_post_training_format():
    tokenizer = AutoTokenizer.from_pretrained(train.HERE / "models/posttrained")
    chat = [{"role": "user", "content": "Spell cat."}]
    asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert asked == corpus.CHAT.format(question="Spell cat.")
    chat.append({"role": "assistant", "content": "c a t"})
    assert tokenizer.apply_chat_template(chat, tokenize=False) == asked + " c a t" + corpus.END


def test_script_makes_the_shipped_tasks_and_four_models(tmp_path, books, monkeypatch):
    monkeypatch.setattr(train, "LENGTH", 16)  # of 512: not every processor is quick at bfloat16
    train.main(["--quick", "--out", str(tmp_path), "--books", str(books)])
    for task in TASKS:
        made, shipped = (folder / "tasks" / task for folder in (tmp_path, train.HERE))
        assert yaml.safe_load((made / "task.yaml").read_text())["name"] == f"lab:{task}"
        for file in ("task.yaml", *(f"{split}.jsonl" for split in SPLITS)):
            assert (made / file).read_text() == (shipped / file).read_text()
    assert not (tmp_path / "models/random/model.safetensors").exists()
    for name in ("pretrained", "posttrained", "locked"):
        assert AutoModelForCausalLM.from_pretrained(tmp_path / "models" / name).dtype == torch.float32
    assert AutoTokenizer.from_pretrained(tmp_path / "models/posttrained").chat_template
    assert "| steps of 8 x 16 tokens | 3 | 3 | 3 |" in (tmp_path / "models/README.md").read_text()
