"""IFEval's checkers tell what follows from what doesn't, and the examples made here follow their own prompts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskbits.errors import UserError
from taskbits.tasks.ifeval.checkers import TYPES, follows, loose, score
from taskbits.tasks.ifeval.examples import examples

# type, kwargs, a response that follows, a response that doesn't
CASES = [
    ("keywords:existence", {"keywords": ["cat", "dog"]}, "A Dog and a wildcat.", "A dog."),
    ("keywords:frequency", {"keyword": "cat", "relation": "at least", "frequency": 2}, "Cat, wildcats.", "One cat."),
    ("keywords:frequency", {"keyword": "cat", "relation": "less than", "frequency": 2}, "One cat.", "Cats, cats."),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "Some wildcats.", "One CAT."),
    ("keywords:letter_frequency", {"letter": "a", "let_relation": "at least", "let_frequency": 3}, "A banana", "Ab a"),
    ("keywords:letter_frequency", {"letter": "#", "let_relation": "at least", "let_frequency": 2}, "#a #b", "#a b"),
    ("language:response_language", {"language": "de"}, "Das ist ein guter Tag für uns alle.", "This is a good day."),
    ("language:response_language", {"language": "de"}, "123", "Ce jour est vraiment très bon pour nous."),
    (
        "length_constraints:number_sentences",
        {"relation": "less than", "num_sentences": 3},
        "Dr. Lee met Mr. Wu at 3 p.m. on Monday. They left.",
        "It rained. Why? Nobody knows.",
    ),
    ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 3}, ". . .", "Wait... No."),
    ("length_constraints:number_words", {"relation": "at least", "num_words": 4}, "I don't know", "I do know"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\none\n***\ntwo\n***", "one\n***\n***\ntwo"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one *** two", "one\n\ntwo"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "so"},
        'It rained.\n\n"So, we stayed."',
        "It rained.\n\nSoon we left.",
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "so"},
        "So it was.\n\n\n\nIt rained.",
        "So it was.\n\nIt rained.\n\nWe left.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name], [date]", "[name\n] [date]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye\np. s. call me", "Bye\nPS call me"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye\nP.P.S call me", "Bye\nP.S. call me"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n - two", "* one\n* two\n* three"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "*\n* one", "** one"),
    ("detectable_format:constrained_response", {}, "Well. My answer is maybe.", "My answer is perhaps."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "**one** and *two*", "*one* and * *"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Day", "num_sections": 2},
        "Day 1\nDay2",
        "Day 1\nday 2",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', 'Here: {"a": 1}'),
    ("detectable_format:json_format", {}, "3", "[" * 100_000),
    ("detectable_format:title", {}, "<<A day>>\nIt rained.", "<< >>\n<A day>"),
    ("combination:two_responses", {}, "one\n******\ntwo\n******", "one\n******\n one"),
    ("combination:two_responses", {}, "one******two", "one******two******three"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hello. "}, " say hello. Hello!", "Sure: Say hello. Hello!"),
    ("startend:end_checker", {"end_phrase": "The end."}, '"It rained. the end."\n', "The end. Bye."),
    ("startend:quotation", {}, ' "It rained." ', '"It rained.'),
    (
        "change_case:capital_word_frequency",
        {"capital_relation": "at least", "capital_frequency": 3},
        "I know NASA and the X-RAY.",
        "I know NASA and the X-ray.",
    ),
    (
        "change_case:english_capital",
        {},
        "THERE IS ALWAYS SOMETHING NEW TO LEARN ABOUT THE WORLD.",
        "DAS IST EIN GUTER TAG FÜR UNS ALLE.",
    ),
    ("change_case:english_lowercase", {}, "this is a very good day for all of us.", "This is a very good day for us."),
    ("punctuation:no_comma", {}, "One and two", "One, two"),
]


def ask(name, kwargs):
    return {"prompt": "Say hello.", "instruction_id_list": [name], "kwargs": [kwargs]}


@pytest.mark.parametrize("name, kwargs, good, bad", CASES)
def test_what_follows_is_told_from_what_does_not(name, kwargs, good, bad):
    assert follows(name, kwargs, "Say hello.", good)
    assert not follows(name, kwargs, "Say hello.", bad)
    assert not follows(name, kwargs, "Say hello.", " \n"), "a blank response never follows"
    assert follows(name, {**kwargs, "unused": None}, "Say hello.", good), "null stands for what the type doesn't use"


def test_all_types_have_a_case():
    assert {name for name, *_ in CASES} == set(TYPES) and len(TYPES) == 25


@pytest.mark.parametrize(
    "name, kwargs, response",
    [
        ("startend:quotation", {}, 'Sure:\n"It rained."'),
        ("startend:quotation", {}, '"It rained."\nBye!'),
        ("startend:quotation", {}, 'Sure:\n"It rained."\nBye!'),
        ("startend:quotation", {}, '**"It rained."**'),
        ("startend:quotation", {}, 'Sure:\n*"It rained."*\nBye!'),
        ("startend:end_checker", {"end_phrase": "The end."}, "*The end.*"),
    ],
)
def test_loose_forgives_first_line_last_line_and_asterisks(name, kwargs, response):
    assert not follows(name, kwargs, "", response)
    assert loose(name, kwargs, "", response)


def test_loose_does_not_forgive_all():
    assert not loose("startend:quotation", {}, "", 'Sure.\nHere:\n"It rained."')


def test_score_of_a_row():
    row = {
        "prompt": "Say hello.",
        "instruction_id_list": ["punctuation:no_comma", "startend:quotation", "keywords:existence"],
        "kwargs": [{"keywords": None}, {}, {"keywords": ["hello"]}],
    }
    assert score('Sure:\n"hello"', row) == {
        "prompt strict": 0.0,
        "prompt loose": 1.0,
        "instruction strict": [1.0, 0.0, 1.0],
        "instruction loose": [1.0, 1.0, 1.0],
    }
    assert next(iter(score('"hello"', row).items())) == ("prompt strict", 1.0)
    assert score("", row)["instruction loose"] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "name, kwargs, message",
    [
        ("keywords:none", {}, "unknown instruction 'keywords:none'"),
        ("keywords:existence", {"keywords": None}, "needs keywords"),
        ("detectable_format:number_bullet_lists", {"num_bullets": 0}, "needs num_bullets"),
        ("length_constraints:number_words", {"relation": "around", "num_words": 3}, "unknown relation 'around'"),
    ],
)
def test_bad_instructions_are_named(name, kwargs, message):
    with pytest.raises(UserError, match=message) as error:
        score("Hello.", ask(name, kwargs))
    assert "\n" not in str(error.value)


@settings(max_examples=60, deadline=None)
@given(
    text=st.one_of(
        st.text(max_size=60),
        st.text(alphabet="ab AB.!?*\"'\n[]<>{}-,1#`", max_size=60),
        st.sampled_from(CASES).flatmap(lambda case: st.text(max_size=5).map(lambda more: case[2] + more)),
    )
)
def test_any_text_is_judged(text):
    for name, kwargs, *_ in CASES:
        strict, lenient = follows(name, kwargs, "", text), loose(name, kwargs, "", text)
        assert isinstance(strict, bool) and isinstance(lenient, bool)
        assert lenient or not strict, "what follows strictly follows loosely"


def test_examples_are_the_same_each_time():
    assert examples(60, "train") == examples(80, "train")[:60]


def test_examples_follow_cover_all_types_and_share_no_prompt():
    rows = {split: examples(400, split) for split in ("train", "validation")}
    for split_rows in rows.values():
        assert {name for row in split_rows for name in row["instruction_id_list"]} == set(TYPES)
        assert {len(row["instruction_id_list"]) for row in split_rows} == {1, 2, 3}
        assert all(score(row["response"], row)["prompt strict"] == 1 for row in split_rows)
    prompts = [row["prompt"] for split_rows in rows.values() for row in split_rows]
    assert len(set(prompts)) == len(prompts) == 800


def test_no_examples_of_another_split():
    with pytest.raises(UserError, match="'test'"):
        examples(1, "test")
