"""Published runs: read into studies of estimates, compared, and never taken for programs."""

import json

import pytest
from test_checkpoints import study

from taskbits.errors import UserError
from taskbits.report.figure import draw_comparison, draw_frontier
from taskbits.studies.frontier import rows
from taskbits.studies.published import import_paper, open_published, reductions
from taskbits.studies.study import Study

MATH, TRANSLATION, INSTRUCTION = "meta-math/MetaMathQA", "allenai/nllb", "ifeval:/some/file.jsonl"


def run(model="smollm3-stage1", data=MATH, method="urial", bits=800, score=0.25, **more):
    settings = {"bits": bits, "lr": 0.1, "diffs_file": "/theirs"}
    run = {"model_name": model, "dataset_name": data, "experiment_name": method, "bits": bits, "performance": score}
    return {**run, "seed": 1, "strategy_hparams": settings, **more}


RUNS = [
    run("smollm3-step0", method="lora", bits=80_000, score=0.25),
    run(method="baseline", bits=0, score=0.1),
    run(bits=801, score=0.3),
    run(method="full_ft", bits=8_000_000, score=0.5),
    run(method="full_ft", bits=0, score=0.4),
    run("smollm3-stage2", bits=80, score=0.5),
    run("smollm3", bits=80, score=0.6),
    run("olmo3-7b-step1414k", TRANSLATION, "online_coding", 8_000, 40.0),
    run("olmo3-7b-instruct-step400", TRANSLATION, "icl", 80, 30.0),
    run("olmo3-32b-step656k", INSTRUCTION, "blora", 8_000, 0.8),
]


def write(path, runs):
    path.write_text("".join(json.dumps(run) + "\n" for run in runs))
    return path


@pytest.fixture
def folder(tmp_path):
    """The runs, imported."""
    import_paper(write(tmp_path / "runs.jsonl", RUNS), tmp_path / "published")
    return tmp_path / "published"


def test_bytes_are_those_of_payload_and_script_and_rows_without_any_are_left_out(folder):
    found = Study.open(folder / "gsm8k" / "smollm3-stage1").measurements()
    assert [(m.method, m.bytes, m.test.value) for m in found] == [
        ("baseline", 369, 0.1),
        ("urial", 564, 0.3),  # (801 + 3,704) / 8 = 563.1
        ("full_ft", 1_000_000, 0.5),
    ]
    assert found[1].settings == {"lr": 0.1}
    assert all((m.test.low, m.test.high, m.test.n, m.program) == (None, None, None, "") for m in found)


def test_bleu_becomes_a_score_from_0_to_1(folder):
    [m] = Study.open(folder / "translation" / "olmo3-7b-step1414k").measurements()
    assert m.test.value == 0.4


def test_rows_say_what_they_are_and_name_no_program(folder):
    row = rows(Study.open(folder / "gsm8k" / "smollm3").measurements())[0]
    assert row["program"] is None and row["interval"] == [None, None]
    assert "published estimate" in row["also"]["how"]


def test_reductions_are_those_of_the_ends_of_the_two_trainings(folder):
    found = {row["task"]: row for row in reductions(open_published(folder))}
    assert set(found) == {"gsm8k", "translation"}
    assert found["gsm8k"]["level"] == 0.5
    assert found["gsm8k"]["pre-trained"]["bytes"] == 1_000_000
    post = {"checkpoint": "smollm3", "bytes": 473, "method": "urial", "score": 0.6}
    assert found["gsm8k"]["post-trained"] == post
    assert found["translation"]["post-trained"]["bytes"] is None  # 0.3 does not reach 0.4


def test_importing_again_replaces_what_was_imported(folder, tmp_path):
    import_paper(write(tmp_path / "fewer.jsonl", RUNS[6:7]), folder)
    assert len(Study.open(folder / "gsm8k" / "smollm3").measurements()) == 1
    assert len(Study.open(folder / "gsm8k" / "smollm3-stage1").measurements()) == 3


def test_a_study_of_programs_is_not_overwritten(tmp_path):
    Study.create(tmp_path / "out" / "gsm8k" / "smollm3", {"name": "mine", "model": "m", "task": "t", "storage": None})
    with pytest.raises(UserError, match="a study of programs"):
        import_paper(write(tmp_path / "runs.jsonl", RUNS), tmp_path / "out")


@pytest.mark.parametrize(
    "bad, expected",
    [
        ("[1]", "must be a JSON object"),
        ("{oops", "bad JSON"),
        (json.dumps({"bits": 1}), "'model_name' is missing"),
        (json.dumps(run(["smollm3"])), "model_name must be a name"),
        (json.dumps(run(data=None)), "dataset_name must be a name"),
        (json.dumps(run(method={"a": 1})), "experiment_name must be a name"),
        (json.dumps(run(data="other", bits=float("nan"))), "bits must be a whole number"),
        (json.dumps(run(data="other", score=float("nan"))), "performance must be a number"),
        (json.dumps(run(data="other", score=float("inf"))), "performance must be a number"),
        (json.dumps(run(bits=-1)), "bits must be a whole number"),
        (json.dumps(run(bits=1.5)), "bits must be a whole number"),
        (json.dumps(run(score=40.0)), "performance must be a number from 0 to 1"),
        (json.dumps(run(score=float("nan"))), "performance must be a number"),
        (json.dumps(run(strategy_hparams=[])), "strategy_hparams must be an object"),
    ],
)
def test_lines_that_are_no_runs(taskbits, tmp_path, bad, expected):
    path = write(tmp_path / "runs.jsonl", RUNS[:1])
    path.write_text(path.read_text() + bad + "\n")
    result = taskbits("import", "paper", path, "--out", tmp_path / "out")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    assert expected in result.stderr and "line 2" in result.stderr
    assert not (tmp_path / "out").exists()


def test_runs_of_what_is_not_known_are_skipped_and_counted(taskbits, tmp_path):
    more = [run(data="org/fourth"), run(data="org/fourth", score=63.0), run("gpt-9"), run("../up"), run(method="magic")]
    path = write(tmp_path / "runs.jsonl", [*more, *RUNS])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # a byte-order mark
    result = taskbits("import", "paper", path, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "9 published estimates" in result.stdout  # as without them: one of RUNS takes no bytes
    for skipped in ("data set 'org/fourth' (2 runs)", "model 'gpt-9' (1 runs)", "model '../up'", "method 'magic'"):
        assert f"not known here, and skipped: {skipped}" in result.stdout
    result = taskbits("import", "paper", write(tmp_path / "unknown.jsonl", more[:2]), "--out", tmp_path / "none")
    assert result.returncode == 2 and "no run that is known here, but of data set 'org/fourth'" in result.stderr


def test_import_refuses_what_it_can_not_read(taskbits, tmp_path):
    empty = write(tmp_path / "empty.jsonl", [])
    for arguments, expected in (
        (["book", empty], "can't import 'book'"),
        (["paper", tmp_path / "none.jsonl"], "can't be read"),
        (["paper", empty], "holds no run"),
        (["paper", write(tmp_path / "runs.jsonl", RUNS), "--out", empty], "cannot write to"),
    ):
        result = taskbits("import", *arguments)
        assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
        assert expected in result.stderr


@pytest.mark.parametrize(
    "line", ["{}", "[]", "oops", '{"validation": {"value": "x"}, "test": 3}', '{"validation": {}, "test": {}}']
)
def test_a_broken_file_of_estimates(taskbits, folder, line):
    (folder / "gsm8k" / "smollm3" / "measurements.jsonl").write_text(line + "\n")
    result = taskbits("frontier", folder / "gsm8k" / "smollm3")
    assert result.returncode == 2 and "line 1: not an estimate" in result.stderr and "Traceback" not in result.stderr


def test_commands_on_programs_refuse_estimates(taskbits, folder):
    estimates = folder / "gsm8k" / "smollm3"
    for command in (["report", estimates], ["records", estimates]):
        result = taskbits(*command)
        assert result.returncode == 2 and "published estimates" in result.stderr
        assert len(result.stderr.splitlines()) == 1
    for command in (["verify", estimates], ["run", estimates, "--model", "lab:random", "--input", "-"]):
        result = taskbits(*command)
        assert result.returncode == 2 and len(result.stderr.splitlines()) == 1


def test_commands_on_frontiers_say_that_they_are_estimates(taskbits, folder):
    estimates = folder / "gsm8k" / "smollm3"
    assert "published estimate" in taskbits("frontier", estimates).stdout
    printed = taskbits("complexity", estimates, "--at", "0.5").stdout
    assert printed.startswith("Published estimate") and "473 bytes" in printed and "≤" not in printed
    assert json.loads(taskbits("complexity", estimates, "--at", "0.5", "--json").stdout)["published"]


def test_compare_published_alone_prints_what_post_training_brings(taskbits, folder, tmp_path):
    picture = tmp_path / "published.svg"
    result = taskbits("compare", "--published", "--imports", folder, "--picture", picture)
    assert result.returncode == 0
    assert "1,000,000" in result.stdout and "473" in result.stdout and "not reached" in result.stdout
    assert "pre-trained (published estimate)" in picture.read_text()


def test_compare_stands_estimates_beside_a_study_of_the_same_task(taskbits, folder, measured_gsm8k, tmp_path):
    picture = tmp_path / "both.svg"
    arguments = ["compare", measured_gsm8k, "--published", "--imports", folder, "--picture", picture]
    printed = taskbits(*arguments).stdout
    assert "published estimates of gsm8k are on GSM8K" in printed and "12 rows of it at most" in printed
    found = json.loads(taskbits(*arguments, "--json").stdout)
    assert [(group["task"], group["family"]) for group in found["groups"]] == [("gsm8k", "SmolLM3 3B")]
    assert {row["task"] for row in found["published"]} == {"gsm8k", "translation"}
    [levels] = [group["levels"] for group in found["groups"]]
    assert {"mine", "smollm3 (published estimate)"} < set(levels[0]["bytes"])
    # A random M of theirs is nothing to a model of ours.
    assert {row["model"] for row in found["groups"][0]["information"]} == {
        "smollm3-stage1 (published estimate)",
        "smollm3 (published estimate)",
    }


def test_compare_without_imports_says_how_to_get_them(taskbits, tmp_path):
    result = taskbits("compare", "--published", "--imports", tmp_path)
    assert result.returncode == 2 and "taskbits import paper" in result.stderr
    assert taskbits("compare").returncode == 2


@pytest.fixture
def measured_gsm8k(tmp_path):
    """A study of one program that scores 0.3 in 500 bytes on the task gsm8k."""
    return study(tmp_path / "mine", {500: 0.3}, model="mine", task="gsm8k", rows=12).folder


def test_estimates_are_drawn_dashed_and_hollow(folder, measured_gsm8k, tmp_path):
    draw_frontier(Study.open(measured_gsm8k), tmp_path / "solid.svg")
    assert "stroke-dasharray" not in (tmp_path / "solid.svg").read_text()
    draw_comparison([Study.open(folder / "gsm8k" / "smollm3")], tmp_path / "dashed.svg")
    text = (tmp_path / "dashed.svg").read_text()
    assert "stroke-dasharray" in text and "smollm3 (published estimate)" in text
