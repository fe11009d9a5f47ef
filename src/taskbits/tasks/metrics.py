"""From outputs to a score in [0, 1] with a 95% interval and a lower bound (`intervals`)."""

import functools
import math
import re
import reprlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from numbers import Real

import numpy as np

from taskbits.errors import UserError
from taskbits.tasks import intervals
from taskbits.tasks.imports import described, ends_process, load_function

OWN = tuple(
    f"python:taskbits.{name}" for name in ("tasks.gsm8k.score", "tasks.ifeval.checkers.score", "lab.checks.follows")
)
_CORPUS = ("bleu", "chrf")
_KANA, _HAN = "[\u3041-\u30ff\uff66-\uff9d]", "[\u3005-\u3007\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
_CHINESE = 0.25  # of all letters: from here on a text is Chinese or Japanese
_JAPANESE = 0.05  # of these kana: from here on it is Japanese


@dataclass(frozen=True)
class Score:
    """A score in [0, 1] with its 95% interval over `n` examples.

    also: what is reported beside it, such as other metrics of the same outputs, or how it was computed.
    bound: the one-sided 95% lower bound of the score on all rows of this kind (`intervals`); None in older records.
    low, high, n and bound are None where others have published a score without them.
    """

    value: float
    low: float | None = field(compare=False)
    high: float | None = field(compare=False)
    n: int | None
    also: dict[str, float | str] = field(default_factory=dict)
    bound: float | None = field(default=None, compare=False)

    @property
    def at_least(self) -> float:
        """The one-sided 95% lower bound; of a published estimate, which has none, the score itself.

        Of records that hold none: Bentkus's from the mean, or the low end of the interval if that is less (corpus
        metrics).
        """
        if self.n is None:
            return self.value
        return min(self.low, intervals.bound_from(self.value, self.n)) if self.bound is None else self.bound


def _any(target: str) -> bool:
    return True


@dataclass(frozen=True)
class Metric:
    """score(outputs, targets, rows): the score of a split. each: of the same, an array with a score for each example.

    Both raise Unjudged at an output that can't be judged. is_mean: whether the score is the mean of what `each` gives;
    else (BLEU, chrF) that is the sentences' own scores. answers: whether a reference holds an answer to compare with.
    code: of what source it is made, where that is not the package's; see `load_function`.
    """

    score: Callable[[list[str], list[str], list[dict]], Score]
    each: Callable[[list[str], list[str], list[dict]], np.ndarray]
    is_mean: bool
    answers: Callable[[str], bool] = _any
    code: tuple[str, ...] = ()


class Unjudged(UserError):
    """An output that the metric could not judge. at: its place among those given; what: the reason."""

    def __init__(self, at: int, what: str):
        super().__init__(f"row {at + 1}: {what}")
        self.at, self.what = at, what


def metric(name: str, pattern: str | None = None, folder: str = "", tokenize: str | None = None) -> Metric:
    """The metric of that name.

    name: exact, regex (group 1 of `pattern` in output and target must agree), bleu, chrf (the other of these two stands
    beside the one; `tokenize` names sacrebleu's tokenizer for bleu, 13a by default), or python:module.function, a
    function (output, row) -> float in [0, 1]; the module may lie in `folder`. It may also give a dict of floats, or of
    lists of them: the first is the score, the means of the others are kept beside it.
    Raises UserError if the name, the pattern or the tokenizer is bad. Nothing limits the time that a pattern takes.
    """
    if tokenize and name not in _CORPUS:
        raise UserError(f"'tokenize' is for bleu and chrf, which has bleu beside it, not for the metric {name}")
    if name == "exact":
        return per_example(lambda output, target, row: output.strip() == target.strip(), _is_filled)
    if name == "regex":
        answer = _regex(pattern)
        # An output's answer equals the target's only where there is one: None is none.
        return per_example(
            lambda output, target, row: bool(wanted := answer(target)) and answer(output) == wanted,
            lambda target: bool(answer(target)),
        )
    if name in _CORPUS:
        return _corpus(name, tokenize)
    if name.startswith("python:"):
        return of_function(*load_function(name.removeprefix("python:"), folder), name)
    raise UserError(f"unknown metric {name!r}: use exact, regex, bleu, chrf or python:module.function")


def of_function(function: Callable[[str, dict], float | dict], code: tuple[str, ...], name: str) -> Metric:
    """The metric of a task's own function (output, row), made of this code; see `metric`."""
    return per_example(lambda output, target, row: function(output, row), code=code, name=name)


def per_example(
    judge: Callable[[str, str, dict], float | dict],
    answers: Callable[[str], bool] = _any,
    code: tuple[str, ...] = (),
    name: str = "the metric",
) -> Metric:
    """The metric whose score is the mean of what `judge(output, target, row)` gives, or of the first of several."""

    def judgement(at: int, example: tuple) -> dict[str, list[float]]:
        try:
            found = judge(*example)
        except BaseException as error:  # whatever a task's own function raises
            if ends_process(error):
                raise
            raise Unjudged(at, f"{name} failed: {described(error)}") from error
        several = found if isinstance(found, dict) and found else {"": found}
        read = {str(key): _numbers(value) for key, value in several.items()}
        first = next(iter(read.values()))
        if len(first) != 1 or not 0 <= first[0] <= 1:
            raise Unjudged(at, f"{name} gave {_shown(found)}, not a number in [0, 1]")
        if unfit := [key for key, values in read.items() if not all(map(math.isfinite, values))]:
            raise Unjudged(at, f"{name} gave {_shown(found)}: {unfit[0]!r} is not a finite number")
        return read

    def judgements(outputs, targets, rows):
        return [judgement(*numbered) for numbered in enumerate(zip(outputs, targets, rows, strict=True))]

    def scores(found):
        return np.array([next(iter(one.values()))[0] for one in found])

    def score(outputs, targets, rows):
        found = judgements(outputs, targets, rows)
        names = dict.fromkeys(key for one in found for key in one)
        also = {key: [value for one in found for value in one.get(key, [])] for key in names if key}
        return mean_score(scores(found), {key: float(np.mean(values)) for key, values in also.items() if values})

    return Metric(score, lambda *given: scores(judgements(*given)), True, answers, code)


def _numbers(value) -> list[float]:
    """A number of any kind, or those in a list (such as a value for each instruction of a prompt); NaN for others."""
    if isinstance(value, list | tuple) or getattr(value, "ndim", 0):
        return [number for one in value for number in _numbers(one)]
    value = value.item() if hasattr(value, "ndim") else value
    try:
        return [float(value) if isinstance(value, Real) else math.nan]
    except OverflowError:
        return [math.nan]


def _shown(value) -> str:
    return " ".join(reprlib.repr(value).split())


def _is_filled(target: str) -> bool:
    return bool(target.strip())


def mean_score(values: np.ndarray, also: dict) -> Score:
    """The mean of the examples' scores with its interval. Raises UserError if one is not in [-1, 1]."""
    low, high, bound = intervals.of_mean(values)
    return Score(float(np.mean(values)), low, high, len(values), also, bound)


def _regex(pattern: str | None) -> Callable[[str], str | None]:
    """What the pattern's group finds in a text."""
    try:
        compiled = re.compile(pattern or "")
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"bad pattern {pattern!r}: {error}") from error
    if compiled.groups < 1:
        raise UserError("metric regex needs a pattern with one group, such as 'answer is (\\d+)'")
    return lambda text: found.group(1) if (found := compiled.search(text)) else None


def tokenizer_for(targets: Iterable[str]) -> str | None:
    """The tokenizer of sacrebleu for references in Chinese (zh) or Japanese (ja-mecab, or char where that is not
    installed), which have no spaces between words; None for others."""
    text = "".join(targets)
    kana, han = len(re.findall(_KANA, text)), len(re.findall(_HAN, text))
    if not kana + han or kana + han < _CHINESE * sum(map(str.isalpha, text)):
        return None
    if kana < _JAPANESE * (kana + han):
        return "zh"
    import sacrebleu

    try:
        sacrebleu.BLEU(tokenize="ja-mecab")
    except Exception:  # RuntimeError without the extra sacrebleu[ja], AssertionError with another dictionary
        return "char"
    return "ja-mecab"


def _corpus(name: str, tokenize: str | None) -> Metric:
    import sacrebleu

    metric_class = _corpus_classes(tokenize)[name]
    if tokenize not in (None, *sacrebleu.BLEU.TOKENIZERS):
        raise UserError(f"unknown tokenizer {tokenize!r}: sacrebleu has {', '.join(sacrebleu.BLEU.TOKENIZERS)}")
    try:
        _corpus_classes(tokenize)["bleu"]()
    except Exception as error:  # what it needs is not installed, or can't be downloaded
        raise UserError(f"the tokenizer {tokenize} of BLEU can't be had: {described(error)}") from error

    def each(outputs, targets, rows):
        judge = metric_class(**({"effective_order": True} if name == "bleu" else {}))
        pairs = zip(outputs, targets, strict=True)
        return np.array([min(1.0, judge.sentence_score(output, [target]).score / 100) for output, target in pairs])

    def score(outputs, targets, rows):
        judge = metric_class()
        value = judge.corpus_score(outputs, [targets]).score / 100
        # Resampled here: sacrebleu's own interval raises TypeError when only some of the samples match anything.
        segments = np.array(judge._extract_corpus_statistics(outputs, [targets]))

        def resampled(sample: np.ndarray) -> float:
            return judge._compute_score_from_stats(segments[sample].sum(axis=0)).score / 100

        low, high, bound = intervals.of_statistic(value, len(segments), resampled)
        value = min(1.0, value)  # sacrebleu's rounding may lead a hair over 1
        return Score(value, low, high, len(outputs), _both(outputs, targets, tokenize), bound)

    return Metric(score, each, is_mean=False, answers=_is_filled)


def _corpus_classes(tokenize: str | None) -> dict[str, Callable]:
    import sacrebleu  # costly, and only these metrics need it

    return {"bleu": functools.partial(sacrebleu.BLEU, tokenize=tokenize), "chrf": sacrebleu.CHRF}


def _both(outputs: list[str], targets: list[str], tokenize: str | None) -> dict[str, float | str]:
    """BLEU and chrF, each with the signature that sacrebleu gives to how it was computed."""
    found: dict[str, float | str] = {}
    for name, metric_class in _corpus_classes(tokenize).items():
        judge = metric_class()
        found[name] = judge.corpus_score(outputs, [targets]).score / 100
        found[f"{name} signature"] = str(judge.get_signature())
    return found
