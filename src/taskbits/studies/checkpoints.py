"""A list of models or revisions, such as the checkpoints of a training run: one study each, measured alike.

Knows which checkpoints belong to one run, and at which training step each was taken, from their names alone.
"""

import hashlib
import itertools
import json
import re
from pathlib import Path

from taskbits.display import warn
from taskbits.errors import UserError, in_short
from taskbits.studies.study import Study

_FINISHED = "finished.json"
_STEP = re.compile(
    r"(?<![a-z])(?:global[-_]?)?(?:step|checkpoint|ckpt|iter(?:ation)?)s?[-_=]?(\d+(?:\.\d+)?)([km]?)(?![a-z0-9])",
    re.IGNORECASE,
)
_STAGE = re.compile(r"(?<![a-z])stage[-_]?(\d+)", re.IGNORECASE)
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)([km]?)", re.IGNORECASE)
_UNITS = {"": 1, "k": 1_000, "m": 1_000_000}


def training_step(info: dict) -> int | None:
    """The training step of a study's model: 0 if it is random, else what its revision or name tells, if anything.

    Understands step1720k, checkpoint-500, stage1-step10000-tokens21B and such, and 500 or 2M alone. A later stage
    counts its steps anew, which tells nothing.
    """
    if "random" in (info.get("state"), info.get("training")):
        return 0
    name = info.get("revision") or info["model"]
    if any(int(stage) > 1 for stage in _STAGE.findall(name)):
        return None
    found = _STEP.findall(name)
    alone = _NUMBER.fullmatch(Path(name).name)
    if not found and not alone:
        return None
    number, unit = found[-1] if found else alone.groups()
    return round(float(number) * _UNITS[unit.lower()])


def run_of(info: dict) -> str:
    """The training run that a study's model belongs to: its name without the step."""
    return info.get("family") or _STEP.sub("", info["model"])


def name_of(info: dict) -> str:
    """A checkpoint among those of its run: its revision, or the end of its model's name."""
    return info.get("revision") or Path(info["model"]).name


def runs(studies: list[Study]) -> list[list[Study]]:
    """The studies of one task and one training run that are of two or more of its checkpoints, in order."""
    found: dict[tuple[str, str], list[Study]] = {}
    for study in studies:
        found.setdefault((study.info["task"], run_of(study.info)), []).append(study)
    return [in_order(run) for run in found.values() if len({_told(s.info) for s in run} - {_UNTOLD}) > 1]


def in_order(run: list[Study]) -> list[Study]:
    """By training step or published order if they are known of all, else as they come."""
    for place in (training_step, lambda info: info.get("checkpoint")):
        places = [place(study.info) for study in run]
        if None not in places:
            return [run[i] for i in sorted(range(len(run)), key=places.__getitem__)]
    return run


def measure_each(
    models: list[str], revisions: list[str | None], task: str, out: str, **options
) -> tuple[list[Study], UserError | None]:
    """Measure each model at each revision in a folder of its own in `out`, with the same options for each.

    options: see `measure`; a budget is for one study. What was finished with the same options is not measured again.
    Returns the studies, and why others could not be made, if any: one's failure doesn't keep the rest from it.
    """
    from taskbits.search.measure import measure  # costly, and nothing that a comparison needs

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


_UNTOLD = (None, None, None)


def _told(info: dict) -> tuple:
    """What says which checkpoint of its run a study's model is."""
    return info.get("checkpoint"), info.get("revision"), training_step(info)


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
