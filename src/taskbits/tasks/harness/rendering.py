"""The rows of a task of the harness, as it renders them, in three splits."""

import itertools
import os
from collections.abc import Iterable

from taskbits.tasks.harness.finding import refusal, split_names
from taskbits.tasks.rows import Row, Splits, share

_TRAIN = 20_000


def render(name: str, task) -> Splits:
    """The rows of train, validation and test, as the module's docstring has it."""
    names = split_names(task)
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
        raise refusal(name, f"asks for {' and '.join(sorted(kinds))} of a row")
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
        raise refusal(name, "has a row with the same choice twice")
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
