"""Prompts and data that are chosen: by what they are worth on rows that they are not from, and by what they cost."""

import re
from dataclasses import replace

import pytest
from conftest import nothing, shorten_lessons, write_task
from hypothesis import given, settings
from hypothesis import strategies as st

from taskbits.errors import UserError
from taskbits.fitting.edits import climb
from taskbits.fitting.judge import Lesson, between, choose, judge
from taskbits.fitting.training import batches
from taskbits.methods import method, self_train, subset
from taskbits.methods.self_train import pattern
from taskbits.models.model import load_model, weights_digest
from taskbits.models.predict import likelihoods, predict
from taskbits.programs import decode
from taskbits.tasks.frame import Frame
from taskbits.tasks.load import load_task


@pytest.fixture(scope="module")
def pretrained():
    return load_model("lab:pretrained")


@pytest.fixture(scope="module")
def velan():
    return load_task("lab:translation", 12)


@pytest.fixture(scope="module")
def task(task_folder):
    return load_task(task_folder)


def find(name, model, task, settings):
    with model.preserved():
        return method(name).fit(model, task, settings, 0, nothing)


def test_the_judge_s_rows_are_not_among_the_examples(model, task):
    judged, examples = judge(model, task, 0)
    train = task.examples("train")
    rows, held = ({train[i] for i in part} for part in (judged.rows, judged.held))
    assert rows and held and examples and not rows & held and not (rows | held) & set(examples)
    assert rows | held | set(examples) == set(train)


def test_worth_tells_greedy_outputs_from_others(velan):
    """The estimate of one forward pass says what generation does, token by token."""
    model, rows = load_model("lab:posttrained"), velan.splits["validation"]
    written = predict(model, velan.frame, rows)
    right = likelihoods(model, velan.frame, rows, written)
    wrong = likelihoods(model, velan.frame, rows, [text + " no" for text in written])
    assert min(right) > 0.5 > max(wrong)


def test_worth_with_choices_is_the_share_of_the_right_one(model):
    rows, choices = [{"text": f"{'word ' * n}is"} for n in (1, 7, 3)], (" red", " green", " blue")
    frame = Frame("{text}", choices=choices)
    picked = predict(model, frame, rows)
    shares = [likelihoods(model, frame, rows, [choice] * 3) for choice in choices]
    for row, best in zip(zip(*shares, strict=True), picked, strict=True):
        # Half of each figure is a share, and they make one; the other half is 1 for the choice that is picked.
        assert sum(row) == pytest.approx(1.0) and max(zip(row, choices, strict=True))[1] == best


def test_a_lesson_teaches_and_leaves_no_trace(pretrained, velan):
    judged, examples = judge(pretrained, velan, 0)
    before = weights_digest(pretrained.lm)
    lesson = replace(judged, lesson=Lesson("\n\n", "\n", 16, 3e-4))
    assert lesson.worth(examples[0]) > judged.worth("") + 0.2
    assert weights_digest(pretrained.lm) == before and pretrained.dtype == "float64"
    assert lesson.size(examples[0]) > judged.size(examples[0])


def test_what_coded_examples_taught_is_told_in_bits(pretrained, velan):
    found = method("subset").fit(pretrained, velan, {"n": 4, "tries": 1, "rate": 1e-3}, 0, nothing)
    before, after = (float(n) for n in re.findall(r"[\d.]+", found.content["bits_of_a_new_example"]))
    excess = float(found.content["excess_description_length"].removesuffix(" bits").replace(",", ""))
    assert before > after + 20
    assert excess == pytest.approx(found.ideal_bits - 4 * after, abs=0.3)


@given(examples=st.lists(st.text("ab\n~\0", max_size=9), min_size=1, max_size=5))
def test_what_stands_between_examples_takes_them_apart_again(examples):
    try:
        apart = between(examples)
    except UserError:
        return
    assert apart.join(examples).split(apart) == examples


@settings(deadline=None)
@given(st.lists(st.integers(0, 99), min_size=3, max_size=12, unique=True), st.integers(1, 3))
def test_choosing_takes_the_best_first(numbers, count):
    words = [str(n) for n in numbers]
    chosen = choose(lambda some: sum(map(int, some)), words, count, nothing)
    assert sorted(chosen, key=int) == sorted(words, key=int)[-count:]


def test_choosing_from_too_few_is_an_error():
    with pytest.raises(UserError, match="can't be chosen"):
        choose(len, ["a"], 2, nothing)


def test_edits_find_what_the_gain_wants():
    wanted, seen = "seven green cups", []

    def gain(text):
        seen.append(text)
        return sum(word in text for word in wanted.split()) - 0.05 * len(text)

    starts = ["one seven two three", "two green one four five", "cups and plates and knives"]
    found, *others = climb(gain, starts, 400, 0, nothing)
    assert all(gain(found) >= gain(other) for other in others)
    del seen[-2 * len(others) :]
    assert all(word in found for word in wanted.split()) and len(found) <= len(wanted)
    assert len(seen) == len(set(seen)) <= 400
    assert climb(gain, starts, 400, 0, nothing)[0] == found


@settings(max_examples=30, deadline=None)
@given(starts=st.lists(st.text("ab \n", max_size=12), min_size=1, max_size=4), tries=st.integers(1, 40))
def test_edits_never_lose_what_they_began_with(starts, tries):
    steps = []
    found, *_ = climb(lambda text: -len(text), starts, tries, 1, lambda done, of: steps.append((done, of)))
    assert len(found) <= len(starts[0]) and all(0 <= done < of == tries for done, of in steps)


def test_chosen_demonstrations_beat_drawn_ones(pretrained, velan):
    judged, _ = judge(pretrained, velan, 0)
    drawn = find("few-shot", pretrained, velan, {"k": 1, "tries": 1}).content["text"]
    chosen = find("few-shot", pretrained, velan, {"k": 1, "tries": 32}).content["text"]
    assert judged.worth(chosen) > judged.worth(drawn) and chosen.count("User:") == 1


def test_a_byte_that_costs_more_than_any_score_leaves_no_prompt(model, task):
    found = find("prompt-search", model, task, {"price": 2.0, "tries": 20})
    assert found.program.parts[0].runner == "plain" and found.program.payload == b""


def test_prompt_search_finds_a_short_text_that_helps(pretrained, velan):
    judged, _ = judge(pretrained, velan, 0)
    text = find("prompt-search", pretrained, velan, {"price": 1e-3, "tries": 60}).content["text"]
    assert judged.worth(text) > judged.worth("") + 0.2 and judged.size(text) < 60


@pytest.mark.parametrize("place", ["behind", "answer"])
def test_prompt_search_finds_a_text_for_elsewhere(place, pretrained, velan):
    judged, _ = judge(pretrained, velan, 0)
    there = replace(judged, place=place)
    found = find("prompt-search", pretrained, velan, {"price": 1e-5, "tries": 40, "place": place})
    text, program = found.content["text"], found.program
    assert there.worth(text) >= there.worth("") == judged.worth("") > there.worth(" Let's think step by step.")
    assert program.frame == pretrained.placed(velan.frame, text, place) and program.parts[0].runner == "plain"


@pytest.mark.parametrize("price, most", [(1.0, 2), (1e-5, 16)])
def test_label_words_tell_choices_apart_better_than_the_choices_do(price, most, model, choices_folder):
    numbers = load_task(choices_folder)
    rows, targets = numbers.splits["train"], numbers.targets("train")
    frame = find("label-words", model, numbers, {"price": price}).program.frame
    words, before = (sum(likelihoods(model, one, rows, targets)) for one in (frame, numbers.frame))
    assert words > before and set(frame.answers) == {" even", " odd"} and 2 <= len(frame.choices) <= most
    assert len(set(frame.choices)) == len(frame.choices) and all(word.startswith(" ") for word in frame.choices)


def test_what_follows_label_words_teaches_them(model, choices_folder):
    numbers = load_task(choices_folder)
    frame = replace(numbers.frame, choices=(" two", " one", " three"), answers=(" even", " odd", " odd"))
    asked = replace(numbers, frame=frame)
    words = {" even": " two", " odd": " one"}
    taught = [words[target] for target in numbers.targets("train")]
    assert asked.targets("train") == numbers.targets("train") and asked.completions("train") == taught
    assert asked.examples("train") == [a + b for a, b in zip(numbers.prompts("train"), taught, strict=True)]
    shown = find("few-shot", model, asked, {"k": 4, "tries": 1}).content["text"]
    assert not re.search("even|odd", shown) and re.search(" two| one", shown)
    rows = [row for some in batches(model, asked, 4, 8, 0) for row in some]
    assert {model.tokenizer.decode(tokens[first:]).strip() for tokens, first in rows} == {"two", "one"}


def test_offsets_undo_a_liking(model, choices_folder):
    numbers = load_task(choices_folder)
    rows, targets = numbers.splits["train"], numbers.targets("train")
    liking = replace(numbers, frame=replace(numbers.frame, offsets=(0, 9.5)))
    found = find("choice-bias", model, liking, {"step": 0.5}).program.frame
    after, before = (sum(likelihoods(model, one, rows, targets)) for one in (found, liking.frame))
    assert after > before and all(offset % 0.5 == 0 <= offset for offset in found.offsets)


def test_a_seed_is_the_best_of_its_tries_and_samples_the_same_text_again(pretrained, velan):
    judged, _ = judge(pretrained, velan, 0)
    few, many = (find("seeded-prompt", pretrained, velan, {"tokens": 8, "tries": n}) for n in (2, 12))
    anew = replace(judged, rows=judged.held)
    assert anew.worth(many.content["text"]) > max(0.3, anew.worth(few.content["text"]) - 0.2)
    assert many.program.payload == b"" and many.program.parts[0].settings["seed"] < 12
    with pretrained.preserved():
        assert decode.adapt(pretrained, many.program) == many.content["text"]


def test_chosen_examples_are_trained_on_by_the_decoder(pretrained, velan, monkeypatch):
    shorten_lessons(monkeypatch)
    found = find("subset", pretrained, velan, {"n": 2, "tries": 4})
    assert found.program.parts[0].runner.endswith("+train") and len(found.content["examples"]) == 2
    texts = ["".join(piece for piece, _ in example).strip() for example in found.content["examples"]]
    assert set(texts) <= set(velan.examples("train"))
    with pretrained.preserved():
        assert decode.adapt(pretrained, found.program) == ""
        taught = likelihoods(pretrained, velan.frame, velan.splits["validation"], velan.targets("validation"))
    bare = likelihoods(pretrained, velan.frame, velan.splits["validation"], velan.targets("validation"))
    assert sum(taught) > sum(bare)


def test_a_model_trains_on_what_it_agrees_on(pretrained, velan, monkeypatch):
    shorten_lessons(monkeypatch)
    monkeypatch.setattr(subset, "_PLANS", (64,))  # it agrees on what it has learned by heart
    monkeypatch.setattr(self_train, "_CHOSEN_FROM", 2)
    found = find("self-train", pretrained, velan, {"n": 1, "rounds": 1, "number": 6})
    made = found.content["made by the model"]
    assert found.program.parts[0].checksum is not None
    assert made and all(re.fullmatch(pattern(velan.frame.prompt, velan.frame), row) for row in made)
    with pretrained.preserved():
        assert decode.results(pretrained, found.program.parts[0])[-1] == ("", made)


@pytest.mark.parametrize(
    "changes, example",
    [
        ({}, "Q: after 3 comes\nA: 4\n"),
        ({"stop": None}, "Q: after 3 comes\nA: 4"),
        ({"choices": [str(n) for n in range(99)], "stop": None}, "Q: after 3 comes\nA: 4"),
    ],
)
def test_the_pattern_fits_the_task_s_own_examples(tmp_path, changes, example):
    frame = load_task(write_task(tmp_path / "task", **changes)).frame
    assert re.fullmatch(pattern(frame.prompt, frame), example)


def test_self_training_needs_an_end_of_the_input(model, tmp_path):
    folder = write_task(tmp_path / "task", prompt="{question}")
    with pytest.raises(UserError, match="behind its last field"):
        find("self-train", model, load_task(folder), {"n": 1, "rounds": 1, "number": 2})
