"""Which checkpoints belong to one training run, and at which step each was taken, from their names alone."""

import re
from pathlib import Path

from taskbits.studies.study import Study

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


_UNTOLD = (None, None, None)


def _told(info: dict) -> tuple:
    """What says which checkpoint of its run a study's model is."""
    return info.get("checkpoint"), info.get("revision"), training_step(info)
