"""Our files against the published accounting of the same programs, method by method.

    python benchmarks/length.py [--quick] [DIR ...]

Takes finished studies (of `taskbits measure`), or measures lab:pretrained on lab:math in a temporary folder. The
published accounting adds a script's size to 16 bits a trained parameter (LoRA) or to a cross-entropy (texts). Equal
score: for each of their programs, the shortest of ours from the same method that scores as much on validation.
Ends with one JSON line.
"""

import argparse
import json
import statistics
import tempfile

from published import published_bytes

from taskbits.search.measure import measure
from taskbits.studies.measurement import Measurement
from taskbits.studies.study import Study

# Whose programs stand against the published accounting of which method's.
OURS = {name: {name} for name in ("zero-shot", "few-shot", "instructed", "subset")}
OURS |= {"lora-fp16": {"lora-fp16", "lora"}}


def is_published(m: Measurement) -> bool:
    """Whether the published accounting knows programs of this kind: texts are drawn, not chosen."""
    return m.method in OURS and m.settings.get("tries", 1) == 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("studies", nargs="*")
    options = parser.parse_args()
    if options.studies:
        studies = [Study.open(folder) for folder in options.studies]
    else:
        limits = {"budget": 40.0, "rows": 40} if options.quick else {"budget": 600.0}
        folder = tempfile.mkdtemp()
        studies = [measure("lab:pretrained", "lab:math", folder, methods=[*OURS, "lora"], **limits)]
    ratios: dict[str, list[float]] = {}
    print(f"{'method':11} {'settings':52} {'score':>6} {'published':>11} {'ours':>9} {'ratio':>7}")
    for study in studies:
        found = study.measurements()
        for theirs in filter(is_published, found):
            ours = [m for m in found if m.method in OURS[theirs.method]]
            rivals = [m for m in ours if m.validation.value >= theirs.validation.value]
            ours = min(rivals, key=lambda m: m.bytes)
            ratio = published_bytes(theirs) / ours.bytes
            ratios.setdefault(theirs.method, []).append(ratio)
            settings = " ".join(f"{name}={value}" for name, value in theirs.settings.items())
            print(
                f"{theirs.method:11} {settings:52} {theirs.validation.value:6.3f} {published_bytes(theirs):11,.0f} "
                f"{ours.bytes:9,} {ratio:7.2f}"
            )
    medians = {name: round(statistics.median(values), 2) for name, values in ratios.items()}
    shorter = sum(ratio > 1 for values in ratios.values() for ratio in values)
    print(
        json.dumps(
            {
                "benchmark": "length",
                "quick": options.quick,
                "published_over_ours_median": medians,
                "programs": sum(map(len, ratios.values())),
                "ours_shorter": shorter,
            }
        )
    )


if __name__ == "__main__":
    main()
