"""Studies and scores as people use them, in notebooks and on the command line, which calls nothing else.

What only some of these need is loaded where it is needed: who reads a study loads no torch.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskbits.display import progress
from taskbits.errors import UserError
from taskbits.programs.program import LIMIT, Program, load_program
from taskbits.report.scale import label, others
from taskbits.report.scale import task as task_name
from taskbits.studies import frontier
from taskbits.studies.gap import Gap, gap
from taskbits.studies.measurement import Measurement
from taskbits.studies.study import Study as Store
from taskbits.tasks.metrics import Score
from taskbits.times import seconds

if TYPE_CHECKING:
    import pandas

    from taskbits.models.model import Model
    from taskbits.search.shrink import Adapter
    from taskbits.tasks.task import Task


class Study:
    """What was measured of one model on one task. Made by `measure`, opened by `open_study`.

    info: what is measured, as study.json says it. model, task: their names for people. published: where the estimates
    were published that stand here; None for a study of programs.
    """

    def __init__(self, store: Store):
        self._store = store
        self.folder, self.info, self.published = store.folder, store.info, store.published
        self.model, self.task = label(store.info), task_name(store.info)

    def __repr__(self) -> str:
        return f"<taskbits.Study of {self.model} on {self.task} in {self.folder}>"

    def measurements(self) -> list[Measurement]:
        """All programs that were scored, shortest first."""
        return self._store.measurements()

    def frontier(self) -> list[Measurement]:
        """The programs that no shorter or equally long one matches on validation, shortest first."""
        return frontier.envelope(self.measurements())

    def rows(self) -> list[dict]:
        """The frontier, ready for JSON."""
        return frontier.rows(self.measurements())

    def complexity(self, level: float, per_input: float | None = None) -> Measurement | None:
        """The shortest program that scores at least `level` with 95% confidence, which bounds C(T_level | M).

        per_input: only of those whose inputs take at most so many times the operations of the model as it is.
        None if there is none. The claim holds for each level by itself (Learn then Test, Angelopoulos et al. 2021).
        Raises UserError if no operations were counted.
        """
        return frontier.complexity(self._within(per_input), level)

    def on_test(self, level: float, per_input: float | None = None) -> Measurement | None:
        """The shortest program that scores `level` on these test rows: a fact, which says less of other rows.

        per_input and errors: as for `complexity`.
        """
        return frontier.on_test(self._within(per_input), level)

    def _within(self, per_input: float | None) -> list[Measurement]:
        return self.measurements() if per_input is None else frontier.within(self.measurements(), per_input)

    def gap(self) -> Gap | None:
        """The bytes that it takes to go half, and 95%, of the way from the shortest program's score to the best one's.

        By a logistic curve in log bytes (Donoway et al. 2025); None for fewer than four programs scored on test.
        """
        return gap(self.measurements())

    def others(self) -> dict[str, str]:
        """Other tasks that programs were scored on, with their names for people (`Measurement.elsewhere`)."""
        return others(self.measurements())

    def unconfirmed(self) -> list[Measurement]:
        """What could not be confirmed; `unconfirmed` of each says why."""
        return [m for m in self.measurements() if m.unconfirmed is not None]

    def path(self, program: Measurement | str) -> Path:
        """The `.tbp` file of a measured program. Raises UserError if there is none."""
        name = program if isinstance(program, str) else program.program
        if not name:
            raise UserError("no program stands behind a published estimate")
        return self._store.path(name)

    def program(self, measured: Measurement) -> Program:
        """A measured program. Raises UserError if its file is damaged or gone."""
        return load_program(self.path(measured))

    def load_model(self) -> "Model":
        """The model that was measured. Raises UserError if it is not the same any more."""
        from taskbits.search.confirm import open_model

        return open_model(self._store)

    def to_frame(self) -> "pandas.DataFrame":
        """All measurements as a table of pandas, one row each. Raises UserError if pandas is not installed."""
        try:
            import pandas
        except ImportError as error:
            raise UserError("to_frame needs pandas: pip install pandas") from error
        rows = []
        for m in self.measurements():
            row = {name: value for name, value in asdict(m).items() if name not in ("validation", "test", "content")}
            for split, score in (("validation", m.validation), ("test", m.test)):
                row |= {split: score and score.value, f"{split}_low": score and score.low}
                row |= {f"{split}_high": score and score.high, f"{split}_n": score and score.n}
            rows.append({**row, "test_at_least": m.test and m.test.at_least})
        return pandas.DataFrame(rows)

    def report(self) -> list[Path]:
        """Write report.html and the frontier as frontier.png and frontier.svg to the folder. Returns their paths.

        Raises UserError if they can't be written.
        """
        from taskbits.report.figure import draw_frontier
        from taskbits.report.page import write_page

        page, *pictures = (self.folder / name for name in ("report.html", "frontier.png", "frontier.svg"))
        write_page(self._store.require_programs(), page)
        for picture in pictures:
            draw_frontier(self._store, picture)
        return [page, *pictures]

    def card(self) -> str:
        """A Markdown card for a model's page: what was found at three levels, and how to find it again."""
        from taskbits.report.card import make_card

        return make_card(self._store.require_programs())

    def _repr_html_(self) -> str:
        from taskbits.report.notebook import show

        return show(self._store)


@dataclass(frozen=True)
class Scored:
    """bytes: the program's length, the size of its standalone file. outputs: what it wrote for each row of a split."""

    bytes: int
    payload_bytes: int
    score: Score
    outputs: list[str]


def open_study(folder: Path | str, trust: bool = False) -> Study:
    """The study in a folder. trust: open the database and the files that it names outside of its folder, too.

    Raises UserError if there is none.
    """
    return Study(Store.open(folder, trust))


def measure(
    model: "str | Path | tuple | Model",
    task: "str | Path | dict | Task",
    out: Path | str,
    *,
    methods: Iterable[str] | None = None,
    budget: float | str | None = None,
    target: float | None = None,
    seed: int = 0,
    state: str = "given",
    revision: str | None = None,
    dtype: str = "auto",
    device_map: str | None = None,
    donor: "str | Path | None" = None,
    also: "Iterable[str | Path]" = (),
    rows: int | None = None,
    data: str | None = None,
    chat: bool | None = None,
    race: bool = True,
    storage: str | None = None,
    files: str | None = None,
    retry: bool = False,
) -> Study:
    """Find programs for a model and a task, score them, and keep every one in the folder `out`.

    >>> import tempfile
    >>> import taskbits
    >>> out = tempfile.mkdtemp()
    >>> study = taskbits.measure("lab:posttrained", "lab:translation", out, methods=["zero-shot"], rows=20)
    >>> best = study.complexity(0.5)
    >>> program = taskbits.load_program(study.path(best))
    >>> program.run(study.load_model(), [{"question": "Say in Velan: this fox draws my sailor"}])
    [' tidu das zaso kus lusu']
    >>> taskbits.score(program, "lab:posttrained", study.info["task"]).bytes == best.bytes
    True

    model, task: as `load_model` and `load_task` take them, or what they give. What is in memory alone is written to
    `out`, for the fresh process that confirms, and for those who come later. The same call goes on with a study.

    methods: names, with + between for methods in turn; all by default, and what the frontier has in turn. budget:
    seconds or "3m" for the study; whole sweeps by default. target: look only for the shortest program that scores as
    much. state, revision, dtype, device_map: of a model that is named, as `load_model` takes them. donor: another
    checkpoint of it, or a PEFT adapter, whose weights programs may carry. also: other tasks, by name, on whose test
    rows what is on the frontier is scored once, too (`Measurement.elsewhere`). rows, data, chat: of a task that is
    named. race: stop scoring a program that is dominated beyond doubt. storage: a database URL; SQLite in `out` by
    default. files: a folder or fsspec URL for programs. retry: try again what failed.
    Raises UserError on bad input.
    """
    options = {**locals(), "out": str(out)}
    from taskbits.search.measure import measure as run

    return Study(run(**options))


def measure_each(
    models: Sequence[str], revisions: Sequence[str | None], task: str, out: Path | str, **options: Any
) -> tuple[list[Study], UserError | None]:
    """Measure each model at each revision in a folder of its own in `out`, with the same options (see `measure`).

    Returns the studies, and why others could not be made, if any.
    """
    from taskbits.search.each import measure_each as run

    if options.get("budget") is not None:
        options["budget"] = seconds(options["budget"])  # in one way, by which a finished study is known
    studies, refusal = run(list(models), list(revisions), task, str(out), **options)
    return [Study(store) for store in studies], refusal


def shrink(
    adapter: Path | str,
    model: "str | Path | tuple | Model",
    task: "str | Path | dict | Task",
    out: Path | str,
    **options: Any,
) -> "tuple[Study, Adapter]":
    """Make a PEFT adapter's folder (LoRA, rsLoRA, DoRA) short: programs from its size downwards, in a study in `out`.

    options: as `measure` takes them, but for methods and donor. Returns the study, and the adapter's own sizes in bytes
    (as given, and as public tools pack it) and scores by split. Raises UserError if it is no adapter for this model.
    """
    from taskbits.search.shrink import shrink as run

    if options.get("budget") is not None:
        options["budget"] = seconds(options["budget"])
    study, found = run(Path(adapter), model, task, str(out), **options)
    return Study(study), found


def work(storage: str, study: str | None = None, budget: float | str | None = None) -> None:
    """Work on a study along with others, known by the URL of its storage and, if that has several, by its name.

    Raises UserError if there is no such study, or if its model or task is not what it was.
    """
    # Before torch is loaded: workers that take all cores each are in each other's way.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from taskbits.search.worker import work as run

    run(storage, study, None if budget is None else seconds(budget))


def score(
    program: Program | Path | str,
    model: "str | Path | tuple | Model",
    task: "str | Path | dict | Task",
    split: str = "test",
    limit: float | str = LIMIT,
) -> Scored:
    """Length and score of a program from anywhere, decoded from its bytes, on a split of a task.

    limit: time that decoding may take. Raises UserError if the program is damaged or for another model, or if the split
    is none of train, validation and test.
    """
    from taskbits.models.model import Model, load_model
    from taskbits.search.scoring import score as run
    from taskbits.tasks.load import load_task
    from taskbits.tasks.rows import SPLITS
    from taskbits.tasks.task import Task

    if split not in SPLITS:
        raise UserError(f"there is no split {split!r}: use {', '.join(SPLITS)}")
    loaded = program if isinstance(program, Program) else load_program(program)
    allowed = seconds(limit, "limit")
    task = task if isinstance(task, Task) else load_task(task)
    model = model if isinstance(model, Model) else load_model(model, dtype=loaded.dtype)
    with progress() as display:
        bar = display.add_task("scoring", total=len(task.splits[split]))
        found = run(loaded.to_bytes(), model, task, [split], lambda n: display.advance(bar, n), limit=allowed)
    return Scored(found.bytes, found.payload_bytes, found.scores[split], found.outputs[split])


def verify(
    program: Path | str, limit: float | str = LIMIT, trust: bool = False
) -> tuple[int, dict[str, tuple[Score, Score]]]:
    """Decode a program of a study again and score it: its bytes, and by split the score now and the recorded one.

    trust: run the code of the study's task; open what it names outside of its folder.
    Raises UserError if length or adapted model are not the recorded ones, or if the study has no record of it.
    """
    from taskbits.search.confirm import check, open_parts

    program = Path(program)
    load_program(program)
    allowed = seconds(limit, "limit")
    study = Store.open(program.resolve().parent.parent, trust)
    found = [m for m in study.measurements() if m.program == program.stem]
    if not found:
        raise UserError(f"{program}: the study in {study.folder} has no record of it")
    recorded = {"validation": found[0].validation, **({"test": found[0].test} if found[0].test else {})}
    model, task = open_parts(study, code=trust)
    with progress() as display:
        bar = display.add_task("scoring", total=sum(len(task.splits[split]) for split in recorded))
        scores = check(study, found[0], model, task, list(recorded), lambda n: display.advance(bar, n), allowed).scores
    return found[0].bytes, {split: (scores[split], was) for split, was in recorded.items()}


def compare(
    studies: Sequence[Study],
    picture: Path | str = "comparison.png",
    at: Sequence[float] | None = None,
    published: Path | str | None = None,
    one_run: bool = False,
) -> dict:
    """Draw the frontiers of several studies, and what each checkpoint of a run needs; compare bytes at several levels.

    at: the levels; some round ones by default. published: folder of imported estimates to stand beside them. one_run:
    take all studies for checkpoints of one run, whatever their names tell.
    Returns {"groups", "published", "remarks", "pictures"}. Raises UserError if there is nothing to compare.
    """
    from taskbits.report import comparison
    from taskbits.report.checkpoints import draw_steps
    from taskbits.report.figure import draw_comparison
    from taskbits.studies.checkpoints import runs
    from taskbits.studies.published import open_published, reductions

    stores, picture = [study._store for study in studies], Path(picture)
    estimates = open_published(Path(published)) if published else []
    if not stores and not estimates:
        raise UserError("nothing to compare: name folders of studies, or --published")
    shown = [*stores, *comparison.beside(stores, estimates)]
    draw_comparison(shown, picture)
    pictures = [picture]
    if checkpoints := [stores] if one_run else runs(stores):
        pictures.append(picture.with_name(f"{picture.stem}-steps{picture.suffix}"))
        draw_steps(checkpoints, pictures[1], at)
    return {
        "groups": comparison.compare(shown, at) if stores else [],
        "published": reductions(estimates),
        "remarks": comparison.remarks(shown),
        "pictures": [str(path) for path in pictures],
    }


def import_published(runs: Path | str, out: Path | str) -> tuple[list[Study], dict[str, int]]:
    """Read the runs of Vergara-Browne et al. 2026 (a JSON object a line) into studies of estimates, in `out`.

    Returns the studies, and how many runs were skipped by what of theirs is not known here. Raises UserError if a line
    is no such run.
    """
    from taskbits.studies.published import import_paper

    stores, skipped = import_paper(Path(runs), Path(out))
    return [Study(store) for store in stores], skipped


def write_records(studies: Iterable[Study], out: Path | str) -> None:
    """Write the shortest verified program for each task, model and level of several studies, as a Markdown table.

    Raises UserError if it can't be written.
    """
    from taskbits.report.records import write_records as write

    write([study._store.require_programs() for study in studies], Path(out))


def check_records(table: Path | str, limit: float | str = LIMIT, trust: bool = False) -> Iterable[dict]:
    """Score again, one by one, the programs of a records table that lie beside it, and say what came of each.

    Each is {"program", "model", "task", "recorded", "found", "wrong"}: bytes and test score as recorded and as found,
    and what is wrong with the row, None if nothing is. Raises UserError if the file is no such table.
    """
    from taskbits.report.records import read_records

    rows, allowed = read_records(Path(table)), seconds(limit, "limit")
    return (_checked(row, allowed, trust) for row in rows)


def _checked(row: dict, allowed: float, trust: bool) -> dict:
    from taskbits.models.model import load_model
    from taskbits.tasks.load import load_task

    options = dict(row["options"])
    shown = {"program": str(row["program"]), "model": options["model"], "task": options["task"]}
    shown |= {"recorded": [row["bytes"], row["test"]], "found": None, "wrong": None}
    try:
        rows = int(options["rows"]) if "rows" in options else None
        state, seed = options.get("state", "given"), int(options.get("seed", 0))
        task = load_task(options["task"], rows, options.get("data"), options.get("chat"), code=trust)
        dtype = load_program(row["program"]).dtype
        model = load_model(options["model"], state, seed, options.get("revision"), dtype)
        found = score(row["program"], model, task, options.get("split", "test"), allowed)
    except (UserError, ValueError) as error:
        return {**shown, "wrong": str(error)}
    shown["found"] = [found.bytes, f"{found.score.value:.3f}"]
    if shown["found"] != shown["recorded"]:
        shown["wrong"] = f"{found.bytes:,} bytes score {found.score.value:.3f}"
    return shown


def list_methods() -> list[dict[str, str]]:
    """All methods: {"method", "family", "origin", "summary"} each. Runs none of them."""
    from taskbits.methods import described, names

    return [described(name) for name in names()]
