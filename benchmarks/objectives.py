"""Training on references against training on the metric itself, at equal bytes.

    python benchmarks/objectives.py [--quick] [--steps 100]

lab:pretrained; each pair shares its supervised training, from which the metric's goes on. An evolution strategy where
the coefficients are few (`tiny`), policy gradient where they are many (`lora`). Scores on validation with their 95%
interval. Ends with one JSON line.
"""

import argparse
import json
import time

from taskbits.methods import method
from taskbits.models.model import load_model
from taskbits.search.scoring import score
from taskbits.tasks.load import load_task

PAIRS = [
    ("translation", "tiny", 4),
    ("translation", "tiny", 8),
    ("instruction", "tiny", 8),
    ("instruction", "tiny", 32),
    ("math", "lora", 512),
    ("instruction", "lora", 512),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    pairs, steps, rows = PAIRS, options.steps, None
    if options.quick:
        pairs, steps, rows = [PAIRS[0], PAIRS[4]], 4, 20
    model, found = load_model("lab:pretrained"), []
    print(f"{'task':12} {'method':7} {'bytes':>6} {'objective':10} {'payload':>8} {'validation':>24} {'seconds':>8}")
    for name, how, size in pairs:
        task = load_task(f"lab:{name}", rows)
        for objective in ("loss", "metric"):
            began = time.time()
            settings = {"bytes": size, "objective": objective, "steps": steps}
            with model.preserved():
                program = method(how).fit(model, task, settings, 0, lambda done, of: None).program
            seconds = time.time() - began
            value = score(program.to_bytes(), model, task, ["validation"]).scores["validation"]
            interval = f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"
            print(
                f"{name:12} {how:7} {size:6} {objective:10} {len(program.payload):8} {interval:>24} {seconds:8.0f}",
                flush=True,
            )
            found.append([name, how, size, objective, round(value.value, 4)])
    print(json.dumps({"benchmark": "objectives", "quick": options.quick, "scores": found}))


if __name__ == "__main__":
    main()
