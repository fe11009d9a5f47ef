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

import importlib.util
import itertools
import json
import warnings
from dataclasses import replace
from pathlib import Path

from taskbits.display import quiet
from taskbits.errors import UserError
from taskbits.tasks.harness.finding import find_task, greedy, refusal, short, sources
from taskbits.tasks.harness.judging import judge_for
from taskbits.tasks.harness.rendering import render
from taskbits.tasks.metrics import Metric
from taskbits.tasks.rows import Splits


def load(name: str, data: Path | None, code: bool = True) -> tuple[dict, Splits, Metric]:
    """The task's settings, rows and metric; see `taskbits.tasks.named`.

    Raises UserError: no lm_eval, no such task, one of a kind that is not supported, no data, code that may not run.
    """
    is_file = name.endswith(".yaml")
    if is_file and not code:
        raise UserError(f"the task lm-eval:{name} runs the code of its file, which may hold any: --trust allows it")
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(f"lm-eval:{name} needs the optional extra: pip install 'taskbits[lm-eval]'")
    importlib.import_module("datasets")  # before `quiet`, which knows the progress bars of what is loaded
    with quiet(), warnings.catch_warnings(action="ignore"):
        task = find_task(name, data)
        try:
            splits = render(name, task)
            json.dumps(splits)
            judge, choose = judge_for(name, task, splits["test"])
            judge = replace(judge, code=sources(Path(name)) if is_file else ())
        except UserError:
            raise
        except Exception as error:  # whatever a task's own functions raise
            raise UserError(f"lm-eval:{name}: its rows can't be rendered ({short(error)})") from error
    rows = list(itertools.chain(*splits.values()))
    if choose != "conditional" and not all(row["text"] for row in rows):
        raise refusal(name, "has empty prompts")
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
        raise refusal(name, "does not ask the same of each row")
    wanted = greedy(name, asks[0])
    stop = [text for text in wanted["until"] if text]
    return {**settings, "stop": stop, "max_new_tokens": wanted["max_gen_toks"]}, splits, judge
