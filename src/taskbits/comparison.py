"""Which studies stand beside each other, and what their difference tells. Knows nothing of tables and pictures.

Studies of one task are compared, whatever their models; published estimates are, one model family at a time.
"""

from taskbits.checkpoints import run_of, training_step
from taskbits.frontier import complexity, ratios
from taskbits.report.scale import label, task
from taskbits.study import Study

Groups = dict[tuple[str, str | None], list[Study]]


def groups(studies: list[Study]) -> Groups:
    """The studies to compare, by task and published model family (None if there are no published ones).

    One's own studies are in each of the groups of their task, before the published ones.
    """
    found: Groups = {}
    for name in dict.fromkeys(task(study.info) for study in studies):
        mine = [study for study in studies if task(study.info) == name and not study.published]
        theirs = [study for study in studies if task(study.info) == name and study.published]
        for family in dict.fromkeys(study.info["family"] for study in theirs) or [None]:
            found[name, family] = mine + [study for study in theirs if study.info["family"] == family]
    return found


def names(studies: list[Study]) -> list[str]:
    """A name for each study: its model, and its folder where that is not enough."""
    found = [label(study.info) for study in studies]
    return [
        f"{name} in {study.folder}" if found.count(name) > 1 else name
        for name, study in zip(found, studies, strict=True)
    ]


def levels(studies: list[Study], at: list[float] | None = None) -> list[dict]:
    """Bytes to reach each level by the name of the study, and how many times the fewest: see `frontier.ratios`."""
    return ratios(dict(zip(names(studies), (study.measurements() for study in studies), strict=True)), at)


def information(studies: list[Study], at: list[float]) -> list[dict]:
    """What the models' training is worth at each level: the bound with a random M minus the bound with M.

    A row is {"level", "random", "model", "random_bytes", "model_bytes", "difference"}, the first two models as names;
    without "random_bytes" and "difference" (None) where no random M reaches the level that M does. A model's random M
    is that of its own run, or else any that is there; of several, the one of the fewest bytes. Published estimates
    are taken from published estimates only. It is a difference of two upper bounds, and bounds nothing itself.
    """
    named = dict(zip(names(studies), studies, strict=True))
    random = {name: study for name, study in named.items() if training_step(study.info) == 0}
    rows = []
    for name, study in named.items():
        if name in random:
            continue
        alike = {other: one for other, one in random.items() if one.published == study.published}
        own = {other: one for other, one in alike.items() if run_of(one.info) == run_of(study.info)}
        for level in at:
            with_model = complexity(study.measurements(), level)
            found = {other: complexity(one.measurements(), level) for other, one in (own or alike).items()}
            if not with_model or not found:
                continue
            least = min(found, key=lambda other: found[other].bytes if found[other] else float("inf"))
            size = found[least] and found[least].bytes
            rows.append(
                {
                    "level": level,
                    "random": least,
                    "model": name,
                    "random_bytes": size,
                    "model_bytes": with_model.bytes,
                    "difference": None if size is None else size - with_model.bytes,
                }
            )
    return rows
