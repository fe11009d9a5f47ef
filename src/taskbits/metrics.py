"""From outputs to a score in [0, 1] with a 95% interval.

Per-example metrics get a Wilson interval where every value is 0 or 1 and a bootstrap interval otherwise;
corpus metrics (BLEU, chrF) get a bootstrap over segments.
"""

import importlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sacrebleu
from scipy import stats

from taskbits.errors import UserError
from taskbits.study import Score

RESAMPLES = 1000
_CORPUS = {"bleu": sacrebleu.BLEU, "chrf": sacrebleu.CHRF}


@dataclass(frozen=True)
class Metric:
    """score(outputs, targets, rows): the score of a split. each: of the same, an array with a score for each example.

    is_mean: whether the score is the mean of what `each` gives; else (BLEU, chrF) that is the sentences' own scores.
    """

    score: Callable[[list[str], list[str], list[dict]], Score]
    each: Callable[[list[str], list[str], list[dict]], np.ndarray]
    is_mean: bool


def metric(name: str, pattern: str | None = None, folder: str = "") -> Metric:
    """The metric of that name.

    name: exact, regex (group 1 of `pattern` in output and target must agree), bleu, chrf, or
    python:module.function, a function (output, row) -> float in [0, 1]; the module may lie in `folder`. It may also
    give a dict of floats, or of lists of them: the first is the score, the means of the others are kept beside it.
    Raises UserError if the name or the pattern is bad.
    """
    if name == "exact":
        return per_example(lambda output, target, row: output.strip() == target.strip())
    if name == "regex":
        return per_example(_regex(pattern))
    if name in _CORPUS:
        return _corpus(name)
    if name.startswith("python:"):
        function = _import(name.removeprefix("python:"), folder)
        return per_example(lambda output, target, row: function(output, row))
    raise UserError(f"unknown metric {name!r}: use exact, regex, bleu, chrf or python:module.function")


def per_example(judge: Callable[[str, str, dict], float | dict]) -> Metric:
    """The metric whose score is the mean of what `judge(output, target, row)` gives, or of the first of several."""

    def judgements(outputs, targets, rows):
        found = [judge(*example) for example in zip(outputs, targets, rows, strict=True)]
        return [one if isinstance(one, dict) else {"": one} for one in found]

    def values(found):
        scores = np.array([float(next(iter(one.values()))) for one in found])
        if not ((scores >= 0) & (scores <= 1)).all():  # not so of NaN either
            raise UserError("the metric gave a value outside [0, 1]: rescale it")
        return scores

    def score(outputs, targets, rows):
        found = judgements(outputs, targets, rows)
        # Lists, such as a value for each instruction of a prompt, count with each of their members.
        also = {name: float(np.mean(np.concatenate([np.ravel(one[name]) for one in found]))) for name in found[0]}
        return mean_score(values(found), {name: value for name, value in also.items() if name})

    return Metric(score, lambda *given: values(judgements(*given)), is_mean=True)


def mean_score(values: np.ndarray, also: dict) -> Score:
    """The mean of the examples' scores with its interval."""
    if np.isin(values, (0, 1)).all():
        interval = stats.binomtest(int(values.sum()), len(values)).proportion_ci(method="wilson")
    elif values.min() == values.max():
        return Score(values[0], values[0], values[0], len(values), also)
    else:
        interval = stats.bootstrap((values,), np.mean, rng=0, method="percentile").confidence_interval
    return Score(float(values.mean()), float(interval.low), float(interval.high), len(values), also)


def _regex(pattern: str | None) -> Callable:
    try:
        compiled = re.compile(pattern or "")
    except re.error as error:
        raise UserError(f"bad pattern {pattern!r}: {error}") from error
    if compiled.groups < 1:
        raise UserError("metric regex needs a pattern with one group, such as 'answer is (\\d+)'")

    def judge(output, target, row):
        found, wanted = compiled.search(output), compiled.search(target)
        if not wanted:
            raise UserError(f"the pattern {pattern!r} finds nothing in the target {target!r}")
        return found is not None and found.group(1) == wanted.group(1)

    return judge


def _corpus(name: str) -> Metric:
    metric_class = _CORPUS[name]

    def each(outputs, targets, rows):
        judge = metric_class(**({"effective_order": True} if name == "bleu" else {}))
        pairs = zip(outputs, targets, strict=True)
        return np.array([min(1.0, judge.sentence_score(output, [target]).score / 100) for output, target in pairs])

    def score(outputs, targets, rows):
        judge = metric_class()
        value = judge.corpus_score(outputs, [targets]).score / 100
        # Resampled here: sacrebleu's own interval raises TypeError when only some of the samples match anything.
        segments = np.array(judge._extract_corpus_statistics(outputs, [targets]))
        samples = np.random.default_rng(0).integers(len(segments), size=(RESAMPLES, len(segments)))
        resampled = [judge._compute_score_from_stats(segments[sample].sum(axis=0)).score / 100 for sample in samples]
        low, high = np.quantile(resampled, (0.025, 0.975))
        # sacrebleu's rounding may lead a hair over 1.
        numbers = (min(1.0, float(number)) for number in (value, min(low, value), max(high, value)))
        return Score(*numbers, len(outputs), _both(outputs, targets))

    return Metric(score, each, is_mean=False)


def _both(outputs: list[str], targets: list[str]) -> dict[str, float | str]:
    """BLEU and chrF, each with the signature that sacrebleu gives to how it was computed."""
    found: dict[str, float | str] = {}
    for name, metric_class in _CORPUS.items():
        judge = metric_class()
        found[name] = judge.corpus_score(outputs, [targets]).score / 100
        found[f"{name} signature"] = str(judge.get_signature())
    return found


def _import(path: str, folder: str) -> Callable:
    module, _, name = path.rpartition(".")
    sys.path.insert(0, folder)
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"metric python:{path} can't be imported: {error}") from error
    finally:
        sys.path.remove(folder)
