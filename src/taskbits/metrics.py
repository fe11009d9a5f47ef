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


@dataclass(frozen=True)
class Metric:
    """score(outputs, targets, rows): the score of a split. each: of the same, an array with a score for each example.

    For BLEU and chrF, `each` is the sentence's own score, whose mean is not the corpus score.
    """

    score: Callable[[list[str], list[str], list[dict]], Score]
    each: Callable[[list[str], list[str], list[dict]], np.ndarray]


def metric(name: str, pattern: str | None = None, folder: str = "") -> Metric:
    """The metric of that name.

    name: exact, regex (group 1 of `pattern` in output and target must agree), bleu, chrf, or
    python:module.function, a function (output, row) -> float in [0, 1]; the module may lie in `folder`.
    Raises UserError if the name or the pattern is bad.
    """
    if name == "exact":
        return _per_example(lambda output, target, row: output.strip() == target.strip())
    if name == "regex":
        return _per_example(_regex(pattern))
    if name in ("bleu", "chrf"):
        return _corpus(sacrebleu.BLEU if name == "bleu" else sacrebleu.CHRF)
    if name.startswith("python:"):
        function = _import(name.removeprefix("python:"), folder)
        return _per_example(lambda output, target, row: function(output, row))
    raise UserError(f"unknown metric {name!r}: use exact, regex, bleu, chrf or python:module.function")


def _per_example(judge: Callable[[str, str, dict], float]) -> Metric:
    def each(outputs, targets, rows):
        values = np.array([float(judge(*example)) for example in zip(outputs, targets, rows, strict=True)])
        if ((values < 0) | (values > 1)).any():
            raise UserError("the metric gave a value outside [0, 1]: rescale it")
        return values

    def score(outputs, targets, rows):
        values = each(outputs, targets, rows)
        if np.isin(values, (0, 1)).all():
            interval = stats.binomtest(int(values.sum()), len(values)).proportion_ci(method="wilson")
        elif values.min() == values.max():
            return Score(values[0], values[0], values[0], len(values))
        else:
            interval = stats.bootstrap((values,), np.mean, rng=0, method="percentile").confidence_interval
        return Score(float(values.mean()), float(interval.low), float(interval.high), len(values))

    return Metric(score, each)


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


def _corpus(metric_class: type) -> Metric:
    def each(outputs, targets, rows):
        judge = metric_class(**({"effective_order": True} if metric_class is sacrebleu.BLEU else {}))
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
        return Score(*(min(1.0, float(number)) for number in (value, min(low, value), max(high, value))), len(outputs))

    return Metric(score, each)


def _import(path: str, folder: str) -> Callable:
    module, _, name = path.rpartition(".")
    sys.path.insert(0, folder)
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"metric python:{path} can't be imported: {error}") from error
    finally:
        sys.path.remove(folder)
