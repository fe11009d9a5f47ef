"""taskbits: how many bytes must be added to a language model before it does my task well enough?

    import taskbits

    study = taskbits.measure("lab:pretrained", "lab:math", out="study", budget="3m")
    study.complexity(0.5)
    program = taskbits.load_program(study.path(study.frontier()[-1]))

What is named here is the public interface; each is loaded when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskbits.api import (
        Scored,
        Study,
        check_records,
        compare,
        import_published,
        list_methods,
        measure,
        measure_each,
        open_study,
        score,
        shrink,
        verify,
        work,
        write_records,
    )
    from taskbits.errors import UserError
    from taskbits.models.model import Model, load_model
    from taskbits.programs.program import Adapted, Program, load_program
    from taskbits.studies.measurement import Measurement
    from taskbits.tasks.load import load_task
    from taskbits.tasks.metrics import Score
    from taskbits.tasks.task import Task

__version__ = "0.5.0"

_HOMES = {
    "api": (
        *("Scored", "Study", "check_records", "compare", "import_published", "list_methods", "measure", "measure_each"),
        *("open_study", "score", "shrink", "verify", "work", "write_records"),
    ),
    "errors": ("UserError",),
    "models.model": ("Model", "load_model"),
    "programs.program": ("Adapted", "Program", "load_program"),
    "studies.measurement": ("Measurement",),
    "tasks.load": ("load_task",),
    "tasks.metrics": ("Score",),
    "tasks.task": ("Task",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Adapted",
    "Measurement",
    "Model",
    "Program",
    "Score",
    "Scored",
    "Study",
    "Task",
    "UserError",
    "check_records",
    "compare",
    "import_published",
    "list_methods",
    "load_model",
    "load_program",
    "load_task",
    "measure",
    "measure_each",
    "open_study",
    "score",
    "shrink",
    "verify",
    "work",
    "write_records",
]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
