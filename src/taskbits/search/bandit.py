"""What a search tries next: a bandit over methods, and within each a search over its settings.

The bandit gives the time to the method whose recent trials have moved the frontier most per second, by hypervolume
over (log bytes, score). Settings begin with the method's sweep; Optuna's multi-objective TPE goes on from there
(Ozaki et al. 2022). With a target, sizes are bisected instead.

Nothing is remembered between calls: all follows from the study's history, so a search that was interrupted goes on
as it would have, and any number of workers can share one.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import optuna

from taskbits.display import quiet
from taskbits.studies.measurement import Attempt, key

Settings = dict
Sweeps = Mapping[str, list[Settings]]
Tried = set[tuple[str, str]]
Point = tuple[int, float]  # bytes and score

_FIRST = 4  # settings of a sweep that are tried before the search within a method begins
_MEMORY = 0.6  # weight of a trial's gain and seconds against those of the method's next trial
_HOPE = 0.05  # share of what is still to be gained that a method's first trial is expected to bring
_CURIOSITY = 0.1  # share of the trials that go to the method with the least time
_NEAR = 1.1  # numbers within this ratio are not worth telling apart
_RANGE = 3  # a setting with more numbers than this in the sweep is a range, not a list
_ASKS = 16  # of the sampler for settings that are new


def in_turn(sweeps: Sweeps, history: list[Attempt], taken: Tried) -> tuple[str, Settings] | None:
    """The next settings of the sweep of the method that has had the least time; None if all are taken."""
    left = {name: _untaken(name, sweep, taken) for name, sweep in sweeps.items()}
    return _least_time({name: settings[0] for name, settings in left.items() if settings}, history)


def propose(
    sweeps: Sweeps, history: list[Attempt], taken: Tried, limit: float, seed: int, target: float | None = None
) -> tuple[str, Settings] | None:
    """The method and the settings that are the most promising now; None if there is nothing left to try.

    sweeps: new methods are tried in this order. history: what was tried, in order. taken: what is not to be tried,
    because it was or is being tried.
    limit: the length in bytes at which the hypervolume ends. seed: with the same history, the same proposal.
    target: look only for the shortest program of at least this score.
    """
    rng = np.random.default_rng([seed, len(history), len(taken)])
    ahead = {name: _settings(name, sweep, history, taken, target, rng) for name, sweep in sweeps.items()}
    ahead = {name: settings for name, settings in ahead.items() if settings is not None}
    known, pace = {name for name, _ in taken}, paces(history, limit, target)
    best = max((pace.get(name, 0.0) for name in ahead), default=0.0)
    fresh = next((name for name in ahead if name not in known), None)
    if fresh and best <= _HOPE * _missing(history, limit, target) / _mean_seconds(history):
        return fresh, ahead[fresh]
    if best == 0 or rng.random() < _CURIOSITY:
        return _least_time(ahead, history)
    return _least_time({name: some for name, some in ahead.items() if pace.get(name, 0.0) == best}, history)


def hypervolume(points: Iterable[Point], limit: float) -> float:
    """The area under the frontier of (bytes, score) over the natural logarithm of bytes, up to `limit` bytes."""
    area, best = 0.0, 0.0
    for size, score in sorted(points):
        if score > best and size < limit:
            area += (score - best) * math.log(limit / size)
            best = score
    return area


def paces(history: list[Attempt], limit: float, target: float | None = None) -> dict[str, float]:
    """For each method how much a second of its latest trials has gained, in hypervolume or towards the target."""
    found: list[Point] = []
    gains: dict[str, float] = {}
    seconds: dict[str, float] = {}
    worth = 0.0
    for attempt in history:
        found += _points([attempt])
        before, worth = worth, _worth(found, limit, target)
        gains[attempt.method] = _MEMORY * gains.get(attempt.method, 0.0) + worth - before
        seconds[attempt.method] = _MEMORY * seconds.get(attempt.method, 0.0) + max(attempt.seconds, 1e-3)
    return {name: gain / seconds[name] for name, gain in gains.items()}


def _missing(history: list[Attempt], limit: float, target: float | None) -> float:
    """What would be gained by a program as short as the shortest that is perfect, or reaches the target."""
    found = _points(history)
    shortest = min((size for size, _ in found), default=1)
    perfect = 1.0 if target is None else target
    return _worth([*found, (shortest, perfect)], limit, target) - _worth(found, limit, target)


def _mean_seconds(history: list[Attempt]) -> float:
    return max(1e-3, sum(attempt.seconds for attempt in history) / max(1, len(history)))


def _points(history: list[Attempt]) -> list[Point]:
    return [(a.bytes, a.score) for a in history if a.bytes is not None and not a.dropped]


def _worth(found: list[Point], limit: float, target: float | None) -> float:
    """The hypervolume; with a target how short the shortest is that reaches it, else how near the best comes to it."""
    if target is None:
        return hypervolume(found, limit)
    reaching = [size for size, score in found if score >= target]
    if reaching:
        return 1 + max(0.0, math.log(limit / min(reaching)))
    return max((score / target for _, score in found), default=0.0)  # here target > score >= 0


def _settings(
    name: str, sweep: list[Settings], history: list[Attempt], taken: Tried, target: float | None, rng
) -> Settings | None:
    """The next settings for one method."""
    own = [attempt for attempt in history if attempt.method == name]
    left = _untaken(name, sweep, taken)
    if target is not None and all("bytes" in settings for settings in sweep):
        return _bisect(name, sweep, history, taken, target)
    from_sweep = left[0] if left else None
    if target is not None or from_sweep and (len(own) < _FIRST or rng.random() < 0.5):
        return from_sweep
    return _ask(name, sweep, own, taken, rng) or from_sweep


def _ask(name: str, sweep: list[Settings], own: list[Attempt], taken: Tried, rng) -> Settings | None:
    """Settings that the multi-objective TPE suggests, among and between those of the sweep; None if none are new."""
    kinds = sorted({tuple(settings) for settings in sweep})
    kind = kinds[rng.integers(len(kinds))]
    space = {o: _distribution([s[o] for s in sweep if tuple(s) == kind]) for o in kind}
    if all(distribution.single() for distribution in space.values()):
        return None
    sampler = optuna.samplers.TPESampler(seed=int(rng.integers(2**31)), n_startup_trials=_FIRST, multivariate=True)
    with quiet():
        study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    for attempt in own:
        if attempt.bytes is not None and _is_in(attempt.settings, space):
            values = [math.log(attempt.bytes), attempt.score]
            study.add_trial(optuna.trial.create_trial(params=attempt.settings, distributions=space, values=values))
    for _ in range(_ASKS):
        params = study.ask(space).params
        settings = {o: float(f"{value:.2g}") if isinstance(value, float) else value for o, value in params.items()}
        if (name, key(settings)) not in taken and not any(_is_near(settings, a.settings) for a in own):
            return settings
    return None


def _distribution(values: list) -> optuna.distributions.BaseDistribution:
    """Many numbers span a range, in which a ratio counts as such; few are a list."""
    distinct = sorted(set(values))
    if len(distinct) <= _RANGE or not all(isinstance(value, int | float) for value in distinct):
        return optuna.distributions.CategoricalDistribution(distinct)
    ends = distinct[0], distinct[-1]
    whole = all(isinstance(value, int) for value in distinct)
    kind = optuna.distributions.IntDistribution if whole else optuna.distributions.FloatDistribution
    return kind(*ends, log=ends[0] > 0)


def _is_in(settings: Settings, space: dict[str, optuna.distributions.BaseDistribution]) -> bool:
    def holds(distribution, value) -> bool:
        if isinstance(distribution, optuna.distributions.CategoricalDistribution):
            return value in distribution.choices
        return distribution.low <= value <= distribution.high

    return set(settings) == set(space) and all(holds(space[option], value) for option, value in settings.items())


def _is_near(one: Settings, other: Settings) -> bool:
    """Whether the settings are the same but for numbers that are nearly so."""

    def near(a, b) -> bool:
        numbers = all(isinstance(value, int | float) and value > 0 for value in (a, b))
        return a == b or numbers and max(a, b) / min(a, b) < _NEAR

    return set(one) == set(other) and all(near(one[option], other[option]) for option in one)


def _bisect(name: str, sweep: list[Settings], history: list[Attempt], taken: Tried, target: float) -> Settings | None:
    """The next size to try: larger ones of the sweep until one reaches the target, then between what does and doesn't.

    A method's score rises with the size that it may use, for the same other settings, so that is sound but for the
    noise of training. Sizes at which the file can't be shorter than one that reaches the target are left out.
    """
    own = [a for a in history if a.method == name and a.bytes is not None]
    shortest = min((a.bytes for a in history if _reaches(a, target)), default=math.inf)
    # What a file holds beside its payload is much the same for all sizes.
    beside = min((a.bytes - a.settings["bytes"] for a in own), default=0)
    for others in _distinct([{**settings, "bytes": 0} for settings in sweep]):
        sizes = sorted(s["bytes"] for s in sweep if {**s, "bytes": 0} == others)
        tried = {a.settings["bytes"]: a for a in own if {**a.settings, "bytes": 0} == others}
        enough = min((size for size, a in tried.items() if _reaches(a, target)), default=None)
        short = [size for size, a in tried.items() if not _reaches(a, target)]
        if enough is None:
            begin = max(short) if short else next(s["bytes"] for s in sweep if {**s, "bytes": 0} == others)
            smaller = [] if short else [size for size in reversed(sizes) if size <= begin]
            ahead = [*smaller, *(size for size in sizes if size > begin)]
        else:
            below = max((size for size in short if size < enough), default=0)
            smaller = [size for size in sizes if size < enough]
            between = round(math.sqrt(below * enough)) if below else smaller[-1] if smaller else enough // 2
            ahead = [between] if below < between and enough > _NEAR * max(below, 1) else []
        for size in ahead:
            settings = {**others, "bytes": size}
            if size + beside < shortest and (name, key(settings)) not in taken:
                return settings
    return None


def _reaches(attempt: Attempt, target: float) -> bool:
    return any(score >= target for _, score in _points([attempt]))


def _distinct(settings: list[Settings]) -> list[Settings]:
    return list({key(some): some for some in settings}.values())


def _untaken(name: str, sweep: list[Settings], taken: Tried) -> list[Settings]:
    return [settings for settings in sweep if (name, key(settings)) not in taken]


def _least_time(ahead: dict[str, Settings], history: list[Attempt]) -> tuple[str, Settings] | None:
    if not ahead:
        return None
    spent = dict.fromkeys(ahead, 0.0)
    for attempt in history:
        spent[attempt.method] = spent.get(attempt.method, 0.0) + attempt.seconds
    name = min(ahead, key=spent.__getitem__)
    return name, ahead[name]
