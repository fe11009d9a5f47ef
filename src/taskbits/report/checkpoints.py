"""The picture of a training run: what it takes to reach a score (`frontier.complexity`), checkpoint by checkpoint.

It tells when a model came to be able to do the task at all, and when it became easy to ask for.
"""

import math
import textwrap
from pathlib import Path

import numpy as np

from taskbits.extras import needs
from taskbits.report.figure import ESTIMATED, SETTINGS, STYLES, blank, save
from taskbits.report.scale import ESTIMATE, bounds, metric, size, task, ticks
from taskbits.studies.checkpoints import name_of, training_step
from taskbits.studies.frontier import complexity, spread
from taskbits.studies.study import Study

with needs("report"):
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator


def draw_steps(runs: list[list[Study]], path: Path | str, levels: list[float] | None = None) -> None:
    """Draw the bytes that reach each level against the training step: a panel for each run of checkpoints.

    The checkpoints are numbered unless the step of each is known. Without levels, a few are chosen that are reached.
    """
    with matplotlib.rc_context(SETTINGS):
        figure = blank(len(runs), 3.0)
        for part, run in zip(np.atleast_1d(figure.subfigures(len(runs))), runs, strict=True):
            _panel(part, run, levels)
        save(figure, path)


def _panel(figure: SubFigure, run: list[Study], levels: list[float] | None) -> None:
    """Bytes by checkpoint, under a strip with a mark for each level that a checkpoint does not reach."""
    info, measured = run[0].info, [study.measurements() for study in run]
    levels = spread(measured) if levels is None else sorted(levels)
    steps = [training_step(study.info) for study in run]
    known = None not in steps
    places = steps if known else range(1, len(run) + 1)
    curves = {level: _shortest(places, measured, level) for level in levels}
    reached = [count for curve in curves.values() for count in curve.values() if count]
    low, high = bounds(reached)

    strip, axes = figure.subplots(2, 1, sharex=True, height_ratios=(0.05 * max(1, len(levels)) + 0.03, 1))
    shades = matplotlib.colormaps["viridis"]
    for i, (level, curve) in enumerate(curves.items()):
        colour, marker = shades(0.85 * (1 - i / max(1, len(levels) - 1))), STYLES[i % len(STYLES)][1]
        counts = [math.nan if count is None else count for count in curve.values()]
        # What is drawn first is larger: it can be seen behind what lies on it.
        wide = 4 + min(1.1, 6 / len(levels)) * (len(levels) - 1 - i)
        look = ESTIMATED if info.get("published") else {"linewidth": 1.1}
        axes.plot(
            list(curve), counts, color=colour, marker=marker, markersize=wide, label=f"{level:g}", clip_on=False, **look
        )
        missing = [place for place, count in curve.items() if count is None]
        strip.plot(missing, [i] * len(missing), color=colour, marker="x", markersize=4, linewidth=0)
    _strip(strip, len(levels))
    how = f"{ESTIMATE}s" if info.get("published") else "with 95% confidence"
    title = f"{task(info)}: bytes to reach a score, by checkpoint ({how})"
    strip.set_title(textwrap.fill(title, 44), loc="left")

    axes.set_yscale("log")
    axes.set_ylim(low / 1.2, high * 1.2)
    axes.yaxis.set_major_locator(FixedLocator(ticks(low, high)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: size(count)))
    axes.set_axisbelow(True)
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.set_ylabel("length (log scale)")
    axes.margins(x=0.06)
    if known:
        _steps(axes, steps)
    else:
        names = [name_of(study.info) for study in run]
        axes.set_xticks(places, names, rotation=35, ha="right", rotation_mode="anchor")
        order = "of training" if info.get("published") else "given"
        axes.set_xlabel(f"checkpoints in the order {order}\n(not all tell their step)")
    keys = [Line2D([], [], linewidth=0, label=f"score{metric(info)} ≥"), *axes.lines]
    look = {"frameon": False, "handlelength": 1.6, "handletextpad": 0.3, "columnspacing": 0.9}
    figure.legend(handles=keys, loc="outside lower left", ncols=min(6, len(keys)), **look)


def _shortest(places: list[int], measured: list[list], level: float) -> dict[int, int | None]:
    """Bytes that reach the level, by place on the axis; of two studies at one place, the lower bound counts."""
    found = dict.fromkeys(sorted(places))
    for place, programs in zip(places, measured, strict=True):
        m = complexity(programs, level)
        if m and (found[place] is None or m.bytes < found[place]):
            found[place] = m.bytes
    return found


def _strip(axes: Axes, rows: int) -> None:
    """The look of the strip: a row for each level, and what it means that there is a mark."""
    axes.set_ylim(-0.8, max(1, rows) - 0.2)
    axes.set_yticks([(max(1, rows) - 1) / 2], ["not\nreached"])
    axes.tick_params(which="both", length=0, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.set_facecolor("#f3f3f3")


def _steps(axes: Axes, steps: list[int]) -> None:
    """An axis of training steps: logarithmic, but for its start, where they grow from each to the next many times."""
    positive = sorted({step for step in steps if step})
    if positive and positive[-1] > 20 * positive[0]:
        axes.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
        decades = [10**k for k in range(len(str(positive[-1])) + 1)]
        shown = [0, *(step for step in decades if positive[0] <= step <= positive[-1])]
        axes.xaxis.set_major_locator(FixedLocator(shown))
        axes.xaxis.set_minor_locator(FixedLocator(positive))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: _count(step)))
    axes.set_xlabel("training step")


def _count(step: float) -> str:
    """A number of steps for an axis: 500, 20k, 1.5M."""
    for unit in ("", "k", "M"):
        if abs(step) < 1000 or unit == "M":
            return f"{step:g}{unit}"
        step /= 1000
