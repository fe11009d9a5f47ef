"""Pictures of frontiers for papers and READMEs, as PNG or SVG by the name of the file."""

import textwrap
from collections.abc import Callable, Collection
from pathlib import Path

from taskbits.errors import UserError
from taskbits.extras import needs
from taskbits.report.comparison import groups, names
from taskbits.report.scale import ESTIMATE, FAMILIES, bounds, label, metric, score_limit, size, task, ticks
from taskbits.studies.frontier import envelope
from taskbits.studies.measurement import Measurement
from taskbits.studies.study import Study

with needs("report"):
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.colors import to_hex
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

# Okabe and Ito's colours, which the colour-blind can tell apart; markers differ too, for black and white.
STYLES = [
    ("#0072B2", "o"),
    ("#D55E00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#E69F00", "v"),
    ("#56B4E9", "P"),
    ("#000000", "X"),
    ("#999999", "*"),
]
_GREY = "#777777"
# The look of a published estimate, which no program stands behind.
ESTIMATED = {"linewidth": 1.1, "linestyle": (0, (3, 1.5)), "markerfacecolor": "white"}
SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 8,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "text.parse_math": False,
    "svg.hashsalt": "taskbits",
}


def draw_frontier(study: Study, path: Path | str) -> None:
    """Draw score against length for one study, with a colour for each family of methods."""
    info, measured = study.info, study.measurements()
    styles = dict(zip(FAMILIES, STYLES, strict=False))
    legend = {family: styles[family] for family in FAMILIES if any(m.family == family for m in measured)}
    title = f"{task(info)}: score against bytes added to {label(info)}"
    with matplotlib.rc_context(SETTINGS):
        figure, axes = _start(title, info, measured)
        _curve(axes, measured, lambda m: styles[m.family], line=_GREY)
        _finish(figure, list(legend.items()), [measured], path)


def draw_comparison(studies: list[Study], path: Path | str) -> None:
    """Draw the frontiers of several models, with a colour for each: a row for each task, a column for each family of
    published models. Published estimates are hollow and dashed, and their dots are left out."""
    panels = groups(studies)
    tasks, families = (list(dict.fromkeys(part)) for part in zip(*panels, strict=True))
    many = len(families) > 1
    titles = {
        # Each family has checkpoints of its own: what they share is the kind of training.
        study.folder: f"{study.info['training']} ({ESTIMATE})" if many and study.info.get("training") else name
        for study, name in zip(studies, names(studies), strict=True)
    }
    styles = dict(zip(dict.fromkeys(titles.values()), _styles(len(set(titles.values()))), strict=True))
    measured = {study.folder: study.measurements() for study in studies}
    low, high = bounds([m.bytes for found in measured.values() for m in found])
    with matplotlib.rc_context(SETTINGS):
        figure = blank(len(tasks), 2.1 if many else 2.8)
        for (name, family), shown in panels.items():
            row, column = tasks.index(name), families.index(family)
            same_task = sum((measured[study.folder] for study in studies if task(study.info) == name), [])
            place = figure.add_subplot(len(tasks), len(families), row * len(families) + column + 1)
            axes = _axes(place, f"{name}: score against bytes added, by model", shown[0].info, same_task)
            if many:
                axes.set_title(family if row == 0 else "", loc="left")
                axes.set_xlabel("length in bytes" if row == len(tasks) - 1 else "")
                axes.set_ylabel(f"{name}: {axes.get_ylabel()}" if column == 0 else "")
                axes.tick_params(labelleft=column == 0, labelbottom=row == len(tasks) - 1)
                axes.set_xlim(low, high)
                axes.xaxis.set_major_locator(FixedLocator(ticks(low, high, 4)))
            for i, study in enumerate(shown):
                style = styles[titles[study.folder]]
                # What is drawn first is larger: it can be seen behind what lies on it.
                marker_size = (3 if many else 4) + min(0.8 if many else 1.2, 6 / len(shown)) * (len(shown) - 1 - i)
                draw = _estimates if study.published else _curve
                draw(axes, measured[study.folder], lambda m, style=style: style, style[0], marker_size)
        mine = [measured[study.folder] for study in studies if not study.published]
        dashed = {titles[study.folder] for study in studies if study.published}
        _finish(figure, list(styles.items()), mine, path, dashed)


def draw_methods(panels: list[list[Study]], path: Path | str) -> None:
    """Draw score against length for each method, one panel for the studies of one task and model."""
    measured = [sum((study.measurements() for study in studies), []) for studies in panels]
    names = sorted({m.method for found in measured for m in found})
    styles = {name: STYLES[i % len(STYLES)] for i, name in enumerate(names)}
    curves = [[[m for m in found if m.method == name] for name in names] for found in measured]
    with matplotlib.rc_context(SETTINGS):
        figure = blank(len(panels))
        for k, (studies, found) in enumerate(zip(panels, measured, strict=True)):
            info = studies[0].info
            title = f"{task(info)}: score against bytes added to {label(info)}, by method"
            axes = _axes(figure.add_subplot(len(panels), 1, k + 1), title, info, found)
            for one, style in zip(curves[k], styles.values(), strict=True):
                _curve(axes, one, lambda m, style=style: style, line=style[0], goes_on=False)
        _finish(figure, list(styles.items()), sum(curves, []), path)


def _start(title: str, info: dict, measured: list[Measurement]) -> tuple[Figure, Axes]:
    """A figure of one panel, without points."""
    figure = blank(1)
    return figure, _axes(figure.add_subplot(), title, info, measured)


def blank(panels: int, height: float = 2.3) -> Figure:
    """As wide as a column of a paper, 85 mm: its letters stay as large as here. height: of a row, in inches."""
    return Figure(figsize=(3.35, 0.55 + height * panels), dpi=300, layout="constrained")


def _styles(count: int) -> list[tuple[str, str]]:
    """So many colours with markers: if they are more than can be told apart by name, from dark to light."""
    if count <= len(STYLES):
        return STYLES[:count]
    shades = matplotlib.colormaps["viridis"].resampled(count + 1)
    return [(to_hex(shades(i)), STYLES[i % len(STYLES)][1]) for i in range(count)]


def _axes(axes: Axes, title: str, info: dict, measured: list[Measurement]) -> Axes:
    """Titles, scales and grid of a panel for these measurements."""
    low, high = bounds([m.bytes for m in measured])
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(0, score_limit(measured))
    axes.xaxis.set_major_locator(FixedLocator(ticks(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: size(value)))
    axes.set_axisbelow(True)
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.set_title(textwrap.fill(title, 48), loc="left")
    axes.set_xlabel("length of the program, in bytes (log scale)")
    split = "test" if any(m.test for m in measured) else "validation"
    axes.set_ylabel(f"{split} score{metric(info)}")
    if not measured:
        axes.text(0.5, 0.5, "nothing measured yet", transform=axes.transAxes, ha="center", color=_GREY)
    return axes


def _curve(
    axes: Axes, measured: list[Measurement], style: Callable, line: str, marker_size: float = 5, goes_on: bool = True
) -> None:
    if not measured:
        return
    axes.scatter(
        [m.bytes for m in measured],
        [m.validation.value for m in measured],
        c=[style(m)[0] for m in measured],
        s=6,
        alpha=0.4,
        linewidth=0,
    )
    programs = envelope(measured)
    scores = [(m.test or m.validation).value for m in programs]
    # To the right of the last program nothing better is known: the line goes on.
    beyond = [(axes.get_xlim()[1], scores[-1])] if goes_on else []
    axes.step(
        [*(m.bytes for m in programs), *(size for size, _ in beyond)],
        [*scores, *(score for _, score in beyond)],
        where="post",
        color=line,
        linewidth=1.1,
    )
    for m, score in zip(programs, scores, strict=True):
        colour, marker = style(m)
        bars = [[max(0, score - m.test.low)], [max(0, m.test.high - score)]] if m.test else None
        axes.errorbar(
            m.bytes,
            score,
            yerr=bars,
            fmt=marker,
            color=colour,
            markersize=marker_size,
            elinewidth=0.8,
            capsize=1.8,
            markerfacecolor=colour if m.test else "white",
            clip_on=False,
            zorder=3,
        )


def _estimates(axes: Axes, measured: list[Measurement], style: Callable, line: str, marker_size: float = 5) -> None:
    """The frontier of published estimates: hollow, dashed, without intervals."""
    programs = envelope(measured)
    sizes, scores = [m.bytes for m in programs], [m.test.value for m in programs]
    beyond = axes.get_xlim()[1]
    axes.step([*sizes, beyond], [*scores, scores[-1]], where="post", color=line, **ESTIMATED)
    for m, score in zip(programs, scores, strict=True):
        colour, marker = style(m)
        look = ESTIMATED | {"linewidth": 0}
        axes.plot(m.bytes, score, color=colour, marker=marker, markersize=marker_size, clip_on=False, zorder=3, **look)


def _finish(
    figure: Figure,
    legend: list[tuple],
    curves: list[list[Measurement]],
    path: Path | str,
    dashed: Collection[str] = (),
) -> None:
    keys = []
    for text, (colour, marker) in legend:
        look = ESTIMATED if text in dashed else {"linewidth": 0}
        keys.append(Line2D([], [], color=colour, marker=marker, markersize=5, label=textwrap.fill(text, 46), **look))
    tested = [bool(m.test) for measured in curves for m in envelope(measured)]
    grey = {"color": _GREY, "marker": "o", "linewidth": 0}
    if any(tested):
        keys.append(Line2D([], [], **grey, markersize=2, label="measured (validation)"))
    if not all(tested):
        keys.append(Line2D([], [], **grey, markersize=5, markerfacecolor="white", label="not yet scored on test"))
    if keys:
        lengths = [len(key.get_label()) for key in keys]
        half = (len(keys) + 1) // 2
        fits = max(lengths[:half]) + max(lengths[half:], default=0) <= 44
        figure.legend(
            handles=keys,
            loc="outside lower left",
            ncols=2 if fits else 1,
            frameon=False,
            handletextpad=0.3,
            columnspacing=1.2,
        )
    save(figure, path)


def save(figure: Figure, path: Path | str) -> None:
    """Write the picture. Raises UserError if that can't be."""
    try:
        # Without a date, the same study gives the same file.
        figure.savefig(path, metadata={"Date": None} if Path(path).suffix.lower() == ".svg" else None)
    except OSError as error:
        raise UserError(f"cannot write the picture {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"cannot draw {path}: name a file that ends in .png or .svg") from error
