"""The command line: `taskbits COMMAND`. Parses, calls, prints; whatever is worth testing lives elsewhere."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from taskbits.display import console as notes
from taskbits.display import quiet, warn
from taskbits.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="How many bytes must be added to a language model before it does my task well enough?",
)

ModelOption = Annotated[str, typer.Option("--model", help="Hub id, folder, .gguf file, or lab:NAME.")]
TaskOption = Annotated[
    str,
    typer.Option("--task", help="gsm8k, ifeval, translation, lm-eval:NAME, lab:NAME, or a task's folder or YAML file."),
]
StateOption = Annotated[str, typer.Option("--state", help="'given', or 'random': initialised from config and seed.")]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of a random state and of the methods.")
]
RevisionOption = Annotated[str | None, typer.Option("--revision", help="Revision of a hub model.")]
LimitOption = Annotated[str, typer.Option("--limit", help="Time that decoding the program may take, such as 90s.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TrustOption = Annotated[
    bool, typer.Option("--trust", help="Open the database and the files that a study names outside of its folder.")
]

_LIMIT = "1h"  # far more than any program that this package has made takes
_INTERRUPTED = 128 + signal.SIGINT


def main() -> None:
    """Run the command line. Bad input: one line on stderr, exit code 2. Interrupted: one line, exit code 130.

    What the encoding of stdout has no sign for is printed as an escape. If nobody reads on, this ends without a word,
    with exit code 1.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    # As exits: what is reserved is freed on the way out, and nothing else takes an interruption for its own.
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) != signal.SIG_IGN:  # as by nohup
            signal.signal(number, lambda got, _: sys.exit(128 + got))
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else somebody wants it left alone
        signal.signal(signal.SIGINT, lambda *_: sys.exit(_INTERRUPTED))
    try:
        for word in sys.argv:
            if any("\ud800" <= letter <= "\udfff" for letter in word):  # as Python reads bytes that are no text
                raise UserError(f"the argument {word!r} is not in the system's encoding of file names: rename the file")
        with quiet():
            app()
    except UserError as error:
        print(f"taskbits: {error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            print("taskbits: interrupted; what was measured is kept, and the same command goes on", file=sys.stderr)
        raise
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush when Python ends
            sys.exit(1)


def _level(value: float | None) -> float | None:
    """Refuse what is not a number, which is neither below nor above any limit."""
    if value is not None and not 0 <= value <= 1:
        raise UserError(f"{value} is not a level: those are numbers from 0 to 1")
    return value


@app.command()
def methods() -> None:
    """List the methods with their family."""
    from taskbits.methods import NAMES, method

    table = Table("method", "family", "what it does", box=None)
    for name in NAMES:
        module = method(name)
        table.add_row(name, module.FAMILY, " ".join(module.__doc__.split("\n\n")[0].split()))
    Console().print(table)


@app.command()
def measure(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="Hub id, folder, .gguf file, or lab:NAME; several with commas between: one study each, in OUT/NAME.",
        ),
    ],
    task: TaskOption,
    out: Annotated[str, typer.Option("--out", help="Folder of the study; the same command resumes it.")],
    methods: Annotated[str | None, typer.Option(help="Comma-separated names; all by default.")] = None,
    budget: Annotated[
        str | None, typer.Option(help="Time for a study, such as 90s, 3m or 2h; the whole sweeps by default.")
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(callback=_level, help="Look only for the shortest program that scores as much, from 0 to 1."),
    ] = None,
    seed: SeedOption = 0,
    state: StateOption = "given",
    revision: Annotated[
        str | None, typer.Option("--revision", help="Revision of a hub model; several with commas between.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Use only so many validation and test rows, drawn by a hash.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Folder with the task's files; from the hub by default.")] = None,
    chat: Annotated[
        bool | None, typer.Option("--chat/--no-chat", help="Whether prompts go through the model's chat template.")
    ] = None,
    race: Annotated[
        bool, typer.Option("--race/--no-race", help="Whether to stop scoring a program that is dominated beyond doubt.")
    ] = True,
    storage: Annotated[str | None, typer.Option(help="Database URL; SQLite in the folder by default.")] = None,
    files: Annotated[
        str | None, typer.Option(help="Folder or fsspec URL where programs go; the study's folder by default.")
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try again what failed, killed its workers or could not be confirmed.")
    ] = False,
) -> None:
    """Find programs for a model and a task, score them, and keep every one."""
    from taskbits.search.measure import measure as run
    from taskbits.studies.checkpoints import measure_each
    from taskbits.times import seconds as parse_budget

    models, revisions = _listed(model), _listed(revision) if revision else [None]
    options = {
        "methods": _listed(methods) if methods else None,
        "budget": parse_budget(budget) if budget else None,
        "seed": seed,
        "state": state,
        "rows": rows,
        "data": data,
        "chat": chat,
        "race": race,
        "target": target,
        "storage": storage,
        "files": files,
        **({"retry": True} if retry else {}),
    }
    if len(models) * len(revisions) == 1:
        study = run(models[0], task, out, revision=revisions[0], **options)
        _print_frontier(study)
        if target is not None:
            _print_complexity(study, target)
        return
    studies, refusal = measure_each(models, revisions, task, out, **options)
    if studies:
        _compare(studies, [studies], Path(out) / "comparison.png")
    if refusal:
        raise refusal


@app.command()
def worker(
    storage: Annotated[str, typer.Option(help="Database URL of a study that 'taskbits measure' has started.")],
    study: Annotated[str | None, typer.Option(help="Name of the study, if the storage has several.")] = None,
    budget: Annotated[
        str | None, typer.Option(help="Time, such as 90s, 3m or 2h; until all is done by default.")
    ] = None,
) -> None:
    """Work on a study, along with any number of other workers on any number of machines."""
    # Before torch is loaded: workers that take all cores each are in each other's way.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from taskbits.search.worker import work
    from taskbits.times import seconds as parse_budget

    work(storage, study, parse_budget(budget) if budget else None)


@app.command()
def run(
    program: Annotated[Path, typer.Argument(help="A .tbp file.")],
    model: ModelOption,
    input: Annotated[str, typer.Option("--input", help="JSONL file with the task's fields, or - for stdin.")],
    state: StateOption = "given",
    seed: SeedOption = 0,
    revision: RevisionOption = None,
    limit: LimitOption = _LIMIT,
) -> None:
    """Run a program: one JSON line out per line in."""
    from taskbits.models.model import load_model
    from taskbits.programs.program import Program
    from taskbits.search import scoring
    from taskbits.tasks import template
    from taskbits.tasks.rows import read_rows
    from taskbits.times import seconds as parse_budget

    loaded, seconds = Program.read(program), parse_budget(limit, "limit")
    rows = read_rows(None if input == "-" else Path(input), template.fields(loaded.frame.prompt))
    for output in scoring.outputs(loaded, load_model(model, state, seed, revision), rows, seconds):
        print(json.dumps(output))


@app.command()
def verify(
    program: Annotated[Path, typer.Argument(help="A .tbp file in a study's folder.")],
    limit: LimitOption = _LIMIT,
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Run the code of the study's task; open what it names outside of its folder."),
    ] = False,
) -> None:
    """Decode a program and score it again; exit code 0 only if length and score equal the record."""
    from taskbits.display import progress
    from taskbits.programs.program import Program
    from taskbits.search.confirm import check, open_parts
    from taskbits.studies.study import Study
    from taskbits.times import seconds as parse_budget

    Program.read(program)
    seconds = parse_budget(limit, "limit")
    study = Study.open(program.resolve().parent.parent, trust)
    found = [m for m in study.measurements() if m.program == program.stem]
    if not found:
        raise UserError(f"{program}: the study in {study.folder} has no record of it")
    recorded = {"validation": found[0].validation, **({"test": found[0].test} if found[0].test else {})}
    model, task = open_parts(study, code=trust)
    with progress() as display:
        total = sum(len(task.splits[split]) for split in recorded)
        bar = display.add_task("scoring", total=total)
        scores = check(study, found[0], model, task, list(recorded), lambda n: display.advance(bar, n), seconds).scores
    for split, wanted in recorded.items():
        print(f"{split}: {scores[split].value:.4f}, recorded {wanted.value:.4f}")
    if scores != recorded:
        print("taskbits: the score is not the recorded one", file=sys.stderr)
        raise typer.Exit(1)
    print(f"{found[0].bytes:,} bytes, as recorded")


@app.command()
def export(
    program: Annotated[Path, typer.Argument(help="A .tbp file.")],
    standalone: Annotated[Path | None, typer.Option(help="Python file to write; it runs without taskbits.")] = None,
    peft: Annotated[
        Path | None,
        typer.Option(help="Folder to write a PEFT adapter to, or the patched model where no LoRA can hold the change."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model; by default that of the program's study.")] = None,
    state: StateOption = "given",
    seed: SeedOption = 0,
    revision: RevisionOption = None,
    limit: LimitOption = _LIMIT,
) -> None:
    """Write a program as one standalone Python file, or an adapter as a PEFT folder."""
    from taskbits.models.model import load_model
    from taskbits.programs.decode import require_model
    from taskbits.programs.export import standalone as build
    from taskbits.programs.peft_export import write_peft
    from taskbits.programs.program import Program
    from taskbits.search.confirm import open_model
    from taskbits.studies.study import Study
    from taskbits.times import seconds as parse_budget

    if (standalone is None) == (peft is None):
        raise UserError("name either --standalone FILE or --peft DIR")
    loaded, seconds = Program.read(program), parse_budget(limit, "limit")
    if model:
        base = load_model(model, state, seed, revision)
    else:
        base = open_model(Study.open(program.resolve().parent.parent))
    require_model(base, loaded)
    try:
        if peft:
            kind = write_peft(loaded, base, peft, seconds)
            print(f"{peft}: {'a PEFT adapter' if kind == 'adapter' else 'the patched model, which no LoRA can hold'}")
        else:
            size = standalone.write_bytes(build(loaded, base.dtype))
            print(f"{standalone}: {size:,} bytes; run it with: python {standalone} --model M --input IN")
    except OSError as error:
        raise UserError(f"cannot write {standalone or peft}: {error.strerror}") from error


@app.command("save-model")
def save_model(
    model: ModelOption,
    folder: Annotated[Path, typer.Argument(help="Folder to write.")],
    state: StateOption = "given",
    seed: SeedOption = 0,
    revision: RevisionOption = None,
) -> None:
    """Write a model (from GGUF, at random, lab:NAME) as a Hugging Face folder: the M of a standalone program."""
    from taskbits.models.model import load_model

    load_model(model, state, seed, revision).save(folder)
    print(folder)


@app.command()
def frontier(folder: Path, as_json: JsonOption = False, trust: TrustOption = False) -> None:
    """Print the frontier of a study: the shortest program for each score."""
    from taskbits.studies.frontier import rows
    from taskbits.studies.study import Study

    study = Study.open(folder, trust)
    if as_json:
        print(json.dumps(rows(study.measurements())))
    else:
        _print_frontier(study)
    for m in study.measurements():
        if m.unconfirmed is not None:
            warn(f"{m.method} {m.program}, {m.bytes:,} bytes: not confirmed: {m.unconfirmed}")


@app.command()
def complexity(
    folder: Path,
    at: Annotated[
        float, typer.Option("--at", callback=_level, help="The level that the score must reach, from 0 to 1.")
    ],
    as_json: JsonOption = False,
    trust: TrustOption = False,
) -> None:
    """Read C(T_δ | M) off a study: at most how many bytes reach the level, with 95% confidence."""
    from dataclasses import asdict

    from taskbits.studies.frontier import complexity as read_off
    from taskbits.studies.frontier import on_test
    from taskbits.studies.study import Study

    study = Study.open(folder, trust)
    if as_json:
        found, seen = (choose(study.measurements(), at) for choose in (read_off, on_test))

        def facts(m) -> dict:
            test = m and {**asdict(m.test), "bound": None if study.published else m.test.at_least}
            return {"bytes": m and m.bytes, "program": m and m.program, "method": m and m.method, "test": test}

        alone = seen and facts(seen)
        print(json.dumps({"level": at, **facts(found), "published": study.published, "on_this_test_set": alone}))
    else:
        _print_complexity(study, at)


@app.command()
def compare(
    folders: Annotated[list[Path] | None, typer.Argument(help="Folders of studies.")] = None,
    picture: Annotated[Path, typer.Option("--picture", help="PNG or SVG file to write.")] = Path("comparison.png"),
    at: Annotated[str | None, typer.Option("--at", help="Comma-separated levels; some round ones by default.")] = None,
    published: Annotated[bool, typer.Option("--published", help="Beside published estimates, or these alone.")] = False,
    imports: Annotated[Path, typer.Option(help="Folder that published runs were imported to.")] = Path("published"),
    as_json: JsonOption = False,
    trust: TrustOption = False,
) -> None:
    """Draw the frontiers of several studies, and what each checkpoint of a run needs; print bytes at several levels."""
    from taskbits.studies.checkpoints import runs
    from taskbits.studies.published import open_published
    from taskbits.studies.study import Study

    if not folders and not published:
        raise UserError("nothing to compare: name folders of studies, or --published")
    studies = [Study.open(folder, trust) for folder in folders or []]
    estimates = open_published(imports) if published else []
    _compare(studies, runs(studies), picture, _levels(at), estimates, as_json)


@app.command("import")
def import_(
    kind: Annotated[str, typer.Argument(help="What the file holds: paper (the runs of Vergara-Browne et al. 2026).")],
    runs: Annotated[Path, typer.Argument(help="JSONL file, a run a line.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write the studies to.")] = Path("published"),
) -> None:
    """Read published runs into studies of published estimates, for `compare --published`."""
    from taskbits.studies.published import SOURCE, import_paper

    if kind != "paper":
        raise UserError(f"can't import {kind!r}: use paper")
    studies, skipped = import_paper(runs, out)
    count = sum(len(study.measurements()) for study in studies)
    print(f"{out}: {count:,} published estimates ({SOURCE}) in {len(studies)} studies; no program stands behind them")
    for what, number in skipped.items():
        print(f"not known here, and skipped: {what} ({number:,} runs)")


@app.command()
def records(
    folders: list[Path],
    out: Annotated[Path, typer.Option("--out", help="Markdown file to write.")] = Path("records.md"),
    trust: TrustOption = False,
) -> None:
    """Write the shortest verified program for each task, model and level of several studies, as a table."""
    from taskbits.report.records import write_records
    from taskbits.studies.study import Study

    write_records([Study.open(folder, trust).require_programs() for folder in folders], out)
    print(out)


@app.command()
def report(folder: Path, trust: TrustOption = False) -> None:
    """Write the study's report: one HTML page, and its frontier as a picture in PNG and SVG."""
    from taskbits.report.figure import draw_frontier
    from taskbits.report.page import write_page
    from taskbits.studies.study import Study

    study = Study.open(folder, trust).require_programs()
    page, pictures = folder / "report.html", [folder / "frontier.png", folder / "frontier.svg"]
    write_page(study, page)
    print(f"report: {page}")
    for picture in pictures:
        draw_frontier(study, picture)
        print(f"picture: {picture}")


@app.command()
def card(
    folder: Path,
    out: Annotated[Path | None, typer.Option("--out", help="Markdown file to write; printed by default.")] = None,
    trust: TrustOption = False,
) -> None:
    """Write a card for a model's page: what was found at three levels, and how to find it again."""
    from taskbits.report.card import make_card
    from taskbits.studies.study import Study

    text = make_card(Study.open(folder, trust).require_programs())
    if out is None:
        print(text, end="")
        return
    try:
        out.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from error
    print(out)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _levels(text: str | None) -> list[float] | None:
    """Levels from text such as 0.5,0.7."""
    try:
        levels = None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        levels = [-1.0]
    if levels and not all(0 <= level <= 1 for level in levels):
        raise UserError(f"--at {text}: levels are numbers from 0 to 1 with commas between, such as 0.5,0.7")
    return levels


def _compare(studies, runs, picture, levels=None, estimates=(), as_json=False) -> None:
    """Draw and print studies beside published estimates, the checkpoints of runs, and what the estimates tell."""
    from taskbits.report.checkpoints import draw_steps
    from taskbits.report.comparison import beside, compare, remarks
    from taskbits.report.figure import draw_comparison
    from taskbits.studies.published import reductions

    shown = [*studies, *beside(studies, estimates)]
    draw_comparison(shown, picture)
    pictures = [picture]
    if runs:
        pictures.append(picture.with_name(f"{picture.stem}-steps{picture.suffix}"))
        draw_steps(runs, pictures[1], levels)
    found = {
        "groups": compare(shown, levels) if studies else [],
        "published": reductions(estimates),
        "remarks": remarks(shown),
        "pictures": [str(path) for path in pictures],
    }
    if as_json:
        print(json.dumps(found))
        return
    for group in found["groups"]:
        _print_levels(group)
        _print_information(group)
    if found["published"]:
        _print_reductions(found["published"])
    for remark in found["remarks"]:
        print(remark)
    for path in found["pictures"]:
        print(f"picture: {path}")


def _print_levels(group: dict) -> None:
    """Levels by studies, with ratios; or if that is too wide, studies by round levels."""
    sure = f"with {group['confidence']:.0%} confidence each" if group["confidence"] else "as published"
    rows, title = group["levels"], f"{_heading(group)}: bytes to reach a level, {sure}"
    if not rows:
        print(f"{_heading(group)}: no level to compare: none is known above what the shortest program of each reaches")
        return
    names = list(rows[0]["bytes"])
    if len(names) > 4:
        plain = [row for row in rows if not row["note"]] or rows
        cells = {name: [_bytes(row["bytes"][name]) for row in plain] for name in names}
        _print_by_study(title, [row["level"] for row in plain], cells)
        return
    columns = (Column(escape(name), overflow="fold") for name in names)
    table = Table("level", *columns, "", title=escape(f"{title} (and how many times the fewest)"))
    for row in rows:
        ratios = (row["ratios"][name] for name in names)
        cells = (
            _bytes(row["bytes"][name]) + (f" (×{ratio:.1f})" if ratio else "")
            for name, ratio in zip(names, ratios, strict=True)
        )
        table.add_row(f"{row['level']:.3f}", *cells, escape(row["note"]))
    Console().print(table)


def _print_information(group: dict) -> None:
    for random in dict.fromkeys(row["random"] for row in group["information"]):
        rows = [row for row in group["information"] if row["random"] == random]
        bounds = {row["level"]: row["random_bytes"] for row in sorted(rows, key=lambda row: row["level"])}
        reached = [level for level, size in bounds.items() if size is not None]
        missing = ", ".join(f"{level:.3f}" for level in bounds if level not in reached)
        if reached:
            cells = {f"bytes with {random}": [_bytes(bounds[level]) for level in reached]}
            for model in dict.fromkeys(row["model"] for row in rows):
                found = {
                    row["level"]: f"{row['difference']:,}"
                    for row in rows
                    if row["model"] == model and row["level"] in reached
                }
                cells[f"fewer bytes with {model}"] = [found.get(level, "no bound") for level in reached]
            _print_by_study(
                f"{_heading(group)}: upper bound with a random M minus upper bound with M, in bytes",
                reached,
                cells,
                "(a difference of two upper bounds: neither a lower nor an upper bound of information)",
            )
        if missing:
            print(f"{_heading(group)}: no difference of bounds, since {random} does not reach it, at {missing}")


def _print_by_study(title: str, levels: list[float], cells: dict[str, list[str]], note: str | None = None) -> None:
    numbers = (Column(f"{level:.3f}", justify="right", overflow="fold") for level in levels)
    table = Table(Column("level", overflow="fold"), *numbers, box=None, pad_edge=False)
    for name, row in cells.items():
        table.add_row(escape(name), *row)
    print(f"\n{title}")
    Console().print(table)
    if note:
        print(note)


def _print_reductions(rows: list[dict]) -> None:
    table = Table(
        *("task", "training"),
        Column("checkpoint", overflow="fold"),
        Column("bytes", justify="right"),
        Column("method", overflow="fold"),
        title="published estimates: bytes to reach the best pre-trained score, pre-trained against post-trained",
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for row in rows:
        for training, shown in (("pre-trained", row["task"]), ("post-trained", f"at {row['level']:.3f}")):
            one = row[training]
            table.add_row(shown, training, escape(one["checkpoint"]), _bytes(one["bytes"]), escape(one["method"] or ""))
    Console().print(table)


def _bytes(count: int | None) -> str:
    return "not reached" if count is None else f"{count:,}"


def _heading(group: dict) -> str:
    return f"{group['task']}, {group['family']}" if group["family"] else group["task"]


def _print_complexity(study, at: float) -> None:
    """What can be claimed of the task, and beside it what these test rows show."""
    from taskbits.studies.frontier import complexity as read_off
    from taskbits.studies.frontier import on_test

    measured = study.measurements()
    found, seen = read_off(measured, at), on_test(measured, at)
    if study.published:
        if found is None:
            print(f"No published estimate in {study.folder} ({study.published}) reaches {at:g}.")
            return
        print(
            f"Published estimate ({study.published}), not a bound on C(T_{at:g} | M): {found.bytes:,} bytes "
            f"({found.bytes * 8:,} bits): {found.method} scores {found.test.value:.3f} on the test set that it was "
            "chosen on; there is no program, and no interval is known."
        )
        return
    if found is None:
        print(f"No program in {study.folder} reached {at:g} with 95% confidence: nothing is known of C(T_{at:g} | M).")
    else:
        print(
            f"C(T_{at:g} | M) ≤ {found.bytes:,} bytes ({found.bytes * 8:,} bits) with 95% confidence: {found.method}, "
            f"program {study.path(found.program)}, scores {found.test.value:.3f} on {found.test.n:,} test rows "
            f"(at least {found.test.at_least:.3f} with 95% confidence)."
        )
    if seen and seen is not found:
        print(
            f"On this test set alone {seen.bytes:,} bytes score {seen.test.value:.3f}: {seen.method}, "
            f"program {study.path(seen.program)}."
        )


def _print_frontier(study) -> None:
    from taskbits.report.scale import label, task
    from taskbits.studies.frontier import rows

    found = rows(study.measurements())
    if not found:
        notes.print("No program was measured yet.")
        return
    table = Table(title=escape(f"{label(study.info)} on {task(study.info)}"), box=None, pad_edge=False)
    for column in ("bytes", "payload", "method", "settings", "valid.", "test", "95%", "program"):
        table.add_column(
            column,
            no_wrap=column != "settings",
            overflow="fold",
            justify="right" if column in ("bytes", "payload") else "left",
        )
    for row in found:
        settings = " ".join(f"{name}={value}" for name, value in row["settings"].items())
        test = "" if row["test"] is None else f"{row['test']:.3f}"
        low, high = row["interval"]
        interval = "unknown" if low is None else f"{low:.2f}–{high:.2f}"
        table.add_row(
            f"{row['bytes']:,}",
            f"{row['payload_bytes']:,}",
            row["method"],
            escape(settings),
            "" if study.published else f"{row['validation']:.3f}",
            test,
            interval,
            row["program"].removesuffix(".tbp") if row["program"] else "none",
        )
    Console().print(table)
