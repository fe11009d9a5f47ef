"""Which studies stand beside each other, and what their difference tells. Knows nothing of tables and pictures."""

from dataclasses import asdict

from taskbits.report.scale import label, task
from taskbits.studies.checkpoints import run_of, training_step
from taskbits.studies.frontier import complexity, ratios
from taskbits.studies.gap import gap
from taskbits.studies.study import Study
from taskbits.tasks.intervals import ERROR

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


def beside(studies: list[Study], estimates: list[Study]) -> list[Study]:
    """Those of the estimates that are on a task of the studies, and not among them; all if there are no studies."""
    tasks, known = {task(study.info) for study in studies}, {study.folder.resolve() for study in studies}
    return [
        study
        for study in estimates
        if not studies or study.info["task"] in tasks and study.folder.resolve() not in known
    ]


def names(studies: list[Study]) -> list[str]:
    """A name for each study: its model, and its folder where that is not enough."""
    found = [label(study.info) for study in studies]
    return [
        f"{name} in {study.folder}" if found.count(name) > 1 else name
        for name, study in zip(found, studies, strict=True)
    ]


def remarks(studies: list[Study]) -> list[str]:
    """What to know of studies that stand beside published estimates: what each tells; test sets may differ."""
    published = {study.info["task"]: study.info["test_set"] for study in studies if study.published}
    found = []
    for study in studies:
        name = task(study.info)
        if study.published or not published:
            continue
        if name not in published:
            found.append(f"{study.folder}: no published estimates on {name}")
            continue
        data = f"the data in {study.info['data']}" if study.info.get("data") else f"the data that {name} comes with"
        rows = f", {study.info['rows']:,} rows of it at most" if study.info.get("rows") else ""
        found.append(
            f"{study.folder}: scored on {data}{rows}; the published estimates of {name} are on {published[name]}: "
            "the test sets may differ"
        )
    if published and not all(study.published for study in studies):
        found.append(
            "bytes of one's own hold with 95% confidence; published estimates are taken at their scores as published, "
            "each the best of many runs on the test set itself"
        )
    return found


def compare(studies: list[Study], at: list[float] | None = None) -> list[dict]:
    """For each group: {"task", "family", "confidence", "levels", "information", "gaps"}, see `frontier.ratios`,
    `information`.

    at: the levels; some that are reached by default. confidence: of the bytes of one's own studies, at each level by
    itself; None if there are none. gaps: by name, the studies of one's own that have one (`studies.gap`), as a dict.
    """
    found = []
    for (name, family), group in groups(studies).items():
        programs = dict(zip(names(group), (study.measurements() for study in group), strict=True))
        table = ratios(programs, at)
        worth = information(group, [row["level"] for row in table])
        sure = None if all(study.published for study in group) else 1 - ERROR
        gaps = {}
        for study, (whose, measured) in zip(group, programs.items(), strict=True):
            if not study.published and (one := gap(measured)):
                gaps[whose] = {**asdict(one), "says": str(one)}
        told = {"levels": table, "information": worth, "gaps": gaps}
        found.append({"task": name, "family": family, "confidence": sure, **told})
    return found


def information(studies: list[Study], at: list[float]) -> list[dict]:
    """What the models' training is worth at each level: the bound with a random M minus the bound with M.

    A row is {"model", "random", "level", "model_bytes", "random_bytes", "difference"}, with None for the last two where
    a random M does not reach what M does; what M doesn't reach has no row. A model's random M is that of its own run,
    or else any that is there; of several, the one of the fewest bytes. Published estimates are taken from published
    estimates only. It is a difference of two upper bounds, and bounds nothing itself.
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
                    "model": name,
                    "random": least,
                    "level": level,
                    "model_bytes": with_model.bytes,
                    "random_bytes": size,
                    "difference": None if size is None else size - with_model.bytes,
                }
            )
    return rows
