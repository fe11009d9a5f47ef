"""The command line: `taskbits COMMAND`. Parses, calls the public interface (`import taskbits`), prints.

Exit codes: 0; 1, the answer is no (`verify`, `records --check`) or nobody reads the output; 2, bad input, in one line;
130, interrupted; 128 + N, ended by signal N.
"""

import json
import math
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

import taskbits
from taskbits import display
from taskbits.cli import tables
from taskbits.display import quiet, stdout, warn
from taskbits.errors import UserError
from taskbits.times import seconds

app = typer.Typer(
    no_args_is_help=True,
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
DtypeOption = Annotated[
    str,
    typer.Option("--dtype", help="The model's arithmetic: auto, float64, float32 or bfloat16."),
]
DeviceMapOption = Annotated[
    str | None,
    typer.Option("--device-map", help="Where the model goes, as transformers has it, such as auto or cuda:1."),
]
RevisionOption = Annotated[str | None, typer.Option("--revision", help="Revision of a hub model.")]
ProgramArgument = Annotated[Path, typer.Argument(help="A .tbp file.")]
RowsOption = Annotated[
    int | None, typer.Option("--rows", min=1, help="Use only so many validation and test rows, drawn by a hash.")
]
DataOption = Annotated[
    str | None, typer.Option("--data", help="Folder with the task's files; from the hub by default.")
]
ChatOption = Annotated[
    bool | None, typer.Option("--chat/--no-chat", help="Whether prompts go through the model's chat template.")
]
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


def _version(asked: bool) -> None:
    if asked:
        print(f"taskbits {taskbits.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_version),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing on stderr but what went wrong.")] = False,
) -> None:
    """Options of all commands."""
    if quiet:
        display.hush()


@app.command()
def methods(as_json: JsonOption = False) -> None:
    """List the methods with their family and the package that each is from."""
    found = taskbits.list_methods()
    if as_json:
        print(json.dumps(found))
        return
    table = Table("method", "family", "from", "what it does", box=None)
    for row in found:
        table.add_row(*(escape(row[name]) for name in ("method", "family", "origin", "summary")))
    stdout().print(table)


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
    methods: Annotated[
        str | None, typer.Option(help="Comma-separated names, + between those in turn; all by default.")
    ] = None,
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
    dtype: DtypeOption = "auto",
    device_map: DeviceMapOption = None,
    donor: Annotated[
        str | None,
        typer.Option(help="Another checkpoint of the model, or a PEFT adapter, whose weights programs may carry."),
    ] = None,
    also: Annotated[
        list[str] | None, typer.Option(help="Another task that the frontier's programs are scored on; may be repeated.")
    ] = None,
    rows: RowsOption = None,
    data: DataOption = None,
    chat: ChatOption = None,
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
    models, revisions = _listed(model), _listed(revision) if revision else [None]
    options = {
        "methods": _listed(methods) if methods else None,
        "budget": budget,
        "seed": seed,
        "state": state,
        "dtype": dtype,
        "device_map": device_map,
        "rows": rows,
        "data": data,
        "chat": chat,
        "race": race,
        "target": target,
        "storage": storage,
        "files": files,
        **({"retry": True} if retry else {}),
        **({"donor": donor} if donor else {}),
        **({"also": also} if also else {}),
    }
    if len(models) * len(revisions) == 1:
        study = taskbits.measure(models[0], task, out, revision=revisions[0], **options)
        tables.print_frontier(study)
        if target is not None:
            tables.print_complexity(study, target)
        return
    studies, refusal = taskbits.measure_each(models, revisions, task, out, **options)
    if studies:
        tables.print_comparison(taskbits.compare(studies, Path(out) / "comparison.png", one_run=True))
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
    taskbits.work(storage, study, budget)


@app.command()
def shrink(
    adapter: Annotated[Path, typer.Argument(help="Folder of a PEFT adapter: LoRA, rsLoRA or DoRA, as safetensors.")],
    model: ModelOption,
    task: TaskOption,
    out: Annotated[str, typer.Option("--out", help="Folder of the study; the same command resumes it.")],
    budget: Annotated[str | None, typer.Option(help="Time, such as 10m; all sizes by default.")] = None,
    seed: SeedOption = 0,
    revision: RevisionOption = None,
    dtype: DtypeOption = "auto",
    device_map: DeviceMapOption = None,
    rows: RowsOption = None,
    data: DataOption = None,
    chat: ChatOption = None,
) -> None:
    """Make an adapter that somebody has short: programs from its own size downwards that score nearly as much."""
    options = {"budget": budget, "seed": seed, "revision": revision, "dtype": dtype, "device_map": device_map}
    study, found = taskbits.shrink(adapter, model, task, out, **options, rows=rows, data=data, chat=chat)
    tables.print_frontier(study)
    tables.print_adapter(found)


@app.command()
def run(
    program: ProgramArgument,
    model: ModelOption,
    input: Annotated[str, typer.Option("--input", help="JSONL file with the task's fields, or - for stdin.")],
    state: StateOption = "given",
    seed: SeedOption = 0,
    revision: RevisionOption = None,
    device_map: DeviceMapOption = None,
    limit: LimitOption = _LIMIT,
) -> None:
    """Run a program: one JSON line out per line in."""
    loaded, allowed = taskbits.load_program(program), seconds(limit, "limit")
    rows = loaded.read_inputs(input)
    base = taskbits.load_model(model, state, seed, revision, loaded.dtype, device_map)
    for output in loaded.run(base, rows, allowed):
        print(json.dumps(output))


@app.command()
def score(
    program: ProgramArgument,
    model: ModelOption,
    task: TaskOption,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    state: StateOption = "given",
    seed: SeedOption = 0,
    revision: RevisionOption = None,
    device_map: DeviceMapOption = None,
    rows: RowsOption = None,
    data: DataOption = None,
    chat: ChatOption = None,
    limit: LimitOption = _LIMIT,
    as_json: JsonOption = False,
) -> None:
    """Decode a program from anywhere and score it: its length, its score and the interval of that."""
    loaded, allowed = taskbits.load_program(program), seconds(limit, "limit")
    asked = taskbits.load_task(task, rows, data, chat)
    base = taskbits.load_model(model, state, seed, revision, loaded.dtype, device_map)
    found = taskbits.score(loaded, base, asked, split, allowed)
    if as_json:
        facts = {**asdict(found.score), "bound": found.score.at_least}
        print(json.dumps({"bytes": found.bytes, "payload_bytes": found.payload_bytes, "split": split, "score": facts}))
        return
    s = found.score
    print(
        f"{found.bytes:,} bytes ({found.payload_bytes:,} of payload) score {s.value:.4f} on {s.n:,} {split} rows "
        f"(95% interval {s.low:.4f} to {s.high:.4f}; at least {s.at_least:.4f} with 95% confidence)"
    )


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
    size, scores = taskbits.verify(program, limit, trust)
    for split, (found, recorded) in scores.items():
        print(f"{split}: {found.value:.4f}, recorded {recorded.value:.4f}")
    if any(found != recorded for found, recorded in scores.values()):
        print("taskbits: the score is not the recorded one", file=sys.stderr)
        raise typer.Exit(1)
    print(f"{size:,} bytes, as recorded")


@app.command()
def export(
    program: ProgramArgument,
    standalone: Annotated[Path | None, typer.Option(help="Python file to write; it runs without taskbits.")] = None,
    peft: Annotated[
        Path | None,
        typer.Option(help="Folder to write a PEFT adapter to, or the patched model where no LoRA can hold the change."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model; by default that of the program's study.")] = None,
    state: StateOption = "given",
    seed: SeedOption = 0,
    revision: RevisionOption = None,
    device_map: DeviceMapOption = None,
    limit: LimitOption = _LIMIT,
) -> None:
    """Write a program as one standalone Python file, or an adapter as a PEFT folder."""
    if (standalone is None) == (peft is None):
        raise UserError("name either --standalone FILE or --peft DIR")
    loaded, allowed = taskbits.load_program(program), seconds(limit, "limit")
    if model:
        base = taskbits.load_model(model, state, seed, revision, loaded.dtype, device_map)
    else:
        base = taskbits.open_study(program.resolve().parent.parent).load_model()
    if peft:
        kind = loaded.write_peft(base, peft, allowed)
        print(f"{peft}: {'a PEFT adapter' if kind == 'adapter' else 'the patched model, which no LoRA can hold'}")
        if (peft / "prefix.txt").exists():
            print(f"{peft / 'prefix.txt'}: the text that goes before each prompt")
        return
    try:
        size = standalone.write_bytes(loaded.standalone(base))
    except OSError as error:
        raise UserError(f"cannot write {standalone}: {error.strerror}") from error
    print(f"{standalone}: {size:,} bytes; run it with: python {standalone} --model M --input IN")


@app.command("save-model")
def save_model(
    model: ModelOption,
    folder: Annotated[Path, typer.Argument(help="Folder to write.")],
    state: StateOption = "given",
    seed: SeedOption = 0,
    revision: RevisionOption = None,
    dtype: DtypeOption = "auto",
    device_map: DeviceMapOption = None,
) -> None:
    """Write a model (from GGUF, at random, lab:NAME) as a Hugging Face folder: the M of a standalone program."""
    taskbits.load_model(model, state, seed, revision, dtype, device_map).save(folder)
    print(folder)


@app.command()
def frontier(folder: Path, as_json: JsonOption = False, trust: TrustOption = False) -> None:
    """Print the frontier of a study: the shortest program for each score."""
    study = taskbits.open_study(folder, trust)
    if as_json:
        print(json.dumps(study.rows()))
    else:
        tables.print_frontier(study)
    for m in study.unconfirmed():
        warn(f"{m.method} {m.program}, {m.bytes:,} bytes: not confirmed: {m.unconfirmed}")


@app.command()
def complexity(
    folder: Path,
    at: Annotated[
        float, typer.Option("--at", callback=_level, help="The level that the score must reach, from 0 to 1.")
    ],
    per_input: Annotated[
        str | None, typer.Option(help="Of the bare model's operations for an input a program may take so many, as 2x.")
    ] = None,
    as_json: JsonOption = False,
    trust: TrustOption = False,
) -> None:
    """Read C(T_δ | M) off a study: at most how many bytes reach the level, with 95% confidence."""
    study, times = taskbits.open_study(folder, trust), _times(per_input)
    if not as_json:
        tables.print_complexity(study, at, times)
        return

    def facts(m) -> dict:
        test = m and {**asdict(m.test), "bound": None if study.published else m.test.at_least}
        return {"bytes": m and m.bytes, "program": m and m.program, "method": m and m.method, "test": test}

    found, seen = study.complexity(at, times), study.on_test(at, times)
    alone = seen and facts(seen)
    asked = {"level": at, **({"per_input": times} if times else {})}
    print(json.dumps({**asked, **facts(found), "published": study.published, "on_this_test_set": alone}))


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
    studies = [taskbits.open_study(folder, trust) for folder in folders or []]
    found = taskbits.compare(studies, picture, _levels(at), imports if published else None)
    if as_json:
        print(json.dumps(found))
    else:
        tables.print_comparison(found)


@app.command("import")
def import_(
    kind: Annotated[str, typer.Argument(help="What the file holds: paper (the runs of Vergara-Browne et al. 2026).")],
    runs: Annotated[Path, typer.Argument(help="JSONL file, a run a line.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write the studies to.")] = Path("published"),
) -> None:
    """Read published runs into studies of published estimates, for `compare --published`."""
    if kind != "paper":
        raise UserError(f"can't import {kind!r}: use paper")
    studies, skipped = taskbits.import_published(runs, out)
    count, source = sum(len(study.measurements()) for study in studies), studies[0].published
    print(f"{out}: {count:,} published estimates ({source}) in {len(studies)} studies; no program stands behind them")
    for what, number in skipped.items():
        print(f"not known here, and skipped: {what} ({number:,} runs)")


@app.command()
def records(
    folders: Annotated[list[Path] | None, typer.Argument(help="Folders of studies.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Markdown file to write.")] = Path("records.md"),
    check: Annotated[
        Path | None, typer.Option("--check", help="Score the programs of this table again, which lie beside it.")
    ] = None,
    limit: LimitOption = _LIMIT,
    trust: TrustOption = False,
) -> None:
    """Write the shortest verified program for each task, model and level of several studies, as a table; or check one.

    With --check, exit code 0 only if all lengths and scores are those in the table.
    """
    if bool(folders) == bool(check):
        raise UserError("name folders of studies, or --check FILE")
    if not check:
        taskbits.write_records([taskbits.open_study(folder, trust) for folder in folders], out)
        print(out)
        return
    wrong = 0
    for row in taskbits.check_records(check, limit, trust):
        wrong += row["wrong"] is not None
        (size, value), verdict = row["recorded"], row["wrong"] or "as recorded"
        print(f"{row['program']}: {size:,} bytes, {value} on {row['task']}: {verdict}", flush=True)
    if wrong:
        print(f"taskbits: {wrong} of the records in {check} do not hold", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def report(folder: Path, trust: TrustOption = False) -> None:
    """Write the study's report: one HTML page, and its frontier as a picture in PNG and SVG."""
    for path in taskbits.open_study(folder, trust).report():
        print(f"{'report' if path.suffix == '.html' else 'picture'}: {path}")


@app.command()
def card(
    folder: Path,
    out: Annotated[Path | None, typer.Option("--out", help="Markdown file to write; printed by default.")] = None,
    trust: TrustOption = False,
) -> None:
    """Write a card for a model's page: what was found at three levels, and how to find it again."""
    text = taskbits.open_study(folder, trust).card()
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


def _times(text: str | None) -> float | None:
    """A factor such as "2x". Raises UserError if it is none."""
    if text is None:
        return None
    try:
        times = float(text.removesuffix("x"))
    except ValueError:
        times = 0.0
    if 0 < times < math.inf:
        return times
    raise UserError(f"--per-input takes a factor such as 2x, not {text!r}")


def _levels(text: str | None) -> list[float] | None:
    """Levels from text such as 0.5,0.7."""
    try:
        levels = None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        levels = [-1.0]
    if levels and not all(0 <= level <= 1 for level in levels):
        raise UserError(f"--at {text}: levels are numbers from 0 to 1 with commas between, such as 0.5,0.7")
    return levels
