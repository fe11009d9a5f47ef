"""A card in Markdown for a model's page: what C(T_δ | M) was found to be, and how to find it again.

Guarantees: what the study names (models, tasks, methods) is shown as text, whatever it holds.
"""

import math
import re

from taskbits.report import provenance
from taskbits.report.markup import visible
from taskbits.report.scale import label, metric, task
from taskbits.studies.frontier import claims, complexity, on_test, round_numbers
from taskbits.studies.measurement import Measurement
from taskbits.studies.study import Study

_MEANING = """\
C(T_δ | M) is the length of the shortest program that, given the model M, scores at least δ on the task T. It can't be
computed, only bounded: each row is an **upper bound**, a program that was found. A shorter one may exist. A length is
that of a whole Python file with its decoder; the model, Python and public libraries are not counted. Each program was
chosen by its score on validation examples, decoded from its file in a fresh process, and scored once on test. That it
reaches δ on the task holds with 95% confidence, for each level by itself (fixed-sequence testing along the frontier);
on these test examples alone, a shorter one may score as much. Intervals are 95%, of the test score."""

_AGAIN = """\
`complexity` names the program to export; here it was {program}. Each line of `inputs.jsonl` is a JSON object with the
fields of the task. Without `--budget`, `measure` goes to the end of all sweeps; with it, what is found depends on how
fast the machine is."""


def make_card(study: Study) -> str:
    """The card as Markdown."""
    info, measured = study.info, study.measurements()
    model, name = _text(label(info)), _text(task(info))
    title = f"# Task complexity of {name} given {model}"
    found = {level: complexity(measured, level) for level in _levels(measured)}
    if not found:
        return f"{title}\n\nNothing is known yet: of no program it holds with 95% confidence that it scores above 0.\n"
    level, best = max(found.items())
    lead = (
        f"**At most {best.bytes:,} bytes** must be added to {model} before it does {name} with a score of at least "
        f"{_text(f'{level:g}{metric(info)}')}, with 95% confidence: a program of that size exists, and "
        f"scores {best.test.value:.3f} on {best.test.n:,} test examples."
    )
    commands, again = _commands(study, level, best), _AGAIN.format(program=_text(best.program))
    table, origin = _table(measured, found), _origin(study, measured)
    parts = [title, lead, table, _MEANING, "## To find it again", commands, again, origin]
    return "\n\n".join(parts) + "\n"


def _levels(measured: list[Measurement]) -> list[float]:
    """Three levels that can be claimed: the lowest and the middle one of the round levels, and the highest of all.

    Round levels begin above that of the shortest program, which is to add next to nothing.
    """
    reached = [level for level, _ in claims(measured)]
    highest = math.floor(1000 * max(reached, default=0.0)) / 1000
    if highest <= 0:
        return []
    between = [level for level in round_numbers(reached[0], highest) if level < highest]
    return [*dict.fromkeys([*between[:1], *between[len(between) // 2 :][:1]]), highest]


def _table(measured: list[Measurement], found: dict[float, Measurement]) -> str:
    lines = [
        "| level δ | C(T_δ \\| M), 95% confidence | method | test score | 95% interval | on these test examples |",
        "|---|---|---|---|---|---|",
    ]
    for level, m in found.items():
        lines.append(
            f"| {level:g} | ≤ {m.bytes:,} bytes | {_text(m.method)} | {m.test.value:.3f} "
            f"| {m.test.low:.3f} to {m.test.high:.3f} | {on_test(measured, level).bytes:,} bytes |"
        )
    return "\n".join(lines)


def _commands(study: Study, level: float, best: Measurement) -> str:
    lines = [
        provenance.measure_command(study, "study"),
        f"taskbits complexity study --at {level:g}",
        f"taskbits export study/programs/{best.program}.tbp --standalone program.py",
        f"taskbits save-model M {provenance.model_options(study.info)}",
        "python program.py --model M --input inputs.jsonl",
    ]
    code = visible("\n".join(lines))
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", code))])  # longer than any in the code
    return f"{fence}bash\n{code}\n{fence}"


def _origin(study: Study, measured: list[Measurement]) -> str:
    facts = {
        "measured": provenance.duration(measured),
        **provenance.hardware(measured),
        "versions": provenance.software(measured),
        "hash of the model": study.info.get("fingerprint"),
        "hash of the task": study.info.get("task_fingerprint"),
    }
    return "\n".join(f"* {name}: {_text(value)}" for name, value in facts.items() if value)


def _text(text: object) -> str:
    """Text on one line in which nothing is read as Markdown or HTML."""
    return re.sub(r"([\\`*_\[\]<>&|#~$])", r"\\\1", " ".join(visible(text).split()))
