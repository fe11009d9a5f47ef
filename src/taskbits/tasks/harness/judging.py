"""What a task of the harness makes of outputs: its first metric, as one of ours."""

import itertools
import warnings
from dataclasses import replace

import numpy as np

from taskbits.tasks import intervals
from taskbits.tasks.harness.finding import refusal
from taskbits.tasks.imports import described
from taskbits.tasks.metrics import Metric, Score, Unjudged, mean_score, metric
from taskbits.tasks.rows import Row

_PROBED = 32  # rows that say of what kind a metric is
_DRAWS = 4
_RESAMPLES = 200  # of aggregations that may take milliseconds


def judge_for(name: str, task, rows: list[Row]) -> tuple[Metric, str]:
    """The task's first metric, computed by the harness, and how a choice must be made for it (a task's key `choose`).

    Raises UserError if it is of no use here.
    """
    from lm_eval.api import metrics
    from lm_eval.api.instance import Instance

    first, aggregate = next(iter(task.aggregation().items()))
    if not task.higher_is_better()[first]:
        raise refusal(name, f"is judged by {first}, of which less is better")
    (chosen,) = task._filters

    def judged(rows: list[Row], answers: list[list]) -> list:
        """What process_results makes of the answers to each row's requests, filtered."""
        instances = [
            [Instance(task.OUTPUT_TYPE, row["doc"], (), 0, resps=[answer]) for answer in some]
            for some, row in zip(answers, rows, strict=True)
        ]
        chosen.apply(list(itertools.chain(*instances)))
        found = []
        for at, (some, row) in enumerate(zip(instances, rows, strict=True)):
            filtered = [instance.filtered_resps[chosen.name] for instance in some]
            try:
                found.append(task.process_results(row["doc"], filtered)[first])
            except Exception as error:  # whatever a task's own functions raise
                raise Unjudged(at, f"{first} failed: {described(error)}") from error
        return found

    def results(outputs: list[str], rows: list[Row]) -> list:
        return judged(rows, [_answers(row, output) for row, output in zip(rows, outputs, strict=True)])

    choose = _rule(name, first, judged, rows) if "options" in rows[0] else ""
    corpus = {metrics.bleu: "bleu", metrics.chrf: "chrf"}.get(aggregate)
    if corpus:
        return _paired(results, metric(corpus)), choose
    return _aggregated(name, results, aggregate, aggregate in (metrics.mean, np.mean), rows), choose


def _answers(row: Row, output: str) -> list:
    """What the harness would have got for each of the row's requests: the text, or likelihoods, `output`'s largest."""
    if "options" in row:
        return [(0.0, True) if option == output else (-1.0, False) for option in row["options"]]
    return [output]


def _rule(name: str, first: str, judged, rows: list[Row]) -> str:
    """The way to choose by which the choice alone decides what the harness makes of the likelihoods.

    Seen from random likelihoods: it must make the same of them as of those that only say which choice it was.
    """
    random = np.random.default_rng(0)
    rows = [row for row in rows[:_PROBED] for _ in range(_DRAWS)]
    drawn = [{option: -20 * random.random() for option in row["options"]} for row in rows]
    greedy = [random.random() < 0.5 for _ in rows]
    answers = [[(some[o], sure) for o in row["options"]] for row, some, sure in zip(rows, drawn, greedy, strict=True)]
    made = [*map(repr, judged(rows, answers))]
    rules = ["conditional"] if isinstance(rows[0]["options"], dict) else ["likelihood", "per-character"]
    for rule in rules:
        picked = [max(some, key=lambda option: _weight(rule, some[option], option)) for some in drawn]
        if [*map(repr, judged(rows, [*map(_answers, rows, picked)]))] == made:
            return rule
    raise refusal(name, f"is judged by {first}, which asks for more than the likeliest choice")


def _weight(rule: str, logarithm: float, option: str) -> float:
    return logarithm / max(1, len(option.strip())) if rule == "per-character" else logarithm


def _paired(results, judge: Metric) -> Metric:
    """A metric over pairs of reference and prediction, which the package has too."""

    def given(outputs, rows):
        references, predictions = zip(*results(outputs, rows), strict=True)
        return list(predictions), list(references), rows

    return Metric(
        lambda outputs, targets, rows: judge.score(*given(outputs, rows)),
        lambda outputs, targets, rows: judge.each(*given(outputs, rows)),
        judge.is_mean,
    )


def _aggregated(name: str, results, aggregate, is_mean: bool, rows: list[Row]) -> Metric:
    def number(found) -> float:
        with warnings.catch_warnings(action="ignore"):
            return float(aggregate(found))

    def value(found) -> float:
        share = number(found) / whole
        if not -1 <= share <= 1:
            raise refusal(name, f"gave the score {share:.4g}, which is not in [-1, 1]")
        return share

    # Metrics go up to 1 or to 100, which shows in what the references themselves get.
    probed = [row for row in rows if row["target"]][:_PROBED]
    whole = 1
    if probed:
        found = results([row["target"] for row in probed], probed)
        whole = 100 if number(found) > 1 else 1
        value(found)

    def each(outputs, targets, rows):
        return np.array([value([one]) for one in results(outputs, rows)])

    def score(outputs, targets, rows):
        found = results(outputs, rows)
        total = value(found)
        if is_mean:
            return replace(mean_score(np.array(found, float) / whole, {}), value=total)

        def resampled(sample: np.ndarray) -> float:
            return number([found[i] for i in sample]) / whole

        return Score(total, *intervals.of_statistic(total, len(found), resampled, _RESAMPLES))

    return Metric(score, each, is_mean)
