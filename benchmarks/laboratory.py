"""The laboratory's three tasks given its three models: what each program's length is at the same level.

    python benchmarks/laboratory.py [--quick] [--out DIR] [--task math ...] [--state random ...] [--scale 1.0]

The level is the one that the best pre-trained program reaches, minus its interval; the ratios at round levels follow.
Draws one comparison a task into --out and ends with one JSON line. Studies that are there already are gone on with.
--state: search for these alone. --scale: of the seconds of each search; with 0, the tables of what was measured before.
"""

import argparse
import json
import tempfile
from pathlib import Path

from taskbits.report.figure import draw_comparison
from taskbits.search.measure import measure
from taskbits.studies.frontier import complexity, envelope, ratios
from taskbits.studies.study import Study

ROOT = Path(__file__).parent.parent
# Methods (None: all) and seconds. Models that are not post-trained get time to carry the weights of the one that is.
DONOR = "lab:posttrained"
SEARCHES = {
    "random": [(["zero-shot", "carried"], 600.0), (["carried+lora"], 600.0), (None, 90.0)],
    "pretrained": [(None, 150.0), (["lora"], 800.0), (["carried"], 180.0), (["carried+lora"], 120.0)],
    "posttrained": [(None, 60.0), (["lora"], 400.0)],
}


def level(study: Study) -> float:
    """The low end of the interval of the study's best program on test."""
    return envelope(study.measurements())[-1].test.low


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "build/laboratory")
    parser.add_argument("--task", nargs="*", default=["math", "translation", "instruction"])
    parser.add_argument("--state", nargs="*", default=list(SEARCHES), choices=list(SEARCHES))
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    searches, rows, out = SEARCHES, None, options.out
    if options.quick:
        searches, rows, out = dict.fromkeys(SEARCHES, [(None, 20.0)]), 40, Path(tempfile.mkdtemp())
    headline = {"benchmark": "laboratory", "quick": options.quick}
    for task in options.task:
        studies = {}
        for state, search in searches.items():
            folder, donor = out / task / state, DONOR if state != "posttrained" else None
            for methods, budget in search if options.scale and state in options.state else ():
                budget *= options.scale
                how = {"methods": methods, "budget": budget, "rows": rows, "donor": donor}
                measure(f"lab:{state}", f"lab:{task}", str(folder), **how)
            if folder.exists():
                studies[state] = Study.open(folder)
        if set(studies) != set(searches):
            continue
        draw_comparison(list(studies.values()), out / f"{task}.png")
        reach = level(studies["pretrained"])
        found = {state: complexity(study.measurements(), reach) for state, study in studies.items()}
        headline[task] = {"level": round(reach, 3)}
        for state, program in found.items():
            headline[task][state] = program and [program.bytes, program.payload_bytes, program.method]
            best = envelope(studies[state].measurements())[-1]
            print(
                f"{task:12} {state:12} {f'{program.bytes:,} B by {program.method}' if program else 'not reached':28}"
                f" best {best.test.value:.3f} in {best.bytes:,} B"
            )
        lengths = ratios({state: study.measurements() for state, study in studies.items()})
        headline[task]["bytes_at"] = {row["level"]: row["bytes"] for row in lengths}
    print(json.dumps(headline))


if __name__ == "__main__":
    main()
