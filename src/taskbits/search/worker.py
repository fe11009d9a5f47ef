"""A worker: takes part in the search of a study that it knows by the URL of its storage alone.

It runs the methods that the last `measure` on the study was given, for a time of its own. It scores nothing on test:
`measure` does, when all is done.
"""

import time

from taskbits.display import status
from taskbits.search.combined import with_bases
from taskbits.search.confirm import open_parts
from taskbits.search.trials import Search
from taskbits.studies.study import Study


def work(storage: str, name: str | None = None, budget: float | None = None) -> None:
    """Run trials until none is left or `budget` seconds are spent.

    Raises UserError if there is no such study, or if its model or task is not what it was.
    """
    started = time.monotonic()
    study = Study.join(storage, name)
    with status(f"loading {study.info['model']}"):
        model, task = open_parts(study)
    asked = study.asked()
    model.donor = asked.get("donor")
    seed = study.info["seed"]
    search = Search(study, model, task, seed, started, budget, asked["race"], asked["target"], confirms=False)
    del model  # where it must be loaded again
    search.run(with_bases(asked["methods"]), bool(asked.get("combines")))
