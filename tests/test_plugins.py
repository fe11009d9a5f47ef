"""What packages of others add by entry points: a method, a runner and a task, found by name and used as ours are."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from taskbits import plugins
from taskbits.methods import described, method
from taskbits.programs import runners
from taskbits.testing import MethodSuite, RunnerSuite, TaskSuite

POINTS = {
    "methods": {"shout": "shouting.method"},
    "runners": {"loud": "shouting.runner"},
    "tasks": {"eggs": "shouting.task"},
}
SOURCES = {
    "method": '''
        """Tells M to shout."""

        from taskbits.fitting.fitted import fitted
        from taskbits.programs.coding import Coded

        FAMILY = "inference control"


        def sweep(model, task):
            return [{"times": 2}, {"times": 3}]


        def fit(model, task, settings, seed, progress):
            return fitted("shout", model, task, Coded("loud", settings, content={"text": "Shout!"}))
    ''',
    "runner": '''
        """A text so many times."""

        WORD = ""


        def adapt(pipe, data, times):
            return "Shout! " * times


        def check(model, data, times):
            assert 0 < times < 100
    ''',
    "task": '''
        """Counting eggs."""

        SETTINGS = {"prompt": "{n} eggs and one:", "target": " {m}", "metric": "exact", "max_new_tokens": 4}


        def read(data):
            rows = [{"n": n, "m": n + 1} for n in range(60)]
            return {"train": rows[:40], "validation": rows[40:50], "test": rows[50:]}
    ''',
    "__init__": "",
}


@pytest.fixture(scope="module", autouse=True)
def package(tmp_path_factory):
    """An installed package `shouting`, as pip would leave it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "shouting").mkdir()
    for name, source in SOURCES.items():
        (folder / "shouting" / f"{name}.py").write_text(dedent(source).lstrip())
    (folder / "shouting-1.2.dist-info").mkdir()
    (folder / "shouting-1.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.2\n")
    points = "".join(
        f"[taskbits.{kind}]\n" + "".join(f"{name} = {module}\n" for name, module in some.items())
        for kind, some in POINTS.items()
    )
    (folder / "shouting-1.2.dist-info" / "entry_points.txt").write_text(points)
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(folder))
        patched.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        plugins.installed.cache_clear()
        yield folder
    plugins.installed.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "shouting"]:
        del sys.modules[name]


class TestShout(MethodSuite):
    method = "shout"


class TestLoud(RunnerSuite):
    runner = "loud"


class TestEggs(TaskSuite):
    task = "eggs"


def test_methods_say_where_they_are_from(taskbits):
    assert described("shout") == {
        "method": "shout",
        "family": "inference control",
        "origin": "shouting 1.2",
        "summary": "Tells M to shout.",
    }
    found = {row["method"]: row["origin"] for row in json.loads(taskbits("methods", "--json").stdout)}
    assert found["shout"] == "shouting 1.2" and found["lora"] == "taskbits"
    assert "shouting 1.2" in taskbits("methods").stdout


def test_what_is_not_what_it_should_be_is_told_in_a_line(package, monkeypatch):
    file = package / "shouting-1.2.dist-info" / "entry_points.txt"
    kept = file.read_text()
    file.write_text("[taskbits.methods]\nbare = shouting\ngone = shouting.gone\nlora = shouting\n")
    plugins.installed.cache_clear()
    try:
        with pytest.raises(plugins.UserError, match="bare of shouting 1.2 is none of our methods: .* has no FAMILY"):
            method("bare")
        with pytest.raises(plugins.UserError, match="gone of shouting 1.2 can't be imported: ModuleNotFoundError"):
            method("gone")
        assert method("lora").__name__ == "taskbits.methods.lora"
        with pytest.raises(plugins.UserError, match="unknown runner 'loud'"):
            runners.runner("loud")
    finally:
        file.write_text(kept)
        plugins.installed.cache_clear()


def test_the_example_in_docs_passes_as_a_package_of_its_own(tmp_path):
    """Installed into a folder, since no test changes the environment; at most 60 lines."""
    source = Path(__file__).parent.parent / "docs" / "example-method"
    assert len((source / "taskbits_answers.py").read_text().splitlines()) < 60
    shutil.copytree(source, tmp_path / "source")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", tmp_path / "site"]
    result = subprocess.run([*install, tmp_path / "source"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{os.environ['PYTHONPATH']}"}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path / "source",
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0 and " passed" in result.stdout, result.stdout + result.stderr
