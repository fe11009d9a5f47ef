"""Every program on the frontiers of some studies, held to what is claimed of it.

    python benchmarks/check.py [--quick] DIR ...

For each: the exported file has the reported length; run alone, it prints what `taskbits run` does; `taskbits verify`
passes (a fresh process, the recorded scores to the last digit). --quick: no `verify`. Ends with one JSON line; exit
code 1 if any claim does not hold.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from taskbits.programs.export import standalone
from taskbits.programs.program import Program
from taskbits.search.confirm import open_parts
from taskbits.studies.frontier import envelope
from taskbits.studies.study import Study

ROWS = 5


def runs_alone(study: Study) -> list[bool]:
    """For each program on the frontier, whether the exported file has its length and gives the outputs of `run`."""
    model, task = open_parts(study)
    rows = task.splits["test"][:ROWS]
    agree = []
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        for found in envelope(study.measurements()):
            program = Program.from_bytes(study.path(found.program).read_bytes())
            file = Path(folder) / "alone.py"
            file.write_bytes(standalone(program, model.dtype))
            result = subprocess.run(
                [sys.executable, "-I", file, "--model", folder, "--input", "-"],
                check=True,
                text=True,
                input="".join(json.dumps(row) + "\n" for row in rows),
                stdout=subprocess.PIPE,
            )
            alone = [json.loads(line) for line in result.stdout.splitlines()]
            agree.append(file.stat().st_size == found.bytes and alone == program.run(model, rows))
    return agree


def verifies(study: Study) -> list[bool]:
    """For each program on the frontier, whether `taskbits verify` passes."""
    command = [sys.executable, "-m", "taskbits", "verify"]
    frontier = envelope(study.measurements())
    return [
        subprocess.run([*command, study.path(m.program)], stdout=subprocess.DEVNULL).returncode == 0 for m in frontier
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("studies", nargs="+")
    options = parser.parse_args()
    checks = {"run_alone": runs_alone} if options.quick else {"run_alone": runs_alone, "verify": verifies}
    passed: dict[str, list[bool]] = {name: [] for name in checks}
    for folder in options.studies:
        for name, check in checks.items():
            results = check(Study.open(folder))
            passed[name] += results
            print(f"{folder}: {name} {sum(results)} of {len(results)}")
    headline = {name: [sum(results), len(results)] for name, results in passed.items()}
    print(json.dumps({"benchmark": "check", "quick": options.quick, **headline}))
    sys.exit(not all(map(all, passed.values())))


if __name__ == "__main__":
    main()
