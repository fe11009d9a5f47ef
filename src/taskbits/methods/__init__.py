"""Methods: ways to find a program. One file a method; other packages may add some (`taskbits.plugins`).

A method is a module whose docstring's first line says what it does, with

    FAMILY                                                "inference control", "data" or "parametric"
    sweep(model, task) -> list[dict]                      settings to try, cheapest first
    fit(model, task, settings, seed, progress) -> Fitted  the program, found on the task's train split

`fit` may change the model's weights; its caller preserves them. `progress(done, of)` reports steps.
Raises UserError where the settings can't work for this model and task.
"""

import ast
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from taskbits import plugins
from taskbits.errors import UserError

# As a search begins to try them: what is quick and short first, what is as published, to be compared with, last.
NAMES = (
    *("zero-shot", "few-shot", "label-words", "instructed", "lora", "choice-bias", "prompt-search", "tiny", "seeded"),
    *("norms", "subset", "distilled", "seeded-prompt", "lora-xs", "steer", "self-train", "full", "carried"),
    *("shrunk", "lora-fp16", "blora"),
)
DONATED = ("carried", "shrunk")  # methods that need a donor
LAST = ("label-words", "choice-bias")  # make something else of M's outputs, whatever else changes these


def names() -> list[str]:
    """Of all methods: the package's own, then those of other packages."""
    return plugins.names("methods", NAMES)


def method(name: str) -> ModuleType:
    """The method's module. Raises UserError if there is none of that name."""
    if name not in names():
        raise UserError(f"unknown method {name!r}: 'taskbits methods' lists {', '.join(names())}")
    if name not in NAMES:
        return plugins.load("methods", name, ("FAMILY", "sweep", "fit", "__doc__"))
    return importlib.import_module(f"taskbits.methods.{name.replace('-', '_')}")


def described(name: str) -> dict[str, str]:
    """{"method", "family", "origin", "summary"}, as its source says it, which is read and not run."""
    if name in NAMES:
        place = f"{__name__}.{name.replace('-', '_')}"
    else:
        place = plugins.installed("methods")[name].module
    found = importlib.util.find_spec(place)
    tree = ast.parse(Path(found.origin).read_text(encoding="utf-8")) if found and found.origin else ast.Module([], [])
    families = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["FAMILY"]
    ]
    summary = " ".join((ast.get_docstring(tree) or "").split("\n\n")[0].split())
    origin = plugins.origin("methods", name) if name not in NAMES else "taskbits"
    return {"method": name, "family": (families or [""])[0], "origin": origin, "summary": summary}


def targets(sizes: Iterable[int], by_metric: Iterable[int] = (), large: Iterable[int] = ()) -> list[dict]:
    """Settings for a sweep over payload sizes in bytes: a short training, then on the metric, then a long one.

    large: sizes for which a short training is not enough, and that gain by a still longer one.
    """
    sizes, large = list(sizes), list(large)
    longer = dict.fromkeys(large + sizes)
    plan = [(100, "loss", sizes), (100, "metric", by_metric), (400, "loss", longer), (1600, "loss", large)]
    return [{"bytes": size, "objective": objective, "steps": steps} for steps, objective, some in plan for size in some]
