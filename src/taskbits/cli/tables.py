"""What the command line prints of a study, and of several beside each other."""

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Column, Table

from taskbits.display import console, stdout

if TYPE_CHECKING:
    from taskbits import Study
    from taskbits.search.shrink import Adapter


def print_comparison(found: dict) -> None:
    """What `taskbits.compare` found."""
    for group in found["groups"]:
        _print_levels(group)
        _print_information(group)
        for name, gap in group["gaps"].items():
            stdout().print(escape(f"{name}: {gap['says']}"), highlight=False)
    if found["published"]:
        _print_reductions(found["published"])
    for remark in found["remarks"]:
        print(remark)
    for path in found["pictures"]:
        print(f"picture: {path}")


def print_adapter(found: "Adapter") -> None:
    """What an adapter was before it was shrunk."""
    sizes = ", ".join(f"{name} {size:,} bytes" for name, size in found.sizes.items())
    scores = ", ".join(f"{score:.3f} on {split}" for split, score in found.scores.items())
    print(f"the adapter itself: {scores}; {sizes}")


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
    stdout().print(table)


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
    stdout().print(table)
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
    stdout().print(table)


def _bytes(count: int | None) -> str:
    return "not reached" if count is None else f"{count:,}"


def _heading(group: dict) -> str:
    return f"{group['task']}, {group['family']}" if group["family"] else group["task"]


def print_complexity(study: "Study", at: float, per_input: float | None = None) -> None:
    """What can be claimed of the task, and beside it what these test rows show.

    per_input: only of programs whose inputs take at most so many times the bare model's operations.
    """
    found, seen = study.complexity(at, per_input), study.on_test(at, per_input)
    if per_input:
        print(f"Of the programs whose inputs take at most {per_input:g} times the operations of the bare model:")
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
            f"program {study.path(found)}, scores {found.test.value:.3f} on {found.test.n:,} test rows "
            f"(at least {found.test.at_least:.3f} with 95% confidence)."
        )
    if seen and seen is not found:
        print(
            f"On this test set alone {seen.bytes:,} bytes score {seen.test.value:.3f}: {seen.method}, "
            f"program {study.path(seen)}."
        )


def print_frontier(study: "Study") -> None:
    found = study.rows()
    if not found:
        console.print("No program was measured yet.")
        return
    table = Table(title=escape(f"{study.model} on {study.task}"), box=None, pad_edge=False)
    others = study.others()
    columns = ("bytes", "payload", "method", "settings", "valid.", "test", "95%", "cost", *others.values(), "program")
    for column in columns:
        table.add_column(
            column,
            no_wrap=column != "settings",
            overflow="fold",
            justify="right" if column in ("bytes", "payload", "cost") else "left",
        )
    for row, m in zip(found, study.frontier(), strict=True):
        test = "" if row["test"] is None else f"{row['test']:.3f}"
        low, high = row["interval"]
        interval = "unknown" if low is None else f"{low:.2f}–{high:.2f}"
        table.add_row(
            f"{row['bytes']:,}",
            f"{row['payload_bytes']:,}",
            row["method"],
            escape(" ".join(m.settings_in_words)),
            "" if study.published else f"{row['validation']:.3f}",
            test,
            interval,
            f"{row['per_input']:.2f}x" if row["per_input"] else "",
            *(f"{row['elsewhere'][task]:.3f}" if task in row["elsewhere"] else "" for task in others),
            row["program"].removesuffix(".tbp") if row["program"] else "none",
        )
    shown = stdout()
    if not shown.is_terminal:  # nobody sees an edge there
        shown.width = max(shown.width, 120)
    shown.print(table)
    if any(row["per_input"] for row in found):
        print("cost: operations for an input, over those of the model as it is")
    if gap := study.gap():
        stdout().print(escape(str(gap)), highlight=False)
