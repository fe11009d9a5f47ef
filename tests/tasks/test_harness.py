"""Tasks of lm-evaluation-harness: its prompts, its requests, its outputs and its scores."""

import functools
import json
import sys
from pathlib import Path

import pytest
import yaml

from taskbits.errors import UserError
from taskbits.models.predict import predict
from taskbits.tasks.load import load_task

pytest.importorskip("lm_eval")

import datasets
import lm_eval.tasks
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM

ROWS = {"train": range(40), "validation": range(40, 52), "test": range(52, 64)}
# The harness's file of a task, and rows with its data set's fields.
STAND_INS = {
    "gsm8k": ("gsm8k/gsm8k", lambda i: {"question": f"{i} + 1?", "answer": f"It is {i + 1}.\n#### {i + 1}"}),
    "nq_open": ("nq_open/nq_open", lambda i: {"question": f"what is after {i}", "answer": [f"{i + 1}", f"a {i + 1}"]}),
    "triviaqa": ("triviaqa/default", lambda i: {"question": f"After {i}", "answer": {"aliases": [f"{i + 1}", "x"]}}),
    "wmt16-en-de": (
        "translation/wmt16_en-de",
        lambda i: {"translation": {"en": f"I have {i} small red dogs.", "de": f"Ich habe {i} kleine rote Hunde."}},
    ),
    "arc_easy": (
        "arc/arc_easy",
        lambda i: {
            "question": f"Which number follows {i}?",
            "choices": {"text": [f"{i + 1}", "a dog", f"{i} cats"], "label": ["A", "B", "C"]},
            "answerKey": "ABC"[i % 3],
        },
    ),
    "boolq": (
        "super_glue/boolq/default",
        lambda i: {"passage": f"There are {i} dogs.", "question": f"are there {i + i % 2} dogs", "label": i // 2 % 2},
    ),
    "copa": (
        "super_glue/copa/default",
        lambda i: {
            "premise": f"He had {i} dogs.",
            "choice1": "He walked a lot.",
            "choice2": "It was enough.",
            "question": ["cause", "effect"][i % 2],
            "label": i % 3 % 2,
        },
    ),
    "cola": ("glue/cola/default", lambda i: {"sentence": f"The {i} dogs runs.", "label": i % 7 % 2}),
    "winogrande": (
        "winogrande/default",
        lambda i: {
            "sentence": f"{['', 'Here '][i % 2]}_ ate {i} cats and then slept.",
            "option1": "Rex",
            "option2": "Felix the dog",
            "answer": "12"[i // 2 % 2],
        },
    ),
    "leaderboard_bbh_boolean_expressions": (
        "leaderboard/bbh_mc/boolean_expressions",
        lambda i: {"input": f"not ( {i} > {i % 7} ) is", "target": ["False", "True"][i // 2 % 2]},
    ),
    "agieval_aqua_rat": (
        "agieval/aqua-rat",
        lambda i: {"query": f"What is {i} + 1?\nAnswer:", "choices": [f"(A){i}", f"(B){i + 1}"], "gold": [i // 2 % 2]},
    ),
    "fda": ("fda/fda", lambda i: {"text": f"The price of dog {i} is {i * 7}. Dog {i} is", "value": f"{i * 7}"}),
}
GENERATE = ["gsm8k", "nq_open", "triviaqa", "wmt16-en-de", "fda"]
OWN = {
    "task": "own",
    "output_type": "generate_until",
    "test_split": "test",
    "description": "Count from {{n}}.\n",
    "doc_to_text": "After {{n}}?",
    "gen_prefix": "It is",
    "doc_to_target": "{{next}}",
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    "generation_kwargs": {"until": [], "max_gen_toks": 5},
}


class Parrot(LM):
    """A model of the harness that answers from a list."""

    def __init__(self, answers, texts):
        super().__init__()
        self.answers, self.texts = answers, texts

    def generate_until(self, requests):
        return [self.answers[request.args[0]] for request in requests]

    def loglikelihood(self, requests):
        return [(-float("".join(request.args) not in self.texts), True) for request in requests]

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError


def write_rows(folder, rows):
    folder.mkdir(exist_ok=True)
    for split, some in rows.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name, (_, make) in STAND_INS.items():
        rows = {split: [make(i) for i in numbers] for split, numbers in ROWS.items()}
        only = {"leaderboard_bbh_boolean_expressions": "test", "agieval_aqua_rat": "test", "fda": "validation"}.get(
            name
        )
        write_rows(folder / name, {only: sum(rows.values(), [])} if only else rows)
    return folder


def evaluate(lm, name, data, folder):
    """The harness's own run on the same files, with no demonstrations: results and samples of the task."""
    settings = {"data_files": {split: str(data / name / f"{split}.jsonl") for split in ROWS}, "cache_dir": str(folder)}
    changes = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": settings}
    path = Path(lm_eval.tasks.__file__).parent / f"{STAND_INS[name][0]}.yaml"
    (folder / "task.yaml").write_text(yaml.safe_dump({"include": str(path), "task": name, **changes}))
    load = functools.partial(datasets.load_dataset, "json", **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load_dataset", lambda **_: load())  # a class of its own heeds no settings
        found = lm_eval.simple_evaluate(
            lm,
            tasks=[str(folder / "task.yaml")],
            num_fewshot=0,
            bootstrap_iters=0,
            task_manager=lm_eval.tasks.TaskManager(include_defaults=False),
        )
    return found["results"][name], found["samples"][name]


def value(results, task):
    """The harness's figure for the task's metric with its first filter."""
    number = next(number for name, number in results.items() if name.split(",")[0] == task.metric)
    return number / 100 if task.metric == "bleu" else number


def held_out(task, name, data, folder):
    """The folder with what the harness is to score: of a task with a single split, the rows that are in test."""
    if all((data / name / f"{split}.jsonl").exists() for split in ROWS):
        return data
    write_rows(folder / name, {split: [row["doc"] for row in task.splits["test"]] for split in ROWS})
    return folder


@pytest.mark.parametrize("name", STAND_INS)
def test_the_harness_asks_and_scores_the_same(name, data, model, tmp_path):
    task = load_task(f"lm-eval:{name}", data=str(data))
    outputs = predict(model, task.frame, task.splits["test"])
    lm = HFLM(pretrained=model.lm, tokenizer=model.tokenizer, batch_size=4, device="cpu")
    results, samples = evaluate(lm, name, held_out(task, name, data, tmp_path), tmp_path)
    samples = [sample for sample in samples if sample["filter"] == samples[0]["filter"]]
    for row, output, sample in zip(task.splits["test"], outputs, samples, strict=True):
        contexts, wanted = zip(*sample["arguments"], strict=True)
        if name in GENERATE:
            assert contexts == (row["text"],) and [*task.frame.stop] == wanted[0]["until"]
            assert output == sample["resps"][0][0]
            continue
        assert [row["text"] + option for option in row["options"]] == [*map(str.__add__, contexts, wanted)]
        assert name == "winogrande" or set(contexts) == {row["text"]}
        lengths = [len(text.strip()) if task.frame.choose == "per-character" else 1 for text in wanted]
        weights = [answer[0][0] / length for answer, length in zip(sample["resps"], lengths, strict=True)]
        assert output == [*row["options"]][weights.index(max(weights))]
        assert sample.get("acc", sample.get("acc_norm", output == row["target"])) == (output == row["target"])
    assert task.score("test", outputs).value == value(results, task)


@pytest.mark.parametrize("name", STAND_INS)
def test_outputs_of_all_kinds_are_judged_the_same(name, data, tmp_path):
    task = load_task(f"lm-eval:{name}", data=str(data))
    targets = task.targets("test")
    if name in GENERATE:
        outputs = [["", "It is 7.", target, f" {target.upper()} "][i % 4] for i, target in enumerate(targets)]
    else:
        outputs = [[*row["options"]][i // 3 % 2] for i, row in enumerate(task.splits["test"])]
    wanted = {prompt + output for prompt, output in zip(task.prompts("test"), outputs, strict=True)}
    parrot = Parrot(dict(zip(task.prompts("test"), outputs, strict=True)), wanted)
    results, _ = evaluate(parrot, name, held_out(task, name, data, tmp_path), tmp_path)
    score = task.score("test", outputs)
    assert score.value == value(results, task) and 0 < score.value < 1
    assert score.low < score.value < score.high
    each = task.rewards("test", [*range(len(outputs))], outputs)
    assert each.mean() == pytest.approx(score.value) or not task.is_mean


def test_a_target_follows_its_prompt_as_in_the_harness_s_demonstrations(data):
    assert load_task("lm-eval:gsm8k", data=str(data)).examples("test")[0] == (
        "Question: 52 + 1?\nAnswer: It is 53.\n#### 53"
    )
    assert load_task("lm-eval:nq_open", data=str(data)).examples("test")[0] == (
        "Answer these questions:\n\nQ: what is after 40?\nA: 41"
    )
    assert load_task("lm-eval:boolq", data=str(data)).examples("test")[2] == (
        "There are 42 dogs.\nQuestion: are there 42 dogs?\nAnswer: yes"
    )


def test_splits(data):
    def numbers(name):
        task = load_task(f"lm-eval:{name}", data=str(data))
        rows = [STAND_INS[name][1](i) for i in range(64)]
        return {split: [rows.index(row["doc"]) for row in some] for split, some in task.splits.items()}

    assert numbers("arc_easy") == {split: [*some] for split, some in ROWS.items()}
    for name, test in (("gsm8k", ROWS["test"]), ("boolq", ROWS["validation"])):
        found = numbers(name)
        assert found["test"] == [*test]
        assert sorted(found["train"] + found["validation"]) == [*ROWS["train"]]


def test_rows_are_held_out_where_there_are_no_others(tmp_path):
    write_rows(tmp_path, {"test": [{"n": i, "next": f"{i + 1}"} for i in [*range(200), 0]]})
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(OWN))
    task = load_task(f"lm-eval:{tmp_path}/own.yaml", data=str(tmp_path))
    sizes = {split: len(some) for split, some in task.splits.items()}
    assert sum(sizes.values()) == 201 and sizes["validation"] > 10 and sizes["train"] > 20 and sizes["test"] > 120


def test_rows_that_stand_later_or_have_no_answer_are_left_out(tmp_path):
    make = STAND_INS["arc_easy"][1]
    rows = {split: [make(i) for i in numbers] for split, numbers in ROWS.items()}
    rows["train"] += [make(45), make(60), make(3)]
    rows["validation"] += [make(61)]
    write_rows(tmp_path / "arc_easy", rows)
    splits = load_task("lm-eval:arc_easy", data=str(tmp_path)).splits
    assert {split: len(some) for split, some in splits.items()} == {"train": 41, "validation": 12, "test": 12}
    make = STAND_INS["boolq"][1]
    unlabelled = [{**make(i), "label": -1} for i in range(60, 64)]
    write_rows(tmp_path / "boolq", {"train": [make(i) for i in range(40)] + unlabelled, "validation": unlabelled[:1]})
    splits = load_task("lm-eval:boolq", data=str(tmp_path)).splits
    assert len(splits["train"] + splits["validation"]) == 40 and splits["test"][0]["target"] == ""


def test_a_begun_output_belongs_to_the_prompt(tmp_path):
    write_rows(tmp_path, {"test": [{"n": i, "next": f"{i + 1}"} for i in range(50)]})
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(OWN))
    task = load_task(f"lm-eval:{tmp_path}/own.yaml", data=str(tmp_path))
    n = task.splits["test"][0]["doc"]["n"]
    assert task.examples("test")[0] == f"Count from {n}.\nAfter {n}? It is {n + 1}"
    assert task.frame.stop == () and task.frame.max_new_tokens == 5 and task.description == ""


@pytest.mark.parametrize(
    "name, message",
    [
        ("arc_eazy", "lm-eval has no task arc_eazy: did you mean lm-eval:arc_easy?"),
        ("ai2_arc", "lm-eval has no task ai2_arc"),
        ("mmlu", "lm-eval:mmlu stands for several tasks: supported are generate_until and multiple_choice tasks"),
        ("lambada_openai", "lm-eval:lambada_openai is a loglikelihood task: supported are"),
        ("wikitext", "lm-eval:wikitext is a loglikelihood_rolling task: supported are"),
        ("humaneval", "lm-eval:humaneval runs code that the model writes"),
        ("gsm8k_cot_self_consistency", "does not generate greedily"),
        ("piqa", "validation.jsonl or validation.jsonl.gz"),
        ("none.yaml", "lm-eval:none.yaml: no such file"),
    ],
)
def test_errors(name, message, tmp_path, capsys):
    with pytest.raises(UserError) as raised:
        load_task(f"lm-eval:{name}", data=str(tmp_path))
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert capsys.readouterr() == ("", "")


def test_metrics_of_no_use_are_refused(data, tmp_path):
    write_rows(tmp_path, {"test": [{"n": i, "next": f"{i + 1}"} for i in range(50)]})
    for metric, better, message in (("ter", False, "of which less is better"), ("bypass", True, "not in [-1, 1]")):
        entry = {"metric": metric, "aggregation": metric, "higher_is_better": better}
        (tmp_path / "own.yaml").write_text(yaml.safe_dump({**OWN, "metric_list": [entry]}))
        with pytest.raises(UserError, match=message.replace("[", r"\[")):
            task = load_task(f"lm-eval:{tmp_path}/own.yaml", data=str(tmp_path))
            task.score("test", task.targets("test"))


def test_a_metric_in_percent_is_a_share(tmp_path):
    write_rows(tmp_path, {"test": [{"n": i, "next": f"{i + 1}"} for i in range(50)]})
    own = {**OWN, "metric_list": [{"metric": "half", "aggregation": "mean", "higher_is_better": True}]}
    own_text = yaml.safe_dump(own) + "process_results: !function own_metric.judge\n"
    (tmp_path / "own.yaml").write_text(own_text)
    code = "def judge(doc, results):\n    return {'half': 50.0 * (doc['next'] in results[0]) + 50.0 * (doc['n'] % 2)}\n"
    (tmp_path / "own_metric.py").write_text(code)
    task = load_task(f"lm-eval:{tmp_path}/own.yaml", data=str(tmp_path))
    shares = [row["doc"]["n"] % 2 / 2 for row in task.splits["test"]]
    assert task.score("test", ["none"] * len(shares)).value == pytest.approx(sum(shares) / len(shares))
    assert task.rewards("test", [0, 1], task.targets("test")[:2]).tolist() == [share + 0.5 for share in shares[:2]]


def write_own(folder, code, **changes):
    """A task of a YAML file with a function that judges."""
    write_rows(folder, {"test": [{"n": i, "next": f"{i + 1}"} for i in range(50)]})
    own = {**OWN, "metric_list": [{"metric": "own", "aggregation": "mean", "higher_is_better": True}], **changes}
    (folder / "own.yaml").write_text(yaml.safe_dump(own) + "process_results: !function judge_of_tests.judge\n")
    (folder / "judge_of_tests.py").write_text(code)
    return {"spec": f"lm-eval:{folder}/own.yaml", "data": str(folder)}


JUDGE = "def judge(doc, results):\n    return {'own': 1.0}\n"


def test_what_a_file_of_one_s_own_is_made_of_is_in_the_fingerprint(tmp_path):
    def fingerprint(code, **changes):
        return load_task(**write_own(tmp_path, code, **changes)).fingerprint

    (tmp_path / "base.yaml").write_text("metadata: {version: 1}\n")
    first = fingerprint(JUDGE, include="base.yaml")
    assert fingerprint(JUDGE, include="base.yaml") == first
    found = [first, fingerprint(JUDGE + "#", include="base.yaml"), fingerprint(JUDGE, metadata={"version": 3})]
    (tmp_path / "base.yaml").write_text("metadata: {version: 2}\n")
    found.append(fingerprint(JUDGE, include="base.yaml"))
    assert len({*found}) == 4


def test_no_code_of_a_file_runs_where_it_may_not(tmp_path, data):
    """A template is code, too: Jinja reaches all of Python."""
    ran = tmp_path / "ran"
    template = (
        "{{ ''.__class__.__mro__[1].__subclasses__() | length }} {{ cycler.__init__.__globals__.os.mkdir('RAN') }}"
    )
    template = template.replace("RAN", str(ran))
    (tmp_path / "own").mkdir()
    own = write_own(tmp_path / "own", JUDGE, doc_to_text=template)
    with pytest.raises(UserError, match="own.yaml runs the code of its file"):
        load_task(**own, code=False)
    assert not ran.exists()
    with pytest.raises(UserError):
        load_task(**own)  # the folder can be made only once
    assert ran.exists()
    assert load_task("lm-eval:arc_easy", data=str(data), code=False).frame.choices


def test_what_a_task_s_function_raises_names_the_row(tmp_path):
    code = "def judge(doc, results):\n    return {'own': 1 / (results[0] != 'odd')}\n"
    task = load_task(**write_own(tmp_path, code))
    outputs = ["x"] * len(task.splits["test"])
    assert task.score("test", outputs).value == 1
    with pytest.raises(UserError, match=r"test, row 3 .*: own failed: ZeroDivisionError: "):
        task.score("test", [*outputs[:2], "odd", *outputs[3:]])
    with pytest.raises(UserError, match=r"test, row 8 .*: own failed: ZeroDivisionError: "):
        task.rewards("test", [2, 7], ["x", "odd"])
    nan = load_task(**write_own(tmp_path, "def judge(doc, results):\n    return {'own': float(results[0])}\n"))
    with pytest.raises(UserError, match="gave the score nan"):
        nan.score("test", ["nan"] * len(outputs))


def test_a_correlation_may_be_negative(data):
    task = load_task("lm-eval:cola", data=str(data))
    wrong = {" yes": " no", " no": " yes"}
    assert task.score("test", [wrong[target] for target in task.targets("test")]).value == -1


@pytest.mark.parametrize(
    "name, rows, message",
    [
        (
            "webqs",
            [{"question": f"Who is {i}?", "answers": [f"Dog {i}", f"{i}"]} for i in range(40)],
            "is judged by exact_match, which asks for more than the likeliest choice",
        ),
        (
            "squadv2",
            [
                {
                    "id": f"{i}",
                    "title": "Dogs",
                    "context": f"{i} dogs.",
                    "question": f"{i}?",
                    "answers": {"text": ["a"]},
                }
                for i in range(40)
            ],
            "asks for generate_until and loglikelihood of a row",
        ),
    ],
)
def test_what_an_output_alone_cannot_decide_is_refused(name, rows, message, tmp_path):
    write_rows(tmp_path, {split: rows[at::3] for at, split in enumerate(ROWS)})
    with pytest.raises(UserError, match=f"^lm-eval:{name} {message}: supported are"):
        load_task(f"lm-eval:{name}", data=str(tmp_path))


@pytest.mark.parametrize(
    "name, where, files",
    [
        ("piqa", "baber/piqa", "train.jsonl and validation.jsonl"),
        ("fda", "hazyresearch/based-fda", "validation.jsonl"),
    ],
)
def test_data_that_cannot_be_had(name, where, files):
    with pytest.raises(UserError) as raised:
        load_task(f"lm-eval:{name}")
    assert f"the data set {where} of lm-eval:{name} can't be had from the hub" in str(raised.value)
    assert str(raised.value).endswith(f"name a folder with {files} with --data")


def test_rows_that_are_not_the_task_s(tmp_path):
    write_rows(tmp_path, {split: [{"n": 1}] for split in ROWS})
    with pytest.raises(UserError, match="lm-eval:arc_easy can't be loaded|its rows can't be rendered"):
        load_task("lm-eval:arc_easy", data=str(tmp_path))


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError, match=r"^lm-eval:piqa needs the optional extra: pip install 'taskbits\[lm-eval\]'$"):
        load_task("lm-eval:piqa")
