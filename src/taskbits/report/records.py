"""The table of records: the shortest verified program for each task, model and level."""

from pathlib import Path

from taskbits.errors import UserError
from taskbits.report.scale import label, task
from taskbits.studies.frontier import complexity, on_test
from taskbits.studies.measurement import Measurement
from taskbits.studies.study import Study

LEVELS = [level / 10 for level in range(1, 10)] + [0.95]


def write_records(studies: list[Study], path: Path) -> None:
    """Write the studies' records as Markdown. Raises UserError if the file can't be written."""
    lines = [
        "# Records",
        "",
        "The shortest program that reaches each level with 95% confidence: the size of its standalone file, its score",
        "on test with the 95% interval, and what it scores at least on the task, with 95% confidence. Each level is a",
        "claim by itself: of many, one in twenty may be wrong. Last, the bytes of the shortest that scores as much on",
        "these test rows, which says less of others. Written by `taskbits records`; what isn't listed was not reached.",
        "",
        "| task | model | level | bytes | payload | method | settings | test | 95% interval | at least | these rows |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for study in sorted(studies, key=lambda s: (task(s.info), label(s.info))):
        measured = study.measurements()
        for level, program in _records(measured).items():
            settings = ", ".join(f"{name}={value}" for name, value in program.settings.items())
            test = program.test
            lines.append(
                f"| {task(study.info)} | {label(study.info)} | {level} | {program.bytes:,} "
                f"| {program.payload_bytes:,} | {program.method} | {settings} | {test.value:.3f} "
                f"| {test.low:.3f} to {test.high:.3f} | {test.at_least:.3f} | {on_test(measured, level).bytes:,} |"
            )
    try:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _records(measured: list[Measurement]) -> dict[float, Measurement]:
    """Level to program; of several levels that one program is the record of, the highest."""
    found = {}
    for level in LEVELS:
        if program := complexity(measured, level):
            found = {old: p for old, p in found.items() if p.program != program.program}
            found[level] = program
    return found
