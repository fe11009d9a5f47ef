"""Tasks, splits, templates and metrics."""

import gzip
import json
import math
import signal
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
import tokenizers
import torch
import yaml
from conftest import ROWS, write_task
from hypothesis import given, settings
from hypothesis import strategies as st

from taskbits.errors import UserError
from taskbits.search import versions
from taskbits.tasks import template
from taskbits.tasks.imports import load_function
from taskbits.tasks.load import load_task
from taskbits.tasks.metrics import metric, tokenizer_for
from taskbits.tasks.rows import SPLITS, share


def test_prompts_and_targets(task_folder):
    task = load_task(task_folder)
    assert task.prompts("train")[3] == "Q: after 3 comes\nA:"
    assert task.targets("train")[3] == " 4"
    assert task.score("train", task.targets("train")).value == 1.0


def write_single_file(folder, count):
    folder.mkdir(exist_ok=True)
    rows = [{"question": f"what is {i}", "answer": str(i)} for i in range(count)]
    (folder / "all.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = {"data": "all.jsonl", "prompt": "{question}", "target": "{answer}", "metric": "exact"}
    (folder / "task.yaml").write_text(yaml.safe_dump(settings))
    return str(folder)


def test_hashed_splits_never_move_when_rows_are_added(tmp_path):
    small = load_task(write_single_file(tmp_path / "small", 200))
    large = load_task(write_single_file(tmp_path / "large", 400))
    for split in SPLITS:
        names = {row["question"] for row in small.splits[split]}
        assert names and names <= {row["question"] for row in large.splits[split]}
    assert len(small.splits["train"]) > 130


@pytest.mark.parametrize(
    "name, pattern, output, target, value",
    [
        ("exact", None, " a ", "a", 1.0),
        ("exact", None, "b", "a", 0.0),
        ("regex", r"#### (-?\d+)", "3+4=7 #### 7", "#### 7", 1.0),
        ("regex", r"#### (-?\d+)", "7", "#### 7", 0.0),
        ("bleu", None, "the cat sat on the mat", "the cat sat on the mat", 1.0),
        ("chrf", None, "xyz", "the cat sat on the mat", 0.0),
    ],
)
def test_metrics(name, pattern, output, target, value):
    score = metric(name, pattern).score([output] * 20, [target] * 20, [{}] * 20)
    assert score.value == pytest.approx(value) and 0 <= score.low <= score.value <= score.high <= 1


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_corpus_scores_have_an_interval_and_can_be_stored(name):
    targets = [f"the {animal} sat on the mat" for animal in ("cat", "dog", "old horse", "frog")] * 5
    score = metric(name).score(["the cat sat on the mat"] * 20, targets, [{}] * 20)
    assert 0 < score.low < score.value < score.high < 1
    assert json.loads(json.dumps(asdict(score))) == asdict(score)


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_corpus_scores_of_outputs_that_hardly_match_have_an_interval(name):
    score = metric(name).score(["zzz"] * 19 + ["the cat sat on the mat"], ["the cat sat on the mat"] * 20, [{}] * 20)
    assert 0 <= score.low <= score.value < score.high < 0.5
    assert metric(name).score([""] * 5, ["the cat"] * 5, [{}] * 5).value == 0


def test_intervals_are_wilson_for_accuracies():
    outputs = ["a"] * 7 + ["b"] * 3
    score = metric("exact").score(outputs, ["a"] * 10, [{}] * 10)
    assert (score.low, score.high) == pytest.approx((0.3968, 0.8922), abs=1e-4)  # published example of n = 10, p = 0.7


def test_intervals_of_other_values_are_bootstrapped():
    score = metric("python:test_task.partial").score(["x" * n for n in range(11)], [""] * 11, [{}] * 11)
    assert score.value == pytest.approx(0.5) and 0.2 < score.low < 0.5 < score.high < 0.8


def partial(output, row):
    """A metric of a user's own."""
    return len(output) / 10


def test_duplicates_across_splits_are_named(tmp_path):
    folder = write_task(tmp_path / "task")
    rows = (tmp_path / "task" / "train.jsonl").read_text().splitlines()
    with open(tmp_path / "task" / "test.jsonl", "a") as file:
        file.write(rows[5] + "\n")
    with pytest.raises(UserError, match="both train and test: 'after 5 comes'"):
        load_task(folder)


def with_metric(folder, name="judge.score", **modules):
    """A task folder with a metric of its own, and the sources of modules."""
    write_task(folder, metric=f"python:{name}")
    for module, source in modules.items():
        path = folder / f"{module.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    return str(folder)


def always(value):
    return f"def score(output, row):\n    return {value}\n"


def value(folder):
    return load_task(folder).score("test", ["x"] * ROWS["test"]).value


def test_metrics_of_one_name_are_each_task_s_own(tmp_path):
    for at in (0.5, 0.25, 0.75):
        modules = {"judge": f"from help_of_tests import AT\n{always('AT')}", "help_of_tests": f"AT = {at}"}
        assert value(with_metric(tmp_path / f"task{at}", **modules)) == at
        assert not (tmp_path / f"task{at}" / "__pycache__").exists()
    with pytest.raises(ImportError):
        import help_of_tests  # noqa: F401


def test_packages_of_one_name_are_each_task_s_own_and_a_folder_of_data_is_none(tmp_path):
    source = "from importlib.util import find_spec\nassert not find_spec('data_of_tests')\n"
    source += "from pack_of_tests.help import AT\n"
    for at in (0.5, 0.25):
        modules = {"pack_of_tests.judge": source + always("AT"), "pack_of_tests.help": f"AT = {at}"}
        folder = with_metric(tmp_path / f"task{at}", "pack_of_tests.judge.score", **modules)
        (tmp_path / f"task{at}" / "data_of_tests").mkdir()
        assert value(folder) == at


def test_modules_beside_a_task_shadow_no_library_and_are_shadowed_by_none(tmp_path):
    modules = dict.fromkeys(["json", "random", "numpy"], "raise RuntimeError('shadows')")
    source = "import json, random, numpy, tokenizers\nassert json.dumps and random.seed and tokenizers.Tokenizer\n"
    folder = with_metric(tmp_path / "task", "tokenizers.score", tokenizers=source + always(0.5), **modules)
    assert value(folder) == 0.5
    import tokenizers as again

    assert again is tokenizers and json.dumps


def test_a_metric_may_lie_in_a_package_that_imports_its_own(tmp_path):
    source = "from dataclasses import dataclass\nimport pack.help\nfrom .help import AT\n"
    source += "@dataclass\nclass Found:\n    value: 'float'\n"
    modules = {"pack.__init__": "", "pack.help": "AT = 0.5", "pack.judge": source + always("AT")}
    folder = with_metric(tmp_path / "task", "pack.judge.score", **modules)
    before = load_task(folder).fingerprint
    assert value(folder) == 0.5
    (tmp_path / "task" / "pack" / "help.py").write_text("AT = 0.6")
    assert value(folder) == 0.6 and load_task(folder).fingerprint != before


def test_the_code_of_a_metric_is_in_the_fingerprint(tmp_path):
    modules = {"judge": "import help_of_tests\n" + always(0.5), "help_of_tests": "", "unused_of_tests": ""}
    found = [load_task(with_metric(tmp_path / "task", **modules)).fingerprint]
    for module in modules:
        changed = {**modules, module: modules[module] + "\n#"}
        found.append(load_task(with_metric(tmp_path / "task", **changed)).fingerprint)
    assert found[3] == found[0], "what it doesn't import"
    assert len({*found}) == 3
    assert load_task(with_metric(tmp_path / "moved" / "task", **modules)).fingerprint == found[0]


def test_the_code_of_an_installed_metric_is_in_the_fingerprint(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "installed_metric_of_tests.py").write_text(always(0.5))
    _, code = load_function("installed_metric_of_tests.score")
    (tmp_path / "installed_metric_of_tests.py").write_text(always(0.6))
    assert load_function("installed_metric_of_tests.score")[1] != code != ()
    assert load_function("taskbits.tasks.gsm8k.score", str(tmp_path))[1] == ()


@pytest.mark.parametrize(
    "name, fingerprint",
    [("math", "53257c46312cfe6e"), ("translation", "c349a54aadcf7690"), ("instruction", "db8f664633ff0be0")],
)
def test_fingerprints_of_studies_that_were_made_stay(name, fingerprint):
    assert load_task(f"lab:{name}", code=False).fingerprint == fingerprint


@pytest.mark.parametrize(
    "source, message",
    [
        ("import sys\nsys.exit()", "SystemExit"),
        ("class Odd(BaseException):\n    pass\nraise Odd('odd')", "Odd: odd"),
        ("def score(", "SyntaxError"),
        ("{}['a']", "KeyError: 'a'"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("", "AttributeError"),
        ("score = 5", "is not a function"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
    ],
)
def test_metrics_that_can_not_be_imported(tmp_path, source, message):
    with pytest.raises(UserError, match="python:judge.score") as error:
        load_task(with_metric(tmp_path / "task", judge=source))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["score", "", "../judge.score", "/etc/x.score", "judge.", ".score"])
def test_names_that_are_no_function_s(tmp_path, name):
    with pytest.raises(UserError, match="write python:module.function"):
        load_task(with_metric(tmp_path / "task", name, judge=always(0.5)))


@pytest.mark.parametrize(
    "name, module",
    [("judge.score", "judge"), ("os.system", "os"), ("taskbits.search.worker.work", "taskbits.search.worker")],
)
def test_no_code_of_a_task_runs_where_it_may_not(tmp_path, name, module):
    folder = with_metric(tmp_path / "task", name, judge=f"open({str(tmp_path / 'ran')!r}, 'w')\n{always(0.5)}")
    with pytest.raises(UserError) as error:
        load_task(folder, code=False)
    assert f"the task in {folder} runs the code of {module} (python:{name})" in str(error.value)
    assert not (tmp_path / "ran").exists()
    assert load_task(write_task(tmp_path / "data"), code=False).metric == "exact"


_JUDGES = {}


def from_function(function):
    """The metric `python:` of a function."""
    _JUDGES["judge"] = function
    return metric("python:test_task.judge")


def judge(output, row):
    return _JUDGES["judge"](output, row)


@pytest.mark.parametrize(
    "given, wanted",
    [
        (True, 1.0),
        (0, 0.0),
        (np.float32(0.5), 0.5),
        (np.bool_(True), 1.0),
        (np.array(0.25), 0.25),
        (torch.tensor(0.5), 0.5),
        ({"a": np.int64(1), "b": [True, 0.5], "c": np.array([[3, 5]]), "d": -2}, 1.0),
    ],
)
def test_numbers_of_all_kinds_are_values(given, wanted):
    score = from_function(lambda output, row: given).score(["x"] * 4, [""] * 4, [{}] * 4)
    assert score.value == wanted and json.loads(json.dumps(asdict(score))) == asdict(score)
    assert score.also == ({"a": 1.0, "b": 0.75, "c": 4.0, "d": -2.0} if isinstance(given, dict) else {})


@pytest.mark.parametrize(
    "given",
    [
        *(math.nan, math.inf, -0.1, 1.1, 10**400, None, "0.5", "", 1j, [], [0.5, 0.5], {}, {"a": math.nan}),
        *(np.float64("nan"), np.array([0.1, 0.2]), {"a": None}, {"a": "x"}, {"a": 2}, {"a": 1, "b": math.nan}),
        *({"a": 1, "b": [1, math.inf]}, {"a": 1, "b": "text"}, {"a": 1, "b": [[1], [None]]}),
    ],
    ids=lambda given: repr(given)[:30],
)
def test_values_that_are_none(given):
    found = from_function(lambda output, row: given if output == "odd" else 1)
    for read in (found.score, found.each):
        with pytest.raises(UserError, match="row 3: python:.* gave .*not a (number in|finite number)") as error:
            read(["x", "x", "odd"], [""] * 3, [{}] * 3)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("raised, shown", [("KeyError('odd')", "KeyError: 'odd'"), ("SystemExit(3)", "SystemExit: 3")])
def test_what_a_metric_raises_names_the_row(tmp_path, raised, shown):
    source = f"def score(output, row):\n    if row['n'] == 63:\n        raise {raised}\n    return 1.0\n"
    task = load_task(with_metric(tmp_path / "task", judge=source))
    expected = rf"counting: test, row 4 \('Q: after 63 comes\\nA:'\): python:judge.score failed: {shown}"
    with pytest.raises(UserError, match=expected):
        task.score("test", ["x"] * 16)
    with pytest.raises(UserError, match=expected):
        task.rewards("test", [0, 5, 3, 1], ["x"] * 4)


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(128 + signal.SIGTERM)], ids=repr)
def test_what_ends_the_process_is_no_fault_of_the_metric(end):
    def interrupted(output, row):
        raise end

    with pytest.raises(type(end)):
        from_function(interrupted).score(["x"], [""], [{}])


def test_a_value_that_only_some_rows_have_is_the_mean_of_those():
    found = from_function(lambda output, row: {"score": 1, "length": len(output), **({"odd": 1} if output else {})})
    assert found.score(["", "xx"], [""] * 2, [{}] * 2).also == {"score": 1, "length": 1, "odd": 1}
    found = from_function(lambda output, row: {"score": 1, "each": []})
    assert found.score(["", "xx"], [""] * 2, [{}] * 2).also == {"score": 1}


CHINESE = ["我们在阅读关于水的书。", "他每天早上都喝一杯热咖啡。", "这个城市的冬天非常冷。", "孩子们喜欢在公园里玩。"]
JAPANESE = ["私たちは水についての本を読んでいます。", "彼は毎朝コーヒーを飲みます。", "この町の冬はとても寒いです。"]


def test_bleu_of_chinese_and_japanese_splits_their_words():
    assert tokenizer_for(CHINESE) == "zh" and tokenizer_for(JAPANESE) in ("ja-mecab", "char")
    assert tokenizer_for(["使用 PyTorch 训练大型语言模型。"]) == "zh"
    assert tokenizer_for(["The writer 魯迅 was born in Shaoxing in the year 1881."]) is None
    assert tokenizer_for(["Ça va.", "Привет", "나는 물을 마신다", "1, 2, 3", ""]) is None
    outputs = [text.replace("的", "") for text in CHINESE]
    split = metric("bleu", tokenize="zh")
    score = split.score(outputs, CHINESE, [{}] * 4)
    assert score.value > 0.5 and "tok:zh" in score.also["bleu signature"]
    assert metric("bleu").score(outputs, CHINESE, [{}] * 4).value < 0.5
    assert split.each(outputs, CHINESE, [{}] * 4).min() > 0.4, "so is each sentence"


def write_texts(folder, texts, **settings):
    folder.mkdir()
    for split in SPLITS:
        rows = [{"n": f"{split} {i}", "text": text} for i, text in enumerate(texts)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {split: f"{split}.jsonl" for split in SPLITS}
    settings = {**files, "name": "texts", "prompt": "{n}:", "target": " {text}", "metric": "bleu", **settings}
    (folder / "task.yaml").write_text(yaml.safe_dump(settings))
    return str(folder)


def test_a_task_can_say_how_its_words_are_split_and_the_fingerprint_tells(tmp_path):
    def signature(task):
        return task.score("test", task.targets("test")).also["bleu signature"].split("tok:")[1].split("|")[0]

    found = {}
    for wanted in (None, "zh", "char", "13a"):
        changes = {"tokenize": wanted} if wanted else {}
        found[wanted] = load_task(write_texts(tmp_path / f"{wanted}", CHINESE, **changes))
    assert [signature(task) for task in found.values()] == ["zh", "zh", "char", "13a"]
    assert found[None].fingerprint == found["zh"].fingerprint
    assert len({task.fingerprint for task in found.values()}) == 3
    assert signature(load_task(write_texts(tmp_path / "chrf", CHINESE, metric="chrf"))) == "zh"
    for at, (changes, message) in enumerate(
        (
            ({"tokenize": "zen"}, "unknown tokenizer 'zen'"),
            ({"tokenize": 5}, "'tokenize' must be a text"),
            ({"tokenize": "zh", "metric": "exact"}, "'tokenize' is for bleu"),
        )
    ):
        with pytest.raises(UserError, match=message):
            load_task(write_texts(tmp_path / f"bad{at}", CHINESE, **changes))


def test_a_tokenizer_that_is_not_installed_is_one_clear_line(tmp_path, monkeypatch):
    class Bleu(sacrebleu.BLEU):
        def __init__(self, tokenize=None, **more):
            if tokenize == "ja-mecab":
                raise RuntimeError("\nit needs more:\n\n  pip install sacrebleu[ja]\n")
            super().__init__(tokenize=tokenize, **more)

    monkeypatch.setattr(sacrebleu, "BLEU", Bleu)
    assert tokenizer_for(JAPANESE) == "char"
    with pytest.raises(UserError, match=r"ja-mecab of BLEU can't be had: .*pip install sacrebleu\[ja\]") as error:
        load_task(write_texts(tmp_path / "task", JAPANESE, tokenize="ja-mecab"))
    assert "\n" not in str(error.value)


def write_labels(folder, count=400):
    """A task of two labels, whose rows are sorted by them."""
    folder.mkdir()
    for split in SPLITS:
        rows = [{"n": f"{split} {i}", "label": "ab"[i * 2 // count]} for i in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {**{split: f"{split}.jsonl" for split in SPLITS}, "prompt": "{n}", "target": "{label}"}
    (folder / "task.yaml").write_text(yaml.safe_dump({**settings, "metric": "exact", "choices": ["a", "b"]}))
    return str(folder)


def test_some_rows_are_drawn_by_a_hash_and_stay_in_order(tmp_path):
    folder = write_labels(tmp_path / "task")
    whole, some, fewer = (load_task(folder, rows).splits for rows in (None, 40, 20))
    for split in ("validation", "test"):
        labels = [row["label"] for row in some[split]]
        assert len(labels) == 40 and 10 < labels.count("a") < 30 and labels == sorted(labels)
        assert [row for row in some[split] if row in fewer[split]] == fewer[split]
        least = sorted(whole[split], key=lambda row: share(row, ["n"]))[:20]
        assert [row for row in whole[split] if row in least] == fewer[split]
    assert some["train"] == whole["train"] and load_task(folder, 1000).splits == whole


@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_compared_with_the_choices_in_every_split(tmp_path, split):
    folder = write_labels(tmp_path / "task", 20)
    path = tmp_path / "task" / f"{split}.jsonl"
    good = path.read_text()
    for odd in ("c", ""):
        path.write_text(good.replace('5", "label": "a"', f'5", "label": "{odd}"', 1))
        with pytest.raises(UserError, match=f"{split}, row 6: the target '{odd}' is not among the choices"):
            load_task(folder)


@pytest.mark.parametrize(
    "changes, answer",
    [
        ({}, " "),
        ({"metric": "bleu"}, ""),
        ({"metric": "chrf"}, "\n"),
        ({"metric": "regex", "pattern": "#### (\\d+)"}, "7"),
        ({"metric": "regex", "pattern": "#### (\\d+)|none"}, "none"),
        ({"metric": "regex", "pattern": "####(.*)"}, "####"),
    ],
)
def test_references_without_an_answer_are_refused_and_never_right(tmp_path, changes, answer):
    folder = write_task(tmp_path / "task", **changes)
    for split in SPLITS:
        rows = [{"question": f"{split} {i}", "answer": "#### 7"} for i in range(4)]
        (tmp_path / "task" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    load_task(folder)
    rows[2]["answer"] = answer
    (tmp_path / "task" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="test, row 3: the target .* holds no answer"):
        load_task(folder)
    if changes.get("metric") == "regex":
        assert metric("regex", changes["pattern"]).each([answer, ""], [answer] * 2, [{}] * 2).tolist() == [0, 0]


def test_files_as_other_programs_write_them_are_read(tmp_path):
    folder = Path(write_task(tmp_path / "task", train="train.gz"))
    rows = {split: [*map(json.loads, (folder / f"{split}.jsonl").read_text().splitlines())] for split in ROWS}
    mark = b"\xef\xbb\xbf"
    content = (folder / "train.jsonl").read_bytes()
    (folder / "train.gz").write_bytes(gzip.compress(mark + content.replace(b"\n", b"\r\n")))
    content = (folder / "validation.jsonl").read_bytes()
    (folder / "validation.jsonl").write_bytes(mark + content + b"\n \r\n\n")
    content = (folder / "task.yaml").read_bytes()
    (folder / "task.yaml").write_bytes(mark + content.replace(b"\n", b"\r\n"))
    assert load_task(str(folder)).splits == rows


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
PIECES = st.sampled_from(["{a}", "{b_1}", "{été}", "{a:}", "{{", "}}", "%", "%%", "%s", "%(a)s"]) | st.text("ab%() \n")


@settings(deadline=None)
@given(pieces=st.lists(PIECES), values=st.tuples(VALUES, VALUES, VALUES))
def test_what_a_program_reads_is_what_its_file_reads(pieces, values):
    """A standalone file fills prompts by the % operator."""
    row, text = dict(zip(["a", "b_1", "été"], values, strict=True)), "".join(pieces)
    assert template.as_percent(text) % json.loads(json.dumps(row)) == template.fill(text, row)


def test_versions_of_what_judges_are_recorded_and_what_is_not_installed_is_left_out(monkeypatch):
    assert {"sacrebleu", "nltk", "langdetect", "tokenizers", "numpy"} < versions.versions().keys()

    def version(name, known=versions.version):
        if name == "sacrebleu":
            raise PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(versions, "version", version)
    assert "sacrebleu" not in versions.versions()
