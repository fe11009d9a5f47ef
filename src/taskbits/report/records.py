"""The table of records: the shortest verified program for each task, model and level, and how to check each."""

import re
import shlex
from pathlib import Path

from taskbits.errors import UserError
from taskbits.report.provenance import score_command
from taskbits.report.scale import label, task
from taskbits.studies.frontier import complexity, on_test
from taskbits.studies.measurement import Measurement
from taskbits.studies.study import Study

LEVELS = [level / 10 for level in range(1, 10)] + [0.95]
_COLUMNS = ("task", "model", "level", "bytes", "payload", "method", "settings", "test", "95% interval", "at least")
_OPTIONS = {"model", "state", "seed", "revision", "task", "rows", "data", "split"}
_FLAGS = {"chat": True, "no-chat": False}


def write_records(studies: list[Study], path: Path) -> None:
    """Write the studies' records as Markdown, and their programs into a folder of the same name beside it.

    Raises UserError if they can't be written, or if a program is gone.
    """
    lines = [
        "# Records",
        "",
        "The shortest program that reaches each level with 95% confidence: the size of its standalone file, its score",
        "on test with the 95% interval, and what it scores at least on the task, with 95% confidence. Each level is a",
        "claim by itself: of many, one in twenty may be wrong. Then the bytes of the shortest that scores as much on",
        "these test rows, which says less of others, and how to score the program again; `taskbits records --check`",
        "does so for all. Written by `taskbits records`; what isn't listed was not reached.",
        "",
        f"| {' | '.join((*_COLUMNS, 'these rows', 'check'))} |",
        f"|{'---|' * (len(_COLUMNS) + 2)}",
    ]
    try:
        for (of_task, of_model, _), some in sorted(_by_what_they_measure(studies).items()):
            for level, (study, m, shortest) in _records(some).items():
                copy = path.with_suffix("") / f"{m.program}.tbp"
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(study.path(m.program).read_bytes())
                settings = ", ".join(m.settings_in_words)
                command = score_command(study.info, f"{copy.parent.name}/{copy.name}")
                cells = (
                    *(of_task, of_model, level, f"{m.bytes:,}", f"{m.payload_bytes:,}", m.method),
                    *(settings, f"{m.test.value:.3f}", f"{m.test.low:.3f} to {m.test.high:.3f}"),
                    *(f"{m.test.at_least:.3f}", f"{shortest:,}", f"`{command}`"),
                )
                lines.append(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |")
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def read_records(path: Path) -> list[dict]:
    """The rows of such a table: {"program", "bytes", "test", "options"} each, the test score as it is written there.

    options: of the command that checks it, by name. Raises UserError if the file is no such table, or names a program
    that is not beside it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read: {getattr(error, 'strerror', error)}") from error
    found = []
    for number, line in enumerate(lines, 1):
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if "`taskbits score " not in line or len(cells) != len(_COLUMNS) + 2:
            continue
        try:
            program, options = _command(cells[-1].strip("`"))
            count, test = int(cells[3].replace(",", "")), f"{float(cells[7]):.3f}"
        except (ValueError, IndexError) as error:
            raise UserError(f"{path}, line {number}: not a row of records: {error}") from error
        file = path.parent / program
        if not file.resolve().is_relative_to(path.parent.resolve()):
            raise UserError(f"{path}, line {number}: the program {program} does not lie beside the table")
        found.append({"program": file, "bytes": count, "test": test, "options": options})
    if not found:
        raise UserError(f"{path} holds no record that says how to check it: write it anew with 'taskbits records'")
    return found


def _command(command: str) -> tuple[str, dict]:
    """The program and the options of `taskbits score PROGRAM --NAME VALUE ...`. Raises ValueError if it is another."""
    words = iter(shlex.split(command)[2:])
    program, options = next(words), {}
    for word in words:
        name = word.removeprefix("--")
        if name in _FLAGS:
            options["chat"] = _FLAGS[name]
        elif name in _OPTIONS:
            options[name] = next(words)
        else:
            raise ValueError(f"unknown option {word}")
    if not {"model", "task"} <= options.keys():
        raise ValueError("the command names no model or no task")
    return program, options


def _by_what_they_measure(studies: list[Study]) -> dict[tuple[str, str, str], list[Study]]:
    """The studies by task, model and the command that scores a program as they do: other rows are another one."""
    found: dict[tuple[str, str, str], list[Study]] = {}
    for study in studies:
        found.setdefault((task(study.info), label(study.info), score_command(study.info, "")), []).append(study)
    return found


def _records(studies: list[Study]) -> dict[float, tuple[Study, Measurement, int]]:
    """Level to the shortest program with its study, and the bytes of the shortest that scores as much on these rows.

    Of several levels that one program is the record of, the highest.
    """
    measured = [(study, study.measurements()) for study in studies]
    found: dict[float, tuple[Study, Measurement, int]] = {}
    for level in LEVELS:
        proven = [(study, m) for study, some in measured if (m := complexity(some, level))]
        if proven:
            study, program = min(proven, key=lambda pair: (pair[1].bytes, pair[1].program))
            found = {old: record for old, record in found.items() if record[1].program != program.program}
            shortest = min(m.bytes for _, some in measured if (m := on_test(some, level)))
            found[level] = study, program, shortest
    return found
