"""Tasks that come by name: those of the package and of packages that add some (`taskbits.plugins`), a module each, and
those of lm-evaluation-harness.

A task's module has

    SETTINGS                the keys of a task's YAML file, but for the files
    read(data) -> Splits    the rows of train, validation and test: from the hub, or from the files in the folder `data`
"""

import importlib
from pathlib import Path

from taskbits import plugins
from taskbits.errors import UserError
from taskbits.tasks.metrics import Metric, metric
from taskbits.tasks.rows import Splits

NAMES = ("gsm8k", "ifeval", "translation")
_HARNESS = "lm-eval:"


def is_known(spec: str) -> bool:
    """Whether it is a name of such a task, and not a file."""
    return spec in plugins.names("tasks", NAMES) or spec.startswith(_HARNESS)


def load(spec: str, data: Path | None, code: bool = True) -> tuple[dict, Splits, Metric]:
    """The task's settings, rows and metric. Raises UserError if its data can't be had.

    code: whether a file of the harness's that is not its own, and so may run anything, is allowed.
    """
    if data and not data.is_dir():
        raise UserError(f"--data {data}: no such folder")
    if spec.startswith(_HARNESS):
        from taskbits.tasks import harness

        return harness.load(spec.removeprefix(_HARNESS), data, code)
    if spec in NAMES:
        module = importlib.import_module(f"taskbits.tasks.{spec}")
    else:
        module = plugins.load("tasks", spec, ("SETTINGS", "read"))
    settings = {"name": spec, **module.SETTINGS}
    return settings, module.read(data), metric(settings["metric"])
