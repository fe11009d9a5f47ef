"""Methods in turn: `few-shot+tiny` fits the last one to what a program of the others has made of the model.

A base is a program of the study that the first methods found, so that its own search is paid for once; the settings
name it as `on`. Its text stands before each prompt, and its change is in the weights, while the last method fits.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import ClassVar

from taskbits.errors import UserError
from taskbits.fitting.fitted import Fitted
from taskbits.fitting.kept import kept
from taskbits.methods import LAST, method
from taskbits.models.model import Model
from taskbits.programs import decode
from taskbits.programs.program import Program
from taskbits.studies.frontier import envelope
from taskbits.studies.measurement import FAMILIES, Measurement
from taskbits.studies.study import Study
from taskbits.tasks.task import Task

NOTHING = "zero-shot"  # the method whose programs add nothing to build on


@dataclass(frozen=True)
class Combined:
    """The last method on top of a program of the study."""

    study: Study
    name: str
    FAMILY: ClassVar[str] = FAMILIES[-1]

    def fit(self, model: Model, task: Task, settings: dict, seed: int, progress) -> Fitted:
        settings = dict(settings)
        base = settings.pop("on")
        [before] = [m for m in self.study.measurements() if m.program == base][:1]
        program = Program.read(self.study.path(base))
        # What methods keep holds for this base alone, and so does what it asks.
        on_it = kept(task, "bases").setdefault(base, replace(task, frame=program.frame))
        with decode.adapted(model, program) as text, model.led_by(text):
            found = method(_last(self.name)).fit(model, on_it, settings, seed, progress)
        bits = [before.ideal_bits, found.ideal_bits]
        parts = before.content.get("parts", [{"method": before.method, **before.content}])
        return Fitted(
            replace(found.program, method=self.name, parts=program.parts + found.program.parts),
            None if None in bits else sum(bits),
            {"parts": [*parts, {"method": _last(self.name), **found.content}]},
        )


def with_bases(names: Iterable[str]) -> list[str]:
    """The names of methods, before those in turn the ones that find what they build on.

    Raises UserError if there is no such method.
    """
    found: list[str] = []
    for name in names:
        parts = name.split("+")
        for part in parts:
            method(part)
        if NOTHING in parts and len(parts) > 1:
            raise UserError(f"{NOTHING} adds nothing that {name!r} could combine")
        found += ["+".join(parts[: at + 1]) for at in range(len(parts))]
    return list(dict.fromkeys(found))


def fits(study: Study, name: str) -> ModuleType | Combined:
    """What fits a method, or methods in turn, of this name."""
    return Combined(study, name) if "+" in name else method(name)


def sweeps(study: Study, model: Model, task: Task, names: list[str], combines: bool) -> dict[str, list[dict]]:
    """Settings to try, by the names of methods. Those in turn build on what is the shortest of their bases by now.

    combines: also, in turn, methods of different families that have programs on the frontier, as they are there.
    """
    measured = study.measurements()
    found: dict[str, list[dict]] = {}
    for name in names:
        first = name.rpartition("+")[0]
        own = method(_last(name)).sweep(model, task)
        bases = envelope([m for m in measured if m.method == first])
        found[name] = [{"on": m.program, **settings} for settings in own for m in bases] if first else own
    for base, added in _pairs(envelope(measured)) if combines else ():
        settings = {"on": base.program, **added.settings}
        found.setdefault(f"{base.method}+{added.method}", []).append(settings)
    return {name: some for name, some in found.items() if some}


def _pairs(frontier: list[Measurement]) -> list[tuple[Measurement, Measurement]]:
    """Programs of different kinds, a text before data before a change of weights before what is made of outputs."""
    single = [m for m in frontier if m.method != NOTHING and "+" not in m.method]
    return [(a, b) for a in single for b in single if _kind(a) < _kind(b)]


def _kind(m: Measurement) -> int:
    return len(FAMILIES) if m.method in LAST else FAMILIES.index(m.family)


def _last(name: str) -> str:
    return name.rpartition("+")[2]
