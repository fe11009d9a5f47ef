"""One HTML file that tells what a study found, for a reader with nothing but a browser.

Guarantees: the file needs no network and may load nothing; whatever a program decodes to is shown as text.
"""

import base64
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from string import Template

from taskbits.errors import UserError
from taskbits.report import chart, provenance
from taskbits.report.markup import Markup, escape, h, join
from taskbits.report.scale import FAMILIES, label, last_part, metric, others, task
from taskbits.studies.frontier import bare, candidates, claims, complexity, envelope, on_test, rows, times
from taskbits.studies.gap import gap
from taskbits.studies.measurement import Measurement
from taskbits.studies.study import Study
from taskbits.tasks.metrics import Score

_COLOURS = "The stronger the colour of a token, and the wider its part of the strip, the more bits it costs."


def write_page(study: Study, path: Path | str) -> None:
    """Write the study's report to `path`. Raises UserError if it can't be written."""
    info, measured = study.info, study.measurements()
    template, style, script = (
        files(__package__).joinpath(f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js")
    )
    # These may be URLs that hold a password, and the page is made to be handed on.
    shown = {name: value for name, value in info.items() if name not in ("storage", "files")}
    numbers = json.dumps({"study": shown, "frontier": rows(measured)}, indent=1)
    page = Template(template).substitute(
        question=escape(f"How many bytes must be added to {label(info)} before it does {task(info)}?"),
        answer=_answer(info, measured),
        body=_body(study, measured) if measured else "",
        provenance=_provenance(study, measured),
        # In JSON, "<" stands in strings only, where this means the same and can't end the script.
        numbers=numbers.replace("<", "\\u003c"),
        style=style,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    try:
        Path(path).write_text(page, encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        raise UserError(f"cannot write the page {path}: {error.strerror}") from error


def _answer(info: dict, measured: list[Measurement]) -> Markup:
    """What the best program proves, and what it doesn't."""
    if not measured:
        return h("p", "Nothing is known yet: no program has been measured.", class_="lead")
    programs, known = envelope(measured), claims(measured)
    first, best = programs[0], known[-1][1] if known else programs[-1]
    score, split = (best.test, "test") if known else (best.validation, "validation")
    least = f"at least {score.at_least:.3f}{metric(info)}, with 95% confidence" if known else ""
    lead = h(
        "p",
        h("strong", f"At most {best.bytes:,} bytes"),
        f" bring it to a score of {least or f'{score.value:.3f}{metric(info)}'}: a program of that size exists, and "
        f"scores {score.value:.3f} on {score.n:,} {split} examples (95% interval {score.low:.3f} to {score.high:.3f}).",
        class_="lead",
    )
    notes = ["This is an upper bound: a shorter program may exist, but none was found here."]
    if known:
        notes.append(
            f"The program was chosen on {best.validation.n:,} other examples, where it scores "
            f"{best.validation.value:.3f}."
        )
    else:
        notes.append(
            "The program was chosen on these same examples and not yet scored on others: expect a little less."
        )
    level = score.at_least / 2 if known else 0
    half = complexity(measured, level)
    if half and half is not first and half is not best:
        seen = on_test(measured, level)
        alone = "" if seen is half else f" (on these test examples alone, {seen.bytes:,} bytes score as much)"
        notes.append(f"A score of {level:.3f} takes at most {half.bytes:,} bytes, with 95% confidence{alone}.")
    if way := gap(measured):
        notes.append(str(way))
    if first is not best:
        notes.append(
            f"The shortest program measured ({first.method}, {first.bytes:,} bytes) scores "
            f"{(first.test or first.validation).value:.3f}."
        )
    return join([lead, h("p", " ".join(notes))])


def _body(study: Study, measured: list[Measurement]) -> Markup:
    programs, least = envelope(measured), bare(measured)
    marks = "test scores with 95% intervals" if any(m.test for m in programs) else "validation scores"
    caption = (
        f"Large marks are the programs that no shorter one matches on validation, at their {marks}; "
        "small dots are all programs measured, at their validation scores. The line is the score to "
        "be had at each length, whichever families are shown. Choose a mark to see its program."
    )
    return join(
        [
            h(
                "section",
                h("h2", "The frontier"),
                h(
                    "figure",
                    h("div", chart.draw(measured, 760, 400), class_="wide"),
                    h("div", chart.draw(measured, 358, 330), class_="narrow"),
                    h("figcaption", chart.legend(measured), h("p", caption)),
                ),
                *(_program(m, least, best=m is programs[-1]) for m in candidates(measured)),
            ),
            h(
                "section",
                h("h2", "Programs on the frontier"),
                h(
                    "p",
                    "A length is the size of the one file that runs the program, decoder included; the payload "
                    "is the part of it that is particular to this program. Intervals are 95%.",
                ),
                _table(programs, measured),
                *_unconfirmed(measured),
                h("details", h("summary", f"All {len(measured):,} programs measured"), _table(measured, measured)),
            ),
            *_running(measured),
            _time(study, measured),
            _commands(study.info, programs[-1]),
        ]
    )


def _unconfirmed(measured: list[Measurement]) -> list[Markup]:
    """The programs that could not be scored on test, if there are some, and why."""
    lines = [
        h("li", f"{m.method}, {m.bytes:,} bytes, ", h("code", m.program), f": {m.unconfirmed}")
        for m in measured
        if m.unconfirmed is not None
    ]
    return [h("p", "Not on the frontier, since they could not be confirmed:"), h("ul", *lines)] if lines else []


def _running(measured: list[Measurement]) -> list[Markup]:
    """What it takes to run the programs, if that was counted."""
    if not (least := bare(measured)):
        return []
    caption = (
        f"An input takes the model as it is {_operations(least)} operations: two for each parameter and token, read "
        "or written. What a program adds to the prompt is read with each input, and what the model then writes is "
        "longer or shorter; a change of weights costs nothing more. Large marks are programs scored on test that none "
        "as cheap matches."
    )
    return [
        h(
            "section",
            h("h2", "What a program costs to run"),
            h(
                "figure",
                h("div", chart.draw_running(measured, 760, 300), class_="wide"),
                h("div", chart.draw_running(measured, 358, 280), class_="narrow"),
                h("figcaption", h("p", caption)),
            ),
        )
    ]


def _operations(count: float) -> str:
    """A number of operations in words: 1.3 billion."""
    for power, word in ((15, "quadrillion"), (12, "trillion"), (9, "billion"), (6, "million")):
        if count >= 10**power:
            return f"{count / 10**power:,.1f} {word}"
    return f"{count:,.0f}"


def _program(m: Measurement, least: float | None, best: bool) -> Markup:
    """What one program is, and what is known about it. least: operations for an input of the model as it is."""
    coded = f", ideally {m.ideal_bits:,.1f} bits" if m.ideal_bits is not None else ""
    beside = [("test", m.test.also if m.test else {}), ("validation", m.validation.also)]
    also = [(name, split, value) for split, values in beside for name, value in values.items()]
    facts = {
        "test": _score(m.test) if m.test else "not scored yet",
        "validation": _score(m.validation),
        **{f"{name}, {split}": f"{value:.3f}" for name, split, value in also if not isinstance(value, str)},
        **{name: value for name, _, value in also if isinstance(value, str)},
        "length": f"{m.bytes:,} bytes = {8 * m.bytes:,} bits",
        "payload": f"{m.payload_bytes:,} bytes{coded}",
        "settings": ", ".join(m.settings_in_words) or "–",
        "seed": m.seed,
        **({"to decode": f"{_operations(m.flops_once)} operations"} if m.flops_once is not None else {}),
        **({"for an input": _per_input(m, least)} if m.flops_per_input is not None else {}),
        **{f"on {last_part(task)}": _score(found) for task, found in m.elsewhere.items()},
        "took": f"{m.seconds:,.1f} s, {m.scoring_seconds:,.1f} s of it to score it",
        "file": h("code", f"programs/{m.program}.tbp"),
    }
    heading = h("h3", f"{m.method}, {m.bytes:,} bytes ", h("small", m.family))
    return h(
        "article",
        heading,
        _facts(facts),
        *_content(m.content),
        id=f"p-{m.program}",
        class_="program best" if best else "program",
        data_family=_family([m]),
    )


def _content(content: dict) -> list[Markup]:
    """What a program decodes to, part by part."""
    if not content:
        return [h("p", "Nothing is added: the model as it is.")]
    rest, parts = dict(content), []
    for number, part in enumerate(rest.pop("parts", []), 1):
        name = part.get("method", "")
        parts += [h("h4", f"Part {number}: {name}"), *_content({k: v for k, v in part.items() if k != "method"})]
    text, tokens = rest.pop("text", None), rest.pop("tokens", None)
    if tokens:
        parts += [h("p", f"The decoded text: {_cost(tokens)}. {_COLOURS}"), *_coloured(tokens)]
    elif text is not None:
        parts += [h("p", "The decoded text:"), _verbatim(text)]
    if examples := rest.pop("examples", None):
        costed = [example for example in examples if not isinstance(example, str)]
        parts.append(h("p", f"{len(examples):,} examples. {_COLOURS if costed else ''}"))
        parts.append(h("ol", *(h("li", *_example(example)) for example in examples), tabindex="0"))
    if tensors := rest.pop("tensors", None):
        count = sum(math.prod(shape) for shape in tensors.values())
        shapes = (
            h("tr", h("td", h("code", name)), h("td", " × ".join(map(str, shape)) or "1"))
            for name, shape in tensors.items()
        )
        parts.append(h("p", f"{len(tensors):,} tensors with {count:,} values:"))
        parts.append(_scrolling(h("table", h("tbody", *shapes))))
    if rest:
        parts.append(_facts({name.replace("_", " "): value for name, value in rest.items()}))
    return parts


def _example(example: str | list) -> list[Markup]:
    """A training example: a text, or its tokens with what each costs."""
    return [h("pre", example)] if isinstance(example, str) else [h("small", _cost(example)), *_coloured(example)]


def _cost(tokens: list) -> str:
    return (
        f"{len(tokens):,} token{'s' * (len(tokens) != 1)}, {sum(bits for _, bits in tokens):,.1f} bits under the model"
    )


def _coloured(tokens: list) -> list[Markup]:
    """A strip whose parts are as wide as the tokens are costly, and the text in the same colours."""
    parts = (
        h("span", style=f"flex-grow:{max(0.05, bits):.2f};{_shade(bits)}", title=f"{token} {bits:.1f} bits")
        for token, bits in tokens
    )
    strip = h("div", *parts, class_="strip", role="img", aria_label=f"cost of each token: {_cost(tokens)}")
    return [strip, _verbatim(*(_token(token, bits) for token, bits in tokens))]


def _token(token: str, bits: float) -> Markup:
    return h("span", token, style=_shade(bits), title=f"{bits:.1f} bits")


def _shade(bits: float) -> str:
    return f"--bits:{min(1, max(0, bits) / 16):.2f}"


def _per_input(m: Measurement, least: float | None) -> str:
    over = f", {times(m, least):.2f} times the bare model's" if least else ""
    return f"{_operations(m.flops_per_input)} operations{over}"


def _table(shown: list[Measurement], measured: list[Measurement]) -> Markup:
    """Some of all measurements, with links to the panels of those that are shown there."""

    def score(s):
        return (
            _number(None, "")
            if s is None
            else _number(s.value, join([f"{s.value:.3f} ", h("small", f"{s.low:.3f}–{s.high:.3f}")]))
        )

    def length(m):
        text = f"{m.bytes:,}"
        return _number(m.bytes, h("a", text, href=f"#p-{m.program}") if m.program in linked else text)

    elsewhere = others(measured)
    linked, least = {m.program for m in candidates(measured)}, bare(measured)
    lines = (
        h(
            "tr",
            length(m),
            score(m.test),
            score(m.validation),
            _method(m.method, [m]),
            h("td", ", ".join(m.settings_in_words) or "–", class_="settings"),
            _number(m.payload_bytes, f"{m.payload_bytes:,}"),
            _number(m.ideal_bits, "" if m.ideal_bits is None else f"{m.ideal_bits:,.1f}"),
            _number(m.flops_once, "" if m.flops_once is None else _operations(m.flops_once)),
            _number(times(m, least), f"{times(m, least) or 0:.2f}×"),
            *(score(m.elsewhere.get(task)) for task in elsewhere),
            data_family=_family([m]),
        )
        for m in shown
    )
    names = ("Bytes", "Test", "Validation", "Method", "Settings", "Payload", "Ideal bits", "Once", "Per input")
    names += tuple(f"On {name}" for name in elsewhere.values())
    return _sortable(names, lines)


def _time(study: Study, measured: list[Measurement]) -> Markup:
    """What each method cost, the costliest first."""
    history = study.history()
    tried = Counter(attempt.method for attempt in history)
    found: dict[str, list[Measurement]] = {name: [m for m in measured if m.method == name] for name in tried}
    seconds = {name: sum(m.seconds for m in some) for name, some in found.items()}
    for attempt in history:
        seconds[attempt.method] += attempt.seconds if attempt.dropped else 0
    total, longest = sum(seconds.values()) or 1.0, max(seconds.values()) or 1.0
    lines = (
        h(
            "tr",
            _method(name, found[name]),
            _number(seconds[name], f"{seconds[name]:,.1f}"),
            _share(seconds[name] / total, seconds[name] / longest, found[name]),
            _number(tried[name], f"{tried[name]:,}"),
            _number(len(found[name]), f"{len(found[name]):,}"),
            data_family=_family(found[name]),
        )
        for name in sorted(found, key=lambda name: (-seconds[name], name))
    )
    return h(
        "section",
        h("h2", "Time by method"),
        h(
            "p",
            "The seconds in which programs were found and scored on validation, those of trials that were given up "
            "included. The scoring on test comes on top.",
        ),
        _sortable(("Method", "Seconds", "Share", "Settings tried", "Programs"), lines),
    )


def _commands(info: dict, best: Measurement) -> Markup:
    program, model = f"programs/{best.program}.tbp", provenance.model_options(info)
    return h(
        "section",
        h("h2", "Run the best one"),
        h("p", "In the folder of the study; the inputs are lines of JSON:"),
        _code(f"taskbits run {program} {model} --input inputs.jsonl"),
        h("p", f"Or as the one file of {best.bytes:,} bytes that needs nothing of taskbits, only M in a folder:"),
        _code(
            f"taskbits export {program} --standalone program.py\n"
            f"taskbits save-model {model} M\n"
            "python program.py --model M --input inputs.jsonl"
        ),
    )


def _provenance(study: Study, measured: list[Measurement]) -> Markup:
    info = study.info
    names = ("model", "state", "seed", "revision", "dtype", "task", "rows", "data", "chat", "metric")
    facts = {name: info[name] for name in names if info.get(name) is not None}
    prints = {"model's hash": info.get("fingerprint"), "task's hash": info.get("task_fingerprint")}
    facts |= {name: h("code", text) for name, text in prints.items() if text}
    facts["measured"] = provenance.duration(measured)
    facts |= provenance.hardware(measured)
    if measured:
        facts["versions"] = provenance.software(measured)
    again = "To measure it again, to the end of all sweeps (--budget sets a limit):"
    return join([_facts(facts), h("p", again), _code(provenance.measure_command(study, "another-folder"))])


def _sortable(names: tuple[str, ...], lines: Iterable[Markup]) -> Markup:
    """A table that the page's script makes sortable, by `data-v` where the text won't do."""
    words = ("Method", "Settings", "Share")
    heads = (h("th", name, scope="col", class_=None if name in words else "number") for name in names)
    return _scrolling(h("table", h("thead", h("tr", *heads)), h("tbody", *lines), class_="sortable"))


def _number(value: float | None, text: object) -> Markup:
    return h("td", "–" if value is None else text, data_v="" if value is None else value, class_="number")


def _method(name: str, found: list[Measurement]) -> Markup:
    """A cell with the method's name and the sign of its family, which is known from what it found."""
    family = _family(found)
    return h("td", "" if family is None else chart.mark(family), name, class_="method")


def _share(part: float, length: float, found: list[Measurement]) -> Markup:
    """A cell with the part of a whole, and a bar that is 1 long for the largest part."""
    family = _family(found)
    bar = h("span", class_="part" if family is None else f"part f{family}", style=f"--length:{length:.4f}")
    return h("td", bar, f"{part:.0%}", data_v=part, class_="share")


def _family(found: list[Measurement]) -> int | None:
    return FAMILIES.index(found[0].family) if found else None


def _facts(facts: dict) -> Markup:
    return h("dl", *(h("div", h("dt", name), h("dd", value)) for name, value in facts.items()))


def _score(score: Score) -> str:
    return f"{score.value:.3f} (95% {score.low:.3f} to {score.high:.3f}; n\u00a0=\u00a0{score.n:,})"


def _verbatim(*text: object) -> Markup:
    # It can be reached with the Tab key, so that those without a mouse can scroll it.
    return h("pre", *text, tabindex="0")


def _code(commands: str) -> Markup:
    """Commands, whose lines break between words and not after the hyphens of an option."""
    return _verbatim(*(part if part.isspace() else h("code", part) for part in re.split(r"(\s+)", commands)))


def _scrolling(table: Markup) -> Markup:
    return h("div", table, class_="scroll", tabindex="0")
