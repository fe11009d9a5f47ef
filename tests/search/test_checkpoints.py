"""Checkpoints of a training run: which step they are of, and what it takes at each."""

import json
import shutil

import pytest
from conftest import FIELDS

from taskbits.report.checkpoints import draw_steps
from taskbits.report.comparison import groups, information
from taskbits.studies.checkpoints import in_order, run_of, runs, training_step
from taskbits.studies.study import Study
from taskbits.tasks.metrics import Score


def study(folder, programs, **info):
    """A study of tested programs: bytes to score."""
    info = {"name": "a", "storage": None, "model": "m", "state": "given", "task": "t", "metric": "exact", **info}
    made = Study.create(folder, info)
    for size, value in programs.items():
        score = Score(value, max(0.0, value - 0.02), min(1.0, value + 0.02), 100, bound=value)
        with made.trial("zero-shot", {"bytes": size}) as trial:
            m = trial.finish(
                program=b"%d" % size,
                outputs=[""],
                method="zero-shot",
                family="inference control",
                settings={"bytes": size},
                bytes=size,
                payload_bytes=1,
                validation=score,
                **FIELDS,
            )
        made.record_test(m.program, score, [""])
    return made


@pytest.mark.parametrize(
    "info, step",
    [
        ({"model": "smollm3-step1720k"}, 1_720_000),
        ({"model": "out/step-3000"}, 3000),
        ({"model": "out/checkpoint-500"}, 500),
        ({"model": "run/ckpt/step100"}, 100),
        ({"model": "runs/global_step1000"}, 1000),
        ({"model": "run/step-3000/hf"}, 3000),
        ({"model": "org/m", "revision": "stage1-step10000-tokens21B"}, 10_000),
        ({"model": "org/m", "revision": "2M"}, 2_000_000),
        ({"model": "org/m", "revision": "1.5k"}, 1500),
        ({"model": "org/m-step5", "revision": "step7"}, 7),
        ({"model": "org/m", "state": "random"}, 0),
        ({"model": "m", "training": "random"}, 0),
        ({"model": "org/m", "revision": "stage2-step10000-tokens21B"}, None),
        ({"model": "org/m", "revision": "main"}, None),
        ({"model": "org/pythia-70m"}, None),
        ({"model": "lab:pretrained"}, None),
        ({"model": "org/misstep5b"}, None),
    ],
)
def test_training_steps(info, step):
    assert training_step(info) == step


def test_checkpoints_of_a_run_have_one_name_without_the_step():
    assert run_of({"model": "run/step100"}) == run_of({"model": "run/step2k"}) != run_of({"model": "other/step100"})


def test_runs_hold_studies_that_differ_in_checkpoint_in_the_order_of_training(tmp_path):
    late, early, random, other, alone = (
        study(tmp_path / name, {300: 0.5}, **info)
        for name, info in (
            ("late", {"model": "r/step30"}),
            ("early", {"model": "r/step4"}),
            ("random", {"model": "r/step30", "state": "random"}),
            ("other", {"model": "r/step30", "task": "another"}),
            ("alone", {"model": "lab:x"}),
        )
    )
    assert runs([late, early, random, other, alone])[0] == [random, early, late]
    assert len(runs([late, early, random, other, alone])) == 1
    assert runs([alone, other]) == [] and runs([]) == []


def test_revisions_that_tell_no_step_stay_in_the_order_given(tmp_path):
    made = [study(tmp_path / r, {300: 0.5}, revision=r) for r in ("main", "better", "best")]
    assert runs(made) == [made] and in_order(made[::-1]) == made[::-1]


def test_groups_are_of_one_task(tmp_path):
    made = [study(tmp_path / task, {300: 0.5}, task=task) for task in ("a", "b")]
    assert groups(made) == {("a", None): [made[0]], ("b", None): [made[1]]}


def test_information_is_the_difference_of_the_two_bounds(tmp_path):
    random = study(tmp_path / "random", {5000: 0.2}, state="random", seed=0)
    other = study(tmp_path / "other", {100: 0.9}, state="random", seed=0, model="another")
    given = study(tmp_path / "given", {300: 0.3, 400: 0.6})
    found = information([random, given, other], [0.2, 0.5, 0.8])
    assert found == [
        {
            "model": "m",
            "random": "m (random, seed 0)",
            "level": 0.2,
            "model_bytes": 300,
            "random_bytes": 5000,
            "difference": 4700,
        },
        {
            "model": "m",
            "random": "m (random, seed 0)",
            "level": 0.5,
            "model_bytes": 400,
            "random_bytes": None,
            "difference": None,
        },
    ]
    # Without a random M of its own, a model takes what there is: the shorter of several.
    assert information([other, study(tmp_path / "lone", {300: 0.5}, model="lone")], [0.4])[0]["difference"] == -200
    assert information([given], [0.2]) == []


def test_compare_draws_the_steps_and_says_what_the_difference_is(taskbits, tmp_path):
    folders = [
        study(tmp_path / f"s{step}", programs, model=f"r/step{step}", task="t").folder
        for step, programs in ((0, {5000: 0.2}), (100, {300: 0.1, 4000: 0.6}), (400, {300: 0.7}))
    ]
    result = taskbits("compare", *folders, "--picture", tmp_path / "c.svg", "--at", "0.2,0.6")
    assert result.returncode == 0 and (tmp_path / "c.svg").exists()
    assert "neither a lower nor an upper bound of information" in " ".join(result.stdout.split())
    assert "4,700" in result.stdout  # 5,000 - 300 at 0.2, for the last checkpoint
    assert "r/step0 does not reach it, at 0.600" in result.stdout
    text = (tmp_path / "c-steps.svg").read_text()
    assert "training step" in text and "reached" in text
    found = json.loads(taskbits("compare", *folders, "--picture", tmp_path / "c.svg", "--json").stdout)
    assert found["pictures"] == [str(tmp_path / "c.svg"), str(tmp_path / "c-steps.svg")]
    only = taskbits("compare", *folders[:1], "--picture", tmp_path / "one.svg")
    assert only.returncode == 0 and not (tmp_path / "one-steps.svg").exists()


@pytest.mark.parametrize("at", ["a", "0.5,", "2", "0.5,-1", "nan"])
def test_levels_that_are_none(taskbits, tmp_path, at):
    folder = study(tmp_path / "s", {300: 0.5}).folder
    result = taskbits("compare", folder, "--at", at, "--picture", tmp_path / "c.svg")
    assert result.returncode == 2 and "levels are numbers from 0 to 1" in result.stderr


def test_steps_that_are_not_told_are_numbered(tmp_path):
    made = [study(tmp_path / r, {300: 0.5}, revision=r) for r in ("main", "best")]
    draw_steps([made], tmp_path / "s.svg")
    text = (tmp_path / "s.svg").read_text()
    assert "in the order given" in text and "main" in text


def test_nothing_reached_can_be_drawn(tmp_path):
    made = [study(tmp_path / r, {}, revision=r) for r in ("main", "best")]
    draw_steps([made], tmp_path / "s.svg", [0.5])
    draw_steps([made], tmp_path / "s.svg")
    assert (tmp_path / "s.svg").exists()


def test_measure_a_list_of_checkpoints(taskbits, model_folder, task_folder, tmp_path):
    for step in (10, 20):
        shutil.copytree(model_folder, tmp_path / f"step{step}")
    models = [str(tmp_path / "step10"), str(tmp_path / "missing"), str(tmp_path / "step20")]
    options = ["--task", task_folder, "--out", tmp_path / "out", "--methods", "zero-shot", "--rows", "4"]
    result = taskbits("measure", "--model", ",".join(models), *options)
    assert result.returncode == 2  # one failed: said once, at the end; the others were measured
    [line] = [line for line in result.stderr.splitlines() if line.startswith("taskbits: ")]
    assert "1 of 3 were not measured" in line and "missing" in line
    studies = sorted(path.parent for path in (tmp_path / "out").glob("*/study.json"))
    assert [folder.name[-6:] for folder in studies] == ["step10", "step20"]
    assert (tmp_path / "out" / "comparison.png").exists() and (tmp_path / "out" / "comparison-steps.png").exists()

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/study.db")}
    models.pop(1)
    again = taskbits("measure", "--model", ",".join(models), *options)
    assert again.returncode == 0 and again.stderr.count("finished before") == 2
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_one_reason_for_all_is_said_once(taskbits, model_folder, tmp_path):
    arguments = ["measure", "--model", f"{model_folder},lab:random", "--task", "no-such-task", "--out", tmp_path / "o"]
    result = taskbits(*arguments)
    [line] = [line for line in result.stderr.splitlines() if line.startswith("taskbits: ")]
    assert result.returncode == 2 and line.count("unknown task no-such-task") == 1 and "2 of 2" in line


def test_a_single_model_is_measured_in_the_folder_itself(taskbits, model_folder, task_folder, tmp_path):
    options = ["--task", task_folder, "--out", tmp_path / "out", "--methods", "zero-shot", "--rows", "4"]
    assert taskbits("measure", "--model", model_folder, *options).returncode == 0
    assert (tmp_path / "out" / "study.json").exists() and not list((tmp_path / "out").glob("*/study.json"))
