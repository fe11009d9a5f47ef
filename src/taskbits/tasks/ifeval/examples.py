"""Instruction prompts with responses that follow them, made up here and verified by the checkers.

A prompt asks for a short text about a topic under one to three instructions that go together, in the proportions of
IFEval's prompts; the response is made of plain sentences, so that what it shows is the form and not the content. Every
prompt names its topic and each split has topics of its own: no prompt of train stands in validation.
"""

import itertools
import json
import re
import string
from collections.abc import Callable
from random import Random

from taskbits.errors import UserError
from taskbits.tasks.ifeval.checkers import TYPES, score

TOPICS = {
    "train": (
        "bicycles, gardens, old maps, cats, violins, lighthouses, trains, bakeries, kites, mountains, board games, "
        "horses, museums, rivers, pancakes, rainy days, gloves, whales, bridges, street markets, telescopes, "
        "apple trees, campfires, postcards, penguins, wool sweaters, libraries, sailing boats, robots, sunflowers, "
        "school trips, drums, night buses, castles, honey bees, comic books, winter coats, puzzles, small farms, "
        "elephants, tea cups, beaches, cameras, parrots, notebooks, fountains, football matches, wooden toys"
    ).split(", "),
    "validation": (
        "umbrellas, owls, hot air balloons, pianos, tomatoes, deserts, snowmen, ferries, chess clubs, picnics, "
        "mushrooms, alarm clocks"
    ).split(", "),
}


def examples(count: int, split: str) -> list[dict]:
    """The first `count` examples of the split, always the same: prompt, instruction_id_list, kwargs and response.

    split: train or validation. The prompts differ from each other, and each response follows its prompt strictly.
    """
    if split not in TOPICS:
        raise UserError(f"IFEval has no made-up examples for the split {split!r}: only for {' and '.join(TOPICS)}")
    rng, rows = Random(f"ifeval {split}"), {}
    for first in itertools.cycle(TYPES):
        if len(rows) >= count:
            return list(rows.values())
        row = _example(rng, rng.choice(TOPICS[split]), first)
        if row["prompt"] not in rows and score(row["response"], row)["prompt strict"] == 1:
            rows[row["prompt"]] = row


# --- words --------------------------------------------------------------------------------------------------------

_REQUESTS = (
    "Write a short note about {topic}.|Write a few lines about {topic}.|Describe {topic} to a child.|"
    "Tell me something about {topic}.|Write a short blog post about {topic}.|Why do people like {topic}?|"
    "Write an email to a friend about {topic}.|Give me your thoughts on {topic}.|Write a small story with {topic}.|"
    "Write an advertisement for {topic}.|What would you say about {topic}?|Write a review of {topic}."
).split("|")
_SENTENCES = (
    "Many people like {topic} very much.|I think about {topic} every {time}.|My {person} knows a lot about them.|"
    "They can make a {time} much better.|It is easy to see why {topic} are so {adjective}.|"
    "Some of them are {adjective} and some are {adjective}.|My {person} showed me the first ones last {time}.|"
    "There is always something new to learn about {topic}.|You can find {topic} in many places.|"
    "Every {person} should spend a {time} with them.|The best {topic} are {adjective} and simple.|"
    "We talked about {topic} for a whole {time}.|A good {person} will tell you the same.|"
    "I still remember how {adjective} they were that {time}.|Nothing else is quite as {adjective} as this.|"
    "They remind me of a {adjective} {time} with my {person}."
).split("|")
_WITH_COMMA = (
    "For me, {topic} are {adjective}.|When the {time} comes, I think of {topic}.|They are {adjective}, and I like that."
    "|If you ask my {person}, they are {adjective}.|They are small, {adjective} and {adjective}."
).split("|")
_WORDS = {
    "person": "friend neighbor teacher sister brother mother father cousin doctor student".split(),
    "time": "summer winter spring weekend week month holiday".split(),
    "adjective": "useful beautiful quiet colorful friendly popular strange lovely clever famous bright".split(),
}
_KEYWORDS = (
    "river window ladder market letter hammer kitchen blanket mirror candle pocket story forest station basket "
    "bottle village carpet bell dream hill lantern ticket painting song treasure"
).split()
_ABOUT_KEYWORD = (
    "I once saw them next to a {word}.|They go well with a {word}.|Think of a {word} and you will understand.|"
    "My friend always compares them to a {word}.|There is a {word} in this picture too.|"
    "A {word} is all you need to add."
).split("|")
_FORBIDDEN = "people good like very easy always best really thing nice great world time because beautiful".split()
_OPENINGS = "today yesterday everyone nobody sometimes perhaps now often maybe finally usually indeed".split()
_PLACEHOLDERS = (
    "Please write to [name] at [address].|Call [phone number] before [date].|The price is [amount] at [shop].|"
    "Ask for [person] in [city].|We meet at [place] on [day].|Sent by [sender] from [company]."
).split("|")
_TITLES = "All about {topic}|A word on {topic}|My {topic}|The joy of {topic}|Why {topic}".split("|")
_ENDINGS = (
    "Is there anything else I can help with?|That is all for today.|Let me know what you think.|"
    "I hope that this helps you.|What would you choose?|Have a good day!|Thank you for reading.|See you next week!"
).split("|")
_QUESTIONS = {
    "yes": "Can a person enjoy {topic}?|Do some people like {topic}?|Is it possible to write about {topic}?",
    "no": "Does every single person on Earth own {topic}?|Are {topic} the only thing that matters in life?",
    "maybe": "Will I see {topic} tomorrow?|Does my neighbor dream of {topic}?|Will my next book be about {topic}?",
}
_OPTIONS = (
    'Answer with one of these options: "My answer is yes.", "My answer is no.", "My answer is maybe."',
    "Choose from: My answer is yes. My answer is no. My answer is maybe.",
    "Reply with exactly one of: (My answer is yes.) (My answer is no.) (My answer is maybe.)",
)
_REPETITIONS = (
    "First repeat the request above word for word, then give your answer.",
    "Before you answer, repeat the request above without any change.",
)
# language: its code and sentences that fit any topic
_LANGUAGES = {
    "German": (
        "de",
        "Das gefällt mir wirklich sehr gut.|Viele Menschen sprechen gerne darüber.|"
        "Man kann jeden Tag etwas Neues lernen.|Meine Freunde denken genauso wie ich.",
    ),
    "French": (
        "fr",
        "J'aime vraiment beaucoup cela.|Beaucoup de gens en parlent avec plaisir.|"
        "On peut apprendre quelque chose de nouveau chaque jour.|Mes amis pensent la même chose que moi.",
    ),
    "Spanish": (
        "es",
        "Esto me gusta mucho de verdad.|Muchas personas hablan de ello con alegría.|"
        "Se puede aprender algo nuevo todos los días.|Mis amigos piensan lo mismo que yo.",
    ),
    "Italian": (
        "it",
        "Questo mi piace davvero molto.|Molte persone ne parlano con gioia.|"
        "Ogni giorno si può imparare qualcosa di nuovo.|I miei amici la pensano come me.",
    ),
    "Portuguese": (
        "pt",
        "Eu gosto muito disso.|Muitas pessoas falam sobre isso com alegria.|"
        "Todos os dias podemos aprender uma coisa nova.|Os meus amigos não pensam de outra maneira.",
    ),
    "Russian": (
        "ru",
        "Мне это очень нравится.|Многие люди говорят об этом с радостью.|"
        "Каждый день можно узнать что-то новое.|Мои друзья думают так же.",
    ),
    "Polish": (
        "pl",
        "Bardzo mi się to podoba.|Wiele osób chętnie o tym rozmawia.|"
        "Każdego dnia można nauczyć się czegoś nowego.|Moi przyjaciele myślą tak samo.",
    ),
    "Finnish": (
        "fi",
        "Pidän tästä todella paljon.|Monet ihmiset puhuvat siitä mielellään.|"
        "Joka päivä voi oppia jotakin uutta.|Ystäväni ajattelevat samalla tavalla.",
    ),
    "Vietnamese": (
        "vi",
        "Tôi rất thích điều này.|Nhiều người nói về nó với niềm vui.|"
        "Mỗi ngày chúng ta có thể học được điều mới.|Bạn bè của tôi cũng nghĩ như vậy.",
    ),
    "Hindi": (
        "hi",
        "मुझे यह बहुत पसंद है।|बहुत से लोग इसके बारे में खुशी से बात करते हैं।|हर दिन हम कुछ नया सीख सकते हैं।|मेरे दोस्त भी यही सोचते हैं।",
    ),
    "Korean": (
        "ko",
        "저는 이것을 정말 좋아합니다.|많은 사람들이 즐겁게 이야기합니다.|매일 새로운 것을 배울 수 있습니다.|"
        "제 친구들도 그렇게 생각합니다.",
    ),
    "Japanese": (
        "ja",
        "私はこれがとても好きです。|多くの人が楽しそうに話しています。|毎日新しいことを学べます。|友達もそう思っています。",
    ),
    "Arabic": (
        "ar",
        "أنا أحب هذا كثيرا.|يتحدث كثير من الناس عنه بفرح.|يمكننا أن نتعلم شيئا جديدا كل يوم.|أصدقائي يفكرون مثلي.",
    ),
    "Tamil": (
        "ta",
        "எனக்கு இது மிகவும் பிடிக்கும்.|பலர் இதைப் பற்றி மகிழ்ச்சியுடன் பேசுகிறார்கள்.|ஒவ்வொரு நாளும் புதிதாக கற்கலாம்.",
    ),
    "Telugu": (
        "te",
        "నాకు ఇది చాలా ఇష్టం.|చాలా మంది దీని గురించి సంతోషంగా మాట్లాడుతారు.|ప్రతి రోజు కొత్త విషయం నేర్చుకోవచ్చు.",
    ),
    "Bengali": (
        "bn",
        "আমি এটা খুব পছন্দ করি।|অনেক মানুষ আনন্দের সাথে এই বিষয়ে কথা বলে।|প্রতিদিন নতুন কিছু শেখা যায়।",
    ),
}


def _sentence(rng: Random, topic: str, commas: bool = False) -> str:
    made = rng.choice(_WITH_COMMA if commas else _SENTENCES).replace("{topic}", topic)
    words = {slot: iter(rng.sample(choices, 2)) for slot, choices in _WORDS.items()}
    made = re.sub(r"\{(\w+)\}", lambda slot: next(words[slot[1]]), made)
    return made[0].upper() + made[1:]


def _fill(rng: Random, topic: str, parts: list[str], enough: Callable[[], bool], commas: float = 0.0) -> None:
    """Adds sentences, each but once, until there are enough; that share of them with commas."""
    while not enough():
        if (made := _sentence(rng, topic, rng.random() < commas)) not in parts:
            parts.append(made)


def _spread(rng: Random, parts: list[str], extra: list[str]) -> None:
    for sentence in extra:
        parts.insert(rng.randint(0, len(parts)), sentence)


def _divide(rng: Random, topic: str, parts: list[str], number: int) -> list[str]:
    """The sentences as that many texts."""
    _fill(rng, topic, parts, lambda: len(parts) >= number)
    cuts = [0, *sorted(rng.sample(range(1, len(parts)), number - 1)), len(parts)]
    return [" ".join(parts[start:end]) for start, end in itertools.pairwise(cuts)]


def _listed(words: list[str]) -> str:
    quoted = [f'"{word}"' for word in words]
    return " and ".join(quoted if len(quoted) < 3 else [", ".join(quoted[:-1]), quoted[-1]])


# --- the types ----------------------------------------------------------------------------------------------------
# Each is a function (rng, topic, parts) -> kwargs and two ways to ask for it. `parts`, which joined by spaces are the
# response, it changes to suit: first come those that need single sentences, then the layouts, then what goes around.


def _existence(rng, topic, parts):
    words = rng.sample(_KEYWORDS, rng.randint(1, 3))
    _spread(rng, parts, [rng.choice(_ABOUT_KEYWORD).format(word=word) for word in words])
    return {"keywords": words}, (f"Include {_listed(words)} in your text.", f"Make sure to use {_listed(words)}.")


def _frequency(rng, topic, parts):
    word, number, relation = rng.choice(_KEYWORDS), rng.randint(2, 4), rng.choice(["at least", "less than"])
    times = number if relation == "at least" else rng.randint(1, number - 1)
    _spread(rng, parts, [about.format(word=word) for about in rng.sample(_ABOUT_KEYWORD, times)])
    return {"relation": relation, "keyword": word, "frequency": number}, (
        f'The word "{word}" should appear {relation} {number} times.',
        f'Use the word "{word}" {relation} {number} times.',
    )


def _words(rng, topic, parts):
    relation, number = rng.choice(["at least", "less than"]), rng.choice([20, 30, 40, 50, 60])
    if relation == "at least":
        _fill(rng, topic, parts, lambda: len(" ".join(parts).split()) >= number)
    return {"relation": relation, "num_words": number}, (
        f"Answer with {relation} {number} words.",
        f"Your text should have {relation} {number} words.",
    )


def _sentences(rng, topic, parts):
    relation, number = rng.choice(["at least", "less than"]), rng.randint(3, 7)
    if relation == "at least":
        _fill(rng, topic, parts, lambda: len(parts) >= number)
    else:
        del parts[number - 1 :]
    return {"relation": relation, "num_sentences": number}, (
        f"Your response should contain {relation} {number} sentences.",
        f"Write {relation} {number} sentences.",
    )


def _placeholders(rng, topic, parts):
    extra = rng.sample(_PLACEHOLDERS, rng.randint(1, 3))
    parts += extra
    number = 2 * len(extra)
    return {"num_placeholders": number}, (
        f"Use at least {number} placeholders in square brackets, such as [address].",
        f"The text must contain at least {number} placeholders like [name].",
    )


def _forbidden(rng, topic, parts):
    said = re.findall(r"\w+", " ".join(parts).lower())
    words = rng.sample([word for word in _FORBIDDEN if word not in said], rng.randint(1, 3))
    return {"forbidden_words": words}, (f"Do not use {_listed(words)}.", f"Avoid {_listed(words)} in your answer.")


def _capital_words(rng, topic, parts):
    number, relation = rng.randint(1, len(parts)), rng.choice(["at least", "less than"])
    for place in rng.sample(range(len(parts)), number):
        word = rng.choice(re.findall(r"\b[a-zA-Z]{4,}\b", parts[place]))
        parts[place] = re.sub(rf"\b{word}\b", word.upper(), parts[place], count=1)
    number += 4 * (relation == "less than")
    return {"capital_relation": relation, "capital_frequency": number}, (
        f"Words in all capital letters should appear {relation} {number} times.",
        f"Use {relation} {number} words written entirely in capitals.",
    )


def _highlights(rng, topic, parts):
    number = rng.randint(2, min(3, len(parts)))
    for place in rng.sample(range(len(parts)), number):
        words = parts[place].removesuffix(".").split()
        start = rng.randint(0, max(0, len(words) - 3))
        parts[place] = " ".join([*words[:start], f"*{' '.join(words[start : start + 3])}*", *words[start + 3 :]]) + "."
    return {"num_highlights": number}, (
        f"Highlight at least {number} sections with markdown, i.e. *highlighted section*.",
        f"Mark at least {number} parts of your text like *this*.",
    )


def _paragraphs(rng, topic, parts):
    number = rng.randint(2, 4)
    parts[:] = ["\n***\n".join(_divide(rng, topic, parts, number))]
    return {"num_paragraphs": number}, (
        f"Write exactly {number} paragraphs and separate them with the markdown divider: ***",
        f"There should be {number} paragraphs, with *** between them.",
    )


def _first_word(rng, topic, parts):
    number, word = rng.randint(2, 4), rng.choice(_OPENINGS)
    paragraphs, nth = _divide(rng, topic, parts, number), rng.randint(1, number)
    following = paragraphs[nth - 1]
    if not following.startswith("I "):
        following = following[0].lower() + following[1:]
    paragraphs[nth - 1] = f"{word.capitalize()} {following}"
    parts[:] = ["\n\n".join(paragraphs)]
    return {"num_paragraphs": number, "nth_paragraph": nth, "first_word": word}, (
        f'There should be {number} paragraphs, separated by two new lines. Paragraph {nth} must start with "{word}".',
        f'Write {number} paragraphs with a blank line between them and start paragraph {nth} with "{word}".',
    )


def _bullets(rng, topic, parts):
    number, mark = rng.randint(2, 5), rng.choice("*-")
    parts[:] = ["\n".join(f"{mark} {part}" for part in _divide(rng, topic, parts, number))]
    return {"num_bullets": number}, (
        f'Your answer must contain exactly {number} bullet points in markdown, such as "{mark} This is a point."',
        f'Give exactly {number} markdown bullet points. Use "{mark} " for each of them.',
    )


def _multiple_sections(rng, topic, parts):
    number, name = rng.randint(2, 4), rng.choice(["Section", "SECTION", "PARAGRAPH", "Part", "Day"])
    texts = _divide(rng, topic, parts, number)
    parts[:] = ["\n\n".join(f"{name} {place}\n{text}" for place, text in enumerate(texts, 1))]
    return {"section_spliter": name, "num_sections": number}, (
        f"Your response must have {number} sections. Mark the beginning of each with {name} X.",
        f"Divide the text into {number} parts that start with {name} 1, {name} 2 and so on.",
    )


def _two_responses(rng, topic, parts):
    parts[:] = ["\n******\n".join(_divide(rng, topic, parts, 2))]
    return {}, (
        "Give two different responses, separated by 6 asterisk symbols: ******.",
        "Write exactly two versions with ****** between them.",
    )


def _json(rng, topic, parts):
    text = json.dumps({"topic": topic, "text": " ".join(parts)}, indent=rng.choice([None, 2]))
    parts[:] = [rng.choice([text, f"```json\n{text}\n```"])]
    return {}, (
        "Wrap the entire output in JSON format. You can use markdown ticks such as ```.",
        "Your whole answer should be JSON and nothing else.",
    )


def _language(rng, topic, parts):
    language = rng.choice(sorted(_LANGUAGES))
    code, known = _LANGUAGES[language]
    known = known.split("|")
    parts[:] = rng.sample(known, rng.randint(2, len(known)))
    return {"language": code}, (
        f"Your entire response should be in {language}, no other language is allowed.",
        f"Use only the {language} language.",
    )


def _title(rng, topic, parts):
    parts[:] = [f"<<{rng.choice(_TITLES).format(topic=topic)}>>\n{' '.join(parts)}"]
    return {}, (
        "Add a title wrapped in double angular brackets, such as <<title>>.",
        "The answer must contain a title like <<this one>>.",
    )


def _postscript(rng, topic, parts):
    marker = rng.choice(["P.S.", "P.P.S"])
    parts[:] = [f"{' '.join(parts)}\n\n{marker} {_sentence(rng, topic)}"]
    return {"postscript_marker": marker}, (
        f'At the end, add a postscript starting with "{marker}".',
        f'Finish with a postscript that begins with "{marker}".',
    )


def _end(rng, topic, parts):
    phrase = rng.choice(_ENDINGS)
    parts.append(phrase)
    return {"end_phrase": phrase}, (
        f'Finish your response with this exact phrase: "{phrase}"',
        f'The very last sentence must be "{phrase}" with nothing after it.',
    )


def _capital(rng, topic, parts):
    parts[:] = [part.upper() for part in parts]
    return {}, ("Write in English and in all capital letters.", "Your entire response must be in capital letters.")


def _lowercase(rng, topic, parts):
    parts[:] = [part.lower() for part in parts]
    return {}, ("Write in English and in all lowercase letters.", "No capital letters are allowed.")


def _letter(rng, topic, parts):
    text, relation = " ".join(parts).lower(), rng.choice(["at least", "less than"])
    counts = {letter: text.count(letter) for letter in string.ascii_lowercase}
    if relation == "at least":
        letter = rng.choice([letter for letter in counts if counts[letter] > 3])
        number = rng.randint(2, counts[letter])
    else:
        letter = rng.choice([letter for letter in counts if counts[letter] < 6])
        number = counts[letter] + rng.randint(1, 2)
    return {"let_relation": relation, "letter": letter, "let_frequency": number}, (
        f"The letter {letter} should appear {relation} {number} times.",
        f'Use the letter "{letter}" {relation} {number} times.',
    )


def _no_comma(rng, topic, parts):
    return {}, ("Do not use any commas.", "Refrain from using commas.")


def _quotation(rng, topic, parts):
    parts[:] = [f'"{" ".join(parts)}"']
    return {}, (
        "Wrap your entire response with double quotation marks.",
        'Put the whole answer in quotes, "like this".',
    )


# The order in which they change the response.
_MAKERS = {
    "keywords:existence": _existence,
    "keywords:frequency": _frequency,
    "length_constraints:number_words": _words,
    "length_constraints:number_sentences": _sentences,
    "detectable_content:number_placeholders": _placeholders,
    "keywords:forbidden_words": _forbidden,
    "change_case:capital_word_frequency": _capital_words,
    "detectable_format:number_highlighted_sections": _highlights,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:multiple_sections": _multiple_sections,
    "combination:two_responses": _two_responses,
    "detectable_format:json_format": _json,
    "language:response_language": _language,
    "detectable_format:title": _title,
    "detectable_content:postscript": _postscript,
    "startend:end_checker": _end,
    "change_case:english_capital": _capital,
    "change_case:english_lowercase": _lowercase,
    "keywords:letter_frequency": _letter,
    "punctuation:no_comma": _no_comma,
    "startend:quotation": _quotation,
}

# --- a whole example ----------------------------------------------------------------------------------------------

_CONSTRAINED = "detectable_format:constrained_response"
_REPEAT = "combination:repeat_prompt"
_COMMA = "punctuation:no_comma"
# Of each of these a prompt has one at most: they contradict each other.
_EXCLUSIVE = (
    {
        "length_constraints:number_paragraphs",
        "length_constraints:nth_paragraph_first_word",
        "detectable_format:number_bullet_lists",
        "detectable_format:multiple_sections",
        "combination:two_responses",
        "detectable_format:json_format",
        "language:response_language",
        _REPEAT,
        _CONSTRAINED,
    },
    {"change_case:english_capital", "change_case:english_lowercase", "change_case:capital_word_frequency"},
    {"detectable_content:postscript", "startend:end_checker"},
    {"length_constraints:number_words", "length_constraints:number_sentences"},
)
# What goes with a type that goes with few.
_COMPANIONS = {
    _CONSTRAINED: set(),
    _REPEAT: {"keywords:existence", "detectable_format:title", _COMMA},
    "detectable_format:json_format": {"keywords:existence", "keywords:forbidden_words"},
    "combination:two_responses": {"keywords:existence", "keywords:forbidden_words", _COMMA},
    "language:response_language": {_COMMA, "startend:quotation"},
}


def _compatible(one: str, other: str) -> bool:
    return (
        not any({one, other} <= group for group in _EXCLUSIVE)
        and one in _COMPANIONS.get(other, {one})
        and other in _COMPANIONS.get(one, {other})
    )


def _example(rng: Random, topic: str, first: str) -> dict:
    """An example with that type and up to two more. Whether the response follows is left to verification."""
    types = [first]
    for _ in range(rng.choices([0, 1, 2], [305, 178, 57])[0]):  # as many of IFEval's prompts have 1, 2, 3
        fitting = [name for name in TYPES if name not in types and all(_compatible(name, had) for had in types)]
        types += rng.sample(fitting, min(1, len(fitting)))
    if first == _CONSTRAINED:
        answer = rng.choice(sorted(_QUESTIONS))
        question = rng.choice(_QUESTIONS[answer].split("|")).format(topic=topic)
        return _row(f"{question} {rng.choice(_OPTIONS)}", {first: {}}, f"My answer is {answer}.")
    kwargs, asked, parts, number = {}, [], [], rng.randint(2, 4)
    _fill(rng, topic, parts, lambda: len(parts) == number, commas=0 if _COMMA in types else 0.3)
    for name in (name for name in _MAKERS if name in types):
        kwargs[name], ways = _MAKERS[name](rng, topic, parts)
        asked.append(rng.choice(ways))
    rng.shuffle(asked)
    prompt, response = " ".join([rng.choice(_REQUESTS).format(topic=topic), *asked]), " ".join(parts)
    if _REPEAT in types:
        kwargs[_REPEAT] = {"prompt_to_repeat": prompt}
        prompt, response = f"{prompt}\n{rng.choice(_REPETITIONS)}", f"{prompt}\n\n{response}"
    return _row(prompt, kwargs, response)


def _row(prompt: str, kwargs: dict[str, dict], response: str) -> dict:
    return {
        "prompt": prompt,
        "instruction_id_list": list(kwargs),
        "kwargs": list(kwargs.values()),
        "response": response,
    }
