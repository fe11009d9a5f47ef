"""Tasks of EleutherAI's lm-evaluation-harness, by their names there: `lm-eval:arc_easy`, or `lm-eval:PATH.yaml`.

The harness renders the rows (its zero-shot prompts, description included) and judges the outputs (first filter, first
metric), so a score is the one that it would give; one in percent is divided by 100. Supported are tasks that generate
greedily, and those that choose by likelihood and are judged by the choice alone: the likeliest, the likeliest by
character (acc_norm), or that behind which the likelihood of the same ending is largest (as in winogrande). Which of
these it is shows in what the metric makes of random likelihoods. Needs the extra `lm-eval`.

test: the harness's test split, or else its validation split. validation: its validation split if test is another one,
or else a tenth of train. Without a training split, half of a validation split that is not test becomes train; without
that too, 30% of the rows that the harness evaluates are held out (20% train, 10% validation), and only then is a score
not over the harness's own rows. Held out is by a hash of the prompt. Of a long training split, the first 20,000 rows
are taken; rows whose prompt stands in a later split or that have no answer are left out of train and validation.

Two things differ. An input too long for the model is an error here, and cut from the left there. Where a tokenizer
joins the end of a prompt with the start of a choice, the harness leaves the joined token out of its likelihood.

A file that is not the harness's own, `lm-eval:PATH.yaml`, can run anything (its functions and classes, its templates,
which are Jinja's, metrics that are fetched): what it is made of counts for the task's fingerprint, as the harness's
version does not.

A metric may be negative (a correlation); such a score counts as none in a search, and pictures begin at 0.

Files, with `data`: a JSONL file for each split of the data set, named like it there (train.jsonl, `.gz` or not).
"""

import difflib
import importlib.util
import itertools
import json
import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from taskbits import intervals
from taskbits.display import quiet
from taskbits.errors import UserError
from taskbits.imports import described, hash_of
from taskbits.metrics import Metric, Unjudged, mean_score, metric
from taskbits.rows import Row, Splits, find_file, read_rows, share
from taskbits.study import Score

_TRAIN = 20_000
_PROBED = 32  # rows that say of what kind a metric is
_DRAWS = 4
_RESAMPLES = 200  # of aggregations that may take milliseconds
_NAME = re.compile(r"""^["']?(?:task|group)["']?: *["']?([^"'#\n]+?)["']? *(?:#.*)?$""", re.MULTILINE)
_SUPPORTED = "supported are generate_until and multiple_choice tasks, one at a time"


def load(name: str, data: Path | None, code: bool = True) -> tuple[dict, Splits, Metric]:
    """The task's settings, rows and metric; see `taskbits.tasks`.

    Raises UserError: no lm_eval, no such task, one of a kind that is not supported, no data, code that may not run.
    """
    is_file = name.endswith(".yaml")
    if is_file and not code:
        raise UserError(f"the task lm-eval:{name} runs the code of its file, which may hold any: --trust allows it")
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(f"lm-eval:{name} needs the optional extra: pip install 'taskbits[lm-eval]'")
    importlib.import_module("datasets")  # before `quiet`, which knows the progress bars of what is loaded
    with quiet(), warnings.catch_warnings(action="ignore"):
        task = _task(name, data)
        try:
            splits = _splits(name, task)
            json.dumps(splits)
            judge, choose = _metric(name, task, splits["test"])
            judge = replace(judge, code=_sources(Path(name)) if is_file else ())
        except UserError:
            raise
        except Exception as error:  # whatever a task's own functions raise
            raise UserError(f"lm-eval:{name}: its rows can't be rendered ({_short(error)})") from error
    rows = list(itertools.chain(*splits.values()))
    if choose != "conditional" and not all(row["text"] for row in rows):
        raise _refusal(name, "has empty prompts")
    settings = {
        "name": f"lm-eval:{name}",
        "prompt": "{text}",
        "target": "{target}",
        "metric": next(iter(task.aggregation())),
        "description": description if "{{" not in (description := (task.config.description or "").strip()) else "",
    }
    if choose:
        how = {} if choose == "likelihood" else {"choose": choose}
        return {**settings, "choices": "options", **how}, splits, judge
    asks = [row.pop("asks") for row in rows]
    if any(some != asks[0] for some in asks):
        raise _refusal(name, "does not ask the same of each row")
    wanted = _greedy(name, asks[0])
    stop = [text for text in wanted["until"] if text]
    return {**settings, "stop": stop, "max_new_tokens": wanted["max_gen_toks"]}, splits, judge


def _task(name: str, data: Path | None):
    """The harness's task, with no demonstrations and with its first metric and filter only."""
    import evaluate
    import huggingface_hub
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    # Metrics come from the hub too, under a switch of their own.
    evaluate.config.HF_EVALUATE_OFFLINE |= huggingface_hub.constants.HF_HUB_OFFLINE
    try:
        path = _config_file(name)
        _check(name, load_yaml(path, resolve_func=False))
        config = load_yaml(path)
        kind = _with_data(config.pop("class", ConfigurableTask), name, config["task"], data)
        config |= {"num_fewshot": 0, "fewshot_split": None, "fewshot_config": {"samples": []}}
        config |= {key: config[key][:1] for key in ("metric_list", "filter_list") if config.get(key)}
        return kind(config={key: value for key, value in config.items() if key not in ("tag", "group")})
    except UserError:
        raise
    except Exception as error:  # a task may run any code of its own when it is made
        raise UserError(f"lm-eval:{name} can't be loaded ({_short(error)})") from error


def _with_data(kind: type, name: str, folder: str, data: Path | None) -> type:
    """This class of tasks, with the files of `data` as its data set, or with a clear error if it can't be had."""

    def download(self, *args, **kwargs) -> None:
        if data:
            self.dataset = _Files(data, folder)
            return
        try:
            kind.download(self, *args, **kwargs)
        except Exception as error:  # whatever the hub's client raises: it has no common class
            files = " and ".join(f"{split}.jsonl" for split in dict.fromkeys(_split_names(self).values()))
            raise UserError(
                f"the data set {self.DATASET_PATH} of lm-eval:{name} can't be had from the hub "
                f"({_short(error)}): get a connection, or name a folder with {files} with --data"
            ) from error

    return type(kind.__name__, (kind,), {"download": download})


class _Files(dict):
    """A data set's splits by their names, each read from its file when it is asked for."""

    def __init__(self, data: Path, folder: str):
        self._place = data, folder

    def __missing__(self, split: str):
        import datasets

        path = find_file(*self._place, f"{split}.jsonl")
        rows = read_rows(path, [])
        if not rows:
            raise UserError(f"{path} holds no rows")
        return self.setdefault(split, datasets.Dataset.from_list(rows))


def _split_names(task) -> dict[str, str]:
    """The names that the task's data set has for training, validation and test, those that there are.

    A task that is a Python class of its own says only which there are.
    """
    there = {
        "train": (task.has_training_docs(), task.config.training_split),
        "validation": (task.has_validation_docs(), task.config.validation_split),
        "test": (task.has_test_docs(), task.config.test_split),
    }
    return {split: name or split for split, (has, name) in there.items() if has}


def _config_file(name: str) -> Path:
    """The task's YAML file."""
    import lm_eval.tasks

    if name.endswith(".yaml"):
        if not Path(name).is_file():
            raise UserError(f"lm-eval:{name}: no such file")
        return Path(name)
    files: dict[str, Path] = {}
    # The harness's own index of these 14,000 files takes ten times as long.
    for path in sorted(Path(lm_eval.tasks.__file__).parent.rglob("*.yaml"), key=Path.as_posix):
        for found in _NAME.findall(path.read_text(encoding="utf-8")):
            files.setdefault(found, path)
    if name in files:
        return files[name]
    near = difflib.get_close_matches(name, files, 1)
    raise UserError(f"lm-eval has no task {name}" + (f": did you mean lm-eval:{near[0]}?" if near else ""))


def _sources(path: Path) -> tuple[str, ...]:
    """A hash of each file that a task's YAML file is made of: itself, its functions' modules, and what it includes."""
    from lm_eval.tasks._yaml_loader import load_yaml

    found, waiting = [], [path]
    while waiting:
        path = waiting.pop()
        found.append(hash_of(path))
        modules = re.findall(r"!function\s+[\"']?([\w.]+)\.\w+", path.read_text(encoding="utf-8"))
        places = [path.parent.joinpath(*module.split(".")).with_suffix(".py") for module in dict.fromkeys(modules)]
        found += [hash_of(place) for place in places if place.is_file()]
        included = load_yaml(path, resolve_func=False, recursive=False).get("include", [])
        waiting += [path.parent / one for one in ([included] if isinstance(included, str) else included)]
    return tuple(found)


def _check(name: str, config: dict) -> None:
    kind = config.get("output_type", "generate_until")
    if not isinstance(config.get("task"), str) or "group" in config:
        raise _refusal(name, "stands for several tasks")
    if kind not in ("generate_until", "multiple_choice"):
        raise _refusal(name, f"is a {kind} task")
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        raise _refusal(name, "shows more than text")
    if config.get("unsafe_code"):
        raise _refusal(name, "runs code that the model writes")
    if kind == "generate_until":
        _greedy(name, config.get("generation_kwargs") or {}, config.get("repeats", 1))


def _greedy(name: str, wanted: dict, repeats: int = 1) -> dict:
    """The harness's reading of a task's generation_kwargs, with its default length. Raises UserError if it samples."""
    from lm_eval.models.utils import normalize_gen_kwargs

    wanted = normalize_gen_kwargs(wanted, 256)
    if wanted["do_sample"] or wanted.get("num_beams", 1) > 1 or repeats > 1:
        raise _refusal(name, "does not generate greedily")
    return wanted


def _splits(name: str, task) -> Splits:
    """The rows of train, validation and test, as the module's docstring has it."""
    names = _split_names(task)
    test, train, validation = _rows(name, task, task.eval_docs), [], []
    scored, held, taught = names.get("test") or names["validation"], names.get("validation"), names.get("train")
    if held not in (None, scored):
        validation = _others(_rows(name, task, task.validation_docs()), test)
    if taught not in (None, scored, held):
        train = _others(_rows(name, task, itertools.islice(task.training_docs(), _TRAIN)), test + validation)
    if not train and validation:
        train, validation = _divide(validation, 0.5)
    elif not train:
        others, test = _divide(test, 0.3)
        train, validation = _divide([row for row in others if row["target"]], 0.2)
    elif not validation:
        validation, train = _divide(train, 0.1)
    return {"train": train, "validation": validation, "test": test}


def _others(rows: list[Row], later: list[Row]) -> list[Row]:
    seen = {_input(row) for row in later}
    return [row for row in rows if row["target"] and _input(row) not in seen]


def _input(row: Row) -> tuple[str, str]:
    return row["text"], str(row.get("options"))


def _divide(rows: list[Row], below: float) -> tuple[list[Row], list[Row]]:
    parts: tuple[list[Row], list[Row]] = [], []
    for row in rows:
        parts[share(row, ["text"] if row["text"] else ["options"]) >= below].append(row)
    return parts


def _rows(name: str, task, docs: Iterable[dict]) -> list[Row]:
    return [_row(name, task, doc) for doc in docs]


def _row(name: str, task, doc: dict) -> Row:
    """What the harness asks of this doc, the answer as it would stand behind the prompt ("": none), and the doc.

    options: the completions to choose from; where each has a context of its own, the text is what these share, and
    options maps each completion to the rest of its context. asks: how it has a text generated.
    """
    lead = task.doc_to_prefix(doc)
    text = task.fewshot_context(doc, num_fewshot=0, gen_prefix=lead)
    requests = task.construct_requests(doc, text)
    requests = requests if isinstance(requests, list) else [requests]
    kinds = {request.request_type for request in requests}
    if kinds == {"generate_until"} and len(requests) == 1:
        return {"text": text, "target": _written(task, doc, lead), "doc": doc, "asks": requests[0].args[1]}
    if kinds != {"loglikelihood"}:
        raise _refusal(name, f"asks for {' and '.join(sorted(kinds))} of a row")
    contexts, endings = zip(*(request.args for request in requests), strict=True)
    if isinstance(text, str):
        options = [*endings]
        return {"text": text, "target": _chosen(task, doc, options), "options": options, "doc": doc}
    text = os.path.commonprefix(contexts)
    rests = [context.removeprefix(text) for context in contexts]
    options = [rest + ending for rest, ending in zip(rests, endings, strict=True)]
    right = task.doc_to_text(doc)
    given = dict(zip(options, rests, strict=True))
    if len(given) < len(options):
        raise _refusal(name, "has a row with the same choice twice")
    target = options[right] if 0 <= right < len(options) else ""
    return {"text": text, "target": target, "options": given, "doc": doc}


def _answer(task, doc: dict) -> str | int:
    """The answer, the first one if there are several: a text, or the number of a choice."""
    answer = task.doc_to_target(doc)
    if isinstance(answer, list):
        answer = answer[0] if answer else ""
    return answer if isinstance(answer, int) else str(answer)


def _choices(task, doc: dict) -> list[str]:
    return task.doc_to_choice(doc) if task.config.doc_to_choice is not None else []


def _chosen(task, doc: dict, options: list[str]) -> str:
    """The option that is right."""
    answer, choices = _answer(task, doc), _choices(task, doc)
    place = choices.index(answer) if answer in choices else answer
    return options[place] if isinstance(place, int) and 0 <= place < len(options) else ""


def _written(task, doc: dict, lead: str | None) -> str:
    """The answer as the harness's demonstrations have it behind their prompt."""
    from lm_eval.api.utils import maybe_delimit

    answer, choices = _answer(task, doc), _choices(task, doc)
    if choices and isinstance(answer, int):
        answer = choices[answer] if 0 <= answer < len(choices) else ""
    answer = str(answer)
    if not answer:
        return ""
    return maybe_delimit(lead, answer).removeprefix(lead) if lead else task.config.target_delimiter + answer


def _metric(name: str, task, rows: list[Row]) -> tuple[Metric, str]:
    """The task's first metric, computed by the harness, and how a choice must be made for it (a task's key `choose`).

    Raises UserError if it is of no use here.
    """
    from lm_eval.api import metrics
    from lm_eval.api.instance import Instance

    first, aggregate = next(iter(task.aggregation().items()))
    if not task.higher_is_better()[first]:
        raise _refusal(name, f"is judged by {first}, of which less is better")
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
    raise _refusal(name, f"is judged by {first}, which asks for more than the likeliest choice")


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
            raise _refusal(name, f"gave the score {share:.4g}, which is not in [-1, 1]")
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


def _refusal(name: str, reason: str) -> UserError:
    return UserError(f"lm-eval:{name} {reason}: {_SUPPORTED}")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
