"""Several models or revisions, such as the checkpoints of a training run: one study each, measured alike."""

import hashlib
import itertools
import json
import re
from pathlib import Path

from taskbits.display import warn
from taskbits.errors import UserError, in_short
from taskbits.search.measure import measure
from taskbits.studies.study import Study

_FINISHED = "finished.json"


def measure_each(
    models: list[str], revisions: list[str | None], task: str, out: str, **options
) -> tuple[list[Study], UserError | None]:
    """Measure each model at each revision in a folder of its own in `out`, with the same options for each.

    options: see `measure`; a budget is for one study. What was finished with the same options is not measured again.
    Returns the studies, and why others could not be made, if any: one's failure doesn't keep the rest from it.
    """
    wanted = list(dict.fromkeys(itertools.product(models, revisions)))
    studies, failed = [], {}
    for (model, revision), name in zip(wanted, _folders(wanted), strict=True):
        folder = Path(out) / name
        settings = json.dumps({"model": model, "revision": revision, "task": task, **options}, sort_keys=True)
        marker = folder / _FINISHED
        try:
            if marker.exists() and marker.read_text(encoding="utf-8") == settings:
                elsewhere = bool(options.get("storage") or options.get("files"))
                studies.append(Study.open(folder, trust=elsewhere))
                warn(f"{folder}: finished before", style="none")
                continue
            warn(f"{folder}:", style="none")
            studies.append(measure(model, task, str(folder), revision=revision, **options))
            marker.write_text(settings, encoding="utf-8")
        except Exception as error:
            failed.setdefault(in_short(error), []).append(_name(model, revision))
    if not failed:
        return studies, None
    reasons = "; ".join(f"{', '.join(which)}: {reason}" for reason, which in failed.items())
    return studies, UserError(f"{len(wanted) - len(studies)} of {len(wanted)} were not measured: {reasons}")


def _name(model: str, revision: str | None) -> str:
    return f"{model}@{revision}" if revision else model


def _folders(wanted: list[tuple[str, str | None]]) -> list[str]:
    """A folder's name for each model and revision: legible, and with a hash where two would have the same."""
    full = [_name(*one) for one in wanted]
    plain = [re.sub(r"[^A-Za-z0-9_.@-]+", "-", name).strip("-.")[-80:] or "model" for name in full]
    return [
        f"{short}-{hashlib.sha256(name.encode()).hexdigest()[:6]}" if plain.count(short) > 1 else short
        for short, name in zip(plain, full, strict=True)
    ]
