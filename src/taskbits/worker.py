"""A worker: takes part in the search of a study that it knows by the URL of its storage alone.

It runs the methods that the last `measure` on the study was given, for a time of its own. It scores nothing on test:
`measure` does, when all is done.
"""

import time

from taskbits.confirm import open_parts
from taskbits.display import console
from taskbits.measure import Search
from taskbits.methods import method
from taskbits.study import Measurement, Study, key


def work(storage: str, name: str | None = None, budget: float | None = None) -> None:
    """Run trials until none is left or `budget` seconds are spent; prints a line for each program.

    Raises UserError if there is no such study, or if its model or task is not what it was.
    """
    started = time.monotonic()
    study = Study.join(storage, name)
    with console.status(f"loading {study.info['model']}"):
        model, task = open_parts(study)
    asked = study.asked()
    search = Search(
        study,
        model,
        task,
        study.info["seed"],
        started,
        budget,
        asked["race"],
        asked["target"],
        confirms=False,
        finished=_tell,
    )
    search.run({name: method(name) for name in asked["methods"]})


def _tell(m: Measurement) -> None:
    print(
        f"{m.method} {key(m.settings)}: {m.validation.value:.3f} in {m.bytes:,} bytes, {m.seconds:.1f} s, {m.program}",
        flush=True,
    )
