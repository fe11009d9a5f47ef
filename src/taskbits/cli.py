"""The command line: `taskbits COMMAND`. Parses, calls, prints; whatever is worth testing lives elsewhere."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from taskbits.display import console as notes
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
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of a random state and of the methods.")]
RevisionOption = Annotated[str | None, typer.Option("--revision", help="Revision of a hub model.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Run the command line. Bad input: one line on stderr, exit code 2."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what is reserved is freed on the way out
    try:
        app()
    except UserError as error:
        print(f"taskbits: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("taskbits: interrupted; what was measured is kept, and the same command goes on", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()


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
    model: ModelOption,
    task: TaskOption,
    out: Annotated[str, typer.Option("--out", help="Folder of the study; the same command resumes it.")],
    methods: Annotated[str | None, typer.Option(help="Comma-separated names; all by default.")] = None,
    budget: Annotated[
        str | None, typer.Option(help="Time, such as 90s, 3m or 2h; the whole sweeps by default.")
    ] = None,
    seed: SeedOption = 0,
    state: StateOption = "given",
    revision: RevisionOption = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Use only so many validation and test rows.")] = None,
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
) -> None:
    """Find programs for a model and a task, score them, and keep every one."""
    from taskbits.measure import measure as run
    from taskbits.measure import parse_budget

    names = [name.strip() for name in methods.split(",")] if methods else None
    study = run(
        model,
        task,
        out,
        methods=names,
        budget=parse_budget(budget) if budget else None,
        seed=seed,
        state=state,
        revision=revision,
        rows=rows,
        data=data,
        chat=chat,
        race=race,
        storage=storage,
        files=files,
    )
    _print_frontier(study)


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
    from taskbits.measure import parse_budget
    from taskbits.worker import work

    work(storage, study, parse_budget(budget) if budget else None)


@app.command()
def run(
    program: Annotated[Path, typer.Argument(help="A .tbp file.")],
    model: ModelOption,
    input: Annotated[str, typer.Option("--input", help="JSONL file with the task's fields, or - for stdin.")],
    state: StateOption = "given",
    seed: SeedOption = 0,
    revision: RevisionOption = None,
) -> None:
    """Run a program: one JSON line out per line in."""
    from taskbits import scoring, template
    from taskbits.model import load_model
    from taskbits.rows import parse_row

    loaded = _read_program(program)
    needed = template.fields(loaded.frame.prompt)
    try:
        text = sys.stdin.read() if input == "-" else Path(input).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{input} can't be read: {error}") from error
    rows = [
        parse_row(line, needed, f"{input}, line {number}")
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip()
    ]
    for output in scoring.outputs(loaded, load_model(model, state, seed, revision), rows):
        print(json.dumps(output))


@app.command()
def verify(program: Annotated[Path, typer.Argument(help="A .tbp file in a study's folder.")]) -> None:
    """Decode a program and score it again; exit code 0 only if length and score equal the record."""
    from taskbits.confirm import check, open_parts
    from taskbits.display import progress
    from taskbits.study import Study

    _read_program(program)
    study = Study.open(program.resolve().parent.parent)
    found = [m for m in study.measurements() if m.program == program.stem]
    if not found:
        raise UserError(f"{program}: the study in {study.folder} has no record of it")
    recorded = {"validation": found[0].validation, **({"test": found[0].test} if found[0].test else {})}
    model, task = open_parts(study)
    with progress() as display:
        total = sum(len(task.splits[split]) for split in recorded)
        bar = display.add_task("scoring", total=total)
        scores = check(study, found[0], model, task, list(recorded), lambda n: display.advance(bar, n)).scores
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
) -> None:
    """Write a program as one standalone Python file, or an adapter as a PEFT folder."""
    from taskbits.confirm import open_parts
    from taskbits.export import standalone as build
    from taskbits.model import load_model
    from taskbits.peft_export import write_peft
    from taskbits.runners import require_model
    from taskbits.study import Study

    if (standalone is None) == (peft is None):
        raise UserError("name either --standalone FILE or --peft DIR")
    loaded = _read_program(program)
    if model:
        base = load_model(model, state, seed, revision)
    else:
        base, _ = open_parts(Study.open(program.resolve().parent.parent))
    require_model(base, loaded)
    try:
        if peft:
            kind = write_peft(loaded, base, peft)
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
    from taskbits.model import load_model

    load_model(model, state, seed, revision).save(folder)
    print(folder)


@app.command()
def frontier(folder: Path, as_json: JsonOption = False) -> None:
    """Print the frontier of a study: the shortest program for each score."""
    from taskbits.frontier import rows
    from taskbits.study import Study

    study = Study.open(folder)
    if as_json:
        print(json.dumps(rows(study.measurements())))
    else:
        _print_frontier(study)


@app.command()
def complexity(
    folder: Path,
    at: Annotated[float, typer.Option("--at", min=0, max=1, help="The level that the score must reach.")],
    as_json: JsonOption = False,
) -> None:
    """Read C(T_δ | M) off a study: at most how many bytes reach the level."""
    from dataclasses import asdict

    from taskbits.frontier import complexity as read_off
    from taskbits.study import Study

    study = Study.open(folder)
    found = read_off(study.measurements(), at)
    if as_json:
        print(
            json.dumps(
                {
                    "level": at,
                    "bytes": found and found.bytes,
                    "program": found and found.program,
                    "method": found and found.method,
                    "test": found and asdict(found.test),
                }
            )
        )
    elif found is None:
        print(f"No program in {folder} reached {at:g}: nothing is known of C(T_{at:g} | M).")
    else:
        print(
            f"C(T_{at:g} | M) ≤ {found.bytes:,} bytes ({found.bytes * 8:,} bits): {found.method}, program "
            f"{study.path(found.program)}, scores {found.test.value:.3f} on test "
            f"(95% CI {found.test.low:.3f} to {found.test.high:.3f}, n = {found.test.n})."
        )


@app.command()
def compare(
    folders: list[Path],
    picture: Annotated[Path, typer.Option("--picture", help="PNG or SVG file to write.")] = Path("comparison.png"),
) -> None:
    """Draw the frontiers of several studies in one picture, and print bytes at levels that they reach."""
    from taskbits.frontier import ratios
    from taskbits.report.figure import draw_comparison
    from taskbits.report.scale import label
    from taskbits.study import Study

    studies = [Study.open(folder) for folder in folders]
    draw_comparison(studies, picture)
    names = [label(study.info) for study in studies]
    if len(set(names)) < len(names):
        names = [f"{name} in {study.folder}" for name, study in zip(names, studies, strict=True)]
    columns = (Column(name, overflow="fold") for name in names)
    table = Table("level", *columns, "", title="bytes to reach a level on test (and how many times the fewest)")
    for row in ratios(dict(zip(names, (study.measurements() for study in studies), strict=True))):
        cells = (_times(row["bytes"][name], row["ratios"][name]) for name in names)
        table.add_row(f"{row['level']:.3f}", *cells, row["note"])
    Console().print(table)
    print(f"picture: {picture}")


@app.command()
def records(
    folders: list[Path],
    out: Annotated[Path, typer.Option("--out", help="Markdown file to write.")] = Path("records.md"),
) -> None:
    """Write the shortest verified program for each task, model and level of several studies, as a table."""
    from taskbits.report.records import write_records
    from taskbits.study import Study

    write_records([Study.open(folder) for folder in folders], out)
    print(out)


@app.command()
def report(folder: Path) -> None:
    """Write the study's report: one HTML page and a picture."""
    from taskbits.report.figure import draw_frontier
    from taskbits.report.page import write_page
    from taskbits.study import Study

    study = Study.open(folder)
    page, picture = folder / "report.html", folder / "frontier.png"
    write_page(study, page)
    draw_frontier(study, picture)
    print(f"report: {page}\npicture: {picture}")


def _times(size: int | None, ratio: float | None) -> str:
    return "not reached" if size is None else f"{size:,} (×{ratio:.1f})"


def _read_program(path: Path):
    from taskbits.program import Program

    try:
        return Program.from_bytes(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from error


def _print_frontier(study) -> None:
    from taskbits.frontier import rows
    from taskbits.report.scale import label, task

    found = rows(study.measurements())
    if not found:
        notes.print("No program was measured yet.")
        return
    table = Table(title=f"{label(study.info)} on {task(study.info)}", box=None, pad_edge=False)
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
        table.add_row(
            f"{row['bytes']:,}",
            f"{row['payload_bytes']:,}",
            row["method"],
            settings,
            f"{row['validation']:.3f}",
            test,
            f"{low:.2f}–{high:.2f}",
            row["program"].removesuffix(".tbp"),
        )
    Console().print(table)
