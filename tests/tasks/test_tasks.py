"""The tasks that come by name: their data, and answers scored as the field does."""

import gzip
import json

import datasets
import pytest
from datasets.arrow_writer import ArrowWriter

from taskbits.errors import UserError
from taskbits.tasks import gsm8k, ifeval
from taskbits.tasks.load import load_task

STEPS = "She sold 48/2 = <<48/2=24>>24 clips.\n#### {}"


def write_problems(folder, count=60):
    folder.mkdir(parents=True)
    rows = [{"question": f"What is {n} + 1?", "answer": STEPS.format(n + 1)} for n in range(count)]
    for name, part in (("train.jsonl.gz", rows[10:]), ("test.jsonl", rows[:10])):
        text = "".join(json.dumps(row) + "\n" for row in part)
        (gzip.open if name.endswith("gz") else open)(folder / name, "wt").write(text)
    return folder


@pytest.mark.parametrize(
    "output, answer, strict, flexible",
    [
        ("so\n#### 1,234", "1234", 1, 1),
        ("so\n#### 1234 dollars", "1,234", 1, 1),
        ("so\n#### 1234.", "1234", 0, 1),  # the data set's own rule keeps the full stop
        ("so\n#### $1234", "1234", 0, 1),
        ("####1234", "1234", 0, 1),
        ("The answer is $1,234.00", "1234", 0, 0),
        ("first 1234, then 5", "1234", 0, 0),
        ("#### 1234 and then 5", "1234", 1, 0),
        ("It is -7.", "-7", 0, 1),
        ("nothing", "7", 0, 0),
        ("", "7", 0, 0),
    ],
)
def test_both_rules_of_gsm8k(output, answer, strict, flexible):
    found = gsm8k.score(output, {"answer": STEPS.format(answer)})
    assert found == {"strict": strict, "flexible": flexible}


@pytest.mark.parametrize("output", ["", "None", "7", "#### 7", "#### ."])
@pytest.mark.parametrize("answer", ["seven", "#### ", "####7", "#### ,"])
def test_no_output_is_like_an_answer_that_there_is_not(output, answer):
    assert gsm8k.score(output, {"answer": answer}) == {"strict": 0, "flexible": 0}


@pytest.mark.parametrize("answer", ["It is 7.", "#### ", "#### .", 7])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_problem_without_an_answer_is_named(tmp_path, answer, split):
    folder = write_problems(tmp_path / "gsm8k")
    for name in ("train", "test"):
        rows = [{"question": f"{name} {n}?", "answer": "#### 7"} for n in range(60)]
        rows[4]["answer"] = answer if name == split else "#### 1,000"
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=f"gsm8k: {split}, row 5: the answer holds no '#### ' with a number"):
        load_task("gsm8k", data=str(tmp_path))


def test_gsm8k_holds_some_of_train_out_and_reports_both_rules(tmp_path):
    write_problems(tmp_path / "data" / "gsm8k")
    task = load_task("gsm8k", data=str(tmp_path / "data"))
    assert [len(task.splits[name]) for name in ("train", "validation", "test")] == [47, 3, 10]
    assert task.fingerprint == load_task("gsm8k", data=str(tmp_path / "data" / "gsm8k")).fingerprint
    assert task.targets("test")[0] == " She sold 48/2 = 24 clips.\n#### 1"
    scored = task.score("test", task.targets("test")[:5] + ["I say 6", "#### 9", "7", "8.", "10"])
    assert scored.value == 0.5 and scored.also == {"strict": 0.5, "flexible": 0.7}


def write_captions(folder, languages=("en", "fr")):
    folder.mkdir()
    for language in languages:
        for split, numbers in (("train", range(9)), ("val", range(8, 12)), ("test_2016_flickr", range(11, 15))):
            text = "".join(f"{language} caption, number {n}\n" for n in numbers)
            gzip.open(folder / f"{split}.{language}.gz", "wt").write(text)
    return str(folder)


def test_translation_reports_both_metrics_with_their_signatures(tmp_path):
    task = load_task("translation", data=write_captions(tmp_path / "data"))
    assert [len(task.splits[name]) for name in ("train", "validation", "test")] == [8, 3, 4]  # without repetitions
    scored = task.score("test", [text.replace("caption", "mot") for text in task.targets("test")])
    assert 0 < scored.value < 1 and scored.value == pytest.approx(scored.also["bleu"])
    assert 0 < scored.also["chrf"] < 1
    assert "tok:13a" in scored.also["bleu signature"] and "nc:6" in scored.also["chrf signature"]


def test_translation_s_files_may_begin_with_a_mark_and_end_with_blank_lines(tmp_path):
    folder = write_captions(tmp_path / "data")
    wanted = load_task("translation", data=folder).splits
    for path in (tmp_path / "data").iterdir():
        text = gzip.open(path, "rt").read()
        path.write_bytes(gzip.compress(("\ufeff" + text + "\n \n").encode()))
    assert load_task("translation", data=folder).splits == wanted
    text = "".join(f"fr caption, number {n}\n" if n != 12 else "\n" for n in range(11, 15))
    gzip.open(tmp_path / "data" / "test_2016_flickr.fr.gz", "wt").write(text + "\n\n")
    with pytest.raises(UserError, match="test_2016_flickr, line 2 is empty on one side"):
        load_task("translation", data=folder)


@pytest.mark.parametrize(
    "names, kwargs, message",
    [
        ([], [], "there is no instruction"),
        (["punctuation:no_comma"], [], "zip"),
        (["punctuation:no_coma"], [{}], "unknown instruction"),
        (["keywords:existence"], [{"keywords": ["("]}], "missing \\)"),
        (["keywords:existence"], [{"keywords": 5}], "TypeError"),
        (["keywords:existence"], ["keywords"], "AttributeError"),
    ],
)
def test_ifeval_s_prompts_without_instructions_that_can_be_checked_are_named(
    monkeypatch, tmp_path, names, kwargs, message
):
    monkeypatch.setattr(ifeval, "_SIZES", {"train": 3, "validation": 3})
    good = {"prompt": "Hello?", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    bad = {"prompt": "Bye?", "instruction_id_list": names, "kwargs": kwargs}
    write = (tmp_path / "input_data.jsonl").write_text
    write(json.dumps(good))
    assert load_task("ifeval", data=str(tmp_path)).score("test", ["Hello!"]).value == 1
    write(json.dumps(good) + "\n" + json.dumps(bad))
    with pytest.raises(UserError, match=f"ifeval: test, row 2: .*{message}") as error:
        load_task("ifeval", data=str(tmp_path))
    assert "\n" not in str(error.value)


def test_data_that_is_not_there_is_one_clear_line(tmp_path):
    (tmp_path / "empty").mkdir()
    for data, message in (
        (str(tmp_path / "empty"), "holds train.jsonl or train.jsonl.gz: name another folder with --data"),
        (str(tmp_path / "none"), "no such folder"),
        (None, "openai/gsm8k can't be had from the hub .* name a folder with its files with --data"),
    ):
        with pytest.raises(UserError, match=message) as error:
            load_task("gsm8k", data=data)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="train.en has 9 lines and train.fr 1"):
        folder = write_captions(tmp_path / "odd")
        gzip.open(tmp_path / "odd" / "train.fr.gz", "wt").write("une\n")
        load_task("translation", data=folder)
    with pytest.raises(UserError, match="names its own files"):
        load_task("lab:math", data=str(tmp_path))


def test_measured_from_the_command_line(tmp_path, model_folder, taskbits):
    """With --data and --rows; what was written can be scored again by others."""
    write_problems(tmp_path / "gsm8k")
    out = tmp_path / "study"
    options = ["--data", tmp_path, "--rows", 3, "--methods", "zero-shot", "--out", out]
    result = taskbits("measure", "--model", model_folder, "--task", "gsm8k", *options)
    assert result.returncode == 0, result.stderr
    info = json.loads((out / "study.json").read_text())
    assert info["data"] == str(tmp_path) and info["chat"] is None
    (written,) = (out / "outputs").glob("*.test.jsonl")
    outputs = [json.loads(line) for line in written.read_text().splitlines()]
    task = load_task("gsm8k", 3, str(tmp_path))
    assert len(outputs) == 3
    recorded = taskbits("frontier", out, "--json")
    assert json.loads(recorded.stdout)[0]["test"] == task.score("test", outputs).value
    result = taskbits("measure", "--model", model_folder, "--task", "gsm8k", "--chat", *options[:-1], tmp_path / "chat")
    assert result.returncode == 2 and "has no chat template: measure the task without --chat" in result.stderr


def test_data_from_the_hub_is_taken_from_its_local_cache(tmp_path, monkeypatch):
    rows = {"train": 60, "test": 9}
    folder = tmp_path / "openai___gsm8k" / "main" / "0.0.0" / ("a" * 40)
    folder.mkdir(parents=True)
    text, splits = datasets.Value("string"), datasets.SplitDict(dataset_name="gsm8k")
    features = datasets.Features({"question": text, "answer": text})
    for split, count in rows.items():
        with ArrowWriter(features=features, path=str(folder / f"gsm8k-{split}.arrow")) as writer:
            for i in range(count):
                writer.write({"question": f"{split} {i}", "answer": f"#### {i}"})
            count, size = writer.finalize()
        splits.add(datasets.SplitInfo(split, num_bytes=size, num_examples=count))
    names = {"builder_name": "parquet", "dataset_name": "gsm8k", "config_name": "main", "version": "0.0.0"}
    datasets.DatasetInfo(features=features, splits=splits, **names).write_to_directory(str(folder))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    found = load_task("gsm8k").splits
    assert [row["question"] for row in found["test"]] == [f"test {i}" for i in range(9)]
    assert len(found["train"]) + len(found["validation"]) == 60
