"""Where a study's numbers come from: facts for people, and the commands that repeat them."""

import shlex

from taskbits.methods import names
from taskbits.studies.measurement import Measurement
from taskbits.studies.study import Study

# What a record's versions say of the machine; the others are of software.
_MACHINE = ("processor", "device", "threads")


def model_options(info: dict) -> str:
    """The options that name the study's model to any command."""
    random = info.get("state") == "random"
    return _options(
        model=info["model"],
        state="random" if random else None,
        seed=info["seed"] if random else None,
        revision=info.get("revision"),
    )


def measure_command(study: Study, out: str) -> str:
    """The command that measures the same again in the folder `out`: its methods, and the last one's other options."""
    info = study.info
    tried = {name for name, _ in study.done()}
    every = names()
    methods = ",".join(name for name in every if name in tried) if tried < set(every) else None
    asked = study.asked()
    flags = {True: " --chat", False: " --no-chat"}.get(info.get("chat"), "")
    flags += "" if asked.get("race", True) else " --no-race"
    flags += "".join(f" --also {shlex.quote(str(task))}" for task in asked.get("also") or [])
    kept = ("model", "task", "state", "seed", "revision", "dtype", "rows", "data")
    search = {"target": asked.get("target"), "budget": asked.get("budget") and f"{asked['budget']:g}s"}
    options = _options(**{name: info.get(name) for name in kept}, methods=methods or None, **search)
    return f"taskbits measure {options}{flags} --out {shlex.quote(out)}"


def score_command(info: dict, program: str) -> str:
    """The command that scores a program of this study on test again, wherever the file lies."""
    task = _options(**{name: info.get(name) for name in ("task", "rows", "data")})
    chat = {True: " --chat", False: " --no-chat"}.get(info.get("chat"), "")
    return f"taskbits score {shlex.quote(program)} {model_options(info)} {task}{chat}"


def software(measured: list[Measurement]) -> str:
    """The versions that were measured with, "torch 2.6.0, ..."; both where a study went on with another."""
    return ", ".join(
        f"{name} {' and '.join(values)}" for name, values in _versions(measured).items() if name not in _MACHINE
    )


def hardware(measured: list[Measurement]) -> dict[str, str]:
    """The machine that was measured on, as far as the records tell: older ones know only the number of threads."""
    found = _versions(measured)
    return {name: " and ".join(found[name]) for name in _MACHINE if name in found}


def duration(measured: list[Measurement]) -> str:
    """How many programs were measured, and for how long."""
    seconds = sum(m.seconds for m in measured)
    programs = f"{len(measured):,} program{'s' * (len(measured) != 1)}"
    return f"{programs} in {seconds:,.0f} seconds" if seconds < 600 else f"{programs} in {seconds / 60:,.0f} minutes"


def _versions(measured: list[Measurement]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for m in measured:
        for name, value in m.versions.items():
            found.setdefault(name, {})[str(value)] = None
    return {name: list(values) for name, values in found.items()}


def _options(**options: object) -> str:
    return " ".join(f"--{name} {shlex.quote(str(value))}" for name, value in options.items() if value is not None)
