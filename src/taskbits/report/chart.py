"""A frontier as SVG for a web page: drawn without scripts, coloured by the page's style sheet.

Each program on the frontier is a link to the element "p-HASH"; `data-tip` says in words what a point shows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from taskbits.report.markup import Markup, h
from taskbits.report.scale import FAMILIES, bounds, score_limit, size, ticks
from taskbits.studies.frontier import bare, candidates, envelope, round_numbers, times
from taskbits.studies.measurement import Measurement
from taskbits.tasks.metrics import Score

# Around (0, 0), of about the same area.
_SHAPES = ("M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z", "M-4.5 -4.5h9v9h-9z", "M0 -6L5.5 4.5h-11z", "M0 -6l6 6l-6 6l-6 -6z")


def draw(measured: list[Measurement], width: int, height: int) -> Markup:
    """The frontier in a picture whose letters are made for a size of `width` x `height` CSS pixels."""
    ends = bounds([m.bytes for m in measured])
    axis = _Axis("length of the program", "bytes", lambda m: m.bytes, ends, size)
    return _plot(measured, envelope(measured), axis, width, height)


def draw_running(measured: list[Measurement], width: int, height: int) -> Markup:
    """Score against what an input takes, for the frontier's candidates; empty where that was not counted."""
    if not (least := bare(measured)):
        return Markup()

    def cost(m: Measurement) -> float:
        return times(m, least)

    shown = [m for m in measured if m.flops_per_input]
    ends = min(map(cost, shown)) / 1.1, max(2.2, 1.1 * max(map(cost, shown)))
    axis = _Axis("operations for an input", "times the bare model's", cost, ends, lambda t: f"{t:g}x")
    return _plot(shown, envelope(candidates(shown), cost), axis, width, height)


@dataclass(frozen=True)
class _Axis:
    """What a picture shows from left to right, on a log scale."""

    name: str
    unit: str
    of: Callable[[Measurement], float]
    ends: tuple[float, float]
    label: Callable[[float], str]


def _plot(measured: list[Measurement], programs: list[Measurement], axis: _Axis, width: int, height: int) -> Markup:
    """All programs as dots, some as marks, with a line through these."""
    low, high = axis.ends
    top = score_limit(measured)
    left, right, upper, lower = 46, width - 14, 26, height - 44

    def x(value: float) -> float:
        return round(left + (right - left) * math.log(value / low) / math.log(high / low), 1)

    def y(score: float) -> float:
        return round(lower - (lower - upper) * min(score, top) / top, 1)

    sizes, scores = ticks(low, high), [0, *round_numbers(0, top)]
    grid = [h("path", d=f"M{x(t)} {upper}V{lower}") for t in sizes]
    grid += [h("path", d=f"M{left} {y(s)}H{right}") for s in scores]
    split = "test" if any(m.test for m in measured) else "validation"
    names = [h("text", axis.label(t), x=x(t), y=lower + 18, text_anchor="middle") for t in sizes]
    names += [h("text", f"{s:g}", x=left - 8, y=y(s) + 4, text_anchor="end") for s in scores]
    names.append(h("text", f"{split} score", x=4, y=13))
    names.append(
        h(
            "text",
            f"{axis.name}, in {axis.unit} (log scale)",
            x=(left + right) / 2,
            y=height - 4,
            text_anchor="middle",
        )
    )

    dots = [
        h(
            "circle",
            cx=x(axis.of(m)),
            cy=y(m.validation.value),
            r=2.5,
            class_=_family(m),
            data_family=FAMILIES.index(m.family),
            data_tip=_describe(m, m.validation),
        )
        for m in measured
    ]
    line = "".join(
        f"{'H' if i else 'M'}{x(axis.of(m))}{'V' if i else ' '}{y((m.test or m.validation).value)}"
        for i, m in enumerate(programs)
    )
    steps = h("path", d=f"{line}H{right}", class_="steps") if programs else Markup()
    points = [_point(m, x(axis.of(m)), y) for m in programs]
    return h(
        "svg",
        h("g", *grid, class_="grid"),
        h("g", *names),
        h("g", *dots, class_="dots"),
        steps,
        *points,
        viewBox=f"0 0 {width} {height}",
        role="group",
        aria_label=f"{split.capitalize()} score against {axis.name}",
    )


def legend(measured: list[Measurement]) -> Markup:
    """What the colours and shapes stand for. The style sheet hides, in the whole page, the families not ticked."""
    keys = [
        h("label", h("input", type="checkbox", name="family", value=i, checked="", autocomplete="off"), mark(i), family)
        for i, family in enumerate(FAMILIES)
        if any(m.family == family for m in measured)
    ]
    if any(m.test is None for m in envelope(measured)):
        keys.append(h("span", _mark(_SHAPES[0], "untested"), "not yet scored on test"))
    return h("div", *keys, class_="legend", role="group", aria_label="Families shown")


def mark(family: int) -> Markup:
    """The sign of a family, as high as a line of text."""
    return _mark(_SHAPES[family], f"f{family}")


def _mark(shape: str, name: str) -> Markup:
    return h("svg", h("path", d=shape, class_=name), viewBox="-7 -7 14 14", class_="mark", aria_hidden="true")


def _describe(m: Measurement, score: Score) -> str:
    split = "test" if score is m.test else "validation"
    return (
        f"{m.method}, {m.bytes:,} bytes: {split} {score.value:.3f} (95% interval {score.low:.3f} to {score.high:.3f})"
    )


def _family(m: Measurement) -> str:
    return f"f{FAMILIES.index(m.family)}"


def _point(m: Measurement, x: float, y: Callable[[float], float]) -> Markup:
    score = m.test or m.validation
    parts = []
    if m.test:
        low, high = y(score.low), y(score.high)
        bar = f"M{x} {low}V{high}M{x - 3:.1f} {low}h6M{x - 3:.1f} {high}h6"
        parts.append(h("path", d=bar, class_="bar"))
    parts.append(h("circle", cx=x, cy=y(score.value), r=12, class_="target"))
    parts.append(
        h(
            "path",
            d=_SHAPES[FAMILIES.index(m.family)],
            transform=f"translate({x} {y(score.value)})",
            class_=None if m.test else "untested",
        )
    )
    words = _describe(m, score)
    return h(
        "a",
        *parts,
        href=f"#p-{m.program}",
        class_=f"point {_family(m)}",
        data_family=FAMILIES.index(m.family),
        data_tip=words,
        aria_label=words,
    )
