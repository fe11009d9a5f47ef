"""The three skills that the laboratory's models learn: sums, an invented language, operations on lists of words.

Every example belongs to one split, told by a hash of its content: a sum by its fact (27 + 34, 34 + 27, 61 - 34 and
61 - 27 are one fact), a sentence by its subject, verb and object, a list of words by its words in any order. What
falls to validation or test therefore never stands in a text that any model was trained on.
"""

import hashlib
from dataclasses import dataclass
from random import Random

NAMES = "Ann Ben Clara Dan Emma Fred Grace Henry Ida Jack Kate Leo Mary Nick Olive Paul Rose Sam Tom Will".split()
THINGS = (
    "apples books coins shells pens stamps cards stones eggs nuts plums cakes marbles ribbons buttons candles "
    "feathers pears keys bells"
).split()


def split_of(*key) -> str:
    """The split that a piece of content belongs to: train 80%, validation 8%, test 12%."""
    bucket = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:4]) / 2**32
    return "train" if bucket < 0.8 else "validation" if bucket < 0.88 else "test"


# --- sums ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One addition or subtraction with operands and result in 1..99."""

    a: int
    op: str
    b: int

    @property
    def result(self) -> int:
        return self.a + self.b if self.op == "+" else self.a - self.b

    @property
    def split(self) -> str:
        other = self.a if self.op == "+" else self.result
        return split_of("sum", min(self.b, other), max(self.b, other))

    def __str__(self) -> str:
        return f"{self.a} {self.op} {self.b} = {self.result}"


def steps(rng: Random, split: str, two: bool, top: int = 9) -> list[Step]:
    """One step that adds or takes away at most `top`, or two of which the second starts at the first's result."""
    while True:
        made = [Step(rng.randint(1, 99), rng.choice("+-"), rng.randint(1, top))]
        if two:
            made.append(Step(made[0].result, rng.choice("+-"), rng.randint(1, 9)))
        if all(1 <= s.result <= 99 and s.split == split for s in made):
            return made


_GAIN = "finds buys gets wins makes collects".split()
_LOSE = ["loses", "sells", "drops", "breaks", "gives away", "uses"]
_BOTH = [
    "{name} has {a} {things} and {friend} has {b}. How many do they have together?",
    "There are {a} {things} in a box and {b} in a bag. How many in all?",
    "{name} puts {a} {things} and {b} more on a table. How many is that?",
]
_LEFT = [
    "There are {a} {things} in a box. {name} takes out {b}. How many stay?",
    "{name} needs {a} {things} and has {b}. How many more must {name} get?",
    "Of {a} {things}, {b} belong to {name}. How many do not?",
]
_ASK = ["How many now?", "How many {things} does {name} have now?", "What does {name} have then?"]


def story(rng: Random, made: list[Step]) -> str:
    """The steps as a question in words."""
    name, friend = rng.sample(NAMES, 2)
    words = dict(name=name, friend=friend, things=rng.choice(THINGS), a=made[0].a, b=made[0].b)
    if len(made) == 1 and rng.random() < 0.5:
        return rng.choice(_BOTH if made[0].op == "+" else _LEFT).format(**words)
    events = [f"{rng.choice(_GAIN)} {s.b} more" if s.op == "+" else f"{rng.choice(_LOSE)} {s.b}" for s in made]
    return f"{name} has {{a}} {{things}}, {' and '.join(events)}. {rng.choice(_ASK)}".format(**words)


def worked(made: list[Step]) -> str:
    """The steps as written out by a pupil."""
    return ". ".join(map(str, made))


# --- the invented language ----------------------------------------------------------------------------------------

NOUNS = (
    "dog cat horse bird cow duck bear fox lion goat king queen girl boy doctor farmer sailor teacher baker "
    "soldier tree river house garden road hill tower ship boat door table chair lamp clock cup ring hat coat "
    "flower island"
).split()
VERBS = (
    "help follow watch call visit love want need find-found see-saw hear-heard hold-held draw-drew clean open "
    "paint move pull push lift"
).split()
ADJECTIVES = (
    "red green black white old new small big tall long dark bright cold warm quiet happy sad poor rich strong"
).split()
ADVERBS = "today slowly often again gladly secretly".split()
_ONE, _MANY = "the a my your this".split(), "the two three four many some".split()
DETERMINERS = sorted({*_ONE, *_MANY})
PAST = {verb.split("-")[0]: (verb.split("-")[1:] or [verb.removesuffix("e") + "ed"])[0] for verb in VERBS}


def _lexicon() -> dict[str, str]:
    rng, made = Random(2026), {}
    for word in [*NOUNS, *PAST, *ADJECTIVES, *ADVERBS, *DETERMINERS]:
        while True:
            size = 1 if word in DETERMINERS else 2
            invented = "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(size))
            invented += rng.choice("lnrsk") if rng.random() < 0.5 else ""
            if invented not in made.values():
                made[word] = invented
                break
    return made


LEXICON = _lexicon()


def _phrase(rng: Random, noun: str) -> tuple[str, str, bool]:
    many = rng.random() < 0.4
    determiner, adjective = rng.choice(_MANY if many else _ONE), rng.choice([None, rng.choice(ADJECTIVES)])
    plural = "es" if noun.endswith("x") else "s"
    english = [determiner, adjective, noun + plural if many else noun]
    invented = [LEXICON[noun] + ("im" if many else ""), LEXICON.get(adjective), LEXICON[determiner]]
    return " ".join(filter(None, english)), " ".join(filter(None, invented)), many


def sentence(rng: Random, split: str) -> tuple[str, str]:
    """An English sentence whose subject, verb and object belong to the split, and what it is in the invented language.

    The latter puts the verb last, the adjective after its noun and the determiner after both; -im marks the plural,
    -ta the past and -ro the future.
    """
    while True:
        subject, target = rng.sample(NOUNS, 2)
        verb = rng.choice(list(PAST))
        if split_of("sentence", subject, verb, target) == split:
            break
    (who, who_invented, many), (whom, whom_invented, _) = _phrase(rng, subject), _phrase(rng, target)
    form, suffix = rng.choice(
        [
            (verb if many else verb + ("es" if verb.endswith("sh") else "s"), ""),
            (PAST[verb], "ta"),
            (f"will {verb}", "ro"),
        ]
    )
    adverb = rng.choice([None, None, rng.choice(ADVERBS)])
    english = [who, form, whom, adverb]
    invented = [who_invented, whom_invented, LEXICON.get(adverb), LEXICON[verb] + suffix]
    return " ".join(filter(None, english)), " ".join(filter(None, invented))


# --- operations on lists of words ---------------------------------------------------------------------------------

WORDS = sorted({*NOUNS, *PAST, *ADJECTIVES, *ADVERBS})

# kind: (what it does to words and a number, its short names, sentences that ask for it)
OPERATIONS = {
    "upper": (
        lambda w, n: " ".join(w).upper(),
        ["upper", "capitals", "upper case"],
        ["Write in upper case", "Put this in capitals", "Use only capital letters for"],
    ),
    "title": (
        lambda w, n: " ".join(w).title(),
        ["title", "title case"],
        ["Write in title case", "Put this in title case", "Make a title of"],
    ),
    "repeat": (
        lambda w, n: " ".join(w * n),
        ["repeat {n}", "{n} times", "x{n}"],
        ["Repeat {n} times", "Say {n} times", "Write {n} times"],
    ),
    "count": (
        lambda w, n: str(len(w)),
        ["count", "number of words", "how many words"],
        ["Count the words", "How many words are in this", "Give the number of words in"],
    ),
    "sort": (
        lambda w, n: " ".join(sorted(w)),
        ["sorted", "alphabetical", "sort"],
        ["Sort the words", "Put the words in alphabetical order", "Write the words sorted from a to z"],
    ),
    "reverse": (
        lambda w, n: " ".join(w[::-1]),
        ["reversed", "backwards", "reverse"],
        ["Reverse the order of", "Write the words backwards", "Give the words in reverse order"],
    ),
    "first": (
        lambda w, n: w[0],
        ["first", "first word"],
        ["Give only the first word of", "What is the first word of", "Write just the first word"],
    ),
    "last": (
        lambda w, n: w[-1],
        ["last", "last word"],
        ["Give only the last word of", "What is the last word of", "Write just the last word"],
    ),
    "commas": (
        lambda w, n: ", ".join(w),
        ["commas", "with commas"],
        ["Put commas between the words", "Join with commas", "Write with commas"],
    ),
    "dashes": (
        lambda w, n: "-".join(w),
        ["dashes", "with dashes"],
        ["Put dashes between the words", "Join with dashes", "Write with dashes"],
    ),
    "quotes": (
        lambda w, n: f'"{" ".join(w)}"',
        ["quotes", "quoted"],
        ["Wrap in quotes", "Put quotes around", "Write in quotes"],
    ),
    "brackets": (
        lambda w, n: f"[{' '.join(w)}]",
        ["brackets", "in brackets"],
        ["Wrap in brackets", "Put brackets around", "Write in brackets"],
    ),
    "initials": (
        lambda w, n: " ".join(x[0] for x in w),
        ["initials", "first letters"],
        ["Give the first letters of", "Write only the initials of", "What are the initials of"],
    ),
}


def word_list(rng: Random, split: str) -> list[str]:
    """Two to five different words whose combination belongs to the split."""
    while True:
        words = rng.sample(WORDS, rng.randint(2, 5))
        if split_of("words", *sorted(words)) == split:
            return words


def operate(kind: str, words: list[str], n: int) -> str:
    """The operation's result."""
    return OPERATIONS[kind][0](words, n)
