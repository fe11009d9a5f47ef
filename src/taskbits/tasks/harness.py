"""Tasks of EleutherAI's lm-evaluation-harness, by their names there: `lm-eval:arc_easy`, or `lm-eval:PATH.yaml`.

The harness renders the rows (its zero-shot prompts, description included) and judges the outputs (first filter, first
metric), so a score is the one that it would give. Tasks that generate greedily, and those that choose by likelihood
and are judged by the choice alone (acc, f1), are supported. Needs the extra `lm-eval`.

test: the harness's test split, or else its validation split. validation: its validation split if test is another one,
or else a tenth of train. Without a training split, half of a validation split that is not test becomes train; without
that too, 30% of the rows that the harness evaluates are held out (20% train, 10% validation), and only then is a score
not over the harness's own rows. Held out is by a hash of the prompt. Of a long training split, the first 20,000 rows
are taken; rows whose prompt stands in a later split or that have no answer are left out of train and validation.

Two things differ. An input too long for the model is an error here, and cut from the left there. Where a tokenizer
joins the end of a prompt with the start of a choice, the harness leaves the joined token out of its likelihood.

Files, with `data`: a JSONL file for each split of the data set, named like it there (train.jsonl, `.gz` or not).
"""

import difflib
import importlib.util
import itertools
import json
import logging
import re
import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from taskbits.errors import UserError
from taskbits.metrics import Metric, mean_score, metric
from taskbits.rows import Row, Splits, find_file, read_rows, share
from taskbits.study import Score

_TRAIN = 20_000
_RESAMPLES = 200  # of aggregations that may take milliseconds
_NAME = re.compile(r"""^["']?(?:task|group)["']?: *["']?([^"'#\n]+?)["']? *(?:#.*)?$""", re.MULTILINE)
_SUPPORTED = "supported are generate_until and multiple_choice tasks, one at a time"


def load(name: str, data: Path | None) -> tuple[dict, Splits, Metric]:
    """The task's settings, rows and metric; see `taskbits.tasks`.

    Raises UserError: no lm_eval, no such task, one of a kind that is not supported, no data.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(f"lm-eval:{name} needs the optional extra: pip install 'taskbits[lm-eval]'")
    logging.getLogger("lm_eval").setLevel(logging.CRITICAL)
    with warnings.catch_warnings(action="ignore"):
        task = _task(name, data)
        judge = _metric(name, task)
        try:
            splits = _splits(task)
            json.dumps(splits)
        except Exception as error:  # whatever a task's own functions raise
            raise UserError(f"lm-eval:{name}: its rows can't be rendered ({_short(error)})") from error
    if not all(row["text"] for rows in splits.values() for row in rows):
        raise _refusal(name, "has empty prompts")
    settings = {
        "name": f"lm-eval:{name}",
        "prompt": "{text}",
        "target": "{target}",
        "metric": next(iter(task.aggregation())),
        "description": description if "{{" not in (description := (task.config.description or "").strip()) else "",
    }
    if task.OUTPUT_TYPE == "multiple_choice":
        return {**settings, "choices": "options"}, splits, judge
    wanted = _generation(task.config.generation_kwargs)
    stop = [text for text in wanted["until"] if text]
    return {**settings, "stop": stop, "max_new_tokens": wanted["max_gen_toks"]}, splits, judge


def _task(name: str, data: Path | None):
    """The harness's task, with no demonstrations and with its first metric and filter only."""
    import datasets
    import evaluate
    import huggingface_hub
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity_error()
    # Metrics come from the hub too, under a switch of their own.
    evaluate.config.HF_EVALUATE_OFFLINE |= huggingface_hub.constants.HF_HUB_OFFLINE
    try:
        path = _config_file(name)
        _check(name, load_yaml(path, resolve_func=False))
        config = load_yaml(path)
        content = _dataset(name, config, data)
        config |= {"num_fewshot": 0, "fewshot_split": None, "fewshot_config": {"samples": []}}
        config |= {"custom_dataset": lambda **_: content}
        config |= {key: config[key][:1] for key in ("metric_list", "filter_list") if config.get(key)}
        (task,) = TaskManager(include_defaults=False).load([config])["tasks"].values()
    except UserError:
        raise
    except Exception as error:  # a task may run any code of its own when it is made
        raise UserError(f"lm-eval:{name} can't be loaded ({_short(error)})") from error
    if task.multiple_input:
        raise _refusal(name, "has a prompt for each choice")
    return task


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


def _check(name: str, config: dict) -> None:
    kind = config.get("output_type", "generate_until")
    if "class" in config:
        raise _refusal(name, "is a Python class of its own")
    if not isinstance(config.get("task"), str) or "group" in config:
        raise _refusal(name, "stands for several tasks")
    if kind not in ("generate_until", "multiple_choice"):
        raise _refusal(name, f"is a {kind} task")
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        raise _refusal(name, "shows more than text")
    if config.get("unsafe_code"):
        raise _refusal(name, "runs code that the model writes")
    if kind == "generate_until":
        wanted = _generation(config.get("generation_kwargs") or {})
        if wanted["do_sample"] or wanted.get("num_beams", 1) > 1 or config.get("repeats", 1) > 1:
            raise _refusal(name, "does not generate greedily")


def _generation(wanted: dict) -> dict:
    """The harness's reading of a task's generation_kwargs, with its default length."""
    from lm_eval.models.utils import normalize_gen_kwargs

    return normalize_gen_kwargs(wanted, 256)


def _dataset(name: str, config: dict, data: Path | None):
    """The task's data set: a mapping of its splits' names to rows."""
    import datasets

    splits = [config[key] for key in ("training_split", "validation_split", "test_split") if config.get(key)]
    if data:
        files = {split: find_file(data, config["task"], f"{split}.jsonl") for split in splits}
        rows = {split: read_rows(path, []) for split, path in files.items()}
        for split, path in files.items():
            if not rows[split]:
                raise UserError(f"{path} holds no rows")
        return {split: datasets.Dataset.from_list(some) for split, some in rows.items()}
    settings = config.get("dataset_kwargs") or {}
    try:
        if callable(config.get("custom_dataset")):
            return config["custom_dataset"](**(config.get("metadata") or {}), **settings)
        settings = {key: value for key, value in settings.items() if key != "trust_remote_code"}
        return datasets.load_dataset(config["dataset_path"], config.get("dataset_name"), **settings)
    except Exception as error:  # whatever the hub's client raises: it has no common class
        files = " and ".join(f"{split}.jsonl" for split in dict.fromkeys(splits))
        raise UserError(
            f"the data set {config.get('dataset_path')} of lm-eval:{name} can't be had from the hub "
            f"({_short(error)}): get a connection, or name a folder with {files} with --data"
        ) from error


def _splits(task) -> Splits:
    """The rows of train, validation and test, as the module's docstring has it."""
    names = task.config
    test, train, validation = _rows(task, task.eval_docs), [], []
    taken = {names.test_split or names.validation_split}
    if names.validation_split and names.validation_split not in taken:
        validation = _others(_rows(task, task.validation_docs()), test)
        taken.add(names.validation_split)
    if names.training_split and names.training_split not in taken:
        train = _others(_rows(task, itertools.islice(task.training_docs(), _TRAIN)), test + validation)
    if not train and validation:
        train, validation = _divide(validation, 0.5)
    elif not train:
        held, test = _divide(test, 0.3)
        train, validation = _divide([row for row in held if row["target"]], 0.2)
    elif not validation:
        validation, train = _divide(train, 0.1)
    return {"train": train, "validation": validation, "test": test}


def _others(rows: list[Row], later: list[Row]) -> list[Row]:
    seen = {row["text"] for row in later}
    return [row for row in rows if row["target"] and row["text"] not in seen]


def _divide(rows: list[Row], below: float) -> tuple[list[Row], list[Row]]:
    parts: tuple[list[Row], list[Row]] = [], []
    for row in rows:
        parts[share(row, ["text"]) >= below].append(row)
    return parts


def _rows(task, docs: Iterable[dict]) -> list[Row]:
    return [_row(task, doc) for doc in docs]


def _row(task, doc: dict) -> Row:
    """What the harness asks of this doc, the answer as it would stand behind the prompt ("": none), and the doc."""
    from lm_eval.api.utils import maybe_delimit

    lead = task.doc_to_prefix(doc)
    text = task.fewshot_context(doc, num_fewshot=0, gen_prefix=lead)
    requests = task.construct_requests(doc, text)
    answer = task.doc_to_target(doc)
    if isinstance(answer, list):
        answer = answer[0] if answer else ""
    choices = task.doc_to_choice(doc) if task.config.doc_to_choice is not None else []
    if choices and isinstance(answer, int):
        answer = choices[answer] if 0 <= answer < len(choices) else ""
    if task.OUTPUT_TYPE == "multiple_choice":
        options = [request.args[1] for request in requests]
        target = options[choices.index(answer)] if answer in choices else ""
        return {"text": text, "target": target, "options": options, "doc": doc}
    answer = str(answer)
    # As its demonstrations are written.
    target = maybe_delimit(lead, answer).removeprefix(lead) if lead else task.config.target_delimiter + answer
    return {"text": text, "target": target if answer else "", "doc": doc}


def _metric(name: str, task) -> Metric:
    """The task's first metric, computed by the harness. Raises UserError if it is of no use here."""
    from lm_eval.api import metrics
    from lm_eval.api.instance import Instance

    first, aggregate = next(iter(task.aggregation().items()))
    if task.OUTPUT_TYPE == "multiple_choice" and (first not in ("acc", "f1") or callable(task.config.process_results)):
        raise _refusal(name, f"is judged by {first}, neither acc nor f1")
    if not task.higher_is_better()[first]:
        raise _refusal(name, f"is judged by {first}, of which less is better")
    (chosen,) = task._filters

    def results(outputs: list[str], rows: list[Row]) -> list:
        answers = [
            [(0.0, True) if option == output else (-1.0, False) for option in row["options"]]
            if "options" in row
            else [output]
            for output, row in zip(outputs, rows, strict=True)
        ]
        instances = [
            [Instance(task.OUTPUT_TYPE, row["doc"], (), 0, resps=[answer]) for answer in some]
            for some, row in zip(answers, rows, strict=True)
        ]
        chosen.apply(list(itertools.chain(*instances)))
        return [
            task.process_results(row["doc"], [instance.filtered_resps[chosen.name] for instance in some])[first]
            for some, row in zip(instances, rows, strict=True)
        ]

    corpus = {metrics.bleu: "bleu", metrics.chrf: "chrf"}.get(aggregate)
    if corpus:
        return _judged(results, metric(corpus))
    return _aggregated(name, results, aggregate, is_mean=aggregate is metrics.mean)


def _judged(results, judge: Metric) -> Metric:
    """A metric over pairs of reference and prediction, which the package has too."""

    def given(outputs, rows):
        references, predictions = zip(*results(outputs, rows), strict=True)
        return list(predictions), list(references), rows

    return Metric(
        lambda outputs, targets, rows: judge.score(*given(outputs, rows)),
        lambda outputs, targets, rows: judge.each(*given(outputs, rows)),
        judge.is_mean,
    )


def _aggregated(name: str, results, aggregate, is_mean: bool) -> Metric:
    def value(found) -> float:
        with warnings.catch_warnings(action="ignore"):
            number = float(aggregate(found))
        if not 0 <= number <= 1:
            raise _refusal(name, f"gave the score {number:.4g}, which is not in [0, 1]")
        return number

    def each(outputs, targets, rows):
        return np.array([value([one]) for one in results(outputs, rows)])

    def score(outputs, targets, rows):
        found = results(outputs, rows)
        whole = value(found)
        if is_mean:
            return replace(mean_score(np.array(found, float), {}), value=whole)
        samples = np.random.default_rng(0).integers(len(found), size=(_RESAMPLES, len(found)))
        low, high = np.quantile([value([found[i] for i in sample]) for sample in samples], (0.025, 0.975))
        return Score(whole, min(float(low), whole), max(float(high), whole), len(found), {})

    return Metric(score, each, is_mean)


def _refusal(name: str, reason: str) -> UserError:
    return UserError(f"lm-eval:{name} {reason}: {_SUPPORTED}")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
