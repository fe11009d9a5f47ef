"""A study as a notebook shows it: the frontier as a picture and a table, without scripts."""

from taskbits.report import chart
from taskbits.report.markup import Markup, h
from taskbits.report.scale import label, task
from taskbits.studies.frontier import rows
from taskbits.studies.study import Study

_STYLE = """
.taskbits{max-width:46rem;font:13px system-ui,sans-serif}.taskbits svg{width:100%;height:auto;font-size:12px}
.taskbits svg text{fill:currentColor}.taskbits .grid path{stroke:#8884;fill:none}.taskbits .target{fill:none}
.taskbits .steps,.taskbits .bar{fill:none;stroke:currentColor}.taskbits .steps{opacity:.5}
.taskbits .f0{fill:#0072b2}.taskbits .f1{fill:#d55e00}.taskbits .f2{fill:#009e73}.taskbits .f3{fill:#cc79a7}
.taskbits .dots{opacity:.4}
.taskbits td,.taskbits th{text-align:left;padding:.1em .8em .1em 0}
"""
_COLUMNS = ("bytes", "method", "validation", "test", "at least", "program")


def show(study: Study) -> str:
    """HTML for a cell's output."""
    measured = study.measurements()
    title = h("strong", f"{task(study.info)}: score against bytes added to {label(study.info)}")
    if not measured or study.published:
        how = "no program was measured yet" if not measured else f"{len(measured):,} published estimates"
        return str(h("div", title, h("p", how), class_="taskbits"))
    found = [h("tr", *(h("td", text) for text in _cells(row))) for row in rows(measured)]
    table = h("table", h("tr", *(h("th", name) for name in _COLUMNS)), *found)
    return str(h("div", h("style", Markup(_STYLE)), title, chart.draw(measured, 640, 300), table, class_="taskbits"))


def _cells(row: dict) -> list[str]:
    scores = (row["validation"], row["test"], row["bound"])
    return [
        f"{row['bytes']:,}",
        row["method"],
        *("" if s is None else f"{s:.3f}" for s in scores),
        row["program"] or "",
    ]
